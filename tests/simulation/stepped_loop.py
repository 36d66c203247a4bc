"""A trio loop that goes on only while something is asked of it, in the thread that asks.

Hypothesis calls the rules of a state machine one after the other; what they start must live on
from one rule to the next, which a loop per rule could not give. A loop in a thread of its own
could, but each call would cost two changes of thread, more than the call itself.

Source: trio's guest mode, whose host is `call`. trio.readthedocs.io/en/stable/reference-lowlevel
"""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING, Self, TypeVar, TypeVarTuple

import outcome
import trio
import trio.testing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

__all__ = ["SteppedLoop"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class SteppedLoop:
    """Runs async functions one by one; trio's clock stands still but for `advance`.

    `nursery` holds what outlives a call; it goes on during the next one.
    """

    def __init__(self) -> None:
        self._clock = trio.testing.MockClock()
        self._ticks: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._asked: Callable[[], Awaitable[object]] | None = None
        self._answers: list[outcome.Outcome[object]] = []
        self._end: outcome.Outcome[None] | None = None
        self._is_stopping = False
        self.nursery: trio.Nursery

    def __enter__(self) -> Self:
        trio.lowlevel.start_guest_run(
            self._main,
            clock=self._clock,
            run_sync_soon_threadsafe=self._ticks.put,
            done_callback=self._note_end,
        )
        self.call(trio.lowlevel.checkpoint)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_stopping = True
        while (end := self._end) is None:
            self._tick()
        end.unwrap()

    def call(self, function: Callable[[*Ts], Awaitable[T]], *arguments: *Ts) -> T:
        """The result of an async function, run in the loop."""
        assert self._asked is None, "a call within a call"
        result: T

        async def ask() -> None:
            nonlocal result
            result = await function(*arguments)

        self._asked = ask
        while not self._answers:
            self._tick()
        self._answers.pop().unwrap()
        return result

    async def advance(self, seconds: float) -> None:
        """Let trio's clock run on; call it in the loop."""
        self._clock.jump(seconds)
        await trio.lowlevel.checkpoint()

    async def _main(self) -> None:
        async with trio.open_nursery() as self.nursery:
            while not self._is_stopping:
                if self._asked is None:
                    # Ready at every tick, so that trio never starts a thread to wait for events.
                    await trio.lowlevel.checkpoint()
                    continue
                asked, self._asked = self._asked, None
                self._answers.append(await outcome.acapture(asked))
            self.nursery.cancel_scope.cancel()

    def _tick(self) -> None:
        """Let every task that is ready go on once; blocks only where all wait for threads."""
        assert self._end is None, f"the loop has ended: {self._end}"
        self._ticks.get()()

    def _note_end(self, end: outcome.Outcome[None]) -> None:
        self._end = end
