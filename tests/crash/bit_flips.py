"""Turns single bits over, in records on real files and in the catalog's database and log.

Records: whatever bit of header or payload turns, every read refuses the page and one scrub finds
it; a bit of annex or padding costs no reader a byte and is found by the scrub. Catalog: a start
refuses the file, or serves every object right, or refuses that object; other bytes are never
served. The log's last transaction is the one that nobody can tell from a crash: it holds a key here
that nothing is promised of.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import trio

from appliance.catalog.errors import CatalogError
from appliance.secrets import SecretsError
from appliance.storage import VolumeMismatch
from hal.buffers import AlignedBuffer
from hal.errors import HalError
from hal.file_device import FileDevice
from hal.geometry import ANNEX_BYTES_MAX, HEADER_BYTES, RECORD_BYTES_MAX, record_bytes
from hal.records import BodyId
from tests.crash.appliance_under_test import make_server, make_world
from tests.crash.ledger import ABSENT, Ledger, content_of, replay
from tests.crash.open_appliance import open_appliance, read_object
from tests.simulation.seeded.scheduler import threads_in_place
from tests.unit.tiers.stores import identity, make_store
from tiers.errors import PageLost
from tiers.memory_scrub_ledger import MemoryScrubLedger
from tiers.scrubber import Scrubber
from tiers.volume_scrub import ScrubPlan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tests.crash.appliance_under_test import World
    from tests.crash.ledger import KeyState
    from tiers.page_store import PageStore
    from tiers.records import StoredPage

__all__ = ["REGIONS", "CatalogOutcomes", "RecordFlips", "run_catalog_flips", "run_record_flips"]

REGIONS = ("header", "payload", "padding")
ANNEX = b"bucket and key" * 10
PAYLOAD_BYTES_MAX = 40_000
RECORDS_PER_SEGMENT = 400
PASS_S_MAX = 600.0
OBJECTS = 60
LATER = 40
"""Changes after the copy of the clean catalog: what the log holds."""


@dataclass(slots=True)
class RecordFlips:
    """What a set of flips in one region came to."""

    flips: int = 0
    refused_reads: int = 0
    served_right: int = 0
    found_by_scrub: int = 0


async def run_record_flips(
    directory: Path, *, count: int, seed: int, say: Callable[[str], None]
) -> dict[str, RecordFlips]:
    """`count` flips in each region of as many records on a real volume, and one scrub of each set.

    Raises:
        AssertionError: A flip went unseen, or other bytes were served.
    """
    chance = random.Random(seed)
    device = await FileDevice.open(directory, io_slots=4)
    store = await make_store([device])
    payloads: dict[BodyId, bytes] = {}
    pages: list[StoredPage] = []
    with AlignedBuffer(RECORD_BYTES_MAX) as buffer:
        for number in range(1, count + 1):
            payload = chance.randbytes(chance.randint(1, PAYLOAD_BYTES_MAX))
            pages.append(await _write(store, buffer, number, payload))
            payloads[BodyId(number)] = payload
    results: dict[str, RecordFlips] = {}
    for region in REGIONS:
        flips = {page.body_id: _choose(page, region, chance) for page in pages}
        for page in pages:
            _turn(directory, store, page, *flips[page.body_id])
        results[region] = await _judge(store, pages, payloads, is_served=region == "padding")
        for page in pages:
            _turn(directory, store, page, *flips[page.body_id])
        say(f"{region}: {results[region]}")
    sound = await _judge(store, pages, payloads, is_served=True, finds=0)
    assert sound.served_right == count
    await device.aclose()
    return results


async def _write(
    store: PageStore, buffer: AlignedBuffer, number: int, payload: bytes
) -> StoredPage:
    record = buffer.view[: record_bytes(payload_bytes=len(payload), annex_bytes=ANNEX_BYTES_MAX)]
    record[HEADER_BYTES : HEADER_BYTES + len(payload)] = payload
    return await store.write_page(
        record, payload_bytes=len(payload), identity=identity(number), annex=ANNEX
    )


def _choose(page: StoredPage, region: str, chance: random.Random) -> tuple[int, int]:
    """A place in the record and a bit of it."""
    payload_end = HEADER_BYTES + page.payload_bytes
    first, end = {
        "header": (0, HEADER_BYTES),
        "payload": (HEADER_BYTES, payload_end),
        "padding": (payload_end, page.extent.length_bytes),
    }[region]
    return chance.randrange(first, end), chance.randrange(8)


def _turn(directory: Path, store: PageStore, page: StoredPage, place: int, bit: int) -> None:
    """Turns a bit of a stored record over, behind the device's back."""
    [volume] = store.volumes
    prefix = f"{page.extent.segment_id:016x}"
    [path] = directory.glob(f"{prefix}*")
    assert volume.volume_id == page.extent.volume_id
    turn_bit(path, page.extent.offset + place, bit)


def turn_bit(path: Path, place: int, bit: int) -> None:
    """Turns one bit of a file over."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        [byte] = os.pread(descriptor, 1, place)
        os.pwrite(descriptor, bytes([byte ^ 1 << bit]), place)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


async def _judge(
    store: PageStore,
    pages: list[StoredPage],
    payloads: Mapping[BodyId, bytes],
    *,
    is_served: bool,
    finds: int | None = None,
) -> RecordFlips:
    """Reads every page and runs one scrub over all of them."""
    result = RecordFlips(flips=len(pages))
    with AlignedBuffer(RECORD_BYTES_MAX) as buffer:
        for page in pages:
            try:
                served = await store.read_page(page, buffer.view)
            except PageLost:
                result.refused_reads += 1
                continue
            assert served == payloads[page.body_id], f"{page.extent}: other bytes were served"
            result.served_right += 1
    ledger = MemoryScrubLedger()
    for page in pages:
        ledger.add_page(page)
    await _scrub(store, ledger)
    result.found_by_scrub = len(ledger.list_quarantined())
    assert result.found_by_scrub == (len(pages) if finds is None else finds)
    assert result.refused_reads == (0 if is_served else len(pages))
    return result


async def _scrub(store: PageStore, ledger: MemoryScrubLedger) -> None:
    plan = ScrubPlan(period_s=1e6, rate_max=1e12, is_scheduled=False)
    scrubber = Scrubber(
        store, ledger, plan_of=lambda _: plan, now_us=lambda: 1, on_event=lambda _: None
    )
    with trio.fail_after(PASS_S_MAX):
        async with trio.open_nursery() as nursery:
            await nursery.start(scrubber.run)
            await scrubber.start()
            while any(  # noqa: ASYNC110 - a pass has an end and no event
                status.scrub_pass.is_running for status in scrubber.list_statuses()
            ):
                await trio.sleep(0.02)
            nursery.cancel_scope.cancel()


@dataclass(slots=True)
class CatalogOutcomes:
    """What starts on catalogs with a turned bit came to.

    Attributes:
        starts: By outcome: `refused` by the start, `right` where every object was, `partly` where
            some object was refused and all others right, `incomplete` where one was hidden.
        wrong: Objects that held other bytes than promised; and starts that ended in another way
            than a refusal.
        hidden: Objects that were answered as if there were none. A database without checksums of
            its own cannot tell a changed name from another name.
    """

    starts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """For a log of a run."""
        starts = ", ".join(f"{count} {name}" for name, count in sorted(self.starts.items()))
        return f"{starts}; {len(self.wrong)} objects wrong, {len(self.hidden)} hidden"


def run_catalog_flips(
    directory: Path, *, count: int, seed: int, say: Callable[[str], None]
) -> dict[str, CatalogOutcomes]:
    """`count` flips each in the pages of a closed catalog and in the log of a crashed one.

    Raises:
        AssertionError: An object held other bytes than were promised.
    """
    chance = random.Random(seed)
    server = make_server(
        directory,
        volumes={"ssd": directory / "volume-ssd", "hdd": directory / "volume-hdd"},
        keep_free="1GiB",
        # The pages of the first state are read after the changes that lead to the second.
        settings={"THERMOCLINE_RECLAIM_GRACE_S": "86400"},
    )
    ledger = Ledger(directory / "ledger.jsonl")
    results: dict[str, CatalogOutcomes] = {}
    try:
        server.start()
        world = make_world(server, ledger, seed=seed, clients=1)
        _change(world, chance, OBJECTS)
        server.stop()
        states = {"page": (_save(server.data_path, directory / "clean"), replay(ledger.path))}
        server.start()
        _change(world, chance, LATER)
        with world.connect() as wire:
            assert wire.ask("PUT", "last", body=b"in the last transaction").is_success
        server.kill()
        states["log"] = (_save(server.data_path, directory / "crashed"), replay(ledger.path))
        for name, (saved, promised) in states.items():
            file = "catalog.db" if name == "page" else "catalog.db-wal"
            outcomes = results[name] = CatalogOutcomes()
            _restore(saved, server.data_path)
            sound = _judge_start(world, promised)
            assert sound.verdict == "right", f"{name}, no bit of which is turned: {sound}"
            for _ in range(count):
                _restore(saved, server.data_path)
                path = server.data_path / file
                place, bit = chance.randrange(path.stat().st_size), chance.randrange(8)
                turn_bit(path, place, bit)
                found = _judge_start(world, promised)
                outcomes.starts[found.verdict] += 1
                outcomes.wrong += [f"{name} {place}.{bit}: {text}" for text in found.wrong]
                outcomes.hidden += [f"{name} {place}.{bit}: {text}" for text in found.hidden]
            say(f"{name}: {outcomes}")
    finally:
        server.discard()
        ledger.close()
    return results


def _change(world: World, chance: random.Random, count: int) -> None:
    client = world.clients[0]
    with world.connect() as wire:
        for _ in range(count):
            key = f"object/{chance.randrange(OBJECTS)}"
            if chance.random() < 0.85:
                reply = client.put(wire, key, client.make_body(chance.randint(1, 20_000)))
            else:
                reply = client.delete(wire, key)
            assert reply.is_success, reply


def _save(data: Path, target: Path) -> Path:
    target.mkdir()
    for path in data.glob("catalog.db*"):
        shutil.copy(path, target)
    return target


def _restore(saved: Path, data: Path) -> None:
    for path in data.glob("catalog.db*"):
        path.unlink()
    for path in saved.glob("catalog.db*"):
        if not path.name.endswith("-shm"):  # an index of the log, made anew after a crash
            shutil.copy(path, data)


@dataclass(frozen=True, slots=True)
class _Found:
    verdict: str
    wrong: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()


def _judge_start(world: World, promised: Mapping[str, KeyState]) -> _Found:
    # Nothing else is under way, and a change of thread costs more than its work.
    with threads_in_place(has_turns=False):
        return trio.run(partial(_start_and_read, world, promised))


async def _start_and_read(world: World, promised: Mapping[str, KeyState]) -> _Found:
    """Opens the appliance as a start does and reads every object that was ever tried."""
    wrong: list[str] = []
    hidden: list[str] = []
    refused = 0
    async with contextlib.AsyncExitStack() as stack:
        try:
            opened = await stack.enter_async_context(open_appliance(world.server.config_path))
        except (CatalogError, HalError, SecretsError, VolumeMismatch):
            return _Found("refused")
        except Exception as error:  # noqa: BLE001 - a start that ends so says nothing that helps
            return _Found("unexplained", (f"the start ended with {error!r}",))
        for key, state in promised.items():
            try:
                body = await read_object(opened, world.bucket, key)
            except Exception:  # noqa: BLE001 - at the request boundary: 500, and not a byte
                refused += 1
                continue
            content = ABSENT if body is None else content_of(body)
            if not state.allows(content):
                missed = hidden if content == ABSENT else wrong
                missed.append(f"{key} holds {content}, promised {state}")
    if hidden:
        return _Found("incomplete", tuple(wrong), tuple(hidden))
    return _Found("partly" if refused else "right", tuple(wrong))
