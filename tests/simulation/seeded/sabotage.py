"""Faults of the protocol that can be switched on, to prove that the simulation finds them.

Each breaks one rule of `DURABILITY` 3 in the running product code, by replacing one function of it
for the time of a run. A check that cannot fail proves nothing: `test_sabotage` demands that every
one of these is caught.
"""

from __future__ import annotations

from contextlib import ExitStack, aclosing, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol
from unittest import mock

import trio
from sqlalchemy import delete, select, update

from appliance.catalog import (
    buckets,
    committer,
    moves as move_ledger_units,
    tables,
    uploads,
    versions,
)
from appliance.catalog.bodies import list_pages
from appliance.catalog.committer import GroupCommitter
from appliance.catalog.engine import Catalog
from appliance.catalog.errors import CatalogUnavailable
from appliance.catalog.facts_cache import FactsCache
from appliance.catalog.ledger import SqlDeadLedger
from appliance.catalog.places import find_places
from appliance.handlers import delete as delete_handler, put_object
from appliance.objects import writer
from appliance.objects.pins import BodyPins
from hal.errors import HalError
from hal.faulty_device import FaultyDevice
from hal.geometry import HEADER_BYTES
from hal.records import SegmentRef, WriteStream
from hal.recovery import scan_segment
from hal.segment import SEGMENT_HEADER_BYTES, SegmentState
from hal.volume import Volume
from tests.simulation.seeded import life as simulated_life
from tests.simulation.seeded.voyage import Options
from tiers import move_batch, page_store, reclaimer
from tiers.move_batch import MoveBatch
from tiers.move_copier import BatchCopier
from tiers.page_store import PageStore
from tiers.reclaimer import Reclaimer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence

    from sqlalchemy import Connection

    from appliance.catalog.records import Bucket
    from appliance.handlers.request import S3Request
    from appliance.s3.xml_reader import DeleteKey
    from hal.page_codec import ExpectedRecord
    from hal.records import Extent
    from hal.segment_table import KnownSegment
    from tiers.move_items import MoveItem
    from tiers.move_records import PageFlip

__all__ = ["SABOTAGES", "Sabotage"]


UNDISTURBED = Options(scrub_rate=0.0, movers=(0,))
"""Clients and reclaim alone: each event is theirs."""


class _Function(Protocol):
    """A function of the product, whatever it takes."""

    def __call__(self, *arguments: object, **options: object) -> object: ...


class _Coroutine(Protocol):
    """The same, to be awaited."""

    def __call__(self, *arguments: object, **options: object) -> Awaitable[object]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Sabotage:
    """One rule that is broken.

    Attributes:
        name: For tests and messages.
        breaks: The rule, in words.
        patches: (owner, attribute, replacement of it given the original).
        options: How seeds are run with it.
    """

    name: str
    breaks: str
    patches: tuple[
        tuple[object, str, Callable[[_Function], object] | Callable[[_Coroutine], object]], ...
    ] = ()
    options: Options = field(default_factory=Options)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The product with this rule broken."""
        with ExitStack() as stack:
            for owner, name, change in self.patches:
                original = getattr(owner, name)
                stack.enter_context(mock.patch.object(owner, name, change(original)))
            yield


def _nothing(_original: _Function) -> object:
    return lambda *_arguments, **_options: None


def _no_flush(_original: _Function) -> object:
    async def flush(_self: GroupCommitter, batch: list[object]) -> list[object]:
        await trio.lowlevel.checkpoint()
        return list(batch)

    return flush


def _remember_flush(_original: _Function) -> object:
    async def flush(self: GroupCommitter, batch: list[committer._Pending[object]]) -> object:
        self.late = frozenset[SegmentRef]().union(*(one.flush for one in batch))  # type: ignore[attr-defined]
        await trio.lowlevel.checkpoint()
        return list(batch)

    return flush


def _flush_after_commit(original: _Coroutine) -> object:
    async def write(self: Catalog, work: object) -> object:
        value = await original(self, work)
        late: frozenset[SegmentRef] = getattr(self._committer, "late", frozenset())
        if late:
            self._committer.late = frozenset()  # type: ignore[attr-defined]
            await self._committer._flusher(late)
        return value

    return write


def _swallow_failed_commit(original: _Function) -> object:
    def execute(*arguments: object, **options: object) -> None:
        try:
            original(*arguments, **options)
        except committer._CommitFailed:
            return

    return execute


def _without_comparing(original: _Function) -> object:
    """A move that takes whatever its page is by now for what it was when it was read."""

    def flip(connection: Connection, *, flips: Sequence[PageFlip], at_us: int) -> Sequence[bool]:
        fresh: list[PageFlip] = []
        for flip in flips:
            places = find_places(
                connection, body_id=flip.page.body_id, page_index=flip.page.page_index
            )
            if places is None:
                fresh.append(flip)
                continue
            fresh.append(replace(flip, page=places.page, shadow=places.shadow))
        held = original(connection, flips=fresh, at_us=at_us)
        assert isinstance(held, list)
        return held

    return flip


def _flush_no_moves(_original: _Coroutine) -> object:
    async def flush(_self: BatchCopier, items: list[MoveItem]) -> list[MoveItem]:
        await trio.lowlevel.checkpoint()
        return items

    return flush


def _read_nothing_back(_original: _Coroutine) -> object:
    async def read_back(
        _self: BatchCopier, group: list[MoveItem], good: list[MoveItem], _starts: Collection[int]
    ) -> None:
        await trio.lowlevel.checkpoint()
        good += group

    return read_back


def _verify_no_shadow(_original: _Coroutine) -> object:
    async def verify(self: MoveBatch, items: list[MoveItem]) -> None:
        await trio.lowlevel.checkpoint()
        for item in items:
            kept = item.plan.kept
            assert kept is not None
            self._ready.append(move_batch._Ready(item, item.plan.flip_to_one(kept)))

    return verify


def _free_before_flip(original: _Coroutine) -> object:
    async def flip(self: MoveBatch) -> None:
        await self._tools.store.punch([at for ready in self._ready for at in ready.flip.left])
        await original(self)

    return flip


def _swallow_write_errors(original: _Coroutine) -> object:
    async def write(*arguments: object, **options: object) -> None:
        try:
            await original(*arguments, **options)
        except HalError:
            return

    return write


def _no_directory_flush(_original: _Function) -> object:
    async def flush_directory(_self: FaultyDevice) -> None:
        await trio.lowlevel.checkpoint()

    return flush_directory


def _flush_twice(original: _Coroutine) -> object:
    async def write_tail(self: Volume, segment: KnownSegment, *, is_flushed: bool) -> None:
        runs = [] if segment.tail is None else segment.tail.list_runs()
        offsets = [offset for run in runs for offset in run.offsets]
        try:
            await original(self, segment, is_flushed=is_flushed)
        except HalError:
            await self._device.flush(segment.name)
            segment.writes_ended += len(runs)
            segment.writes_flushed = segment.writes_ended
            segment.unwritten.difference_update(offsets)

    return write_tail


def _append_after_restart(original: _Coroutine) -> object:
    async def open_and_adopt(
        _cls: type[Volume], /, *arguments: object, **options: object
    ) -> Volume:
        volume = await original(*arguments, **options)
        assert isinstance(volume, Volume)
        known = [facts.segment_id for facts in volume.list_segments()]
        if known:
            segment = volume._table.load_known(max(known))
            segment.state = SegmentState.OPEN
            segment.end = SEGMENT_HEADER_BYTES
            async with aclosing(scan_segment(volume, segment.segment_id)) as records:
                async for found in records:
                    if found.extent.offset != segment.end:
                        break
                    segment.end += found.extent.length_bytes
            volume._open_segments[WriteStream.FOREGROUND] = segment
        return volume

    return classmethod(open_and_adopt)


def _punch_before_commit(original: _Coroutine) -> object:
    async def punch_and_commit(
        request: S3Request, bucket: Bucket, batch: Sequence[DeleteKey], *rest: object
    ) -> object:
        def find(connection: Connection) -> list[Extent]:
            version = versions.find_version(
                connection, bucket_id=bucket.bucket_id, key=batch[0].key, version_id=None
            )
            if version is None or version.body_id is None:
                return []
            pages = list_pages(connection, body_id=version.body_id, first_index=0, limit=10)
            return [page.extent for page in pages]

        await request.services.store.punch(await request.services.catalog.read(find))
        return await original(request, bucket, batch, *rest)

    return punch_and_commit


def _forget_before_punch(_original: _Function) -> object:
    async def free(self: Reclaimer, batch: object, freed: object) -> None:
        pages, ended = batch.pages, batch.ended  # type: ignore[attr-defined]
        if pages or ended:
            await self._ledger.forget_pages(pages, ended=ended)
        await self._store.punch([extent for places in pages for extent in places.extents])
        freed.bodies += len(ended)  # type: ignore[attr-defined]
        batch.pages, batch.ended = [], []  # type: ignore[attr-defined]

    return free


def _forget_shadows_unpunched(_original: _Function) -> object:
    return lambda pages: [places.page.extent for places in pages]


def _no_sweep(_original: _Function) -> object:
    async def sweep(_self: Reclaimer) -> int:
        await trio.lowlevel.checkpoint()
        return 0

    return sweep


def _sweep_this_start(original: _Coroutine) -> object:
    async def sweep(self: Reclaimer) -> object:
        await trio.sleep(20.0)
        self._boot_epoch += 1
        return await original(self)

    return sweep


def _sweep_unflushed(original: _Coroutine) -> object:
    async def flush_nothing(_segments: object) -> Mapping[SegmentRef, Exception]:
        await trio.lowlevel.checkpoint()
        return {}

    async def sweep_segment(self: Reclaimer, *arguments: object, **options: object) -> object:
        with mock.patch.object(self._store, "flush", flush_nothing):
            return await original(self, *arguments, **options)

    return sweep_segment


def _call_more_swept(original: _Coroutine) -> object:
    async def store_swept(self: SqlDeadLedger, epoch: int) -> object:
        return await original(self, epoch + 1)

    return store_swept


def _believe_poisoned(_original: _Function) -> object:
    return lambda *_arguments: False


def _any_tenant(original: _Function) -> object:
    def find_bucket(connection: Connection, *, tenant_id: int, name: str) -> object:
        return original(connection, tenant_id=1, name=name)

    return find_bucket


def _unverified(_original: _Function) -> object:
    def open_record(
        record: memoryview,
        *,
        expected: ExpectedRecord,
        where: str,
    ) -> memoryview:
        return record[HEADER_BYTES : HEADER_BYTES + expected.payload_bytes]

    return open_record


def _same_epoch(_original: _Function) -> object:
    return lambda _connection: 1


def _forget_upload(original: _Function) -> object:
    def complete(connection: Connection, **options: object) -> object:
        outcome = original(connection, **options)
        upload_id = options["upload_id"]
        connection.execute(delete(tables.uploads).where(tables.uploads.c.upload_id == upload_id))
        return outcome

    return complete


def _complete_twice(original: _Function) -> object:
    def complete(connection: Connection, **options: object) -> object:
        upload = tables.uploads.c
        done = (upload.upload_id == options["upload_id"]) & upload.completed_us.is_not(None)
        was_done = connection.execute(select(upload.upload_number).where(done)).first()
        outcome = original(connection, **options)
        if was_done is not None:
            # The stored answer is given, and what became of the object since is undone.
            version = tables.versions.c
            of_key = (version.bucket_id == options["bucket_id"]) & (version.key == options["key"])
            connection.execute(delete(tables.versions).where(of_key))
        return outcome

    return complete


def _keep_failed_changes(_original: _Function) -> object:
    return "SELECT 1"


def _discard_unknown(original: _Coroutine) -> object:
    async def commit_body(request: S3Request, unit: object, written: writer.WrittenBody) -> object:
        try:
            return await original(request, unit, written)
        except CatalogUnavailable:
            await request.services.writer.discard(written)
            raise

    return commit_body


def _one_reference(original: _Function) -> object:
    def release(connection: Connection, body_id: int, *, now_us: int) -> None:
        original(connection, body_id, now_us=now_us)
        body = tables.bodies.c
        connection.execute(
            update(tables.bodies)
            .where(body.body_id == body_id)
            .values(died_us=now_us, reference_count=0)
        )

    return release


SABOTAGES = (
    Sabotage(
        name="answer before the flush",
        breaks="data fdatasync < answer",
        patches=((GroupCommitter, "_flush", _no_flush),),
    ),
    Sabotage(
        name="commit before the flush",
        breaks="data fdatasync < catalog commit",
        patches=(
            (GroupCommitter, "_flush", _remember_flush),
            (Catalog, "_write", _flush_after_commit),
        ),
    ),
    Sabotage(
        name="synchronous=NORMAL",
        breaks="catalog commit durable < answer",
        options=Options(volatile_commits=3),
    ),
    Sabotage(
        name="a failed commit is a success",
        breaks="fail-stop on a failed catalog sync",
        patches=((committer, "_execute", _swallow_failed_commit),),
    ),
    Sabotage(
        name="discard what was perhaps committed",
        breaks="a body of unknown outcome is left to the sweep",
        patches=((put_object, "commit_body", _discard_unknown),),
    ),
    Sabotage(
        name="ignore a short write",
        breaks="any error fails the record",
        patches=(
            (Volume, "write_record", _swallow_write_errors),
            (Volume, "check_written", _nothing),
        ),
    ),
    Sabotage(
        name="skip the directory flush",
        breaks="a segment's name is durable before its first record",
        patches=((FaultyDevice, "flush_directory", _no_directory_flush),),
    ),
    Sabotage(
        name="a failed flush is tried again",
        breaks="a failed flush is never a success",
        patches=((Volume, "_write_tail", _flush_twice),),
    ),
    Sabotage(
        name="no poison",
        breaks="a segment takes nothing after a failed flush",
        patches=((Volume, "_poison", _nothing),),
        options=UNDISTURBED,
    ),
    Sabotage(
        name="append to the last start's segment",
        breaks="never append to a segment that was open at a crash",
        patches=((Volume, "open", _append_after_restart),),
    ),
    Sabotage(
        name="punch before the commit",
        breaks="commit of a removal < punch",
        patches=((delete_handler, "_commit", _punch_before_commit),),
    ),
    Sabotage(
        name="no pins",
        breaks="no punch under a reader",
        patches=((BodyPins, "is_pinned", _believe_poisoned),),
    ),
    Sabotage(
        name="forget rows before the punch",
        breaks="punch durable < rows forgotten",
        patches=((Reclaimer, "_free", _forget_before_punch),),
    ),
    Sabotage(
        name="shadows are forgotten without a punch",
        breaks="a dead page goes with its shadow",
        patches=((reclaimer, "_list_extents", _forget_shadows_unpunched),),
    ),
    Sabotage(
        name="no sweep",
        breaks="orphans of earlier starts are swept",
        patches=((Reclaimer, "sweep_orphans", _no_sweep),),
    ),
    Sabotage(
        name="sweep this start's segments",
        breaks="only segments of earlier boot epochs are swept",
        patches=((Reclaimer, "sweep_orphans", _sweep_this_start),),
    ),
    Sabotage(
        name="the sweep does not flush",
        breaks="a swept segment's tail is gone for good",
        patches=((Reclaimer, "_sweep_segment", _sweep_unflushed),),
    ),
    Sabotage(
        name="call this start swept",
        breaks="a start's own garbage is swept by the next",
        patches=((SqlDeadLedger, "store_swept_epoch", _call_more_swept),),
    ),
    Sabotage(
        name="forget what a poisoned segment keeps",
        breaks="rows stay until their hole is durable",
        patches=(
            (PageStore, "is_poisoned", _believe_poisoned),
            (Volume, "_check_not_poisoned", _nothing),
        ),
        options=UNDISTURBED,
    ),
    Sabotage(
        name="boot epochs repeat",
        breaks="body and segment ids are never used again",
        patches=((simulated_life, "begin_epoch", _same_epoch),),
    ),
    Sabotage(
        name="completed uploads are forgotten",
        breaks="a completed upload is remembered for 24 h",
        patches=((uploads, "complete_upload", _forget_upload),),
    ),
    Sabotage(
        name="complete twice",
        breaks="a repeated Complete changes nothing",
        patches=((uploads, "complete_upload", _complete_twice),),
    ),
    Sabotage(
        name="a copy holds no reference",
        breaks="a body lives while any version refers to it",
        patches=((versions, "add_references", _nothing),),
    ),
    Sabotage(
        name="the first release kills",
        breaks="a body lives while any version refers to it",
        patches=((versions, "release_body", _one_reference),),
    ),
    Sabotage(
        name="aborted parts never die",
        breaks="space of aborted uploads is reclaimed",
        patches=((uploads, "release_upload_bodies", _nothing),),
    ),
    Sabotage(
        name="a refused unit's changes stay",
        breaks="one savepoint per unit",
        patches=((committer, "_ROLLBACK_TO", _keep_failed_changes),),
    ),
    Sabotage(
        name="no digest check",
        breaks="a body is compared with what was announced before it is committed",
        patches=((writer, "verify_digests", _nothing),),
    ),
    Sabotage(
        name="no condition check",
        breaks="If-None-Match is judged in the transaction",
        patches=((versions, "judge", _nothing), (put_object, "_judge_early", _nothing)),
    ),
    Sabotage(
        name="bucket of any tenant",
        breaks="names are resolved in the caller's namespace",
        patches=((buckets, "find_bucket", _any_tenant),),
    ),
    Sabotage(
        name="move without compare and set",
        breaks="a page gets a new place only if nothing happened to it meanwhile",
        patches=((move_ledger_units, "flip_pages", _without_comparing),),
        options=Options(movers=(4,), scrub_rate=0.0),
    ),
    Sabotage(
        name="moved records are not flushed",
        breaks="the new record is on stable storage before the flip",
        patches=((BatchCopier, "_flush", _flush_no_moves),),
    ),
    Sabotage(
        name="moved records are not read back",
        breaks="the catalog names only records that were verified where they lie",
        patches=((BatchCopier, "_read_back", _read_nothing_back),),
    ),
    Sabotage(
        name="release without a look at the shadow",
        breaks="a copy is given up only after the one that stays was verified",
        patches=((MoveBatch, "_verify", _verify_no_shadow),),
        # A bad shadow must be met by a release before a scrub has dropped it.
        options=Options(movers=(4,), scrub_rate=0.0),
    ),
    Sabotage(
        name="left places are forgotten",
        breaks="every place that a page leaves is freed",
        patches=((move_ledger_units, "add_dead_extents", _nothing),),
    ),
    Sabotage(
        name="left places are freed before the flip",
        breaks="catalog commit of the flip < punch of the left place",
        patches=((MoveBatch, "_flip", _free_before_flip),),
    ),
    Sabotage(
        name="reads are not verified",
        breaks="no byte is served that was not verified",
        patches=((page_store, "open_record", _unverified),),
    ),
    Sabotage(
        name="kept facts outlive a commit",
        breaks="what a commit may change is read anew",
        patches=((FactsCache, "fence", _nothing),),
        options=UNDISTURBED,
    ),
)
