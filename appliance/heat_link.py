"""Brings the notes of reads and writes of all workers of a machine to the one that moves pages.

Datagrams over a Unix socket in the data directory, once a second, never on the way of a request.
Heat is a hint: notes that nobody takes, or that do not fit, are lost. A lost note of a write would
leave a page on the fast tier that nobody knows there; so datagrams are numbered, and a gap makes
who moves pages look the residents up again. Workers of other machines send nothing: times are of
the machine's monotonic clock.
"""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog
import trio

from tiers.access_recorder import NotedAccesses, NotedReads, NotedWrites

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tiers.access_recorder import AccessRecorder

__all__ = ["LINK_NAME", "decode_notes", "encode_notes", "receive_notes", "send_notes"]

LINK_NAME = "heat.sock"
NOTES_MAX = 1_500  # of a datagram: some 40 KB, which every system carries
EPOCHS_MAX = 1_024  # starts of other workers that one with the duties tells apart
SEND_INTERVAL_S = 1.0
SEND_S_MAX = 1.0  # who takes them is behind by a queue of datagrams: what is left over is lost

# magic, boot epoch of the sender, number of the datagram, then hits, misses, writes, writes lost.
_HEAD = struct.Struct("<8sQQ4I")
_MAGIC = b"THERMNT1"
# Arrays go as the machine has them: both ends are the same program on the same machine.
_READ_BYTES = 8 + 4 + 8 + 4 + 1
_WRITE_BYTES = 8 + 4 + 8 + 1

_log = structlog.get_logger("heat")


def encode_notes(noted: NotedAccesses, *, epoch: int, first_number: int) -> Iterator[bytes]:
    """Datagrams of all that was noted, numbered upwards from `first_number`. Pure."""
    number, lost = first_number, noted.lost_writes
    for part, is_hit in ((noted.hits, True), (noted.misses, False)):
        for reads in part.iter_slices(NOTES_MAX):
            counts = (len(reads), 0) if is_hit else (0, len(reads))
            yield _HEAD.pack(_MAGIC, epoch, number, *counts, 0, 0) + b"".join(
                (
                    reads.accesses.slots.tobytes(),
                    reads.accesses.weights.tobytes(),
                    reads.accesses.times.tobytes(),
                    reads.sizes.tobytes(),
                    bytes(reads.strangers),
                )
            )
            number += 1
    # That writes were lost is said even where there are no others.
    slices = list(noted.writes.iter_slices(NOTES_MAX))
    if lost and not slices:
        slices = [noted.writes]
    for writes in slices:
        yield _HEAD.pack(_MAGIC, epoch, number, 0, 0, len(writes), lost) + b"".join(
            (
                writes.pages.tobytes(),
                writes.sizes.tobytes(),
                writes.times.tobytes(),
                bytes(writes.on_fast),
            )
        )
        number, lost = number + 1, 0


def decode_notes(data: bytes) -> tuple[int, int, NotedAccesses]:
    """The sender's epoch, the datagram's number and its notes. Pure.

    Raises:
        ValueError: It is no such datagram.
    """
    if len(data) < _HEAD.size:
        raise ValueError("too short")
    magic, epoch, number, hits, misses, writes, lost = _HEAD.unpack_from(data)
    wanted = _HEAD.size + (hits + misses) * _READ_BYTES + writes * _WRITE_BYTES
    if magic != _MAGIC or len(data) != wanted or max(hits, misses, writes) > NOTES_MAX:
        raise ValueError("not a datagram of notes")
    source = _Source(data, _HEAD.size)
    return (
        epoch,
        number,
        NotedAccesses(
            hits=source.take_reads(hits),
            misses=source.take_reads(misses),
            writes=source.take_writes(writes),
            lost_writes=lost,
        ),
    )


class _Source:
    """Columns one behind the other."""

    def __init__(self, data: bytes, position: int) -> None:
        self._data = data
        self._position = position

    def take(self, count_bytes: int) -> bytes:
        taken = self._data[self._position : self._position + count_bytes]
        self._position += count_bytes
        return taken

    def take_reads(self, count: int) -> NotedReads:
        noted = NotedReads()
        noted.accesses.slots.frombytes(self.take(8 * count))
        noted.accesses.weights.frombytes(self.take(4 * count))
        noted.accesses.times.frombytes(self.take(8 * count))
        noted.sizes.frombytes(self.take(4 * count))
        noted.strangers.extend(self.take(count))
        return noted

    def take_writes(self, count: int) -> NotedWrites:
        noted = NotedWrites()
        noted.pages.frombytes(self.take(8 * count))
        noted.sizes.frombytes(self.take(4 * count))
        noted.times.frombytes(self.take(8 * count))
        noted.on_fast.extend(self.take(count))
        return noted


async def send_notes(
    recorder: AccessRecorder, path: Path, *, epoch: int, follow: Callable[[], None]
) -> None:
    """Hand over what the recorder notes, every second until cancelled.

    Args:
        recorder: This worker's.
        path: Where the one with the duties listens; nobody may be there.
        epoch: This worker's.
        follow: Called before each time, for the recorder to go by the policy in force.
    """
    number = 0
    with trio.socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
        while True:
            await trio.sleep(SEND_INTERVAL_S)
            follow()
            datagrams = list(encode_notes(recorder.take(), epoch=epoch, first_number=number))
            number += len(datagrams)  # also of those that nobody gets: that is how they are missed
            with suppress(OSError), trio.move_on_after(SEND_S_MAX):
                for datagram in datagrams:
                    await link.sendto(datagram, str(path))


async def receive_notes(
    recorder: AccessRecorder,
    path: Path,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Give what other workers noted to the recorder, until cancelled.

    Args:
        recorder: Of the worker with the duties.
        path: Where to listen, in the place of whoever had them before; mode 0600.
        task_status: Started once it listens.
    """
    next_numbers: dict[int, int] = {}
    with trio.socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
        place = trio.Path(path)
        await place.unlink(missing_ok=True)
        await link.bind(str(place))
        await place.chmod(0o600)
        task_status.started()
        while True:
            data = await link.recv(_HEAD.size + NOTES_MAX * _READ_BYTES)
            try:
                epoch, number, noted = decode_notes(data)
            except ValueError as error:
                _log.warning("notes_refused", error=str(error))
                continue
            missed = number != next_numbers.get(epoch, 0)
            if len(next_numbers) > EPOCHS_MAX:
                next_numbers.clear()  # each is missed once more, and the residents looked up again
            next_numbers[epoch] = number + 1
            recorder.accept(noted, is_missed=missed)
