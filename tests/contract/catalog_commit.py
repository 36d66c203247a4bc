"""What both databases keep of the group commit."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from appliance.catalog import settings
from appliance.catalog.engine import Catalog
from appliance.catalog.errors import (
    CatalogUnavailable,
    ConditionFailed,
)
from appliance.catalog.records import WriteConditions
from appliance.catalog.unit import JointUnit
from hal.errors import DeviceFailed
from hal.records import SegmentId, SegmentRef, VolumeId
from tests.catalog_fixtures import CatalogDesk, FakeFlusher
from tests.contract.catalog_desk import CatalogContract

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

    from appliance.catalog.unit import Connection

__all__ = ["CommitContract"]

GOOD = SegmentRef(VolumeId(1), SegmentId(1))
BAD = SegmentRef(VolumeId(1), SegmentId(2))


class Refused(Exception):
    """What a unit of these tests raises."""


def store(connection: Connection, name: str) -> str:
    settings.store_setting(connection, name=name, value="stored")
    return name


def store_and_raise(connection: Connection, name: str, *, fails: bool = True) -> str:
    store(connection, name)
    if fails:
        raise Refused(name)
    return name


class CommitContract(CatalogContract):
    async def stored(self, desk: CatalogDesk, *names: str) -> list[bool]:
        return [await desk.read(settings.find_setting, name=name) is not None for name in names]

    async def hold(self, desk: CatalogDesk, nursery: trio.Nursery) -> trio.Event:
        """Keep the committer busy in a flush, so that what comes next becomes one batch."""
        gate = desk.flusher.gate = trio.Event()

        async def occupy() -> None:
            await desk.catalog.commit(lambda c: store(c, "occupied"), flush=[GOOD])

        nursery.start_soon(occupy)
        while not desk.flusher.calls:
            await trio.lowlevel.checkpoint()
        return gate

    async def test_a_commit_returns_what_its_unit_returned(self, desk: CatalogDesk) -> None:
        assert await desk.commit(store, "a") == "a"
        assert await self.stored(desk, "a") == [True]

    async def test_a_unit_that_raises_changes_nothing(self, desk: CatalogDesk) -> None:
        with pytest.raises(Refused):
            await desk.commit(store_and_raise, "a")

        assert await self.stored(desk, "a") == [False]

    async def test_a_unit_that_raises_fails_alone_in_its_batch(self, desk: CatalogDesk) -> None:
        outcomes: dict[str, object] = {}

        async def submit(name: str, *, fails: bool) -> None:
            try:
                outcomes[name] = await desk.commit(store_and_raise, name, fails=fails)
            except Refused as error:
                outcomes[name] = error

        async with trio.open_nursery() as nursery:
            gate = await self.hold(desk, nursery)
            for number in range(9):
                nursery.start_soon(partial(submit, f"unit{number}", fails=number % 3 == 0))
            await trio.testing.wait_all_tasks_blocked()
            gate.set()

        assert desk.catalog.statistics().committer.commits == 2
        assert desk.catalog.statistics().committer.units_refused == 3
        assert await self.stored(desk, *(f"unit{n}" for n in range(9))) == [
            n % 3 != 0 for n in range(9)
        ]
        assert isinstance(outcomes["unit3"], Refused)
        assert outcomes["unit4"] == "unit4"

    async def test_a_failing_segment_fails_only_the_units_that_need_it(
        self, desk: CatalogDesk
    ) -> None:
        desk.flusher.failing[BAD] = DeviceFailed("ssd", "flush failed")
        seen: list[str] = []

        async def submit(name: str, segment: SegmentRef) -> None:
            try:
                await desk.catalog.commit(lambda c: store(c, name), flush=[segment])
            except DeviceFailed as error:
                seen.append(f"{name}: {error.reason}")

        async with trio.open_nursery() as nursery:
            gate = await self.hold(desk, nursery)
            nursery.start_soon(submit, "good", GOOD)
            nursery.start_soon(submit, "bad", BAD)
            await trio.testing.wait_all_tasks_blocked()
            gate.set()

        assert seen == ["bad: flush failed"]
        assert await self.stored(desk, "good", "bad") == [True, False]
        assert desk.flusher.calls[-1] == {GOOD, BAD}
        assert desk.catalog.statistics().committer.segments_failed == 1

    async def test_a_unit_whose_own_record_was_not_written_fails_alone(
        self, desk: CatalogDesk
    ) -> None:
        seen: list[str] = []

        def deny() -> None:
            raise DeviceFailed("ssd", "not written")

        async def submit(name: str, confirm: Callable[[], None]) -> None:
            try:
                await desk.catalog.commit(lambda c: store(c, name), flush=[GOOD], confirm=confirm)
            except DeviceFailed as error:
                seen.append(f"{name}: {error.reason}")

        async with trio.open_nursery() as nursery:
            gate = await self.hold(desk, nursery)
            nursery.start_soon(submit, "good", lambda: None)
            nursery.start_soon(submit, "bad", deny)
            await trio.testing.wait_all_tasks_blocked()
            gate.set()

        assert seen == ["bad: not written"]
        assert await self.stored(desk, "good", "bad") == [True, False]

    async def test_units_whose_joint_run_fails_are_run_alone(self, desk: CatalogDesk) -> None:
        class Clumsy(JointUnit[str]):
            def __init__(self, name: str) -> None:
                self.name = name

            def __call__(self, connection: Connection) -> str:
                return store_and_raise(connection, self.name, fails=self.name == "bad")

            @classmethod
            def run_jointly(
                cls, connection: Connection, units: Sequence[Self]
            ) -> Sequence[str | Exception | None]:
                for unit in units:
                    store(connection, f"jointly {unit.name}")
                raise Refused("all of them")

        outcomes: dict[str, object] = {}

        async def submit(name: str) -> None:
            try:
                outcomes[name] = await desk.catalog.commit(Clumsy(name))
            except Refused as error:
                outcomes[name] = error

        async with trio.open_nursery() as nursery:
            gate = await self.hold(desk, nursery)
            for name in ("good", "bad"):
                nursery.start_soon(submit, name)
            await trio.testing.wait_all_tasks_blocked()
            gate.set()

        assert outcomes["good"] == "good"
        assert isinstance(outcomes["bad"], Refused)
        assert await self.stored(desk, "good", "bad", "jointly good", "jointly bad") == [
            True,
            False,
            False,
            False,
        ]

    async def test_the_flush_of_a_batch_ends_before_its_commit(self, desk: CatalogDesk) -> None:
        async with trio.open_nursery() as nursery:
            gate = await self.hold(desk, nursery)
            await trio.testing.wait_all_tasks_blocked()
            assert await self.stored(desk, "occupied") == [False]
            gate.set()

        assert await self.stored(desk, "occupied") == [True]

    async def test_a_submitter_that_left_has_its_unit_committed_still(
        self, desk: CatalogDesk
    ) -> None:
        async with trio.open_nursery() as nursery:
            gate = await self.hold(desk, nursery)
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as inner:
                    inner.start_soon(desk.commit, store, "left")
                    await trio.testing.wait_all_tasks_blocked()
                    scope.cancel()
            assert scope.cancelled_caught
            gate.set()
        await desk.commit(store, "after")

        assert await self.stored(desk, "left", "after") == [True, True]

    async def test_a_hundred_racing_conditional_puts_have_one_winner(
        self, desk: CatalogDesk
    ) -> None:
        bucket = await desk.make_bucket(await desk.make_tenant())
        winners: list[int] = []

        async def race(number: int) -> None:
            try:
                await desk.put(
                    bucket, b"key", etag=str(number), conditions=WriteConditions(if_none_match=True)
                )
            except ConditionFailed:
                return
            winners.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(race, number)

        current = await desk.find(bucket, b"key")
        assert current is not None
        assert [current.etag] == [str(number) for number in winners]

    async def test_a_closed_catalog_refuses(self, catalog_url: str) -> None:
        catalog = await Catalog.open(catalog_url, flusher=FakeFlusher())
        async with trio.open_nursery() as nursery:
            await nursery.start(catalog.run)
            nursery.cancel_scope.cancel()
        await catalog.aclose()
        await catalog.aclose()

        with pytest.raises(CatalogUnavailable):
            await catalog.commit(lambda c: store(c, "late"))

    async def test_a_flusher_that_breaks_stops_the_committer(self, catalog_url: str) -> None:
        async def broken(_segments: frozenset[SegmentRef], /) -> dict[SegmentRef, Exception]:
            raise ZeroDivisionError

        catalog = await Catalog.open(catalog_url, flusher=broken)
        seen: list[Exception] = []

        async def submit() -> None:
            try:
                await catalog.commit(lambda c: store(c, "a"), flush=[GOOD])
            except CatalogUnavailable as error:
                seen.append(error)

        with pytest.RaisesGroup(ZeroDivisionError):
            async with trio.open_nursery() as nursery:
                await nursery.start(catalog.run)
                with trio.CancelScope(shield=True):
                    await submit()
        await catalog.aclose()

        assert len(seen) == 1

    async def test_epochs_rise(self, desk: CatalogDesk) -> None:
        first = await desk.commit(settings.begin_epoch)
        second = await desk.commit(settings.begin_epoch)

        assert (first, second) == (1, 2)

    async def test_the_first_uuid_is_kept(self, desk: CatalogDesk) -> None:
        first = await desk.commit(settings.establish_appliance_uuid, candidate="one")
        second = await desk.commit(settings.establish_appliance_uuid, candidate="two")

        assert (first, second) == ("one", "one")

    async def test_a_reader_cannot_write(self, desk: CatalogDesk) -> None:
        with pytest.raises(CatalogUnavailable):
            await desk.read(store, "a")

        assert await self.stored(desk, "a") == [False]

    async def test_a_volume_that_hangs_fails_its_own_members_only(
        self, desk: CatalogDesk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("appliance.catalog.committer.FLUSH_S_MAX", 0.1)
        hung = SegmentRef(VolumeId(2), SegmentId(1))
        desk.flusher.hanging.add(VolumeId(2))
        failed: list[Exception] = []

        async def upload() -> None:
            try:
                await desk.catalog.commit(partial(store, name="hung"), flush=[hung])
            except DeviceFailed as error:
                failed.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(upload)
            nursery.start_soon(partial(desk.catalog.commit, partial(store, name="a"), flush=[GOOD]))
            nursery.start_soon(desk.catalog.commit, partial(store, name="b"))

        assert len(failed) == 1
        assert await self.stored(desk, "a", "b", "hung") == [True, True, False]
