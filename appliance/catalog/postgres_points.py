"""The few rows of one object out of PostgreSQL, awaited on the event loop.

A unit in a thread costs a hop, SQLAlchemy and three round trips: BEGIN, the statement, ROLLBACK.
One statement is a snapshot of its own, so here it is one round trip of a statement that was
prepared, sent and awaited on libpq's socket by the task that asks.

Every connection serves one task at a time. One that failed, or whose task left before the answer
had come, is closed: nobody can tell what would come next on it. Whatever cannot be found out here
is left to a unit in a thread, which knows how to ask again and what to call a failure.

Source: PostgreSQL documentation, 34.4 Asynchronous Command Processing, and 55.2.3 Extended Query;
docs/decisions/0026-point-reads-of-workers.md
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import psycopg
import trio
from psycopg import pq
from psycopg.adapt import Transformer
from psycopg.postgres import types

from appliance.catalog.object_facts import (
    ObjectQuery,
    decode_facts,
    make_parameters,
    render_for_postgres,
)
from appliance.catalog.point_reads import NOBODY, PointReadStatistics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.catalog.object_facts import ObjectFacts

__all__ = ["SESSION", "PostgresPoints"]

SESSION = (
    "SET client_encoding = 'UTF8'",
    "SET default_transaction_read_only = on",
    # Planned once: a plan of its own for each key would cost more than running it.
    "SET plan_cache_mode = force_generic_plan",
    # And perhaps planned while the tables are still empty: they will grow.
    "SET enable_seqscan = off",
)
"""What each connection is told before the statements are prepared."""

_NAMES = {False: b"facts", True: b"facts_and_pages"}
_OIDS = {int: types["int8"].oid, str: types["text"].oid, bytes: types["bytea"].oid}
_INT8 = struct.Struct("!q")
_BINARY = pq.Format.BINARY


class _Connection:
    """A connection of libpq on which both statements are prepared."""

    def __init__(self, conninfo: str, application: str) -> None:
        self._psycopg = psycopg.connect(conninfo, autocommit=True, application_name=application)
        try:
            for setting in SESSION:
                self._psycopg.execute(setting)
            self._pgconn = self._psycopg.pgconn
            self._orders: dict[bool, tuple[str, ...]] = {}
            for with_pages, name in _NAMES.items():
                statement, order = render_for_postgres(with_pages=with_pages)
                self._orders[with_pages] = order
                sample = make_parameters(ObjectQuery(NOBODY, "", b""))
                oids = [_OIDS[_type_of(sample[each])] for each in order]
                _check(self._pgconn.prepare(name, statement.encode(), oids))
            self._pgconn.nonblocking = 1
        except BaseException:
            self._psycopg.close()
            raise
        self._transformer = Transformer(self._psycopg)

    async def fetch(self, query: ObjectQuery) -> Sequence[Sequence[object]]:
        """The rows of a query.

        Cancellation, and whatever it raises: the connection is of no use any more.

        Raises:
            psycopg.Error: The server, or the way to it, failed.
        """
        pgconn = self._pgconn
        values = make_parameters(query)
        order = self._orders[query.with_pages]
        pgconn.send_query_prepared(
            _NAMES[query.with_pages],
            [_encode(values[name]) for name in order],
            [_BINARY] * len(order),
            _BINARY,
        )
        while pgconn.flush():
            await trio.lowlevel.wait_writable(pgconn.socket)
        found: pq.abc.PGresult | None = None
        while True:
            while pgconn.is_busy():
                await trio.lowlevel.wait_readable(pgconn.socket)
                pgconn.consume_input()
            result = pgconn.get_result()
            if result is None:
                break
            found = result
        if found is None:
            raise psycopg.OperationalError("an answer without a result")
        _check(found)
        transformer = self._transformer
        transformer.set_pgresult(found)
        return transformer.load_rows(0, found.ntuples, tuple)

    def close(self) -> None:
        """Close it, whatever it is doing."""
        self._psycopg.close()


class PostgresPoints:
    """Reads objects' facts for many tasks at once.

    Args:
        conninfo: As libpq takes it.
        application: How the connections call themselves.
        connections_max: How many tasks have one at the same time; further ones wait.
    """

    def __init__(self, conninfo: str, *, application: str, connections_max: int) -> None:
        self._conninfo = conninfo
        self._application = application
        self._slots = trio.CapacityLimiter(connections_max)
        # The one that was used last is taken first; those that nobody needs stay idle.
        self._idle: list[_Connection] = []
        self._is_closed = False
        self._inline = 0
        self._hopped = 0

    def prepare(self) -> None:
        """Make the first connection; blocks.

        Raises:
            psycopg.Error: There is no way to the database, or it is another.
        """
        self._idle.append(_Connection(self._conninfo, self._application))

    async def find_facts(self, query: ObjectQuery) -> ObjectFacts | None:
        """The facts of a query, or None where a unit in a thread has to find them.

        Cancellation: at once, but for a connection that is being made.
        """
        facts = None
        if query.version_id is None:
            rows = await self._fetch(query)
            facts = None if rows is None else decode_facts(rows, query)
        if facts is None:
            self._hopped += 1
        else:
            self._inline += 1
        return facts

    def statistics(self) -> PointReadStatistics:
        """Counts since the catalog was opened."""
        return PointReadStatistics(inline=self._inline, hopped=self._hopped)

    def close(self) -> None:
        """Close every connection; nobody asks any more."""
        self._is_closed = True
        while self._idle:
            self._idle.pop().close()

    async def _fetch(self, query: ObjectQuery) -> Sequence[Sequence[object]] | None:
        async with self._slots:
            try:
                connection = self._idle.pop() if self._idle else await self._connect()
            except psycopg.Error:
                return None
            is_sound = False
            try:
                rows = await connection.fetch(query)
                is_sound = True
            except psycopg.Error:
                return None
            finally:
                if is_sound and not self._is_closed:
                    self._idle.append(connection)
                else:
                    connection.close()
            return rows

    async def _connect(self) -> _Connection:
        return await trio.to_thread.run_sync(
            _Connection, self._conninfo, self._application, limiter=trio.CapacityLimiter(1)
        )


def _type_of(value: object) -> type[int | str | bytes]:
    for each in _OIDS:
        if isinstance(value, each):
            return each
    raise AssertionError(f"a parameter of type {type(value)}")


def _encode(value: object) -> bytes:
    """A parameter in PostgreSQL's binary format."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    assert isinstance(value, int)
    return _INT8.pack(value)


def _check(result: pq.abc.PGresult) -> None:
    if result.status not in {pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK}:
        raise psycopg.OperationalError(result.error_message.decode(errors="replace"))
