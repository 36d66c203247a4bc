"""Workloads that wrk drives: many small requests that were signed before the clock runs.

A scenario serves one workload on any side and holds no state of a server.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from tools.bench.generators import RunVoid
from tools.bench.plan import (
    ask_first,
    begin_series,
    credentials_of,
    key_path,
    put_large,
    require_cold,
    require_written,
)
from tools.bench.records import GIB
from tools.bench.requests import prepare_put
from tools.bench.servers import OurServer, ask_listing, device_bytes, note_device_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from tools.bench.generators import Access
    from tools.bench.plan import Plan
    from tools.bench.records import Sample
    from tools.bench.requests import PreparedRequest
    from tools.bench.servers import MeasuredServer

__all__ = ["ListScenario", "ReadScenario", "RemoveScenario", "WriteScenario"]

SAMPLE_BYTES_MAX = GIB  # a sample that may store more begins on a new store
LISTED_KEYS = 1_000


class ReadScenario:
    """GET and HEAD of prepared objects or ranges by wrk, hot or cold."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._workload = plan.workload

    def prepare(self, server: MeasuredServer) -> None:
        """See `Scenario`."""
        workload, access = self._workload, server.access
        if not workload.object_bytes:
            self._plan.populate(access, "r", count=workload.objects, size_bytes=workload.size_bytes)
            return
        put_large(self._plan, access, "r", count=1, size_bytes=workload.object_bytes)
        ask_first(access, "r", count=1)

    def run(self, server: MeasuredServer, *, connections: int, number: int) -> Sample:
        """See `Scenario`."""
        workload = self._workload
        if workload.is_cold:
            server.make_cold()
        access = server.access  # after the restart
        requests = self._requests(access)
        Random(number).shuffle(requests)  # noqa: S311 - not a secret
        if not workload.is_cold:
            self._plan.send(
                access, requests, connections=connections, is_once=True, seconds=self._plan.seconds
            )
        before = device_bytes(server.pid)
        sample = self._plan.send(
            access,
            requests,
            connections=connections,
            is_once=workload.is_cold,
            payload_bytes=0 if workload.method == "HEAD" else workload.size_bytes,
        )
        sample = note_device_bytes(sample, before, server.pid)
        if workload.is_cold:
            require_cold(sample)
        return sample

    def _requests(self, access: Access) -> list[PreparedRequest]:
        signer, workload = self._plan.presigner(access), self._workload
        if workload.object_bytes:
            path = key_path(access, "r", 0)
            return [
                signer.presign("GET", path, headers=(("Range", f"bytes={at}-{at + size - 1}"),))
                for size in (workload.size_bytes,)
                for at in range(0, size * workload.objects, size)
            ]
        return [
            signer.presign(workload.method, key_path(access, "r", index))
            for index in range(workload.objects)
        ]


class WriteScenario:
    """PUT by wrk: presigned under new keys, or signed in the header to a few keys in turn."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._workload = plan.workload

    def prepare(self, server: MeasuredServer) -> None:
        """See `Scenario`: nothing is needed but a bucket."""

    def run(self, server: MeasuredServer, *, connections: int, number: int) -> Sample:
        """See `Scenario`."""
        workload = self._workload
        if workload.size_bytes * workload.objects > SAMPLE_BYTES_MAX:
            server.renew()
        access = server.access
        payload = self._plan.payload(workload.size_bytes)
        signer = self._plan.presigner(access)
        if workload.body.is_presigned:
            requests = [
                signer.presign("PUT", key_path(access, f"w{number}", index), body=payload)
                for index in range(workload.objects)
            ]
        else:
            requests = [
                prepare_put(
                    workload.body,
                    key_path(access, f"w{number}", index),
                    payload.read_bytes(),
                    credentials=credentials_of(access),
                    host=access.host,
                    body_file=self._plan.directory / f"body-{index}",
                )
                for index in range(workload.objects)
            ]
        begin_series(access, f"w{number}")
        before = device_bytes(server.pid)
        sample = self._plan.send(
            access,
            requests,
            connections=connections,
            is_once=workload.body.is_presigned,
            payload_bytes=workload.size_bytes,
        )
        sample = note_device_bytes(sample, before, server.pid)
        require_written(server, sample)
        return sample


class RemoveScenario:
    """DELETE of objects that exist, each once."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def prepare(self, server: MeasuredServer) -> None:
        """See `Scenario`: every sample puts what it deletes."""

    def run(self, server: MeasuredServer, *, connections: int, number: int) -> Sample:
        """See `Scenario`."""
        workload, access, prefix = self._plan.workload, server.access, f"d{number}"
        self._plan.populate(access, prefix, count=workload.objects, size_bytes=workload.size_bytes)
        signer = self._plan.presigner(access)
        requests = [
            signer.presign("DELETE", key_path(access, prefix, index))
            for index in range(workload.objects)
        ]
        before = device_bytes(server.pid)
        sample = self._plan.send(access, requests, connections=connections, is_once=True)
        return note_device_bytes(sample, before, server.pid)


class ListScenario:
    """Pages of 1,000 keys that begin at random places."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def prepare(self, server: MeasuredServer) -> None:
        """See `Scenario`."""
        workload = self._plan.workload
        if workload.objects:
            self._plan.populate(
                server.access, "l", count=workload.objects, size_bytes=workload.size_bytes
            )
        for query in self._queries(server, count=3, number=0):
            found = ask_listing(server.access, self._bucket(server), query)
            if found != LISTED_KEYS:
                raise RunVoid(f"a page has {found} keys, not {LISTED_KEYS}")

    def run(self, server: MeasuredServer, *, connections: int, number: int) -> Sample:
        """See `Scenario`."""
        signer = self._plan.presigner(server.access)
        requests = [
            signer.presign("GET", f"/{self._bucket(server)}", query=query)
            for query in self._queries(server, count=500, number=number)
        ]
        before = device_bytes(server.pid)
        sample = self._plan.send(server.access, requests, connections=connections, is_once=False)
        return note_device_bytes(sample, before, server.pid)

    def _bucket(self, server: MeasuredServer) -> str:
        """The one filled through SQL, where there is one."""
        if isinstance(server, OurServer) and server.filled_count:
            return server.filled_bucket
        return server.access.bucket

    def _queries(self, server: MeasuredServer, *, count: int, number: int) -> list[dict[str, str]]:
        """A page's parameters: keys from a place with at least 1,000 behind it."""
        random = Random(number)  # noqa: S311 - not a secret
        name: Callable[[int], str]
        if isinstance(server, OurServer) and server.filled_count:
            keys, name = server.filled_count, server.filled_key
        else:
            keys, name = self._plan.workload.objects, lambda index: f"l/{index:08}"
        places = [random.randrange(keys - LISTED_KEYS) for _ in range(count)]
        return [
            {"list-type": "2", "max-keys": str(LISTED_KEYS), "start-after": name(place)}
            for place in places
        ]
