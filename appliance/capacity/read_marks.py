"""When how many reads had been counted: turns heat that fades with reads into times. Pure.

With `half_life = "auto"` heat's clock counts reads, and a level says at which count a page was read
last. A mark an hour ties counts to the clock on the wall. A count between two marks is told as the
later one's time, so that no page is called idle that was read.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import pairwise

from appliance.catalog.capacity_history import choose_thinned

__all__ = ["MARKS_SETTING", "ReadMarks"]

MARKS_SETTING = "read_marks"
"""Where they are kept: a row of `settings`, some 30 KiB after two years."""


class ReadMarks:
    """Marks, ascending by count and by time."""

    def __init__(self) -> None:
        self._counts: list[float] = []
        self._times_us: list[int] = []

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, count: float, at_us: int) -> None:
        """Note that so many reads had been counted by then.

        A count or time behind the last mark's is another table's, or another clock's: what was
        noted before means nothing any more.
        """
        if self._times_us and at_us == self._times_us[-1]:
            return
        if self._counts and (count < self._counts[-1] or at_us < self._times_us[-1]):
            self._counts, self._times_us = [], []
        self._counts.append(count)
        self._times_us.append(at_us)
        thinned = set(choose_thinned(self._times_us, now_us=at_us))
        kept = [
            (one, when)
            for one, when in zip(self._counts, self._times_us, strict=True)
            if when not in thinned
        ]
        self._counts = [one for one, _ in kept]
        self._times_us = [when for _, when in kept]

    def time_of(self, count: float, *, now_us: int) -> int:
        """By when that count had been reached: the next mark's time, or now behind the last."""
        number = bisect_left(self._counts, count)
        return self._times_us[number] if number < len(self._times_us) else now_us

    def encode(self) -> str:
        """All of them as text."""
        return " ".join(
            f"{count:.0f}:{at_us}"
            for count, at_us in zip(self._counts, self._times_us, strict=True)
        )

    @classmethod
    def decode(cls, text: str) -> ReadMarks:
        """The marks of a text; none where it is no text of marks: they are a hint."""
        marks = cls()
        try:
            pairs = [pair.split(":") for pair in text.split()]
            found = [(float(int(count)), int(at_us)) for count, at_us in pairs]
        except ValueError:
            return marks
        if any(one[0] > two[0] or one[1] >= two[1] for one, two in pairwise(found)):
            return marks
        marks._counts = [count for count, _ in found]
        marks._times_us = [at_us for _, at_us in found]
        return marks
