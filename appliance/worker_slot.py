"""The place of a worker in its data directory, which tells at once that its last holder has ended.

Without it a start after a crash would wait for the lease of the worker that crashed before it took
over what that one held.
"""

from __future__ import annotations

import fcntl
import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from appliance.catalog.errors import CatalogBusy, CatalogUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from io import BufferedRandom
    from pathlib import Path

__all__ = ["hold_slot"]

_UUID_CHARS = 36
# A worker whose supervisor was killed ends by itself, but not before the next start of it begins.
SLOT_WAIT_S = 5.0
_SLOT_RETRY_S = 0.1


@asynccontextmanager
async def hold_slot(
    directory: Path, *, slot: int, worker_uuid: uuid.UUID
) -> AsyncIterator[frozenset[uuid.UUID]]:
    """Hold a place for one worker in a data directory; yields who is known to have ended.

    That is who held it last, and who held other places that nobody holds now.

    The lock goes with the process, so whoever gets it knows what it need not wait a lease for. It
    guards nothing: fencing a worker that lives all the same costs that worker, and no byte.

    Args:
        directory: The data directory.
        slot: 0 to the number of workers less one.
        worker_uuid: Of this start.

    Raises:
        CatalogBusy: Another process holds it, and does so for `SLOT_WAIT_S`.
        CatalogUnavailable: The file cannot be made or written.
    """
    path = directory / f"worker-{slot}.lock"
    try:
        path.touch(mode=0o600)
        held = path.open("r+b")
    except OSError as error:
        raise CatalogUnavailable(f"{path}: {error.strerror}") from error
    with held:
        with trio.move_on_after(SLOT_WAIT_S) as waiting:
            while not _try_lock(held):  # noqa: ASYNC110  # nothing tells when a lock is let go of
                await trio.sleep(_SLOT_RETRY_S)
        if waiting.cancelled_caught:
            raise CatalogBusy(
                f"{directory} belongs to a server that is running: each needs a data directory of "
                "its own"
            )
        try:
            ended = {_parse_uuid(held.read(_UUID_CHARS)), *_find_ended(directory, path)}
            held.seek(0)
            held.write(str(worker_uuid).encode("ascii"))
            held.flush()
        except OSError as error:
            raise CatalogUnavailable(f"{path}: {error.strerror}") from error
        yield frozenset(each for each in ended if each is not None)


def _find_ended(directory: Path, own: Path) -> list[uuid.UUID | None]:
    """Whoever held other places that nobody holds."""
    ended = []
    for path in directory.glob("worker-*.lock"):
        if path != own:
            with path.open("r+b") as other:
                if _try_lock(other):  # until it is closed; who wants it just then tries again
                    ended.append(_parse_uuid(other.read(_UUID_CHARS)))
    return ended


def _try_lock(held: BufferedRandom) -> bool:
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _parse_uuid(data: bytes) -> uuid.UUID | None:
    try:
        return uuid.UUID(data.decode("ascii"))
    except (ValueError, UnicodeDecodeError):
        return None  # nobody was here, or its name never reached the disk: the lease will tell
