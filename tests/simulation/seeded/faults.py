"""What may go wrong in a simulated life, how often, and as what the layers above meet it.

Each kind is drawn before an operation of a device, before a commit of the catalog, or when the
power goes. `FaultKind` says what it does; `DURABILITY` 2 says what the appliance promises under it.
Kinds of damage (`DAMAGE`) change stored bytes behind the appliance's back: what they hit may be
lost, but is never served. All others may cost a request its success and nothing that was
acknowledged.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from hal.errors import DeviceError, DeviceFailed, DeviceFull, HalError, MediumError
from hal.faulty_device import Operation, OperationKind
from hal.memory_file import CrashLot

if TYPE_CHECKING:
    import random

__all__ = [
    "DAMAGE",
    "ERRNOS",
    "PROFILES",
    "FaultKind",
    "Profile",
    "Tally",
    "draw_profile",
    "make_error",
]


class FaultKind(Enum):
    """One kind of fault.

    The first group comes with a power cut, and with every crash image of one:

    - KEPT, DROPPED, TORN, REORDERED, NAME_LOST: see `hal.memory_device`.

    The second group meets one operation of a device:

    - ERRNO: it fails with an errno that Linux may give, nothing of it happens.
    - ANSWER_LOST: it happens, and fails all the same.
    - SHORT_WRITE: a part of the write reaches the device, then it fails.
    - FLUSH_FORGOTTEN: a flush fails, a part of what it covered is lost, and the next flush of the
      file succeeds without it.
    - STALL: it takes up to two minutes.
    - READ_FLIP: one bit of what was read is turned over, on the way only.

    The third group is damage:

    - ROT: one bit of a stored block is turned over.
    - PHANTOM_WRITE: a write is told as done and nothing was written.
    - MISDIRECTED_WRITE: a write is told as done and landed elsewhere, over what was there.

    The rest:

    - COMMIT_FAILED: a COMMIT fails, and by lot it took effect.
    - CATALOG_FULL: the catalog's disk has no room; the transaction is rolled back.
    - DISCONNECT: a client leaves inside its upload.
    - KILL: the process ends at this instruction; what it gave to the kernel stays.
    - POWER_CUT: the machine ends.
    - CLOCK_JUMP: the wall clock is set, up to a day forward or back.
    """

    KEPT = "kept"
    DROPPED = "dropped"
    TORN = "torn"
    REORDERED = "reordered"
    NAME_LOST = "name lost"
    ERRNO = "errno"
    ANSWER_LOST = "answer lost"
    SHORT_WRITE = "short write"
    FLUSH_FORGOTTEN = "flush forgotten"
    STALL = "stall"
    READ_FLIP = "read flip"
    ROT = "rot"
    PHANTOM_WRITE = "phantom write"
    MISDIRECTED_WRITE = "misdirected write"
    COMMIT_FAILED = "commit failed"
    CATALOG_FULL = "catalog full"
    DISCONNECT = "disconnect"
    KILL = "kill"
    POWER_CUT = "power cut"
    CLOCK_JUMP = "clock jump"


DAMAGE = frozenset({FaultKind.ROT, FaultKind.PHANTOM_WRITE, FaultKind.MISDIRECTED_WRITE})
_OF_CRASHES = {CrashLot(kind.value): kind for kind in list(FaultKind)[:5]}

ERRNOS = (
    errno.EIO,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.EROFS,
    errno.ENODEV,
    errno.ESTALE,
    errno.ETIMEDOUT,
)
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_MAY_BE_FULL = frozenset({OperationKind.CREATE, OperationKind.WRITE, OperationKind.TRUNCATE})
_ON_RANGES = frozenset({OperationKind.READ, OperationKind.WRITE, OperationKind.PUNCH})
_FLUSHES = frozenset({OperationKind.FLUSH, OperationKind.FLUSH_DIRECTORY})


@dataclass(slots=True)
class Tally:
    """Faults that took place, by kind, and crash images that were checked."""

    faults: Counter[FaultKind] = field(default_factory=Counter)
    crash_points: int = 0
    requests: int = 0

    def count_crash(self, lots: Counter[CrashLot]) -> None:
        """Take over what a power cut did."""
        for lot, times in lots.items():
            self.faults[_OF_CRASHES[lot]] += times

    def add(self, other: Tally) -> None:
        """Take over another run's counts."""
        self.faults.update(other.faults)
        self.crash_points += other.crash_points
        self.requests += other.requests


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How often each kind meets an operation in one life, 0 to 1; kinds not named never do."""

    rates: dict[FaultKind, float]

    @property
    def may_fail_requests(self) -> bool:
        """Whether a request may be answered with 5xx."""
        return any(rate > 0 for rate in self.rates.values())

    def draws(self, kind: FaultKind, random: random.Random) -> bool:
        """Whether it happens now; no lot is drawn for what never does."""
        rate = self.rates.get(kind, 0.0)
        return rate > 0 and random.random() < rate


_QUIET = Profile(rates={})
_ERRORS = Profile(
    rates={
        FaultKind.ERRNO: 0.06,
        FaultKind.ANSWER_LOST: 0.05,
        FaultKind.SHORT_WRITE: 0.15,
        FaultKind.READ_FLIP: 0.50,
        FaultKind.STALL: 0.05,
    }
)
_FLUSHES_LIE = Profile(
    rates={
        FaultKind.FLUSH_FORGOTTEN: 0.25,
        FaultKind.SHORT_WRITE: 0.05,
        FaultKind.STALL: 0.10,  # while one flush takes its time, others write
    }
)
_DAMAGE = Profile(
    rates={
        FaultKind.ROT: 0.08,
        FaultKind.PHANTOM_WRITE: 0.25,
        FaultKind.MISDIRECTED_WRITE: 0.50,
        FaultKind.READ_FLIP: 0.30,
    }
)
_CATALOG = Profile(rates={FaultKind.COMMIT_FAILED: 0.30, FaultKind.CATALOG_FULL: 0.20})
PROFILES = {
    "quiet": _QUIET,
    "errors": _ERRORS,
    "flushes": _FLUSHES_LIE,
    "damage": _DAMAGE,
    "catalog": _CATALOG,
}
# In three of eight lives nothing goes wrong but their end: in them no request may fail.
_DRAWN = (_QUIET, _QUIET, _QUIET, _ERRORS, _ERRORS, _FLUSHES_LIE, _DAMAGE, _CATALOG)


def draw_profile(random: random.Random, only: str | None = None) -> Profile:
    """How one life will go: as drawn, or as the profile of `PROFILES` that `only` names."""
    drawn = random.choice(_DRAWN)
    return drawn if only is None else PROFILES[only]


def make_error(operation: Operation, number: int, *, device: str) -> HalError:
    """What `hal.posix` raises where the system answers an operation with an errno."""
    reason = os.strerror(number)
    if number in _FULL and operation.kind in _MAY_BE_FULL:
        return DeviceFull(device, f"{operation.kind.value} {operation.name}: {reason}")
    if operation.kind in _ON_RANGES:
        return MediumError(
            device,
            file_name=operation.name,
            offset=operation.offset,
            length_bytes=operation.length_bytes,
            errno=number,
            reason=f"{operation.kind.value} failed: {reason}",
        )
    if operation.kind in _FLUSHES:
        return DeviceFailed(device, f"{operation.kind.value} {operation.name}: {reason}")
    return DeviceError(device, f"{operation.kind.value} {operation.name}: {reason}")
