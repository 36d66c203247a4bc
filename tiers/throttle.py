"""What moves may cost: rates of each device, found by what they do to the foreground.

Every transfer of a move passes `MoveThrottle.spend` first. Transfers are paced, so that moves come
evenly and never in bursts; they, and the pieces that a device gets of them, wait a moment while
requests wait for the same device; and for a tenth of the time nothing moves at all, which is when
the foreground shows how fast it is without (`tiers.slowdown`). From one such cycle to the next the
rates follow what was measured: down by half where the foreground is slower than the policy allows,
up a little where it is not, up fast where nobody is there to be slowed (TIERING 4.5).

One rate of bytes a second paces bytes and operations alike: a disk with an arm is charged at least
what it could have read during each of the arm's movements (`tiers.arm_pace`). A second budget, of
operations, would have to be found by the same measurement, which cannot tell the two apart.

A rate in the policy is a ceiling, `auto` has none, `unlimited` is not steered at all. Rates never
fall to zero: a mistaken measurement may make moves slow, it may not stop them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import trio

from hal.geometry import PAGE_BYTES_MAX, RECORD_BYTES_MAX
from tiers.arm_pace import ArmPace, has_arm, price_transfer
from tiers.slowdown import SlowdownMeter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from hal.records import DeviceFacts, VolumeId
    from tiers.policy import Budget, Rate
    from tiers.windows import Window

__all__ = [
    "CYCLE_S",
    "RATE_LEAST",
    "STILL_S",
    "MoveThrottle",
    "SteeredRate",
    "ThrottleStatistics",
    "ThrottledDevice",
    "choose_rates",
]

CYCLE_S = 60.0
STILL_S = 6.0  # of each cycle, nothing moves
RATE_START = 32 * 1024.0 * 1024.0
RATE_LEAST = 1024.0 * 1024.0
RATE_MOST = 16 * 1024.0**3  # more than any device; a number, so that arithmetic stays arithmetic
GROWTH = 1.25
GROWTH_IDLE = 4.0
CUT = 0.5
USED_SHARE_MIN = 0.5
"""A rate that moves did not use says nothing about what it would do."""
PATIENCE_STEPS = 25  # at most 50 ms a transfer waits for requests on its device
PATIENCE_STEP_S = 0.002


class ThrottledDevice(Protocol):
    """What the throttle asks of a volume."""

    @property
    def tier(self) -> str:
        """Its tier."""
        ...

    @property
    def facts(self) -> DeviceFacts:
        """What its device can do."""
        ...

    def has_waiting(self) -> bool:
        """Whether transfers of requests wait for the device."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ThrottleStatistics:
    """Rates in force and what they are steered by.

    Attributes:
        slow_bytes_per_s: Transfers of moves on the slow tier, reads and writes together.
        fast_write_bytes_per_s: Writes of moves on the fast tier.
        slowdown: See `SlowdownStatistics`; after a cut, before anything is known of the new rates,
            the one that they were cut for.
        moved_bytes: Transferred since start, every read and write counted.
        waited_seconds: How long moves were held back.
        is_still: Nothing moves now, to measure the foreground without.
    """

    slow_bytes_per_s: float
    fast_write_bytes_per_s: float
    slowdown: float
    samples_moving: float
    samples_still: float
    moved_bytes: int
    waited_seconds: float
    is_still: bool


class SteeredRate:
    """One rate: additive-like increase, multiplicative decrease. Pure."""

    def __init__(self) -> None:
        self._rate = RATE_START
        self._ceiling = RATE_MOST
        self._is_steered = True
        self._used_bytes = 0

    @property
    def bytes_per_s(self) -> float:
        """The rate in force."""
        return min(self._rate, self._ceiling) if self._is_steered else RATE_MOST

    def bound(self, wanted: Rate) -> None:
        """Take what the policy says of it."""
        self._is_steered = wanted != "unlimited"
        self._ceiling = max(float(wanted), 1.0) if isinstance(wanted, int) else RATE_MOST

    def use(self, size_bytes: int) -> None:
        """Note a transfer by what it costs."""
        self._used_bytes += size_bytes

    def end_cycle(self, *, seconds: float, slowdown: float | None, slowdown_max: float) -> None:
        """Follow what was measured.

        Args:
            seconds: Of the cycle in which pages might move.
            slowdown: As measured, None where there is no foreground to tell.
            slowdown_max: As the policy allows.
        """
        used = self._used_bytes / max(seconds, 1e-3)
        self._used_bytes = 0
        rate = self.bytes_per_s
        if slowdown is not None and slowdown > slowdown_max:
            # From what was used: a rate far above it would take many halvings to matter.
            self._rate = max(min(rate, max(used, RATE_LEAST)) * CUT, RATE_LEAST)
        elif used >= USED_SHARE_MIN * rate:
            growth = GROWTH_IDLE if slowdown is None else GROWTH
            self._rate = min(rate * growth, RATE_MOST)


class MoveThrottle:
    """Paces the transfers of moves.

    Args:
        find_device: By volume id.
        fast_tier: Name of the tier whose writes are limited; of others all transfers are.
        budget: Of the policy in force; its rates are those of each device.
        windows: Of the policy in force.
        wall_s: Seconds since 1970, for windows.
    """

    def __init__(
        self,
        find_device: Callable[[VolumeId], ThrottledDevice],
        *,
        fast_tier: str,
        budget: Budget,
        windows: Sequence[Window],
        wall_s: Callable[[], float],
    ) -> None:
        self._find_device = find_device
        self._fast_tier = fast_tier
        self._budget = budget
        self._windows = tuple(windows)
        self._wall_s = wall_s
        self._meter = SlowdownMeter()
        self._slow = SteeredRate()
        self._fast = SteeredRate()
        self._free_at: dict[VolumeId, float] = {}
        self._may_move = trio.Event()
        self._may_move.set()
        self._phase_began = 0.0
        self._moved_at = -1.0
        self._moved_bytes = 0
        self._waited_s = 0.0
        self._slowdown = 0.0
        self.write_price = 1.0
        """What a byte written to the fast tier costs; the breaker raises it."""
        self._bound_rates()

    def statistics(self) -> ThrottleStatistics:
        """Rates and what they follow."""
        measured = self._meter.statistics()
        return ThrottleStatistics(
            slow_bytes_per_s=self._slow.bytes_per_s,
            fast_write_bytes_per_s=self._fast.bytes_per_s / self.write_price,
            slowdown=measured.slowdown or self._slowdown,
            samples_moving=measured.samples_moving,
            samples_still=measured.samples_still,
            moved_bytes=self._moved_bytes,
            waited_seconds=self._waited_s,
            is_still=not self._may_move.is_set(),
        )

    def hop_rates(self, *, fast: str, slow: str) -> dict[tuple[str, str], float]:
        """Bytes a second that moves may copy from one tier to the other, as the rates are now.

        A copy downwards is written and read back, so it takes the disk's time twice.
        """
        down = self._slow.bytes_per_s / 2
        up = min(self._fast.bytes_per_s / self.write_price, self._slow.bytes_per_s)
        return {(fast, slow): down, (slow, fast): up}

    def find_arm_pace(self, tier: str, devices: Iterable[ThrottledDevice]) -> ArmPace | None:
        """How transfers of a slow tier are paced where one of its devices has an arm, else None."""
        if any(device.tier == tier and has_arm(device.facts) for device in devices):
            return ArmPace(tier=tier, bytes_per_s=self._slow.bytes_per_s)
        return None

    def obey(self, budget: Budget, windows: Sequence[Window]) -> None:
        """Take another policy's budget; rates that were found stay where they may."""
        self._budget = budget
        self._windows = tuple(windows)
        self._bound_rates()

    def note_request(self, kind: str, *, size_bytes: int, running: int, seconds: float) -> None:
        """Note a request that has just ended; one that saw both situations is left out."""
        now = trio.current_time()
        if now - seconds < self._phase_began:
            return
        # As long as nothing has moved in this phase it is as still as the other one.
        is_still = not self._may_move.is_set() or self._moved_at < self._phase_began
        self._meter.note(
            kind,
            size_bytes=size_bytes,
            running=running,
            seconds=seconds,
            is_moving=not is_still,
        )

    async def spend(
        self, volume_id: VolumeId, *, read_bytes: int = 0, write_bytes: int = 0, seeks: int = 1
    ) -> None:
        """Wait until a transfer of a move may begin.

        Args:
            volume_id: On which.
            read_bytes: What it reads.
            write_bytes: What it writes.
            seeks: How often an arm would move for it; 0 where it goes on behind the one before.
        """
        began = trio.current_time()
        device = self._find_device(volume_id)
        await self._may_move.wait()
        await self._pace(volume_id, device, read_bytes, write_bytes, seeks)
        await self._may_move.wait()
        await self._let_pass(device)
        self._moved_bytes += read_bytes + write_bytes
        self._moved_at = trio.current_time()
        self._waited_s += self._moved_at - began

    @property
    def io_bytes(self) -> int:
        """What a device is given or asked for at once.

        The policy counts payload: what a record has besides goes with it, or each full page would
        end in a transfer of two blocks.
        """
        return self._budget.io_bytes + RECORD_BYTES_MAX - PAGE_BYTES_MAX

    @property
    def inflight_max(self) -> int:
        """Transfers at the same time."""
        return self._budget.max_inflight

    async def give_way(self, volume_id: VolumeId) -> None:
        """Between two pieces of a transfer: wait a moment while requests wait for the device."""
        await trio.lowlevel.checkpoint()
        await self._let_pass(self._find_device(volume_id))

    async def run(self) -> None:
        """Alternate between moving and stillness until cancelled; steer after each cycle."""
        while True:
            self._phase_began = trio.current_time()
            self._may_move.set()
            await trio.sleep(CYCLE_S - STILL_S)
            self._may_move = trio.Event()
            self._phase_began = trio.current_time()
            await trio.sleep(STILL_S)
            self._end_cycle()

    async def _let_pass(self, device: ThrottledDevice) -> None:
        for _ in range(PATIENCE_STEPS):
            if not device.has_waiting():
                break
            await trio.sleep(PATIENCE_STEP_S)

    def _end_cycle(self) -> None:
        slowdown = self._meter.find_slowdown()
        self._slowdown = slowdown or 0.0
        before = self._slow.bytes_per_s, self._fast.bytes_per_s
        for rate in (self._slow, self._fast):
            rate.end_cycle(
                seconds=CYCLE_S - STILL_S,
                slowdown=slowdown,
                slowdown_max=self._budget.foreground_p99_slowdown_max,
            )
        if self._slow.bytes_per_s < before[0] or self._fast.bytes_per_s < before[1]:
            # What was measured belongs to rates that hold no longer; with it, a rate that is right
            # would be cut again and again until it had faded.
            self._meter.forget_moving()
        self._meter.fade()
        self._bound_rates()

    def _bound_rates(self) -> None:
        slow, fast = choose_rates(self._budget, self._windows, now_s=self._wall_s())
        self._slow.bound(slow)
        self._fast.bound(fast)

    async def _pace(
        self,
        volume_id: VolumeId,
        device: ThrottledDevice,
        read_bytes: int,
        write_bytes: int,
        seeks: int,
    ) -> None:
        is_fast = device.tier == self._fast_tier
        rate = self._fast if is_fast else self._slow
        size = write_bytes if is_fast else read_bytes + write_bytes
        if size == 0:
            return
        if has_arm(device.facts):
            size = price_transfer(size, seeks=seeks)
        rate.use(size)
        price = self.write_price if is_fast else 1.0
        now = trio.current_time()
        starts_at = max(self._free_at.get(volume_id, now), now)
        self._free_at[volume_id] = starts_at + size * price / rate.bytes_per_s
        await trio.sleep_until(starts_at)


def choose_rates(budget: Budget, windows: Sequence[Window], *, now_s: float) -> tuple[Rate, Rate]:
    """Rates for the slow tier and for writes to the fast one; the last open window's count.

    Args:
        budget: In force where no window says otherwise.
        windows: In the policy's order.
        now_s: Seconds since 1970.
    """
    slow, fast = budget.hdd_bytes_per_s, budget.ssd_write_bytes_per_s
    for window in windows:
        if window.hdd_bytes_per_s is None and window.ssd_write_bytes_per_s is None:
            continue
        if window.is_open(now_s):
            slow = slow if window.hdd_bytes_per_s is None else window.hdd_bytes_per_s
            fast = fast if window.ssd_write_bytes_per_s is None else window.ssd_write_bytes_per_s
    return slow, fast
