"""The simulated device's crash model, which every crash test stands on."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, strategies

from hal.errors import DeviceError, DeviceFailed, DeviceFull, MediumError
from hal.memory_device import MemoryDevice
from hal.memory_file import CrashLot
from tests.contract.device import BLOCK, aligned

SEEDS = range(40)
ROOM_BYTES = 64 * BLOCK


async def make_device(*, blocks: int = 4) -> MemoryDevice:
    """A device with a durable file `a` of blocks full of `o` (old)."""
    device = MemoryDevice(capacity_bytes=ROOM_BYTES)
    await device.create_file("a", size_bytes=blocks * BLOCK)
    await device.write("a", 0, aligned(b"o" * blocks * BLOCK))
    await device.flush("a")
    await device.flush_directory()
    return device


async def read(device: MemoryDevice, name: str = "a", *, blocks: int = 4) -> bytes:
    target = aligned(bytes(blocks * BLOCK))
    await device.read_into(name, 0, target)
    return bytes(target)


async def test_flushed_blocks_survive_every_crash() -> None:
    for seed in SEEDS:
        device = await make_device()

        left = device.crash(random.Random(seed))

        assert await read(left) == b"o" * 4 * BLOCK


async def test_unflushed_writes_survive_by_lot_each_for_itself() -> None:
    outcomes = set()
    for seed in SEEDS:
        device = await make_device(blocks=2)
        await device.write("a", 0, aligned(b"n" * BLOCK))
        await device.write("a", BLOCK, aligned(b"n" * BLOCK))
        content = await read(device.crash(random.Random(seed), torn=False), blocks=2)
        outcomes.add((content[:BLOCK], content[BLOCK:]))

    old, new = b"o" * BLOCK, b"n" * BLOCK
    assert outcomes == {(old, old), (old, new), (new, old), (new, new)}


async def test_an_unflushed_write_may_tear_at_any_sector() -> None:
    torn = 0
    for seed in SEEDS:
        device = await make_device(blocks=1)
        await device.write("a", 0, aligned(b"n" * BLOCK))
        content = await read(device.crash(random.Random(seed)), blocks=1)
        sectors = [content[start : start + 512] for start in range(0, BLOCK, 512)]
        assert set(sectors) <= {b"o" * 512, b"n" * 512}
        torn += len(set(sectors)) == 2

    assert torn > 0


async def test_unflushed_punches_and_truncations_happened_or_not() -> None:
    contents, sizes = set(), set()
    for seed in SEEDS:
        device = await make_device(blocks=2)
        await device.create_file("b", size_bytes=2 * BLOCK)
        await device.flush_directory()
        await device.punch("a", 0, BLOCK)
        await device.truncate("b", BLOCK)
        left = device.crash(random.Random(seed))
        contents.add(await read(left, blocks=2))
        sizes.add((await left.list_files())["b"])

    assert contents == {b"o" * 2 * BLOCK, bytes(BLOCK) + b"o" * BLOCK}
    assert sizes == {BLOCK, 2 * BLOCK}


async def test_names_since_the_last_directory_flush_are_there_by_lot() -> None:
    outcomes = set()
    for seed in SEEDS:
        device = await make_device()
        await device.create_file("made", size_bytes=BLOCK)
        await device.flush("made")
        await device.remove_file("a")
        outcomes.add(frozenset(await device.crash(random.Random(seed)).list_files()))

    assert outcomes == {frozenset(), frozenset("a"), frozenset({"made"}), frozenset({"a", "made"})}


async def test_a_name_made_again_is_the_old_file_the_new_one_or_neither() -> None:
    outcomes = set()
    for seed in SEEDS:
        device = await make_device()
        await device.remove_file("a")
        await device.create_file("a", size_bytes=BLOCK)
        outcomes.add((await device.crash(random.Random(seed)).list_files()).get("a"))

    assert outcomes == {None, BLOCK, 4 * BLOCK}


async def test_flushed_names_survive_and_flushed_removals_stay() -> None:
    for seed in SEEDS:
        device = await make_device()
        await device.create_file("b", size_bytes=BLOCK)
        await device.remove_file("a")
        await device.flush_directory()

        assert set(await device.crash(random.Random(seed)).list_files()) == {"b"}


async def test_what_is_left_is_durable_and_independent() -> None:
    device = await make_device(blocks=1)
    left = device.crash(random.Random(1))
    await left.write("a", 0, aligned(b"n" * BLOCK))
    await left.flush("a")

    again = left.crash(random.Random(2))

    assert await read(again, blocks=1) == b"n" * BLOCK


async def test_a_device_without_power_does_nothing() -> None:
    device = await make_device()
    device.crash(random.Random(1))

    with pytest.raises(DeviceFailed, match="power"):
        await device.flush("a")
    with pytest.raises(DeviceFailed, match="power"):
        await device.list_files()


async def test_the_same_seed_leaves_the_same_bytes() -> None:
    async def run(seed: int) -> bytes:
        device = await make_device()
        for index in range(4):
            await device.write("a", index * BLOCK, aligned(bytes([index + 1]) * BLOCK))
        return await read(device.crash(random.Random(seed)))

    assert await run(5) == await run(5)
    assert len({await run(seed) for seed in range(10)}) > 1


async def test_room_runs_out_and_comes_back() -> None:
    device = await make_device(blocks=4)
    with pytest.raises(DeviceFull):
        await device.create_file("b", size_bytes=ROOM_BYTES - 3 * BLOCK)
    await device.create_file("b", size_bytes=ROOM_BYTES - 4 * BLOCK)
    assert (await device.measure_capacity()).free_bytes == 0
    with pytest.raises(DeviceFull):
        await device.write("a", 4 * BLOCK, aligned(bytes(BLOCK)))  # would grow

    await device.punch("a", 0, 2 * BLOCK)
    assert (await device.measure_capacity()).free_bytes == 2 * BLOCK
    await device.create_file("c", size_bytes=2 * BLOCK)
    with pytest.raises(DeviceFull):
        await device.write("a", 0, aligned(bytes(BLOCK)))  # the hole was given away
    await device.remove_file("b")
    await device.write("a", 0, aligned(bytes(BLOCK)))

    free_bytes = (await device.measure_capacity()).free_bytes
    assert free_bytes == ROOM_BYTES - 3 * BLOCK - 2 * BLOCK
    with pytest.raises(DeviceError):
        await device.create_file("a", size_bytes=BLOCK)


async def test_a_truncated_file_that_is_extended_reads_as_zeros_behind() -> None:
    device = await make_device(blocks=2)
    await device.truncate("a", BLOCK)
    with pytest.raises(MediumError):
        await read(device, blocks=2)

    await device.truncate("a", 2 * BLOCK)

    assert await read(device, blocks=2) == b"o" * BLOCK + bytes(BLOCK)


async def test_rot_is_in_the_durable_bytes() -> None:
    device = await make_device(blocks=1)

    device.flip_bit("a", 7, 0)

    expected = b"o" * 7 + b"n" + b"o" * (BLOCK - 8)
    assert await read(device, blocks=1) == expected
    assert await read(device.crash(random.Random(1)), blocks=1) == expected


@given(
    operations=strategies.lists(
        strategies.tuples(
            strategies.sampled_from(["write", "punch", "flush"]),
            strategies.integers(0, 3),
            strategies.integers(1, 4),
        ),
        max_size=12,
    ),
    seed=strategies.integers(0, 1000),
)
async def test_each_block_left_is_the_flushed_one_or_of_a_later_change(
    operations: list[tuple[str, int, int]], seed: int
) -> None:
    device = await make_device()
    possible = [{b"o" * 512} for _ in range(4)]
    current = [b"o" * 512 for _ in range(4)]
    for number, (kind, start, count) in enumerate(operations):
        blocks = range(start, min(start + count, 4))
        length = len(blocks) * BLOCK
        if kind == "flush":
            await device.flush("a")
            possible = [{sector} for sector in current]
            continue
        sector = bytes([number + 1]) * 512 if kind == "write" else bytes(512)
        if kind == "write":
            await device.write("a", start * BLOCK, aligned(sector * (length // 512)))
        else:
            await device.punch("a", start * BLOCK, length)
        for index in blocks:
            possible[index].add(sector)
            current[index] = sector
    assert await read(device) == b"".join(sector * 8 for sector in current)

    content = await read(device.crash(random.Random(seed)))

    for start in range(0, len(content), 512):
        assert content[start : start + 512] in possible[start // BLOCK]


async def test_overlapping_unflushed_writes_may_reach_the_medium_in_any_order() -> None:
    outcomes = set()
    for seed in SEEDS:
        device = await make_device(blocks=1)
        await device.write("a", 0, aligned(b"1" * BLOCK))
        await device.write("a", 0, aligned(b"2" * BLOCK))
        outcomes.add(await read(device.crash(random.Random(seed), torn=False), blocks=1))

    assert outcomes == {letter * BLOCK for letter in (b"o", b"1", b"2")}


async def test_a_crash_image_leaves_the_device_as_it_is() -> None:
    device = await make_device(blocks=1)
    await device.write("a", 0, aligned(b"n" * BLOCK))
    tally = Counter[CrashLot]()

    for seed in SEEDS:
        device.crash_image(random.Random(seed), tally=tally)

    assert await read(device, blocks=1) == b"n" * BLOCK
    assert tally.total() == len(SEEDS)
    assert tally.keys() == {CrashLot.KEPT, CrashLot.DROPPED, CrashLot.TORN}
    await device.flush("a")
    assert await read(device.crash(random.Random(1)), blocks=1) == b"n" * BLOCK


async def test_what_a_failed_flush_lost_no_later_flush_brings_back() -> None:
    survived = set()
    for seed in SEEDS:
        device = await make_device(blocks=1)
        await device.write("a", 0, aligned(b"n" * BLOCK))
        device.lose_unflushed("a", random.Random(seed))
        await device.flush("a")
        assert await read(device, blocks=1) == b"n" * BLOCK
        survived.add(await read(device.crash(random.Random(0)), blocks=1))

    assert survived == {b"o" * BLOCK, b"n" * BLOCK}


async def test_it_tells_which_blocks_hold_something_and_what_room_is_taken() -> None:
    device = MemoryDevice(capacity_bytes=ROOM_BYTES)
    await device.create_file("a", size_bytes=4 * BLOCK)
    await device.write("a", 2 * BLOCK, aligned(b"n" * BLOCK))
    await device.punch("a", 0, BLOCK)

    assert device.stored_blocks() == {"a": [2 * BLOCK]}
    assert device.allocated_bytes() == {"a": 3 * BLOCK}


async def test_a_copy_goes_its_own_way_with_what_was_pending() -> None:
    device = await make_device(blocks=1)
    await device.write("a", 0, aligned(b"n" * BLOCK))
    twin = device.copy()
    await device.write("a", 0, aligned(b"z" * BLOCK))

    assert await read(twin, blocks=1) == b"n" * BLOCK
    left = {await read(twin.crash(random.Random(seed), torn=False), blocks=1) for seed in SEEDS}
    assert left == {b"o" * BLOCK, b"n" * BLOCK}
