"""What is remembered of spans: enough that a range needs no header, and never of other contents."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from hal.geometry import HEADER_BYTES, PAGE_BYTES_MAX, RECORD_ALIGNMENT_BYTES, SPAN_BYTES
from tests.contract.device import aligned
from tests.unit.tiers.stores import copy_record, make_device, make_store, write_page
from tiers.errors import PageLost
from tiers.page_store import PageStore, room_for_range
from tiers.span_checksums import SpanChecksums

if TYPE_CHECKING:
    from hal.memory_device import MemoryDevice
    from tiers.records import StoredPage

PAYLOAD = random.Random(5).randbytes(PAGE_BYTES_MAX - 10)


async def read(store: PageStore, page: StoredPage, first: int, length_bytes: int) -> bytes:
    room = room_for_range(page, first=first, length_bytes=length_bytes)
    target = aligned(bytes(room))
    return bytes(
        await store.read_range(page, first=first, length_bytes=length_bytes, target=target)
    )


def transferred(device: MemoryDevice) -> tuple[int, int]:
    found = device.statistics()
    return found.reads, found.read_bytes


def flip(device: MemoryDevice, page: StoredPage, payload_offset: int) -> None:
    [name] = [name for name in device._files if name.startswith(f"{page.extent.segment_id:016x}")]
    device.flip_bit(name, page.extent.offset + HEADER_BYTES + payload_offset, 3)


async def test_the_header_is_read_for_the_first_range_alone() -> None:
    device = make_device()
    store = await make_store([device])
    page = await write_page(store, PAYLOAD)

    for number, first in enumerate((SPAN_BYTES, 5 * SPAN_BYTES, PAGE_BYTES_MAX - 200_000)):
        before = transferred(device)
        assert await read(store, page, first, SPAN_BYTES) == PAYLOAD[first : first + SPAN_BYTES]
        reads, read_bytes = (
            now - then for now, then in zip(transferred(device), before, strict=True)
        )
        assert reads == (2 if number == 0 else 1)
        assert read_bytes <= 2 * SPAN_BYTES + 2 * RECORD_ALIGNMENT_BYTES


async def test_the_first_span_is_read_with_its_header_and_nothing_more() -> None:
    device = make_device()
    store = await make_store([device])
    page = await write_page(store, PAYLOAD)
    before = transferred(device)

    assert await read(store, page, 10, 100) == PAYLOAD[10:110]

    assert transferred(device) == (before[0] + 1, before[1] + SPAN_BYTES + RECORD_ALIGNMENT_BYTES)


async def test_a_page_that_moved_is_verified_by_what_was_remembered() -> None:
    store = await make_store([make_device(), make_device()])
    page = await write_page(store, PAYLOAD)
    assert await read(store, page, SPAN_BYTES, 5) == PAYLOAD[SPAN_BYTES : SPAN_BYTES + 5]
    moved = await copy_record(store, page, to_volume=2)
    await store.punch([page.extent])

    assert await read(store, moved, SPAN_BYTES, 5) == PAYLOAD[SPAN_BYTES : SPAN_BYTES + 5]
    with pytest.raises(PageLost):
        await read(store, page, SPAN_BYTES, 5)


@pytest.mark.parametrize("is_known", [False, True])
@pytest.mark.parametrize("offset", [SPAN_BYTES + 3, 0])
async def test_a_span_that_rots_is_never_served(offset: int, *, is_known: bool) -> None:
    device = make_device()
    store = await make_store([device])
    page = await write_page(store, PAYLOAD)
    if is_known:
        await read(store, page, 9 * SPAN_BYTES, 5)
    flip(device, page, offset)

    with pytest.raises(PageLost, match="span"):
        await read(store, page, offset, 5)
    # The spans beside it are what they were.
    assert await read(store, page, 9 * SPAN_BYTES, 5) == PAYLOAD[9 * SPAN_BYTES :][:5]


async def test_a_header_that_is_not_the_rows_is_not_believed() -> None:
    store = await make_store([make_device()])
    page = await write_page(store, PAYLOAD)
    await read(store, page, SPAN_BYTES, 5)

    with pytest.raises(PageLost, match="BLAKE3"):
        await read(store, replace(page, blake3=bytes(32)), SPAN_BYTES, 5)


async def test_it_is_bounded_and_forgets_what_was_asked_for_longest_ago() -> None:
    store = await make_store([make_device()])
    pages = [await write_page(store, b"%d" % number, body_id=number) for number in range(1, 5)]
    known = SpanChecksums(pages_max=3)
    for page in pages[:3]:
        known.keep(page, [1, 2, 3])
    assert known.find(pages[0]) is not None

    known.keep(pages[3], [4])

    assert len(known) == 3
    assert [known.find(page) is not None for page in pages] == [True, False, True, True]
    found = known.find(pages[3])
    assert found is not None
    assert list(found) == [4]
