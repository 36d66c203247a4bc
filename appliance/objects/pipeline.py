"""A nursery whose failure is the one error that matters.

A pipeline of a request runs in a nursery, and trio wraps what comes out of a nursery in a group.
Handlers and the error table want the cause itself.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["open_pipeline"]


@asynccontextmanager
async def open_pipeline() -> AsyncIterator[trio.Nursery]:
    """A nursery that raises the first real cause instead of a group.

    Cancellation stays cancellation: where a group holds nothing else, it goes out as it is.
    """
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
    except BaseExceptionGroup as group:
        cause = _find_cause(group)
        if cause is None:
            raise
        raise cause from cause.__cause__


def _find_cause(group: BaseExceptionGroup[BaseException]) -> BaseException | None:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            inner = _find_cause(error)
            if inner is not None:
                return inner
        elif not isinstance(error, trio.Cancelled):
            return error
    return None
