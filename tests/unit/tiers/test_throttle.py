from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import trio
import trio.testing

from hal.geometry import PAGE_BYTES_MAX, RECORD_BYTES_MAX
from hal.records import DeviceFacts, VolumeId
from tiers.arm_pace import SEEK_BYTES, ArmPace
from tiers.policy import Budget
from tiers.throttle import (
    CYCLE_S,
    RATE_LEAST,
    RATE_MOST,
    RATE_START,
    STILL_S,
    MoveThrottle,
    SteeredRate,
    choose_rates,
)
from tiers.windows import Window, parse_cron

MIB = 1 << 20
SSD, HDD = VolumeId(1), VolumeId(2)
FIXED = Budget(hdd_bytes_per_s=10 * MIB, ssd_write_bytes_per_s=20 * MIB)


@dataclass
class Device:
    tier: str
    is_busy: bool = False
    rotational: bool | None = False

    @property
    def facts(self) -> DeviceFacts:
        return DeviceFacts(
            filesystem="xfs",
            memory_alignment_bytes=512,
            offset_alignment_bytes=512,
            direct_io=True,
            rotational=self.rotational,
        )

    def has_waiting(self) -> bool:
        return self.is_busy


def make(
    budget: Budget = FIXED, *, hdd: Device | None = None, windows: tuple[Window, ...] = ()
) -> MoveThrottle:
    devices = {SSD: Device("ssd"), HDD: hdd or Device("hdd")}
    return MoveThrottle(
        devices.__getitem__,
        fast_tier="ssd",
        budget=budget,
        windows=windows,
        wall_s=lambda: 1_800_000_000.0,
    )


async def time_of(throttle: MoveThrottle, count: int, volume: VolumeId, **sizes: int) -> float:
    began = trio.current_time()
    for _ in range(count):
        await throttle.spend(volume, **sizes)
    return trio.current_time() - began


async def test_transfers_come_at_the_rate(autojump_clock: trio.testing.MockClock) -> None:
    throttle = make()
    assert await time_of(throttle, 101, HDD, write_bytes=MIB) == pytest.approx(10.0)
    assert await time_of(throttle, 101, SSD, write_bytes=MIB) == pytest.approx(5.0)


async def test_reads_cost_on_the_slow_tier_alone(autojump_clock: trio.testing.MockClock) -> None:
    throttle = make()
    assert await time_of(throttle, 101, HDD, read_bytes=MIB) == pytest.approx(10.0)
    assert await time_of(throttle, 101, SSD, read_bytes=MIB) == 0.0


async def test_disks_do_not_wait_for_each_other(autojump_clock: trio.testing.MockClock) -> None:
    throttle = make()
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: time_of(throttle, 101, HDD, write_bytes=MIB))
        nursery.start_soon(lambda: time_of(throttle, 101, SSD, write_bytes=MIB))
    assert trio.current_time() - began == pytest.approx(10.0)


async def test_the_breaker_makes_writes_dearer(autojump_clock: trio.testing.MockClock) -> None:
    throttle = make()
    throttle.write_price = 4.0
    assert await time_of(throttle, 101, SSD, write_bytes=MIB) == pytest.approx(20.0)
    assert throttle.statistics().fast_write_bytes_per_s == 5 * MIB


async def test_unlimited_is_not_paced(autojump_clock: trio.testing.MockClock) -> None:
    throttle = make(replace(FIXED, hdd_bytes_per_s="unlimited"))
    assert await time_of(throttle, 1_000, HDD, write_bytes=4 * MIB) < 1.0


async def test_a_transfer_lets_requests_pass_but_not_for_ever(
    autojump_clock: trio.testing.MockClock,
) -> None:
    hdd = Device("hdd", is_busy=True)
    throttle = make(hdd=hdd)
    assert await time_of(throttle, 1, HDD, write_bytes=1) == pytest.approx(0.05)
    hdd.is_busy = False
    assert await time_of(throttle, 1, HDD, write_bytes=1) < 0.01


async def test_nothing_moves_for_a_tenth_of_the_time(
    autojump_clock: trio.testing.MockClock,
) -> None:
    throttle = make()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(throttle.run)
        await trio.sleep(CYCLE_S - STILL_S + 1.0)
        assert throttle.statistics().is_still
        began = trio.current_time()
        await throttle.spend(HDD, write_bytes=1)
        assert trio.current_time() - began == pytest.approx(STILL_S - 1.0)
        nursery.cancel_scope.cancel()


async def test_a_disk_with_an_arm_is_charged_for_its_movements(
    autojump_clock: trio.testing.MockClock,
) -> None:
    rate = 10 * MIB
    throttle = make(hdd=Device("hdd", rotational=True))

    small = await time_of(throttle, 101, HDD, read_bytes=8192, seeks=1)
    await trio.sleep(1.0)
    many = await time_of(throttle, 11, HDD, read_bytes=MIB, seeks=16)
    await trio.sleep(100.0)
    behind = await time_of(throttle, 101, HDD, write_bytes=8192, seeks=0)
    await trio.sleep(1.0)
    long = await time_of(throttle, 11, HDD, write_bytes=4 * MIB, seeks=1)

    assert small == pytest.approx(100 * SEEK_BYTES / rate)
    assert many == pytest.approx(10 * 16 * SEEK_BYTES / rate)
    assert behind == pytest.approx(100 * 8192 / rate)
    assert long == pytest.approx(10 * 4 * MIB / rate)
    assert throttle.find_arm_pace("hdd", [Device("ssd"), Device("hdd", rotational=True)]) == (
        ArmPace(tier="hdd", bytes_per_s=rate)
    )


@pytest.mark.parametrize("rotational", [False, None])
async def test_a_device_without_an_arm_is_charged_for_bytes(
    rotational: bool | None,
    autojump_clock: trio.testing.MockClock,
) -> None:
    hdd = Device("hdd", rotational=rotational)
    throttle = make(hdd=hdd)

    assert await time_of(throttle, 101, HDD, read_bytes=MIB, seeks=9) == pytest.approx(10.0)
    assert throttle.find_arm_pace("hdd", [hdd, Device("ssd", rotational=True)]) is None


async def serve(throttle: MoveThrottle, *, slowed: float, cycles: int) -> float:
    """Requests of 1 ms, slower while pages move; the rate in the end, bytes a second."""

    async def move() -> None:
        while True:
            await throttle.spend(HDD, write_bytes=MIB)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(throttle.run)
        nursery.start_soon(move)
        end = trio.current_time() + cycles * CYCLE_S
        while trio.current_time() < end:
            seconds = 0.001 if throttle.statistics().is_still else 0.001 * slowed
            await trio.sleep(0.02)
            throttle.note_request("GetObject", size_bytes=4096, running=1, seconds=seconds)
        nursery.cancel_scope.cancel()
    return throttle.statistics().slow_bytes_per_s


async def test_a_slowed_foreground_halves_the_rate_to_a_least(
    autojump_clock: trio.testing.MockClock,
) -> None:
    throttle = make(replace(FIXED, hdd_bytes_per_s="auto"))
    assert await serve(throttle, slowed=2.0, cycles=10) == RATE_LEAST
    assert throttle.statistics().slowdown == pytest.approx(2.0, rel=0.05)


async def test_a_rate_that_is_low_enough_is_not_cut_for_what_was_before(
    autojump_clock: trio.testing.MockClock,
) -> None:
    throttle = make(replace(FIXED, hdd_bytes_per_s="auto"))
    lowest = throttle.statistics().slow_bytes_per_s

    async def move() -> None:
        while True:
            await throttle.spend(HDD, write_bytes=MIB)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(throttle.run)
        nursery.start_soon(move)
        end = trio.current_time() + 8 * CYCLE_S
        while trio.current_time() < end:
            found = throttle.statistics()
            lowest = min(lowest, found.slow_bytes_per_s)
            # Twice as slow above 20 MiB/s, and not slowed below.
            is_slowed = found.slow_bytes_per_s > 20 * MIB and not found.is_still
            await trio.sleep(0.02)
            throttle.note_request(
                "GetObject", size_bytes=4096, running=1, seconds=0.002 if is_slowed else 0.001
            )
        nursery.cancel_scope.cancel()

    # One halving from above the bound; with the memory of ten cycles it went to the least.
    assert lowest >= 8 * MIB


async def test_pieces_let_requests_pass_and_follow_the_policy_in_force(
    autojump_clock: trio.testing.MockClock,
) -> None:
    hdd = Device("hdd", is_busy=True)
    throttle = make(replace(FIXED, io_bytes=1 << 18, max_inflight=2), hdd=hdd)
    began = trio.current_time()
    await throttle.give_way(HDD)
    assert trio.current_time() - began == pytest.approx(0.05)
    hdd.is_busy = False
    await throttle.give_way(HDD)
    assert trio.current_time() - began == pytest.approx(0.05)
    beside = RECORD_BYTES_MAX - PAGE_BYTES_MAX
    assert (throttle.io_bytes, throttle.inflight_max) == ((1 << 18) + beside, 2)

    throttle.obey(replace(FIXED, io_bytes=4 * MIB, max_inflight=7), ())

    # The record of a full page is one transfer.
    assert (throttle.io_bytes, throttle.inflight_max) == (RECORD_BYTES_MAX, 7)


def test_a_rate_grows_while_it_is_used_and_nobody_is_hurt() -> None:
    rate = SteeredRate()
    rate.bound("auto")
    assert rate.bytes_per_s == RATE_START
    rate.end_cycle(seconds=54.0, slowdown=1.0, slowdown_max=1.05)
    assert rate.bytes_per_s == RATE_START, "nobody knows what it would have done"
    rate.use(int(RATE_START * 54))
    rate.end_cycle(seconds=54.0, slowdown=1.0, slowdown_max=1.05)
    assert rate.bytes_per_s == pytest.approx(RATE_START * 1.25)
    rate.use(int(RATE_START * 54))
    rate.end_cycle(seconds=54.0, slowdown=None, slowdown_max=1.05)
    assert rate.bytes_per_s == pytest.approx(RATE_START * 5.0)


def test_a_cut_begins_at_what_was_used() -> None:
    rate = SteeredRate()
    rate.bound("auto")
    for _ in range(40):
        rate.use(int(rate.bytes_per_s * 54))
        rate.end_cycle(seconds=54.0, slowdown=None, slowdown_max=1.05)
    assert rate.bytes_per_s == RATE_MOST
    rate.use(54 * 100 * MIB)
    rate.end_cycle(seconds=54.0, slowdown=3.0, slowdown_max=1.05)
    assert rate.bytes_per_s == pytest.approx(50 * MIB)


def test_a_rate_of_the_policy_is_a_ceiling() -> None:
    rate = SteeredRate()
    rate.bound(10 * MIB)
    assert rate.bytes_per_s == 10 * MIB
    rate.use(10 * MIB * 54)
    rate.end_cycle(seconds=54.0, slowdown=2.0, slowdown_max=1.05)
    assert rate.bytes_per_s == 5 * MIB
    rate.bound("unlimited")
    assert rate.bytes_per_s == RATE_MOST


@pytest.mark.parametrize(
    ("hdd", "ssd", "expected"),
    [
        (None, None, (10 * MIB, 20 * MIB)),
        ("unlimited", None, ("unlimited", 20 * MIB)),
        (None, 5, (10 * MIB, 5)),
    ],
)
def test_an_open_window_has_its_own_rates(hdd: object, ssd: object, expected: object) -> None:
    window = Window(
        name="night",
        cron=parse_cron("0 22 * * *"),
        duration_s=7 * 3600.0,
        zone="UTC",
        hdd_bytes_per_s=hdd,  # type: ignore[arg-type]  # parametrised
        ssd_write_bytes_per_s=ssd,  # type: ignore[arg-type]
    )
    night, noon = 1_800_054_000.0, 1_800_014_400.0  # 23:00 and 12:00
    assert choose_rates(FIXED, [window], now_s=night) == expected
    assert choose_rates(FIXED, [window], now_s=noon) == (10 * MIB, 20 * MIB)
