"""Running an async function so that one seed decides everything.

trio picks the next task by lot among those that are ready: here the lots come from the seed. Time
is virtual and jumps to the next deadline when every task waits. What the product does in a thread
is done in place, with a checkpoint on either side, where a real thread would let others go on:
virtual time and threads do not mix.

Strings hash differently in each process: a run is repeated exactly where nothing in it iterates
over a set of strings, which `test_seeds` holds it to.
"""

from __future__ import annotations

import random
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple

import trio
import trio.testing
from trio._core import _run

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

__all__ = ["run_seeded", "threads_in_place"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


def run_seeded(seed: int, function: Callable[[], Awaitable[T]]) -> T:
    """The result of an async function under the seed's schedule and a clock of its own."""
    with _seeded_schedule(seed), threads_in_place():
        return trio.run(function, clock=trio.testing.MockClock(autojump_threshold=0))


@contextmanager
def _seeded_schedule(seed: int) -> Iterator[None]:
    # Source: trio's own hook for Hypothesis, trio/_core/_run.py `_hypothesis_plugin_setup`.
    was_allowed, was_random = _run._ALLOW_DETERMINISTIC_SCHEDULING, _run._r
    _run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
    _run._r = random.Random(seed)
    try:
        yield
    finally:
        _run._ALLOW_DETERMINISTIC_SCHEDULING = was_allowed  # type: ignore[misc]
        _run._r = was_random


@contextmanager
def threads_in_place(*, has_turns: bool = True) -> Iterator[None]:
    """Until its end, what would be run in a thread is run where it is asked for.

    Args:
        has_turns: Whether other tasks get a turn before and after, as they would beside a thread.
            Where only one request is under way there is nobody to have it.
    """
    threaded = trio.to_thread.run_sync
    trio.to_thread.run_sync = _run_in_place if has_turns else _run_at_once  # type: ignore[assignment]
    try:
        yield
    finally:
        trio.to_thread.run_sync = threaded


async def _run_in_place(
    function: Callable[[*Ts], T],
    *arguments: *Ts,
    limiter: trio.CapacityLimiter | None = None,
    abandon_on_cancel: bool = False,
) -> T:
    """As `trio.to_thread.run_sync`: cancellable before the thread has begun, and not after.

    It is over before anybody could abandon it.
    """
    assert limiter is not None, "every thread of the product has a named limiter"
    async with limiter:
        result = function(*arguments)
        await trio.lowlevel.cancel_shielded_checkpoint()
        return result


async def _run_at_once(
    function: Callable[[*Ts], T],
    *arguments: *Ts,
    limiter: trio.CapacityLimiter | None = None,
    abandon_on_cancel: bool = False,  # it is over before anybody could
) -> T:
    assert limiter is not None, "every thread of the product has a named limiter"
    return function(*arguments)
