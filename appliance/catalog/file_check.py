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
from array import array
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
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
_LANES = 256  # frames summed at once: 1 MiB of the log
# A lane of 64 bits takes 32 bits of a word and grows by the golden ratio: 0.7 bits a step.
_STEPS_PER_CUT = 32

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

    Complexity: some 20 us for each frame of 4 KiB; a server leaves 4,096 of them as a rule.
    """
    header = log.read(_LOG_HEADER.size)
    if len(header) < _LOG_HEADER.size:
        return None  # a crash before the header's first sync
    magic, _, page_bytes, _, salt1, salt2, sum1, sum2 = _LOG_HEADER.unpack(header)
    order = _LOG_MAGICS.get(magic)
    # The header is synced before the first frame is written behind it.
    if order is None or _add_all([header[:24]], order, [(0, 0)]) != [(sum1, sum2)]:
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


def _judge(frames: Iterator[_Frame], order: str, salts: _Sums, sums: _Sums) -> str | None:
    bad_frame: int | None = None
    is_committed = False  # whether a frame from the bad one on ends a transaction
    number = 0
    while batch := list(islice(frames, _LANES)):
        # Each frame is summed on from what the one before it says, damaged or not, so that any
        # number of them can be summed at once.
        seeds = [sums, *(frame.sums for frame in batch)]
        summed = _add_all([frame.content for frame in batch], order, seeds[:-1])
        sums = seeds[-1]
        for frame, found in zip(batch, summed, strict=True):
            number += 1
            # Behind the log's end lie frames of the generation before, which have other salts.
            is_ours = frame.salts == salts
            is_good = is_ours and found == frame.sums
            if bad_frame is None and not is_good:
                bad_frame = number
            elif bad_frame is not None and is_good and is_committed:
                return (
                    f"frame {bad_frame} is damaged, and commits follow it that would be forgotten"
                )
            if bad_frame is not None and is_ours and frame.is_commit:
                is_committed = True
    return None


def _add_all(contents: Sequence[bytes], order: str, seeds: Sequence[_Sums]) -> list[_Sums]:
    """The checksum of each content, all of one length of whole words, summed on from its seed.

    Word by word each sum is `x(n) = x(n-1) + x(n-2) + word(n)`, and the last two are the checksum.
    One addition of long integers does that step for all contents: each has a lane of 64 bits, which
    is cut back to 32 before it could overflow. That is five times as fast as one by one.
    """
    count, words = len(contents), len(contents[0]) // 4
    every = array("I", b"".join(contents))
    assert every.itemsize == 4
    if order == ">":
        every.byteswap()  # whatever the machine: its bytes are little-endian words from here on
    # Contents with even and odd index apart, so that there is room above each word.
    low = int.from_bytes(b"\xff\xff\xff\xff\0\0\0\0" * -(-count // 2), "little")
    before, last = ([_spread(seeds, part, parity) for parity in (0, 1)] for part in (0, 1))
    for place in range(words):
        column = int.from_bytes(every[place::words].tobytes(), "little")
        for parity, lanes in enumerate((column & low, column >> 32 & low)):
            before[parity], last[parity] = last[parity], before[parity] + last[parity] + lanes
            if place % _STEPS_PER_CUT == 0:
                before[parity] &= low
                last[parity] &= low
    return [(_lane(before, index), _lane(last, index)) for index in range(count)]


def _spread(seeds: Sequence[_Sums], part: int, parity: int) -> int:
    """One half of the seeds of even or odd index, each in its lane."""
    packed = b"".join(struct.pack("<Q", seed[part]) for seed in seeds[parity::2])
    return int.from_bytes(packed, "little")


def _lane(lanes: Sequence[int], index: int) -> int:
    return lanes[index % 2] >> (64 * (index // 2)) & _WORD
