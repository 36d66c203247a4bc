"""Signs by which processes that share a SQLite catalog tell each other of their commits.

Each has one number in memory that all of them map: odd while a transaction of its own may change
what is kept elsewhere, and another one after each. Who keeps something that it read notes the
numbers of the others before it reads, and may use it for as long as they are the same. A process
that dies inside a transaction leaves an odd number; nobody keeps anything then until its successor
in that place begins.

A number is raised before BEGIN and again before anybody hears how the transaction ended, so a
client that was told of a commit never finds what was before it.

Source: docs/decisions/0028-workers-on-one-sqlite-file.md
"""

from __future__ import annotations

import fcntl
import mmap
import os
import sys
import time
from typing import TYPE_CHECKING

from appliance.catalog.errors import CatalogBusy, CatalogUnavailable

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["PLACES_MAX", "CommitSigns"]

PLACES_MAX = 64
_NUMBER_BYTES = 8  # aligned: a processor writes it as a whole
_FILE_BYTES = PLACES_MAX * _NUMBER_BYTES
# The lowest bit of each of the others' numbers.
_ODD = sum(1 << 8 * _NUMBER_BYTES * place for place in range(PLACES_MAX - 1))
# Who had the place before may be ending just now: it does so as soon as its supervisor is gone.
_PLACE_WAIT_S = 5.0
_PLACE_RETRY_S = 0.05


class CommitSigns:
    """The signs of one process and of those beside it. Used by one thread; its owner closes it.

    Args:
        database: The file; the signs' is `<database>.signs` beside it.
        place: Of this process among those that share it, from 0; no two have the same.

    Raises:
        CatalogBusy: Another process has that place.
        CatalogUnavailable: The signs' file cannot be made.
    """

    def __init__(self, database: Path, *, place: int) -> None:
        assert 0 <= place < PLACES_MAX
        path = f"{database}.signs"
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise CatalogUnavailable(f"{path}: {error.strerror}") from error
        try:
            self._hold_place(path, place)
            if os.fstat(self._file).st_size < _FILE_BYTES:
                # With blocks of its own: a store to a hole of a full file system ends the process.
                os.posix_fallocate(self._file, 0, _FILE_BYTES)
            self._map = mmap.mmap(self._file, _FILE_BYTES)
        except OSError as error:
            os.close(self._file)
            raise CatalogUnavailable(f"{path}: {error.strerror}") from error
        except BaseException:
            os.close(self._file)
            raise
        self._numbers = memoryview(self._map).cast("Q")
        self._place = place
        self._before = slice(0, place * _NUMBER_BYTES)
        self._behind = slice((place + 1) * _NUMBER_BYTES, _FILE_BYTES)
        # Whatever the one before left, and unlike anything that others have noted of it.
        self._numbers[place] = _next_even(self._numbers[place] + 1)

    def read(self) -> bytes:
        """The others' numbers: what was read after stays true while they are the same."""
        signs = self._map
        return signs[self._before] + signs[self._behind]

    def is_quiet(self, numbers: bytes) -> bool:
        """Whether no other process had a transaction under way as `read` gave these."""
        return not int.from_bytes(numbers, sys.byteorder) & _ODD

    def raise_sign(self) -> None:
        """A transaction of this process begins, or one is under way already."""
        self._numbers[self._place] |= 1

    def lower_sign(self) -> None:
        """Its outcome is known."""
        self._numbers[self._place] = _next_even(self._numbers[self._place])

    def close(self) -> None:
        """Give the place up."""
        self._numbers.release()
        self._map.close()
        os.close(self._file)

    def _hold_place(self, path: str, place: int) -> None:
        deadline = time.monotonic() + _PLACE_WAIT_S
        while True:
            try:
                fcntl.lockf(
                    self._file,
                    fcntl.LOCK_EX | fcntl.LOCK_NB,
                    _NUMBER_BYTES,
                    place * _NUMBER_BYTES,
                )
            except (BlockingIOError, PermissionError) as error:
                if time.monotonic() >= deadline:
                    raise CatalogBusy(
                        f"{path}: another server's worker has place {place}: stop the server that "
                        "uses this catalog"
                    ) from error
                time.sleep(_PLACE_RETRY_S)
            else:
                return


def _next_even(number: int) -> int:
    """The number itself where it is even, else the next; numbers begin anew behind 2**64."""
    return (number + (number & 1)) & (2**64 - 1)
