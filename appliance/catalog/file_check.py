"""What a SQLite catalog's files show of damage before SQLite opens them.

SQLite itself finds a broken page, but takes two kinds of damage for something else:

- a **cut** file, whose header still names pages that are gone, may be opened and even written to;
- a **log** (WAL) is read up to the first frame whose checksum differs, and the rest is forgotten,
  for that is what a crash in the middle of a commit leaves. Behind a changed byte, commits that
  were acknowledged would be forgotten just so.

A log that a crash cut off ends in frames of one transaction. So a bad frame is damage where a later
transaction follows it: each commit is synced before the next begins (`synchronous=FULL`). Damage
inside the last transaction cannot be told from a crash.

Source: sqlite.org/fileformat, sections 1.3 (header) and 4.1 to 4.3 (log).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from typing import BinaryIO

__all__ = ["SQLITE_MAGIC", "find_file_damage", "find_log_damage"]

SQLITE_MAGIC = b"SQLite format 3\x00"
_HEADER_BYTES = 100
_PAGE_BYTES_AT = 16
_CHANGES_AT = 24
_PAGE_COUNT_AT = 28
_VALID_FOR_AT = 92

_LOG_HEADER = struct.Struct(">IIIIIIII")  # magic, version, page, sequence, salts, checksums
_LOG_MAGICS = {0x377F0682: "<", 0x377F0683: ">"}  # the words of a checksum: little or big-endian
_FRAME_HEADER = struct.Struct(">IIIIII")  # page, database size after a commit, salts, checksums
_WORD = 0xFFFFFFFF

_Sums = tuple[int, int]


class _Frame(NamedTuple):
    """A frame: its salts, whether it ends a transaction, what is summed, the stored sums."""

    salts: _Sums
    is_commit: bool
    content: bytes
    sums: _Sums


def find_file_damage(path: Path) -> str | None:
    """What is wrong with a catalog's files, in words that name the file; None if nothing is seen.

    Blocking. Reads the header of the database and all of its log.
    """
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    log = path.with_name(f"{path.name}-wal")
    has_log = log.exists() and log.stat().st_size > 0
    if not header and not has_log:
        return f"{path} is empty"
    if not header.startswith(SQLITE_MAGIC) or len(header) < _HEADER_BYTES:
        return f"{path} is not a database (its header is damaged)"
    if has_log:
        with log.open("rb") as file:
            damage = find_log_damage(file)
        return None if damage is None else f"{log}: {damage}"
    return _find_cut(path, header, size_bytes)


def _find_cut(path: Path, header: bytes, size_bytes: int) -> str | None:
    page_bytes = int.from_bytes(header[_PAGE_BYTES_AT : _PAGE_BYTES_AT + 2], "big")
    page_bytes = 65_536 if page_bytes == 1 else page_bytes
    words = {
        place: int.from_bytes(header[place : place + 4], "big")
        for place in (_CHANGES_AT, _PAGE_COUNT_AT, _VALID_FOR_AT)
    }
    wanted_bytes = words[_PAGE_COUNT_AT] * page_bytes
    # The count is only kept by a writer that stamped it so; ours do.
    if words[_CHANGES_AT] == words[_VALID_FOR_AT] and size_bytes < wanted_bytes:
        return f"{path} is cut off: {size_bytes} of {wanted_bytes} bytes"
    return None


def find_log_damage(log: BinaryIO) -> str | None:
    """Why the log would be read only in part, in words; None where nothing acknowledged is lost.

    Args:
        log: At its beginning.

    Complexity: some 50 us for each frame of 4 KiB; a server leaves 4,096 of them as a rule.
    """
    header = log.read(_LOG_HEADER.size)
    if len(header) < _LOG_HEADER.size:
        return None  # a crash before the header's first sync
    magic, _, page_bytes, _, salt1, salt2, sum1, sum2 = _LOG_HEADER.unpack(header)
    order = _LOG_MAGICS.get(magic)
    # The header is synced before the first frame is written behind it.
    if order is None or _add(header[:24], order, (0, 0)) != (sum1, sum2):
        return "its header is damaged" if log.read(_FRAME_HEADER.size) else None
    return _judge(_iter_frames(log, page_bytes), order, (salt1, salt2), (sum1, sum2))


def _iter_frames(log: BinaryIO, page_bytes: int) -> Iterator[_Frame]:
    while True:
        header = log.read(_FRAME_HEADER.size)
        page = log.read(page_bytes)
        if len(header) < _FRAME_HEADER.size or len(page) < page_bytes:
            return
        _, commit_size, salt1, salt2, sum1, sum2 = _FRAME_HEADER.unpack(header)
        yield _Frame((salt1, salt2), commit_size != 0, header[:8] + page, (sum1, sum2))


def _judge(frames: Iterable[_Frame], order: str, salts: _Sums, sums: _Sums) -> str | None:
    bad_frame: int | None = None
    is_committed = False  # whether a frame from the bad one on ends a transaction
    for number, frame in enumerate(frames, start=1):
        # Behind the log's end lie frames of the generation before, which have other salts.
        is_ours = frame.salts == salts
        # Each frame is summed on from what the one before it says, damaged or not.
        is_good = is_ours and _add(frame.content, order, sums) == frame.sums
        sums = frame.sums
        if bad_frame is None and not is_good:
            bad_frame = number
        elif bad_frame is not None and is_good and is_committed:
            return f"frame {bad_frame} is damaged, and commits follow it that would be forgotten"
        if bad_frame is not None and is_ours and frame.is_commit:
            is_committed = True
    return None


def _add(content: bytes, order: str, sums: _Sums) -> _Sums:
    """The checksum of `content`, a multiple of 8 bytes, summed on from `sums`."""
    first, second = sums
    words = struct.unpack(f"{order}{len(content) // 4}I", content)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & _WORD
        second = (second + odd + first) & _WORD
    return first, second
