"""What the nouns of the admin API work on; made by `appliance.runtime` and by nobody else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from appliance.admin.documents import VolumeView
    from appliance.admin.report_documents import CapacityReport
    from appliance.catalog.engine import Catalog
    from appliance.catalog.records import Versioning, VolumeRow
    from appliance.clock import Clock
    from appliance.copy_rules import CatalogCopy
    from appliance.objects.manifest_writer import WrittenBucket, WrittenManifest
    from appliance.policy_store import PolicyStore
    from appliance.secrets import SecretBox
    from hal.records import VolumeId
    from tenants.records import QuotaLimits, Tenant
    from tiers.plan_desk import PlanDesk
    from tiers.ports import MoveLedger
    from tiers.report_facts import Cut
    from tiers.tiering_views import TieringControl
    from tiers.volume_scrub import VolumeScrubStatus

__all__ = [
    "AdminState",
    "BucketManifests",
    "DrainControl",
    "KeyCache",
    "ReportDesk",
    "ScrubControl",
    "ServerFacts",
    "TieringDesk",
]


class KeyCache(Protocol):
    """Whatever keeps access keys for the S3 side; see `appliance.keyring.KeyRing`."""

    def invalidate(self) -> None:
        """Forget everything, so that a change is effective at once."""
        ...


class ScrubControl(Protocol):
    """Whatever verifies what is stored; see `tiers.scrubber.Scrubber`."""

    async def start(self) -> None:
        """Begin a new pass over every volume at once."""
        ...

    async def resume(self) -> None:
        """End a pause."""
        ...

    async def pause(self) -> None:
        """Stop until resumed or started."""
        ...

    def list_statuses(self) -> Sequence[VolumeScrubStatus]:
        """What the scrub of each volume is doing."""
        ...


class ReportDesk(Protocol):
    """Whatever makes reports; see `appliance.capacity.desk.CapacityDesk`."""

    async def report_capacity(self, cut: Cut, *, names: Mapping[str, str]) -> CapacityReport:
        """What is held, cut so; may raise `TooManyGroups`."""
        ...

    async def fold_requests(self) -> None:
        """Bring the counts of requests in the catalog up to now."""
        ...


class BucketManifests(Protocol):
    """Whatever states buckets in the segments; see `appliance.objects.manifest_writer`."""

    async def write_bucket(
        self,
        tenant: Tenant,
        *,
        name: str,
        created_us: int,
        versioning: Versioning,
        limits: QuotaLimits,
    ) -> WrittenBucket:
        """Write the manifest of a bucket."""
        ...

    def check_written(self, written: WrittenManifest) -> None:
        """See `ManifestWriter.check_written`."""
        ...

    async def end(self, written: WrittenManifest, *, is_taken: bool) -> None:
        """Take note of a commit that took the manifest, or give it back."""
        ...


class DrainControl(Protocol):
    """Whatever lets volumes be emptied; see `appliance.volume_drains.VolumeDrains`."""

    async def obey(self, volumes: Sequence[VolumeRow]) -> None:
        """Bring the states of all volumes into force."""
        ...

    async def look_bare(self, volume_id: VolumeId) -> bool:
        """Whether no segment is left on a drained volume, once every worker has heard of it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TieringDesk:
    """What moves pages, and what it is planned with.

    Attributes:
        control: Moves them.
        plans: Makes plans and keeps them.
        ledger: Which pages there are, and their journal.
    """

    control: TieringControl
    plans: PlanDesk
    ledger: MoveLedger


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """The running server.

    Attributes:
        catalog_kind: `SQLite` or `PostgreSQL`.
        listeners: Name of each listener (`s3`, `admin`, `metrics`) and the address it is bound to.
        last_copy_us: When the newest copy of the catalog was made; None where there is none.
        copy_failure: Why the last try to make one failed; empty where it did not.
    """

    appliance_uuid: str
    started_us: int
    catalog_kind: str
    listeners: Mapping[str, str]
    last_copy_us: int | None = None
    copy_failure: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminState:
    """What the nouns of the admin API work on.

    Attributes:
        keyring: Told to forget after every change.
        random_bytes: Gives that many unpredictable bytes, as `os.urandom` does.
        buckets_max_default: The limit of a new tenant that says nothing else.
        list_volume_facts: The open volumes; may raise `HalError`.
        describe_server: The server as it is now.
        scrub: Verifies what is stored.
        copy_catalog: Makes a copy of the catalog on the cold tier; may raise `CatalogUnavailable`
            or `HalError`.
        manifests: States buckets in the segments.
        policies: The policy in force; told to load after every change of it.
        reports: Makes reports of capacity.
        drains: Lets volumes be emptied.
        on_tenant_deleted: Told the name of a tenant that is gone; must not block or raise.
        tiering: What moves pages; None in a server that moves none.
    """

    catalog: Catalog
    secret_box: SecretBox
    keyring: KeyCache
    clock: Clock
    random_bytes: Callable[[int], bytes]
    buckets_max_default: int
    list_volume_facts: Callable[[], Awaitable[Sequence[VolumeView]]]
    describe_server: Callable[[], ServerFacts]
    scrub: ScrubControl
    copy_catalog: Callable[[], Awaitable[CatalogCopy]]
    manifests: BucketManifests
    policies: PolicyStore
    reports: ReportDesk
    drains: DrainControl
    on_tenant_deleted: Callable[[str], None]
    tiering: TieringDesk | None = None
