"""Which requests leave a note of what they read and wrote, and which do not."""

from __future__ import annotations

import dataclasses
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tenants.records import QuotaLimits
from tests.simulation.asgi_client import Answer, Request, send
from tests.simulation.catalogs import FileHome
from tests.simulation.stepped_loop import SteppedLoop
from tests.simulation.world import SECRET, Template, World, access_key_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tiers.access_recorder import NotedAccesses

BODY = bytes(range(250)) * 400


class Client:
    """Asks one appliance, and takes what its recorder noted."""

    def __init__(self, loop: SteppedLoop, world: World) -> None:
        self.loop = loop
        self.world = world

    def ask(self, method: str, key: bytes = b"", **more: object) -> Answer:
        request = Request(
            method=method,
            bucket="data",
            key=key,
            access_key=access_key_of("acme", "rw"),
            **more,  # type: ignore[arg-type]
        )
        self.world.clock.advance(1.0)

        async def exchange() -> Answer:
            return await send(
                self.world.application, request, secret=SECRET, clock=self.world.clock
            )

        return self.loop.call(exchange)

    def take(self) -> NotedAccesses:
        return self.world._start.core.recorder.take()


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with ExitStack() as resources:
        loop = resources.enter_context(SteppedLoop())
        template = Template(tmp_path, {"acme": QuotaLimits()})
        world = World(loop, template, FileHome(template.path.read_bytes(), tmp_path))
        loop.call(world.create)
        client = Client(loop, world)
        assert client.ask("PUT").status == 200
        assert client.ask("PUT", b"k", body=BODY).status == 200
        yield client
        loop.call(world.destroy)


def test_a_commit_is_noted_with_its_pages(client: Client) -> None:
    writes = client.take().writes

    # The bucket's manifest, then the object.
    assert len(writes) == 2
    assert writes.sizes[1] >= len(BODY)
    assert writes.on_fast == b"\x01\x01"


def test_a_get_notes_the_share_of_the_page_that_it_read(client: Client) -> None:
    page = client.take().writes.pages[1]
    assert client.ask("GET", b"k").status == 200
    client.world.clock.advance(61.0)
    assert client.ask("GET", b"k", headers=(("range", "bytes=0-24999"),)).status == 206

    hits = client.take().hits
    assert list(hits.accesses.slots) == [page, page]
    assert list(hits.accesses.weights) == [1.0, 0.25]


def test_what_reads_no_bytes_for_a_client_notes_nothing(client: Client) -> None:
    client.take()
    answers = [
        client.ask("HEAD", b"k"),
        client.ask(
            "GET",
            b"k",
            query=(("attributes", ""),),
            headers=(("x-amz-object-attributes", "ETag,ObjectSize"),),
        ),
        client.ask("GET", b"k", headers=(("if-none-match", "*"),)),
        client.ask("GET", query=(("list-type", "2"),)),
        client.ask(
            "PUT",
            b"copy",
            headers=(("x-amz-copy-source", "/data/k"), ("x-amz-checksum-algorithm", "SHA256")),
        ),
    ]
    assert [answer.status for answer in answers] == [200, 200, 304, 200, 200]

    taken = client.take()
    assert len(taken.hits) == len(taken.misses) == 0


def test_a_refused_put_notes_no_write(client: Client) -> None:
    client.take()

    assert client.ask("PUT", b"k", body=BODY, headers=(("if-none-match", "*"),)).status == 412

    assert len(client.take().writes) == 0


def test_a_log_of_accesses_is_told_of_reads_and_objects(client: Client) -> None:
    told: list[tuple[str, int]] = []

    class Sample:
        def note_read(self, *, size_bytes: int, **_fields: object) -> None:
            told.append(("GET", size_bytes))

        def note_write(self, *, name: bytes, size_bytes: int) -> None:
            assert name.endswith(b"/other")
            told.append(("PUT", size_bytes))

    service = client.world.application._handler.__self__  # type: ignore[attr-defined]
    service._services = dataclasses.replace(service._services, sample=Sample())

    client.ask("PUT", b"other", body=BODY[:7])
    client.ask("GET", b"k")

    assert told == [("PUT", 7), ("GET", len(BODY))]
