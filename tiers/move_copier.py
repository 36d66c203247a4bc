"""Writes the new records of a batch: places for them, copies, a flush, and a look at what is there.

A record that got here verified is named by nothing yet; all places taken are in the batch's log
until a flip names them.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import trio

from hal.errors import DeviceFailed, HalError
from tiers.arm_pace import has_arm
from tiers.decisions import Action
from tiers.move_items import ask_to_read, find_starts, for_each, measure, read_records
from tiers.move_plan import Obstacle
from tiers.move_report import Stage
from tiers.record_copy import Copyable, is_copyable, iter_adjacent, write_records
from tiers.scrub_records import Condition

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from hal.records import Extent, SegmentRef, VolumeId
    from tiers.move_items import BatchLog, BatchTools, MoveItem

__all__ = ["FLUSH_S_MAX", "BatchCopier"]

FLUSH_S_MAX = 20.0  # as in the group commit: a disk that hangs for longer has failed
SEEKS_MAX = 16
"""Scattered records that a disk with an arm is asked for in a row: a fifth of a second."""


class BatchCopier:
    """Copies the items of one batch.

    Args:
        tools: Shared by all batches.
        log: Of this batch.
    """

    def __init__(self, tools: BatchTools, log: BatchLog) -> None:
        self._tools = tools
        self._log = log
        self._failed_targets: dict[VolumeId, str] = {}

    async def copy(self, items: Sequence[MoveItem]) -> list[MoveItem]:
        """Write new records, make them durable and read them back; the items whose record is good.

        The others are in the log.
        """
        tools = self._tools
        with tools.timing(Stage.PLACE):
            placed = await self._place(items)
        turn = tools.targets.take_turn(item.destination.volume_id for item in placed)
        async with AsyncExitStack() as stack:
            with tools.timing(Stage.TURN):
                await stack.enter_async_context(turn)
            written: list[MoveItem] = []
            reads, writes = find_starts(placed, _source), find_starts(placed, _destination)
            await for_each(
                list(self._iter_transfers(placed, reads)),
                lambda group: self._transfer(group, written, reads=reads, writes=writes),
                at_once=tools.at_once,
            )
            with tools.timing(Stage.FLUSH):
                durable = await self._flush(sorted(written, key=_destination))
            good: list[MoveItem] = []
            starts = find_starts(durable, _destination)
            await for_each(
                list(iter_adjacent(durable, place_of=_destination)),
                lambda group: self._read_back(group, good, starts),
                at_once=tools.at_once,
            )
        return good

    async def _place(self, items: Sequence[MoveItem]) -> list[MoveItem]:
        """Give items a place each, in the order in which they shall lie."""
        groups: dict[tuple[tuple[str, ...], frozenset[VolumeId]], list[MoveItem]]
        groups = defaultdict(list)
        for item in items:
            # What no tier of the item has need not be avoided, and must not cut a run into two.
            avoided = frozenset(
                volume_id
                for volume_id in item.plan.avoided
                if self._tools.targets.tier_of(volume_id) in item.plan.tiers
            )
            groups[item.plan.tiers, avoided].append(item)
        placed = []
        for (tiers, avoided), members in groups.items():
            placed += await self._place_run(_in_order(members), tiers, avoided)
        return placed

    async def _place_run(
        self, items: list[MoveItem], tiers: tuple[str, ...], avoided: frozenset[VolumeId]
    ) -> list[MoveItem]:
        targets = self._tools.targets
        volumes, refusals = await targets.choose(tiers, avoided=avoided)
        placed: list[MoveItem] = []
        for volume_id in volumes:
            rest = items[len(placed) :]
            extents, failure = await targets.reserve_run(
                volume_id, [item.source.length_bytes for item in rest]
            )
            self._log.unnamed.update(extents)
            for item, extent in zip(rest, extents, strict=False):  # as many as there was room for
                item.target = extent
                placed.append(item)
            if failure is None:
                break
            refusals = f"{refusals}; {failure}" if refusals else str(failure)
        for item in items[len(placed) :]:
            self._log.fail(item, Obstacle.TARGET, refusals)
        return placed

    def _iter_transfers(
        self, placed: Sequence[MoveItem], reads: Collection[int]
    ) -> Iterator[list[MoveItem]]:
        """Items with adjacent targets that are read and written together, see `SEEKS_MAX`."""
        volume_of = self._tools.store.volume
        for group in iter_adjacent(placed, place_of=_destination):
            part: list[MoveItem] = []
            seeks = 0
            for item in group:
                if item.number in reads and has_arm(volume_of(item.source.volume_id).facts):
                    if seeks == SEEKS_MAX:
                        yield part
                        part, seeks = [], 0
                    seeks += 1
                part.append(item)
            yield part

    async def _transfer(
        self,
        group: Sequence[MoveItem],
        written: list[MoveItem],
        *,
        reads: Collection[int],
        writes: Collection[int],
    ) -> None:
        """Read and verify the records of adjacent targets, and write them there.

        Args:
            group: The items.
            written: Those that were written are added here.
            reads: Numbers of the items where a source does not lie behind the one before.
            writes: The same of targets.
        """
        target = group[0].destination
        failure = self._failed_targets.get(target.volume_id)
        if failure is not None:
            for item in group:
                self._log.fail(item, Obstacle.TARGET, failure)
            return
        tools = self._tools
        length = measure(group, _destination)
        with tools.timing(Stage.PACE):
            await ask_to_read(tools, group, _source, reads)
            seeks = int(group[0].number in writes)
            await tools.throttle.spend(target.volume_id, write_bytes=length, seeks=seeks)
        async with tools.transferring(length) as buffer:
            good: list[MoveItem] = []
            with tools.timing(Stage.READ):
                for part in iter_adjacent(group, place_of=_source):
                    start = part[0].destination.offset - target.offset
                    good += await self._read(part, buffer.view[start:])
            with tools.timing(Stage.WRITE):
                for run in iter_adjacent(good, place_of=_destination):
                    start = run[0].destination.offset - target.offset
                    if await self._write(run, buffer.view[start:]):
                        written += run

    async def _read(self, items: Sequence[MoveItem], target: memoryview) -> list[MoveItem]:
        """Read adjacent records; those that are good, the others fail and are suspects."""
        try:
            verdicts = await read_records(self._tools, items, _source, target)
        except HalError as error:
            for item in items:
                self._log.fail(item, Obstacle.DEVICE, str(error))
            return []
        good: list[MoveItem] = []
        start = 0
        for item, verdict in zip(items, verdicts, strict=True):
            record = target[start : start + item.source.length_bytes]
            start += item.source.length_bytes
            if verdict.condition is not Condition.SOUND:
                self._log.suspects.append((item, item.source))
            item.copyable = is_copyable(record, verdict)
            # A volume that is emptied may be a dying one: there the payload alone is worth keeping.
            is_drained = item.plan.order.entry.action is Action.DRAIN
            if item.copyable is Copyable.WHOLE or (
                item.copyable is Copyable.WITHOUT_ANNEX and is_drained
            ):
                good.append(item)
            else:
                self._log.fail(item, Obstacle.SOURCE, f"{item.source}: {verdict.reason}")
        return good

    async def _write(self, run: Sequence[MoveItem], records: memoryview) -> bool:
        extents = [item.destination for item in run]
        volume = self._tools.store.volume(extents[0].volume_id)
        try:
            await write_records(volume, extents, records, self._tools.pieces_for(volume.volume_id))
        except HalError as error:
            self._fail_target(run, Obstacle.WRITE, error)
            return False
        for item in run:
            self._log.copied[item.number] += item.destination.length_bytes
        return True

    async def _flush(self, items: Sequence[MoveItem]) -> list[MoveItem]:
        segments = {item.destination.segment for item in items}
        if not segments:
            return []
        late = DeviceFailed("the target", f"no flush within {FLUSH_S_MAX:g} s")
        failed: Mapping[SegmentRef, Exception] = dict.fromkeys(segments, late)
        # A flush that is left alone half-way bars its segment: cancellation waits for it.
        with trio.move_on_after(FLUSH_S_MAX, shield=True):
            failed = await self._tools.store.flush(segments)
        durable = []
        for item in items:
            error = failed.get(item.destination.segment)
            if error is None:
                durable.append(item)
            else:
                assert isinstance(error, HalError)
                self._fail_target([item], Obstacle.WRITE, error)
        return durable

    async def _read_back(
        self, group: Sequence[MoveItem], good: list[MoveItem], starts: Collection[int]
    ) -> None:
        """Compare what the device holds now with the catalog."""
        tools = self._tools
        with tools.timing(Stage.PACE):
            await ask_to_read(tools, group, _destination, starts)
        async with tools.transferring(measure(group, _destination)) as buffer:
            try:
                with tools.timing(Stage.READ_BACK):
                    verdicts = await read_records(tools, group, _destination, buffer.view)
            except HalError as error:
                self._fail_target(group, Obstacle.READ_BACK, error)
                return
        for item, verdict in zip(group, verdicts, strict=True):
            if verdict.condition is Condition.SOUND or (
                item.copyable is Copyable.WITHOUT_ANNEX and verdict.condition is Condition.BLEMISHED
            ):
                good.append(item)
                continue
            device = self._tools.store.volume(item.destination.volume_id).device.name
            failure = DeviceFailed(device, f"{item.destination}: {verdict.reason}")
            self._fail_target([item], Obstacle.READ_BACK, failure)

    def _fail_target(self, items: Sequence[MoveItem], obstacle: Obstacle, error: HalError) -> None:
        volume_id = items[0].destination.volume_id
        self._failed_targets[volume_id] = str(error)
        self._tools.writes.park(volume_id, error)
        for item in items:
            self._log.fail(item, obstacle, str(error))


def _in_order(items: Sequence[MoveItem]) -> list[MoveItem]:
    """As they shall lie: what rises as it is read from the disk, what sinks as objects are named.

    Source: TIERING 4.7.
    """
    if all(item.plan.order.entry.action is Action.PROMOTE for item in items):
        return sorted(items, key=_source)
    return sorted(items, key=_name_of)


def _name_of(item: MoveItem) -> tuple[str, str, bytes, int]:
    owner = item.plan.movable.owner
    # Parts of an object have rising body ids, as a rule in the order of the parts.
    return owner.tenant, owner.bucket, owner.key, item.plan.movable.page.page_id


def _source(item: MoveItem) -> Extent:
    return item.source


def _destination(item: MoveItem) -> Extent:
    return item.destination
