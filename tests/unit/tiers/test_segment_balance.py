"""Where the bytes of a segment's file are: every byte in one class."""

from __future__ import annotations

import os
import random

import pytest

from hal.records import FileMap
from tiers.segment_balance import ExtentRole, NamedExtent, SegmentBalance, balance_segment

K = 4096
LIVE, SHADOW, DEAD = ExtentRole.LIVE, ExtentRole.SHADOW, ExtentRole.DEAD


def full_map(blocks: int, *holes: int, beside: int = 0) -> FileMap:
    """A file of so many blocks, those named being holes."""
    ranges: list[tuple[int, int]] = []
    for block in range(blocks):
        if block in holes:
            continue
        if ranges and ranges[-1][1] == block * K:
            ranges[-1] = (ranges[-1][0], (block + 1) * K)
        else:
            ranges.append((block * K, (block + 1) * K))
    return FileMap(
        size_bytes=blocks * K,
        taken_bytes=(blocks - len(holes)) * K + beside,
        ranges=tuple(ranges),
    )


def extent(block: int, blocks: int, role: ExtentRole = LIVE) -> NamedExtent:
    return NamedExtent(block * K, blocks * K, role)


def balance(*extents: NamedExtent, file_map: FileMap, written: int | None = None) -> SegmentBalance:
    return balance_segment(
        extents, file_map, written_bytes=None if written is None else written * K
    )


def test_every_class_of_a_segment_gets_its_bytes() -> None:
    found = balance(
        extent(1, 2),
        extent(3, 1, SHADOW),
        extent(4, 1, DEAD),
        # block 5 is punched, 6 on its way to a commit, 7 preallocated
        file_map=full_map(8, 5, beside=K),
        written=7,
    )

    assert found == SegmentBalance(
        size_bytes=8 * K,
        taken_bytes=8 * K,
        header_bytes=K,
        live_bytes=2 * K,
        shadow_bytes=K,
        dead_bytes=K,
        unnamed_bytes=K,
        tail_bytes=K,
        returned_bytes=K,
        filesystem_bytes=K,
        segment_count=1,
    )
    assert found.is_sound


def test_what_is_dead_and_punched_already_is_returned() -> None:
    found = balance(extent(1, 3, DEAD), file_map=full_map(4, 1, 2))

    assert (found.dead_bytes, found.returned_bytes) == (K, 2 * K)
    assert found.is_sound


def test_a_sealed_segment_has_no_tail() -> None:
    found = balance(extent(1, 1), file_map=full_map(3))

    assert (found.tail_bytes, found.unnamed_bytes) == (0, K)


def test_the_hole_of_a_crash_behind_what_was_handed_out_is_returned() -> None:
    found = balance(extent(1, 1), file_map=full_map(4, 3), written=2)

    assert (found.tail_bytes, found.returned_bytes) == (K, K)
    assert found.is_sound


@pytest.mark.parametrize(
    ("extents", "fault"),
    [
        ((extent(1, 2), extent(2, 2)), "overlapping_bytes"),
        ((extent(1, 1), extent(1, 1, DEAD)), "overlapping_bytes"),
        ((extent(5, 1),), "missing_bytes"),
        ((extent(7, 2),), "outside_bytes"),
        ((extent(9, 1),), "outside_bytes"),
        ((extent(0, 1),), "outside_bytes"),
    ],
)
def test_what_contradicts_the_file_is_a_fault_of_one_block(
    extents: tuple[NamedExtent, ...], fault: str
) -> None:
    found = balance(*extents, file_map=full_map(8, 5))

    assert getattr(found, fault) == K
    assert found.overlapping_bytes + found.outside_bytes + found.missing_bytes == K
    assert not found.is_sound


def test_blocks_that_nobody_explains_are_a_difference() -> None:
    file_map = FileMap(size_bytes=2 * K, taken_bytes=K, ranges=((0, 2 * K),))

    found = balance(extent(1, 1), file_map=file_map)

    assert found.difference_bytes == -K
    assert not found.is_sound


def test_segments_add_up() -> None:
    one = balance(extent(1, 1), file_map=full_map(3))

    assert (one + one).live_bytes == 2 * K
    assert (one + one).segment_count == 2
    assert (one + SegmentBalance()) == one


def test_any_segment_balances_to_the_byte() -> None:
    seed = int.from_bytes(os.urandom(4), "big")
    draw = random.Random(seed)
    for _ in range(200):
        blocks = draw.randint(2, 40)
        holes = {block for block in range(1, blocks) if draw.random() < 0.2}
        roles = {block: draw.choice([*ExtentRole, None]) for block in range(1, blocks)}
        written = draw.choice([None, draw.randint(1, blocks)])
        end = blocks if written is None else written
        extents = [
            extent(block, 1, role)
            for block, role in roles.items()
            if role is not None and block < end and (role is DEAD or block not in holes)
        ]
        found = balance(*extents, file_map=full_map(blocks, *holes), written=written)

        assert found.is_sound, f"seed {seed}"
        assert found.stored_bytes + found.returned_bytes == blocks * K, f"seed {seed}"
        live = sum(e.length_bytes for e in extents if e.role is LIVE)
        assert found.live_bytes == live, f"seed {seed}"
