"""The whole state machine: every operation, what happens to the appliance, and the invariants.

What happens to the appliance (time, reclaim, sweeps, restarts, power cuts) is nothing that a client
may see: the model does not know it. After a restart everything acknowledged must be there, byte for
byte; at the end of a run the devices must hold what the catalog names and nothing else.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import trio
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from tenants.records import QuotaLimits
from tests.simulation.asgi_client import Answer, Request
from tests.simulation.fact_rules import FactRules
from tests.simulation.listing_rules import ListingRules
from tests.simulation.machine import ASKS, LIMITS
from tests.simulation.model import Ask, Words
from tests.simulation.object_rules import NUMBERS, BucketRules, ObjectRules
from tests.simulation.upload_rules import UploadRules
from tests.simulation.world import access_key_of

if TYPE_CHECKING:
    from tests.simulation.model import Version
    from tests.simulation.world import UsageByName

__all__ = ["ApplianceMachine"]

READERS_MAX = 4
EVENTS = st.sampled_from(
    [
        "reclaim",
        "sweep",
        "scrub",
        "move",
        "move",
        "new secrets",
        "clean restart",
        "power cut",
        "power cut",
        "day passes",
    ]
)
STATES = st.sampled_from(["Off", "Enabled", "Suspended"])


@dataclass(slots=True)
class _Reader:
    """A client that has the head of an answer and does not take the body yet."""

    expected: bytes
    gate: trio.Event = field(default_factory=trio.Event)
    ended: trio.Event = field(default_factory=trio.Event)
    answer: Answer | None = None


class ApplianceMachine(BucketRules, ObjectRules, UploadRules, ListingRules, FactRules):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: list[_Reader] = []
        self._usage: UsageByName = ({}, {})
        self._usage_at: tuple[int, int] | None = None

    @initialize(states=st.tuples(STATES, STATES, STATES), is_furnished=st.booleans())
    def furnish(self, states: tuple[str, str, str], is_furnished: bool) -> None:
        """Each tenant has a bucket of the same name, perhaps with something in it."""
        for tenant, state in zip(LIMITS, states, strict=True):
            ask = Ask(tenant, "rw", "data", b"a")
            self.create_bucket(ask)
            if state != "Off":
                self.set_versioning(ask, "Enabled")
            if is_furnished and tenant != "gamma":
                self.put_plainly(ask, 700, 0, Words())
                self.put_plainly(ask, 65_537, 1, Words())
                self.upload_whole(ask._replace(key=b"b"), Words(), [1000], 700)
                self.create_upload(ask, Words())
            if state == "Suspended":
                self.set_versioning(ask, state)

    @rule(event=EVENTS, seed=st.integers(0, 2**32))
    def happen(self, event: str, seed: int) -> None:
        """Something that no client may notice."""
        match event:
            case "reclaim":
                self.loop.call(self.world.reclaim)
            case "sweep":
                self.loop.call(self.world.sweep)
            case "scrub":
                self.loop.call(self.world.scrub)
            case "move":
                self.tally.moves += self.loop.call(self.world.move, seed)
            case "new secrets":
                self.change_secrets()
            case "clean restart":
                self.finish_readers()
                self.loop.call(self.world.restart_cleanly)
                self.compare_everything()
            case "power cut":
                self.finish_readers()
                self.loop.call(self.world.restart_after_power_cut, seed)
                self.compare_everything()
            case "day passes":
                self.loop.call(self.world.expire_completed)
                self._forget_completed()
            case _:
                raise AssertionError(event)

    def change_secrets(self) -> None:
        """The administrator rotates a tenant's key: the old secret is refused from then on."""
        ask = Ask("acme", "rw")
        old = self.world.secret_of(access_key_of(ask.tenant, ask.role))
        self.loop.call(self.world.rotate_key, access_key_of(ask.tenant, ask.role))
        answer = self.loop.call(partial(self.exchange, ask, Request(method="GET"), secret=old))
        assert answer.status == 403
        assert answer.text("Code") == "SignatureDoesNotMatch"

    @rule(
        ask=ASKS,
        room=st.sampled_from([None, 0, 1000, 70_000]),
        objects=st.sampled_from([None, 0, 1]),
    )
    def limit_bucket(self, ask: Ask, room: int | None, objects: int | None) -> None:
        """The administrator leaves a bucket so much more room; or less than it uses."""
        bucket = self.bucket(ask)
        if bucket is None:
            return
        size, count = bucket.usage()
        bytes_max = None if room is None else size + room
        objects_max = None if objects is None else max(count - 1 + objects, 0)
        bucket.limits = (bytes_max, objects_max, None)
        limits = QuotaLimits(bytes_max=bytes_max, objects_max=objects_max)
        self.loop.call(self.world.limit_bucket, ask.tenant, ask.bucket, limits)

    @rule(ask=ASKS, number=NUMBERS)
    def begin_reading(self, ask: Ask, number: int | None) -> None:
        """A slow client: whatever happens meanwhile, it gets the bytes it began with."""
        ask = self.pick_version(self.step(ask._replace(role="rw")), number)
        bucket = self.bucket(ask)
        found = bucket.find(ask.key, ask.version_id) if bucket else None
        if found is None or found.body is None or len(self.readers) == READERS_MAX:
            return
        reader = _Reader(found.body)
        query = (("versionId", ask.version_id),) if ask.version_id is not None else ()
        request = Request(method="GET", bucket=ask.bucket, key=ask.key, query=query)
        self.loop.call(self._start_reader, ask, request, reader)
        self.readers.append(reader)

    @rule()
    def finish_readers(self) -> None:
        """The slow clients go on."""
        for reader in self.readers:
            self.loop.call(_finish, reader)
            assert reader.answer is not None
            assert reader.answer.status == 200, (reader.answer.status, reader.answer.body[:300])
            assert reader.answer.body == reader.expected
        self.readers.clear()

    @invariant()
    def usage_is_exact(self) -> None:
        """Counters equal what there is; nothing is held between requests."""
        self.tally.steps += 1
        if self._usage_at != self.world.commit_count:
            self._usage_at = self.world.commit_count
            self._usage = self.loop.call(self.world.usage)
        by_tenant, by_bucket = self._usage
        tenants = self.model.tenants
        assert by_tenant == {name: self.model.usage(name) for name in tenants}
        assert by_bucket == {
            (name, bucket): kept.usage()
            for name, own in tenants.items()
            for bucket, kept in own.items()
        }
        if not self.readers:
            assert self.world.held() == (0, 0)

    def compare_everything(self) -> None:
        """Everything acknowledged is there, byte for byte, and nothing else."""
        for tenant, own in self.model.tenants.items():
            for name, bucket in own.items():
                ask = self.step(Ask(tenant, "rw", name))
                self.compare_listing(ask, "versions")
                self.compare_listing(ask, "uploads")
                for key, versions in bucket.objects.items():
                    for version in versions:
                        if version.body is not None:
                            one = ask._replace(key=key, version_id=version.version_id)
                            self._compare_version(one, version)
                for upload_id, upload in bucket.uploads.items():
                    self.compare_parts(ask._replace(key=upload.key), upload_id, 1000)

    def teardown(self) -> None:
        """The last look: a sound catalog, and no room taken by what it does not name."""
        try:
            if sys.exc_info()[0] is None:
                self.tally.runs += 1
                self.finish_readers()
                self.loop.call(self.world.reclaim)
                self.loop.call(self.world.restart_cleanly)
                self.loop.call(self.world.sweep)
                self.compare_everything()
                assert self.loop.call(self.world.check) == []
                assert self.loop.call(self.world.leaked_bytes) == 0
            else:
                for reader in self.readers:
                    self.loop.call(_finish, reader)
        finally:
            self.destroy()

    def _compare_version(self, ask: Ask, version: Version) -> None:
        query = (("versionId", version.version_id),)
        request = Request(method="GET", bucket=ask.bucket, key=ask.key, query=query)
        answer = self.send(ask, request)
        assert answer.status == 200, (answer.status, answer.body[:300])
        assert answer.body == version.body
        self.check_shown(ask, version, answer)

    def _forget_completed(self) -> None:
        for own in self.model.tenants.values():
            for bucket in own.values():
                bucket.uploads = {
                    name: u for name, u in bucket.uploads.items() if u.completed is None
                }

    async def _start_reader(self, ask: Ask, request: Request, reader: _Reader) -> None:
        async def read() -> None:
            reader.answer = await self.exchange(ask, request, reader.gate)
            reader.ended.set()

        self.loop.nursery.start_soon(read)
        # Nothing is left under way that would meet the time limit of another step's `advance`.
        while not reader.ended.is_set() and not reader.gate.statistics().tasks_waiting:
            await trio.lowlevel.checkpoint()


async def _finish(reader: _Reader) -> None:
    reader.gate.set()
    await reader.ended.wait()
