"""PostgreSQL keeps every catalog contract."""

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

pytestmark = pytest.mark.postgres


class OnPostgres:
    @pytest.fixture
    def catalog_url(self, postgres_catalog_url: str) -> str:
        return postgres_catalog_url


class TestBuckets(OnPostgres, BucketContract):
    pass


class TestCommit(OnPostgres, CommitContract):
    pass


class TestDamage(OnPostgres, DamageContract):
    pass


class TestFacts(OnPostgres, FactsContract):
    pass


class TestListings(OnPostgres, ListingContract):
    pass


class TestManifests(OnPostgres, ManifestContract):
    pass


class TestCapacity(OnPostgres, CapacityContract):
    pass


class TestOwners(OnPostgres, OwnerContract):
    pass


class TestPolicies(OnPostgres, PolicyContract):
    pass


class TestQuota(OnPostgres, QuotaContract):
    pass


class TestRebuild(OnPostgres, RebuildContract):
    pass


class TestReclaim(OnPostgres, ReclaimContract):
    pass


class TestSchema(OnPostgres, SchemaContract):
    pass


class TestTenants(OnPostgres, TenantContract):
    pass


class TestUploads(OnPostgres, UploadContract):
    pass


class TestVersions(OnPostgres, VersionContract):
    pass


class TestWorkers(OnPostgres, WorkerContract):
    pass
