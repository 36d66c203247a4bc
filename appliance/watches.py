"""Which numbers of which parts are metrics, and which of them can fall."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from appliance.http.server import Server

if TYPE_CHECKING:
    from appliance.assembly import Core
    from appliance.keyring import KeyRing
    from appliance.metrics import Metrics
    from appliance.objects.buffers import RequestBuffers
    from appliance.rate import RateLimiter
    from appliance.servers import Servers
    from hal.volume import Volume
    from tiers.page_store import PageStore
    from tiers.reclaimer import Reclaimer
    from tiers.scrubber import Scrubber

__all__ = ["watch_duties", "watch_parts"]

CATALOG_GAUGES = (
    "reads_running",
    "reads_waiting",
    "committer_batch_units_max",
    "committer_units_waiting",
)
KEYRING_GAUGES = ("entry_count", "unknown_count", "signing_key_count")
BUFFER_GAUGES = (
    "total_bytes",
    "outstanding_count",
    "outstanding_bytes",
    "idle_bytes",
    "waiting_count",
)
PAGE_CACHE_GAUGES = ("room_bytes", "held_bytes", "held_count", "ghost_count")
VOLUME_GAUGES = ("segments_open", "segments_sealed", "segments_poisoned")
DEVICE_GAUGES = ("operations_waiting", "operations_running")
SCRUB_GAUGES = (
    "running",
    "quarantined_pages",
    "pass_done_bytes",
    "pass_total_bytes",
    "rate_bytes_per_s",
    "last_pass_ended_s",
)


def watch_parts(
    metrics: Metrics,
    core: Core,
    *,
    keyring: KeyRing,
    limiter: RateLimiter,
    servers: Servers,
) -> None:
    """Publish the numbers of every part of a running server."""
    metrics.watch("catalog", core.catalog.statistics, gauges=CATALOG_GAUGES)
    metrics.watch("pages", core.store.statistics)
    metrics.watch("accesses", core.recorder.statistics, gauges=("pending",))
    metrics.watch("keyring", keyring.statistics, gauges=KEYRING_GAUGES)
    if isinstance(servers.s3, Server):  # Hypercorn does not count
        metrics.watch("http", servers.s3.statistics, gauges=("connections_open",))
    metrics.watch("rate", limiter.statistics, gauges=("tenants_known",))
    metrics.watch("page_cache", core.page_cache.statistics, gauges=PAGE_CACHE_GAUGES)
    _watch_buffers(metrics, core.buffers)
    _watch_volumes(metrics, core.store)


def watch_duties(
    metrics: Metrics, store: PageStore, *, reclaimer: Reclaimer, scrubber: Scrubber
) -> None:
    """Publish the numbers of what one worker alone does, as far as nobody else does."""
    metrics.watch("reclaim", reclaimer.statistics)
    for volume in store.volumes:
        labels = _labels_of(volume)
        metrics.watch("scrub", scrubber.watch(volume.volume_id), gauges=SCRUB_GAUGES, labels=labels)


def _watch_buffers(metrics: Metrics, buffers: RequestBuffers) -> None:
    for pool, size in ((buffers.small, "small"), (buffers.large, "large")):
        metrics.watch("buffers", pool.statistics, gauges=BUFFER_GAUGES, labels={"pool": size})


def _watch_volumes(metrics: Metrics, store: PageStore) -> None:
    for volume in store.volumes:
        labels = _labels_of(volume)
        metrics.watch("volume", volume.statistics, gauges=VOLUME_GAUGES, labels=labels)
        metrics.watch("device", volume.device.statistics, gauges=DEVICE_GAUGES, labels=labels)
        metrics.watch(
            "volume_room",
            partial(store.room, volume.volume_id),
            gauges=("total_bytes", "free_bytes"),
            labels=labels,
        )


def _labels_of(volume: Volume) -> dict[str, str]:
    return {"volume": str(volume.volume_id), "tier": volume.tier}
