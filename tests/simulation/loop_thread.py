"""A trio loop in a thread of its own, for tests that are driven from outside of trio.

Hypothesis calls the rules of a state machine one after the other; what they start must live on
from one rule to the next, which a loop per rule could not give.
"""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Self, TypeVar, TypeVarTuple

import trio
import trio.testing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

__all__ = ["LoopThread"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class LoopThread:
    """Runs async functions one by one; trio's clock stands still but for `advance`."""

    def __init__(self) -> None:
        self._clock = trio.testing.MockClock()
        self._started: queue.SimpleQueue[tuple[trio.lowlevel.TrioToken, trio.Nursery]]
        self._started = queue.SimpleQueue()
        self._thread = threading.Thread(
            target=lambda: trio.run(self._main, clock=self._clock), name="model loop", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        self._token, self.nursery = self._started.get()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.call(self._stop)
        self._thread.join()

    def call(self, function: Callable[[*Ts], Awaitable[T]], *arguments: *Ts) -> T:
        """The result of an async function, run in the loop."""
        return trio.from_thread.run(function, *arguments, trio_token=self._token)

    async def advance(self, seconds: float) -> None:
        """Let trio's clock run on; call it in the loop."""
        self._clock.jump(seconds)
        await trio.lowlevel.checkpoint()

    async def _main(self) -> None:
        async with trio.open_nursery() as nursery:
            self._started.put((trio.lowlevel.current_trio_token(), nursery))
            await trio.sleep_forever()

    async def _stop(self) -> None:
        await trio.lowlevel.checkpoint()
        self.nursery.cancel_scope.cancel()
