"""SQLite keeps every catalog contract."""

from __future__ import annotations

import pytest

from tests.contract.catalog_buckets import BucketContract
from tests.contract.catalog_capacity import CapacityContract
from tests.contract.catalog_commit import CommitContract
from tests.contract.catalog_damage import DamageContract
from tests.contract.catalog_facts import FactsContract
from tests.contract.catalog_listings import ListingContract
from tests.contract.catalog_manifests import ManifestContract
from tests.contract.catalog_owners import OwnerContract
from tests.contract.catalog_policies import PolicyContract
from tests.contract.catalog_quota import QuotaContract
from tests.contract.catalog_rebuild import RebuildContract
from tests.contract.catalog_reclaim import ReclaimContract
from tests.contract.catalog_schema import SchemaContract
from tests.contract.catalog_tenants import TenantContract
from tests.contract.catalog_uploads import UploadContract
from tests.contract.catalog_versions import VersionContract
from tests.contract.catalog_workers import WorkerContract


class OnSqlite:
    @pytest.fixture
    def catalog_url(self, sqlite_catalog_url: str) -> str:
        return sqlite_catalog_url


class TestBuckets(OnSqlite, BucketContract):
    pass


class TestCommit(OnSqlite, CommitContract):
    pass


class TestDamage(OnSqlite, DamageContract):
    pass


class TestFacts(OnSqlite, FactsContract):
    pass


class TestListings(OnSqlite, ListingContract):
    pass


class TestManifests(OnSqlite, ManifestContract):
    pass


class TestCapacity(OnSqlite, CapacityContract):
    pass


class TestOwners(OnSqlite, OwnerContract):
    pass


class TestPolicies(OnSqlite, PolicyContract):
    pass


class TestQuota(OnSqlite, QuotaContract):
    pass


class TestRebuild(OnSqlite, RebuildContract):
    pass


class TestReclaim(OnSqlite, ReclaimContract):
    pass


class TestSchema(OnSqlite, SchemaContract):
    pass


class TestTenants(OnSqlite, TenantContract):
    pass


class TestUploads(OnSqlite, UploadContract):
    pass


class TestVersions(OnSqlite, VersionContract):
    pass


class TestWorkers(OnSqlite, WorkerContract):
    pass
