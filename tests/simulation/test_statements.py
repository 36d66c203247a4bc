"""What is acknowledged can be rebuilt, also where a manifest cannot be written or is not true."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from appliance.catalog import buckets, tables
from appliance.catalog.records import Versioning
from appliance.objects.manifest_writer import ManifestWriter
from appliance.objects.writer import BodyWriter
from appliance.s3.codes import S3Code
from hal.errors import DeviceFailed
from tenants.records import QuotaLimits
from tests.simulation.asgi_client import Answer, Request, send
from tests.simulation.catalogs import FileHome
from tests.simulation.stepped_loop import SteppedLoop
from tests.simulation.world import SECRET, Template, World, access_key_of
from tiers.errors import NoRoom
from tiers.page_store import PageStore

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from pathlib import Path

    from appliance.catalog.unit import Connection
    from appliance.objects.writer import BodyRequest, WrittenBody
    from appliance.s3.messages import BodyReader
    from hal.records import SegmentRef

ENABLE = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
TAGS = b"<Tagging><TagSet><Tag><Key>a</Key><Value>1</Value></Tag></TagSet></Tagging>"


class Client:
    """Asks one appliance, one request after the other."""

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

    def enable(self) -> None:
        assert self.ask("PUT", query=(("versioning", ""),), body=ENABLE).status == 200

    def versions(self) -> list[tuple[bytes, bool, bool, int | None]]:
        """Key, marker, null and whether a manifest states it; the origin's kind."""
        v = tables.versions.c

        def read(connection: Connection) -> list[tuple[bytes, bool, bool, int | None]]:
            found = connection.execute(
                select(v.key, v.is_delete_marker, v.is_null_version, v.manifest_body_id).order_by(
                    v.sequence
                )
            )
            return [(row[0], bool(row[1]), bool(row[2]), row[3]) for row in found]

        async def ask() -> list[tuple[bytes, bool, bool, int | None]]:
            return await self.world.catalog.read(read)

        return self.loop.call(ask)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with ExitStack() as resources:
        loop = resources.enter_context(SteppedLoop())
        template = Template(tmp_path, {"acme": QuotaLimits()})
        world = World(loop, template, FileHome(template.path.read_bytes(), tmp_path))
        loop.call(world.create)
        client = Client(loop, world)
        assert client.ask("PUT").status == 200
        yield client
        assert loop.call(world.check) == []
        loop.call(world.reclaim)
        loop.call(world.restart_cleanly)
        loop.call(world.sweep)
        assert loop.call(world.leaked_bytes) == 0
        loop.call(world.destroy)


def refuse_manifests(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_arguments: object) -> None:
        raise NoRoom(4096)

    monkeypatch.setattr(ManifestWriter, "write_version", refuse)


def test_deletes_work_where_no_manifest_can_be_written(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.enable()
    client.ask("PUT", b"k", body=b"content")
    refuse_manifests(monkeypatch)

    answer = client.ask("DELETE", b"k")

    assert (answer.status, answer.headers["x-amz-delete-marker"]) == (204, "true")
    assert client.versions()[1] == (b"k", True, False, None)
    version_id = answer.headers["x-amz-version-id"]
    removed = client.ask("DELETE", b"k", query=(("versionId", version_id),))
    assert removed.status == 204


def test_what_is_no_delete_is_refused_where_no_manifest_can_be_written(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.ask("PUT", b"k", body=b"content")
    refuse_manifests(monkeypatch)

    copied = client.ask("PUT", b"copy", headers=(("x-amz-copy-source", "/data/k"),))
    tagged = client.ask("PUT", b"k", query=(("tagging", ""),), body=TAGS)

    full = S3Code.INSUFFICIENT_STORAGE.status
    assert (copied.status, tagged.status) == (full, full)
    assert client.versions() == [(b"k", False, True, None)]


def test_a_delete_goes_on_without_a_manifest_whose_flush_failed(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.enable()
    client.ask("PUT", b"k", body=b"content")
    flush = PageStore.flush
    calls: list[Collection[SegmentRef]] = []

    async def fail_once(
        store: PageStore, segments: Collection[SegmentRef]
    ) -> Mapping[SegmentRef, Exception]:
        if segments and not calls:
            calls.append(segments)
            return {segment: DeviceFailed("ssd", "flush failed") for segment in segments}
        return await flush(store, segments)

    monkeypatch.setattr(PageStore, "flush", fail_once)

    answer = client.ask("DELETE", b"k")

    assert calls
    assert answer.status == 204
    assert client.versions()[1] == (b"k", True, False, None)


def test_a_version_is_stated_anew_where_versioning_was_switched_under_its_upload(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = BodyWriter.write_body

    async def switch(writer: BodyWriter, request: BodyRequest, reader: BodyReader) -> WrittenBody:
        written = await write(writer, request, reader)
        await client.world.catalog.commit(enable(client))
        return written

    monkeypatch.setattr(BodyWriter, "write_body", switch)

    client.ask("PUT", b"k", body=b"content")

    [(key, is_marker, is_null, manifest)] = client.versions()
    assert (key, is_marker, is_null) == (b"k", False, False)
    assert manifest is not None


def test_a_marker_is_stated_anew_where_versioning_was_switched_under_the_delete(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.ask("PUT", b"k", body=b"content")
    load = client.world.catalog.read
    switched: list[bool] = []

    async def read_then_switch(unit: Callable[[Connection], object]) -> object:
        value = await load(unit)
        if not switched:
            switched.append(True)
            await client.world.catalog.commit(enable(client))
        return value

    monkeypatch.setattr(client.world.catalog, "read", read_then_switch)

    answer = client.ask("DELETE", b"k")

    assert answer.headers["x-amz-delete-marker"] == "true"
    *_, (_, is_marker, is_null, manifest) = client.versions()
    assert (is_marker, is_null) == (True, False)
    assert manifest is not None


def enable(client: Client) -> Callable[[Connection], object]:
    tenant_id = client.world._template.tenant_ids["acme"]

    def unit(connection: Connection) -> object:
        return buckets.set_versioning(
            connection, tenant_id=tenant_id, name="data", versioning=Versioning.ENABLED
        )

    return unit
