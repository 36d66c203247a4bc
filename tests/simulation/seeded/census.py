"""What a crash image holds, held against what clients were told.

The image is started as a server would be, its orphans swept, every record that the catalog names,
shadows among them, read and verified, and every value compared with its register. Then everything
dead is reclaimed, and the devices must hold what the catalog names and nothing else.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from sqlalchemy import select

from appliance.catalog import tables
from appliance.catalog.check import check_catalog
from appliance.catalog.move_ledger import SqlMoveLedger
from appliance.catalog.places import list_places
from appliance.catalog.version_rows import format_shown_id
from appliance.objects.manifest import decode_manifest
from hal.buffers import AlignedBuffer
from hal.geometry import RECORD_BYTES_MAX
from hal.records import BodyId, SegmentRef
from tests.simulation.seeded.history import Name
from tests.simulation.seeded.life import Violation
from tiers.errors import PageLost
from tiers.records import PagePlaces
from tiers.scrub_records import FIRST_PLACE

if TYPE_CHECKING:
    from appliance.catalog.unit import Connection
    from tests.simulation.seeded.history import History
    from tests.simulation.seeded.life import Life, SimulatedClock
    from tiers.records import StoredPage

__all__ = ["check_image"]

PAGES_MAX = 1_000
EVER_US = 2**62
CLOCK_STEP_US = 100 * 86_400 * 1_000_000
_Contents = dict[Name, list[PagePlaces] | None]

_t, _b, _v = tables.tenants.c, tables.buckets.c, tables.versions.c
_VERSIONS = (
    select(
        _t.name,
        _b.name,
        _v.key,
        _v.sequence,
        _v.is_null_version,
        _v.is_current,
        _v.is_delete_marker,
        _v.body_id,
    )
    .join(tables.buckets, _b.bucket_id == _v.bucket_id)
    .join(tables.tenants, _t.tenant_id == _b.tenant_id)
)


async def check_image(
    life: Life, history: History, clock: SimulatedClock, *, at: int, counts_rows: bool
) -> None:
    """Hold a started life, without background work of its own, against the history.

    Args:
        life: Started on the image.
        history: What clients know; what began after `at` is not in the image.
        clock: The life's; it is set forward.
        at: The event the image was taken at.
        counts_rows: Compare the catalog with itself as well, which costs as much as all the rest.

    Raises:
        Violation: A promise was broken.
    """
    await life.reclaimer.sweep_orphans()
    contents = await life.catalog.read(_list_contents)
    await _compare(life, history, contents, at=at)
    await _read_manifests(life)
    await _read_shadows(life)
    # Past the grace, and past any death that a clock set back has put into the future.
    clock.step_us += CLOCK_STEP_US
    while (await life.reclaimer.reclaim_round()).is_full:
        continue
    findings = await life.catalog.read(check_catalog) if counts_rows else []
    if findings:
        raise Violation(f"the catalog contradicts itself: {findings}")
    await _check_leaks(life)


def _list_contents(connection: Connection) -> _Contents:
    """By name, the pages of what is current and of every version; None for a marker."""
    found: _Contents = {}
    for row in connection.execute(_VERSIONS).all():
        tenant, bucket, key, sequence, is_null, is_current, is_marker, body_id = row
        pages = None if is_marker else _pages_of(connection, sequence, body_id)
        name = Name(tenant, bucket, bytes(key))
        if is_current:
            found[name] = pages
        if not is_null:
            shown = format_shown_id(sequence, is_null_version=False)
            found[name._replace(version_id=shown)] = pages
    return found


def _pages_of(connection: Connection, sequence: int, body_id: int | None) -> list[PagePlaces]:
    listed = [BodyId(body_id)] if body_id is not None else _bodies_of(connection, sequence)
    return [
        page
        for one in listed
        for page in list_places(connection, body_id=one, first_index=0, limit=PAGES_MAX)
    ]


def _bodies_of(connection: Connection, sequence: int) -> list[BodyId]:
    table = tables.version_bodies.c
    listed = select(table.body_id).where(table.sequence == sequence).order_by(table.ordinal)
    return [BodyId(row[0]) for row in connection.execute(listed)]


async def _compare(life: Life, history: History, contents: _Contents, *, at: int) -> None:
    names = set(history.registers) | set(contents)
    read: dict[tuple[int, int], bytes | None] = defaultdict(lambda: None)
    with AlignedBuffer(RECORD_BYTES_MAX) as buffer:
        for name in sorted(names):
            pages = contents.get(name)
            value: bytes | None = None
            if pages is not None:
                pieces = [await _read(life, page, buffer, read) for page in pages]
                if None in pieces:
                    continue  # lost, and something had damaged it
                value = b"".join(piece for piece in pieces if piece is not None)
            if name.version_id and name not in history.registers:
                continue  # nobody was told of this version
            history.register(name).check(value, began=at, ended=at)


async def _read_manifests(life: Life) -> None:
    """What states versions and buckets to a rebuild lives and dies as their bytes do."""
    stated = await life.catalog.read(_list_manifests)
    read: dict[tuple[int, int], bytes | None] = {}
    with AlignedBuffer(RECORD_BYTES_MAX) as buffer:
        for page in stated:
            payload = await _read(life, page, buffer, read)
            if payload is not None:
                decode_manifest(payload)


async def _read_shadows(life: Life) -> None:
    """Second places hold what first places do: either may be all that is left of a page."""
    ledger = SqlMoveLedger(life.catalog)
    read: dict[tuple[int, int], bytes | None] = {}
    with AlignedBuffer(RECORD_BYTES_MAX) as buffer:
        for volume in life.store.volumes:
            for found in await ledger.list_shadows(
                volume.volume_id, place=FIRST_PLACE, limit=PAGES_MAX
            ):
                assert found.shadow is not None
                shadow = replace(found.page, extent=found.shadow)
                await _read(life, PagePlaces(page=shadow), buffer, read)


def _list_manifests(connection: Connection) -> list[PagePlaces]:
    named = [
        body_id
        for column in (_v.manifest_body_id, _b.manifest_body_id)
        for (body_id,) in connection.execute(select(column).where(column.is_not(None)))
    ]
    return [
        page
        for body_id in named
        for page in list_places(connection, body_id=body_id, first_index=0, limit=1)
    ]


async def _read(
    life: Life,
    places: PagePlaces,
    buffer: AlignedBuffer,
    read: dict[tuple[int, int], bytes | None],
) -> bytes | None:
    """The payload, read once however many versions share it; None where damage took it.

    A good shadow makes up for a first place that is not.
    """
    key = (places.page.body_id, places.page.page_index)
    if key not in read:
        read[key] = None
        for page in (places.page, places.at_shadow):
            if page is not None and read[key] is None:
                read[key] = await _read_place(life, page, buffer)
    return read[key]


async def _read_place(life: Life, page: StoredPage, buffer: AlignedBuffer) -> bytes | None:
    try:
        return bytes(await life.store.read_page(page, buffer.view))
    except PageLost as error:
        if not life.is_damaged(page.extent):
            raise Violation(f"lost, and nothing damaged it: {error}") from error
        return None


async def _check_leaks(life: Life) -> None:
    """Each segment takes its header and what rows name, and no left place waits any more."""
    ledger = life.reclaimer._ledger
    left = await ledger.list_dead_extents(died_before_us=EVER_US, after=0, limit=1)
    if left:
        raise Violation(f"{left[0].extent} was left by its page and is never freed")
    for volume in life.store.volumes:
        for facts in volume.list_segments():
            segment = SegmentRef(volume.volume_id, facts.segment_id)
            extents = await ledger.list_segment_extents(segment)
            named_bytes = sum(extent.length_bytes for extent in extents)
            taken_bytes = life.allocated_bytes(segment)
            if taken_bytes != named_bytes:
                raise Violation(
                    f"segment {facts.segment_id:#x} of {volume.tier} takes {taken_bytes} bytes, "
                    f"rows name {named_bytes}"
                )
