"""What clients did and may therefore expect: one register for each key, version and part.

A register is written and read by clients at the same time, and its server dies now and then. Each
write has an event where it began and one where its answer came, if it came. A read, or a look at
what a crash left, may then show a write's value if the write had begun and no later one was
answered before: linearizability of a register, by the values, which are all different.

    Source: Herlihy and Wing, Linearizability, 1990; per-key histories suffice (their theorem 1).

An answer of 4xx says that nothing happened. One of 5xx, or none, says nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from tests.simulation.seeded.life import Violation

__all__ = ["Outcome", "Register", "Write"]


class Outcome(Enum):
    """What the client knows of its write."""

    UNKNOWN = "unknown"
    DONE = "done"
    REFUSED = "refused"


@dataclass(slots=True, kw_only=True)
class Write:
    """One write.

    Attributes:
        values: What it leaves; several where the client does not know which (a copy of a register
            that others write). None is "nothing there".
        began: Event.
        ended: Event of the answer, None while there is none.
        gone: Event from which on an unanswered write cannot take place any more.
    """

    values: frozenset[bytes | None]
    began: int
    ended: int | None = None
    outcome: Outcome = Outcome.UNKNOWN
    gone: int | None = None

    def is_done_by(self, at: int) -> bool:
        """Whether its success was known at an event."""
        return self.outcome is Outcome.DONE and self.ended is not None and self.ended <= at

    def may_show(self, began: int, ended: int) -> bool:
        """Whether a read between two events may have met it, were it the only write."""
        is_refused = (
            self.outcome is Outcome.REFUSED and self.ended is not None and self.ended <= ended
        )
        is_gone = self.gone is not None and self.gone <= began
        return self.began <= ended and not is_refused and not is_gone


@dataclass(slots=True)
class Register:
    """The writes of one name, the first of them "nothing there" from the start."""

    name: str
    writes: list[Write] = field(
        default_factory=lambda: [
            Write(values=frozenset({None}), began=-1, ended=-1, outcome=Outcome.DONE)
        ]
    )

    def begin(self, values: frozenset[bytes | None], at: int) -> Write:
        """A client sends a write."""
        write = Write(values=values, began=at)
        self.writes.append(write)
        return write

    def allowed(
        self, began: int, ended: int, *, ignoring: Write | None = None
    ) -> frozenset[bytes | None]:
        """What a read between two events may show, were it not for one of the writes."""
        writes = [write for write in self.writes if write is not ignoring]
        latest = max(write.began for write in writes if write.is_done_by(began))
        return frozenset[bytes | None]().union(
            *(
                write.values
                for write in writes
                if write.may_show(began, ended)
                and not (write.is_done_by(began) and (write.ended or -1) < latest)
            )
        )

    def check(self, found: bytes | None, *, began: int, ended: int) -> None:
        """Compare what was read.

        Raises:
            Violation: No write explains it.
        """
        allowed = self.allowed(began, ended)
        if found not in allowed:
            raise Violation(
                f"{self.name}: found {_short(found)}, "
                f"allowed {' '.join(sorted(map(_short, allowed)))}"
            )

    def settle(self, found: bytes | None, at: int) -> None:
        """Take what a restart left as the truth from now on: nobody is writing."""
        for write in self.writes:
            if write.outcome is Outcome.UNKNOWN and write.gone is None:
                write.gone = at
        self.writes.append(
            Write(values=frozenset({found}), began=at, ended=at, outcome=Outcome.DONE)
        )


def _short(value: bytes | None) -> str:
    return "nothing" if value is None else f"{value[:24]!r}({len(value)})"
