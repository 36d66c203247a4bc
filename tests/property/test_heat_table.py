"""A heat table is a dictionary of levels, and its chunks come back as they were or not at all."""

from __future__ import annotations

import math
from array import array
from random import Random

import pytest
from hypothesis import given, settings, strategies as st

from tiers.heat_chunk import ChunkRefused, HeatChunk, decode_chunk, encode_chunk
from tiers.heat_columns import AccessBatch
from tiers.heat_table import CHUNK_BITS, HeatTable, HeatUnit, make_chunk
from tiers.temperature import NEVER, HeatScale, combine_levels, decode_level

SCALE = HeatScale(epoch=0.0, half_life=100.0)
PAGES = st.sampled_from(
    [0, 1, 1023, 1024, (1 << CHUNK_BITS) - 1, 1 << CHUNK_BITS, 7 << 32, (9 << 32) + 5, 1 << 62]
)
WEIGHTS = st.sampled_from((0.0625, 0.5, 1.0, 16.0))
TIMES = st.floats(-1_000_000, 1_000_000)
ACCESSES = st.lists(st.tuples(PAGES, WEIGHTS, TIMES), max_size=30)
LEVELS = st.dictionaries(
    st.integers(0, (1 << CHUNK_BITS) - 1), st.integers(1, 2**32 - 1), max_size=8
)


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), ACCESSES), max_size=5))
def test_batches_and_single_accesses_make_the_levels_of_a_dictionary(
    rounds: list[tuple[bool, list[tuple[int, float, float]]]],
) -> None:
    table = HeatTable(SCALE, lots=Random(1))
    model: dict[int, float] = {}
    for is_batch, accesses in rounds:
        batch = AccessBatch()
        for page, weight, time in accesses:
            added = SCALE.position(time) + math.log2(weight)
            was_known = page in model
            model[page] = combine_levels(model.get(page, -math.inf), added)
            if is_batch:
                batch.append(page, weight, time)
            else:
                assert table.add(page, weight, time) == was_known
        assert table.fold(batch) == len(set(batch.slots))

        wanted = array("q", [*model, 123_456_789])
        assert [decode_level(level) for level in table.levels_of(wanted)] == pytest.approx(
            [*model.values(), -math.inf], abs=0.001
        )
        assert [table.level(page) for page in wanted] == list(table.levels_of(wanted))


def chunk_of(levels: dict[int, int], *, number: int = 3, unit: HeatUnit) -> HeatChunk:
    memory = make_chunk()
    for slot, level in levels.items():
        memory[slot] = level
    return HeatChunk(
        number=number,
        unit=unit,
        scale=HeatScale(epoch=-5.5, half_life=86_400.0),
        written_at=123.456,
        written_us=1_795_000_000_000_000,
        levels=memory,
    )


@settings(deadline=None)
@given(LEVELS, st.integers(0, 2**45 - 1), st.sampled_from(HeatUnit))
def test_a_chunk_comes_back_as_it_was(levels: dict[int, int], number: int, unit: HeatUnit) -> None:
    chunk = chunk_of(levels, number=number, unit=unit)

    kept = encode_chunk(chunk)
    found = decode_chunk(memoryview(kept))

    assert len(kept) == 120 + 4096 * len({slot >> 10 for slot in levels})
    assert found == chunk
    assert {slot: level for slot, level in enumerate(found.levels) if level != NEVER} == levels


@settings(deadline=None)
@given(LEVELS, st.data())
def test_a_changed_bit_or_a_missing_end_is_refused(
    levels: dict[int, int], data: st.DataObject
) -> None:
    kept = bytearray(encode_chunk(chunk_of(levels, unit=HeatUnit.SECONDS)))
    if data.draw(st.booleans()):
        kept[data.draw(st.integers(0, len(kept) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del kept[data.draw(st.integers(0, len(kept) - 1)) :]

    with pytest.raises(ChunkRefused):
        decode_chunk(memoryview(kept))


@given(st.binary(max_size=300))
def test_garbage_is_refused_and_nothing_worse(garbage: bytes) -> None:
    with pytest.raises(ChunkRefused):
        decode_chunk(memoryview(garbage))
    with pytest.raises(ChunkRefused):
        decode_chunk(memoryview(b"TCLHEAT\n" + garbage))
