"""PostgreSQL goes away in the middle of a commit: nobody is told what is not so.

A proxy between the catalog and the server cuts the connection where it is told to: when COMMIT is
on its way, or when its answer is.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from enum import Enum, auto
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
from sqlalchemy import make_url, text

from appliance.catalog import settings
from appliance.catalog.engine import Catalog
from appliance.catalog.errors import CatalogUnavailable
from tests.catalog_fixtures import FakeFlusher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from appliance.catalog.unit import Connection

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

COMMIT = b"COMMIT\0"  # as a whole statement: READ COMMITTED is none
SOCKET = ".s.PGSQL.5432"


class Cut(Enum):
    """Where the proxy cuts the connection."""

    NOWHERE = auto()
    BEFORE_COMMIT_ARRIVES = auto()
    BEFORE_ITS_ANSWER_ARRIVES = auto()


class Proxy:
    """Carries bytes between a socket of its own and the server's, and cuts where it is told."""

    def __init__(self, server: Path) -> None:
        self._server = server
        self.cut = Cut.NOWHERE
        self.is_closed = False
        self._swallows = False

    async def serve(self, client: trio.SocketStream) -> None:
        """One connection, to its end."""
        async with client:
            if self.is_closed:
                return
            server = await trio.open_unix_socket(str(self._server))
            async with server, trio.open_nursery() as nursery:
                nursery.start_soon(self._forward, client, server, nursery.cancel_scope)
                nursery.start_soon(self._return, server, client, nursery.cancel_scope)

    async def _forward(
        self, client: trio.SocketStream, server: trio.SocketStream, scope: trio.CancelScope
    ) -> None:
        async for data in client:
            if COMMIT in data and self.cut is not Cut.NOWHERE:
                cut, self.cut = self.cut, Cut.NOWHERE
                if cut is Cut.BEFORE_ITS_ANSWER_ARRIVES:
                    self._swallows = True
                    await server.send_all(data)
                    return
                break
            await server.send_all(data)
        scope.cancel()

    async def _return(
        self, server: trio.SocketStream, client: trio.SocketStream, scope: trio.CancelScope
    ) -> None:
        async for data in server:
            if self._swallows:
                self._swallows = False
                break
            await client.send_all(data)
        scope.cancel()


@asynccontextmanager
async def open_behind_proxy(url: str, directory: Path) -> AsyncIterator[tuple[Catalog, Proxy]]:
    """A running catalog whose connections go through a proxy."""
    parsed = make_url(url)
    host = parsed.query["host"]
    assert isinstance(host, str)
    proxy = Proxy(Path(host) / SOCKET)
    listening = trio.socket.socket(trio.socket.AF_UNIX)
    await listening.bind(str(directory / SOCKET))
    listening.listen()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, proxy.serve, [trio.SocketListener(listening)])
        there = parsed.update_query_dict({"host": str(directory)})
        catalog = await Catalog.open(
            there.render_as_string(hide_password=False), flusher=FakeFlusher()
        )
        try:
            async with trio.open_nursery() as running:
                await running.start(catalog.run)
                yield catalog, proxy
                running.cancel_scope.cancel()
        finally:
            await catalog.aclose()
            nursery.cancel_scope.cancel()


class Counting:
    """A unit that adds one to a setting; `runs` says how often it was tried."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, connection: Connection) -> int:
        self.runs += 1
        value = int(settings.find_setting(connection, name="count") or 0) + 1
        settings.store_setting(connection, name="count", value=str(value))
        return value


async def load_count(catalog: Catalog) -> str | None:
    return await catalog.read(lambda connection: settings.find_setting(connection, name="count"))


@pytest.mark.parametrize(
    ("cut", "runs"),
    [
        pytest.param(Cut.BEFORE_COMMIT_ARRIVES, 2, id="before"),
        pytest.param(Cut.BEFORE_ITS_ANSWER_ARRIVES, 1, id="after"),
    ],
)
async def test_a_commit_whose_connection_was_lost_happens_once(
    cut: Cut, runs: int, postgres_catalog_url: str, tmp_path: Path
) -> None:
    unit = Counting()
    async with open_behind_proxy(postgres_catalog_url, tmp_path) as (catalog, proxy):
        proxy.cut = cut

        assert await catalog.commit(unit) == 1

        assert proxy.cut is Cut.NOWHERE, "the connection was never cut"
        assert unit.runs == runs
        assert await load_count(catalog) == "1"
        assert await catalog.commit(unit) == 2


async def test_a_transaction_that_the_server_ended_before_its_commit_is_run_again(
    postgres_catalog_url: str, tmp_path: Path
) -> None:
    unit = Counting()

    def end_backend_once(connection: Connection) -> int:
        value = unit(connection)
        if unit.runs == 1:
            connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        return value

    async with open_behind_proxy(postgres_catalog_url, tmp_path) as (catalog, _):
        assert await catalog.commit(end_backend_once) == 1

        assert unit.runs == 2
        assert await load_count(catalog) == "1"


async def test_who_cannot_be_asked_again_is_not_guessed_about(
    postgres_catalog_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.catalog.committer.RECONNECT_S_MAX", 0.5)
    unit = Counting()
    with pytest.RaisesGroup(CatalogUnavailable, allow_unwrapped=True, flatten_subgroups=True):
        async with open_behind_proxy(postgres_catalog_url, tmp_path) as (catalog, proxy):
            proxy.cut, proxy.is_closed = Cut.BEFORE_ITS_ANSWER_ARRIVES, True
            with pytest.raises(CatalogUnavailable):
                await catalog.commit(unit)


async def test_a_clean_end_leaves_no_mark_behind(postgres_catalog_url: str, tmp_path: Path) -> None:
    marks = text("SELECT count(*) FROM settings WHERE name LIKE 'commit_mark/%'")
    async with open_behind_proxy(postgres_catalog_url, tmp_path) as (catalog, _):
        assert await catalog.read(lambda found: found.execute(marks).scalar_one()) == 1
    again = tmp_path / "again"
    again.mkdir()
    async with open_behind_proxy(postgres_catalog_url, again) as (catalog, _):
        assert await catalog.read(lambda found: found.execute(marks).scalar_one()) == 1
