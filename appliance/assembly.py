"""Puts the parts of one server process together, below its listeners.

From an open catalog, a page store and a clock to the S3 service and its background work. It opens
no device, socket or signal and starts no task: the composition root does, and so does whatever
drives the same parts without a network.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import trio

from appliance.catalog import bodies, keys, places
from appliance.catalog.ledger import SqlDeadLedger
from appliance.catalog.scrub_ledger import SqlScrubLedger
from appliance.handlers.request import S3Limits, Services
from appliance.handlers.service import S3Service
from appliance.keyring import KeyRing
from appliance.objects.identities import BodyIds
from appliance.objects.manifest_writer import ManifestWriter
from appliance.objects.page_cache import PageCache
from appliance.objects.pins import BodyPins
from appliance.objects.reader import ObjectReader
from appliance.objects.writer import BodyWriter
from appliance.worker_lease import CLOCK_SKEW_S_MAX
from tenants.records import AccessKeyId
from tiers.access_recorder import AccessRecorder
from tiers.policy import default_policy
from tiers.reclaimer import Reclaimer
from tiers.scrubber import Scrubber

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from appliance.access_sample import AccessSample
    from appliance.catalog.engine import Catalog
    from appliance.clock import Clock
    from appliance.handlers.forwarding import Network
    from appliance.objects.buffers import RequestBuffers
    from appliance.rate import RateLimiter, RateLimits
    from appliance.secrets import SecretBox
    from hal.records import BodyId
    from tiers.page_store import PageStore
    from tiers.policy import Policy
    from tiers.records import PagePlaces, StoredPage
    from tiers.volume_scrub import ScrubEvent, ScrubPlan

__all__ = [
    "Core",
    "fast_room_bytes",
    "make_keyring",
    "make_manifest_writer",
    "make_reclaimer",
    "make_scrubber",
    "make_service",
]

COMPUTING_SLOTS = 2  # hashing, XML; more threads than cores only take turns


@dataclass(frozen=True, slots=True, kw_only=True)
class Core:
    """What every part of one server start shares.

    Attributes:
        box: Opens the sealed secrets and derives the keys of tokens.
        boot_epoch: Of this start, from the catalog.
        random_bytes: Unguessable bytes.
        pins: The bodies that this process' readers hold.
        page_cache: Pages in memory; keeps none where nobody gives one with room.
        computing: Threads for what would hold the event loop for long.
        body_ids: The ids of bodies that this start writes.
        recorder: Notes of reads and writes; bounded where nobody takes them.
        sample: Log of some accesses, None where nobody asked for one.
    """

    catalog: Catalog
    store: PageStore
    box: SecretBox
    boot_epoch: int
    clock: Clock
    random_bytes: Callable[[int], bytes]
    buffers: RequestBuffers
    page_cache: PageCache = field(default_factory=lambda: PageCache(0))
    computing: trio.CapacityLimiter = field(
        default_factory=lambda: trio.CapacityLimiter(COMPUTING_SLOTS)
    )
    sample: AccessSample | None = None
    pins: BodyPins = field(init=False)
    body_ids: BodyIds = field(init=False)
    recorder: AccessRecorder = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "pins", BodyPins(now_us=self.clock.now_us))
        object.__setattr__(self, "body_ids", BodyIds(self.boot_epoch))
        object.__setattr__(self, "recorder", _make_recorder(self.store))

    def note_settled(self, pages: Sequence[StoredPage]) -> None:
        """Pages that a commit has made true, for the recorder."""
        self.recorder.note_write(pages, self.clock.monotonic())


def _make_recorder(store: PageStore) -> AccessRecorder:
    """A recorder by the default policy; whoever knows the one in force lets it follow that."""
    fast = [volume.volume_id for volume in store.volumes if volume.tier == store.tier_order[0]]
    return AccessRecorder(
        default_policy().heat,
        fast_volumes=fast,
        room_bytes=fast_room_bytes(store),
    )


def fast_room_bytes(store: PageStore) -> int:
    """The size of the fastest tier, as last measured."""
    fast = store.tier_order[0]
    rooms = (store.room(each.volume_id) for each in store.volumes if each.tier == fast)
    return sum(room.total_bytes for room in rooms)


def make_keyring(core: Core) -> KeyRing:
    """The key ring on the core's catalog; the caller runs it."""
    return KeyRing(
        load_key=lambda key_id: core.catalog.read(
            partial(keys.find_key, access_key_id=AccessKeyId(key_id))
        ),
        load_revision=lambda: core.catalog.read(keys.keyring_revision),
        box=core.box,
        clock=core.clock,
    )


def make_reclaimer(
    core: Core,
    *,
    grace_s: float,
    on_freed: Callable[[Sequence[StoredPage]], None] | None = None,
) -> Reclaimer:
    """The reclaimer that spares what the core's readers hold; the caller runs it.

    Args:
        core: What it works on.
        grace_s: How long a body stays after its death, seconds.
        on_freed: Told of pages that are gone; must not block or raise.
    """
    return Reclaimer(
        core.store,
        SqlDeadLedger(core.catalog),
        is_pinned=core.pins.is_pinned,
        now_us=core.clock.now_us,
        grace_us=round(grace_s * 1_000_000),
        boot_epoch=core.boot_epoch,
        skew_us=round(2 * CLOCK_SKEW_S_MAX * 1_000_000),
        on_freed=on_freed,
    )


def make_scrubber(
    core: Core,
    *,
    plan_of: Callable[[str], ScrubPlan],
    on_event: Callable[[ScrubEvent], None],
    is_busy: Callable[[], bool] = lambda: False,
) -> Scrubber:
    """The scrubber of the core's volumes; the caller runs it.

    Args:
        core: What it works on.
        plan_of: How often and how fast, by tier.
        on_event: Told what happens; must not block or raise.
        is_busy: Whether requests come now.
    """
    return Scrubber(
        core.store,
        SqlScrubLedger(core.catalog),
        plan_of=plan_of,
        now_us=core.clock.now_us,
        on_event=on_event,
        is_busy=is_busy,
    )


def make_manifest_writer(core: Core) -> ManifestWriter:
    """What writes manifests through the core's page store."""
    return ManifestWriter(
        core.store,
        core.buffers,
        body_ids=core.body_ids,
        encoding=core.computing,
        now_us=core.clock.now_us,
        on_settled=core.note_settled,
    )


def make_service(
    core: Core,
    keyring: KeyRing,
    *,
    limits: S3Limits,
    limiter: RateLimiter,
    rates: RateLimits,
    active_policy: Callable[[], Policy] = default_policy,
    trusted_proxies: Sequence[Network] = (),
) -> S3Service:
    """The S3 service on the core.

    Args:
        core: What it works on; its catalog must be running for anything to be committed.
        keyring: Who may sign.
        limits: Of the S3 face.
        limiter: Counts requests and bytes by tenant.
        rates: What each tenant may.
        active_policy: The tiering policy in force, for storage classes.
        trusted_proxies: Peers whose forwarding headers are believed.
    """
    catalog, clock = core.catalog, core.clock

    async def list_pages(body_id: BodyId, first_index: int, limit: int) -> list[StoredPage]:
        return await catalog.read(
            partial(bodies.list_pages, body_id=body_id, first_index=first_index, limit=limit)
        )

    async def find_places(body_id: BodyId, page_index: int) -> PagePlaces | None:
        return await catalog.read(
            partial(places.find_places, body_id=body_id, page_index=page_index)
        )

    computing = core.computing
    services = Services(
        catalog=catalog,
        store=core.store,
        writer=BodyWriter(
            core.store,
            core.buffers,
            hashing=computing,
            now_us=clock.now_us,
            on_settled=core.note_settled,
        ),
        reader=ObjectReader(
            core.store,
            core.buffers,
            core.pins,
            cache=core.page_cache,
            list_pages=list_pages,
            find_places=find_places,
        ),
        manifests=make_manifest_writer(core),
        body_ids=core.body_ids,
        clock=clock,
        limits=limits,
        recorder=core.recorder,
        sample=core.sample,
        active_policy=active_policy,
        token_key=core.box.mac_key("continuation-token"),
        random_bytes=core.random_bytes,
        computing=computing,
    )
    return S3Service(
        services, keyring, limiter=limiter, rates=rates, trusted_proxies=trusted_proxies
    )
