"""Notes of other workers arrive as they were made, and what is lost is known to be."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

from appliance.heat_link import NOTES_MAX, decode_notes, encode_notes, receive_notes, send_notes
from hal.records import BodyId, Extent, SegmentId, VolumeId
from tiers.access_recorder import AccessRecorder, NotedAccesses
from tiers.policy import default_policy
from tiers.records import StoredPage

if TYPE_CHECKING:
    from pathlib import Path

FAST, SLOW = VolumeId(1), VolumeId(2)
LOST = 1  # datagrams before anybody listens


def make_recorder() -> AccessRecorder:
    return AccessRecorder(default_policy().heat, fast_volumes=[FAST], room_bytes=1 << 40)


def make_page(number: int, volume_id: VolumeId = FAST) -> StoredPage:
    return StoredPage(
        body_id=BodyId(1 << 32 | number),
        page_index=0,
        payload_bytes=1000,
        blake3=bytes(32),
        extent=Extent(volume_id, SegmentId(1), number * 4096, 4096),
    )


def note_some(recorder: AccessRecorder, *, reads: int, writes: int) -> None:
    for number in range(reads):
        page = make_page(number, FAST if number % 2 else SLOW)
        note = recorder.begin_read(
            client=f"client {number % 7}",
            name=b"%06d" % number,
            offset=0,
            length=9,
            now=1.0 + number,
        )
        note.note(page, 1000 - number % 5)
    recorder.note_write([make_page(number) for number in range(writes)], 200.0)


def columns(noted: NotedAccesses) -> tuple[object, ...]:
    reads = (
        (
            part.accesses.slots.tolist(),
            part.accesses.weights.tolist(),
            part.accesses.times.tolist(),
            part.sizes.tolist(),
            bytes(part.strangers),
        )
        for part in (noted.hits, noted.misses)
    )
    writes = noted.writes
    return (
        *reads,
        writes.pages.tolist(),
        writes.sizes.tolist(),
        writes.times.tolist(),
        bytes(writes.on_fast),
        noted.lost_writes,
    )


@pytest.mark.parametrize(("reads", "writes"), [(0, 0), (5, 0), (0, 3), (2 * NOTES_MAX + 7, 1501)])
def test_notes_survive_the_way(reads: int, writes: int) -> None:
    source, twin, target = make_recorder(), make_recorder(), make_recorder()
    note_some(source, reads=reads, writes=writes)
    note_some(twin, reads=reads, writes=writes)

    for expected, data in enumerate(encode_notes(source.take(), epoch=9, first_number=4), 4):
        epoch, number, noted = decode_notes(data)
        assert (epoch, number) == (9, expected)
        target.accept(noted, is_missed=False)

    assert columns(target.take()) == columns(twin.take())


def test_a_datagram_of_somebody_else_is_refused() -> None:
    source = make_recorder()
    note_some(source, reads=3, writes=2)
    hits, misses, writes = encode_notes(source.take(), epoch=1, first_number=0)
    for data in (b"", hits[:-1], misses + b"x", b"X" + writes[1:]):
        with pytest.raises(ValueError, match=r"short|datagram"):
            decode_notes(data)


async def test_what_is_lost_on_the_way_is_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The holder comes later than the first notes: it hears that there was something before."""
    path = tmp_path / "heat.sock"
    source, target = make_recorder(), make_recorder()
    sent, have_sent, have_taken = 0, trio.Event(), trio.Event()

    def note_another() -> None:
        nonlocal sent
        sent += 1
        source.note_write([make_page(sent)], 1.0)
        if sent == LOST + 1:
            have_sent.set()

    def accept(noted: NotedAccesses, *, is_missed: bool) -> None:
        AccessRecorder.accept(target, noted, is_missed=is_missed)
        have_taken.set()

    monkeypatch.setattr(target, "accept", accept)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(send_notes, source, path, epoch=3, follow=note_another))
        await have_sent.wait()
        await nursery.start(receive_notes, target, path)
        with trio.fail_after(30):
            await have_taken.wait()
        nursery.cancel_scope.cancel()

    assert path.stat().st_mode & 0o777 == 0o600
    assert target.take().lost_writes == 1
