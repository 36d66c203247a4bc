"""Repairs cut off at each of their steps: nothing gets worse, and the next run ends the work."""

from __future__ import annotations

from typing import TYPE_CHECKING, ParamSpec, TypeVar

import pytest

from appliance.catalog.engine import Catalog
from appliance.fsck.records import Kind
from hal.file_device import FileDevice
from hal.superblock import SUPERBLOCK_NAME
from tests.unit.fsck.stores import Store, make_store, turn_byte

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from appliance.fsck.records import FsckReport

P = ParamSpec("P")
T = TypeVar("T")

STEPS_MAX = 60  # far above what the repairs of this store take
LASTING = {Kind.PAGE_LOST}


class PowerCut(Exception):
    """Stands for the end of the process: nobody catches it."""


class Fuse:
    """Blows at the n-th change of anything."""

    def __init__(self, changes: int) -> None:
        self.left = changes
        self.has_blown = False

    def guard(
        self, change: Callable[P, Coroutine[object, object, T]]
    ) -> Callable[P, Coroutine[object, object, T]]:
        async def guarded(*arguments: P.args, **options: P.kwargs) -> T:
            if self.left == 0:
                self.has_blown = True
                raise PowerCut
            self.left -= 1
            return await change(*arguments, **options)

        return guarded


async def damaged_store(directory: Path) -> Store:
    store = await make_store(directory)
    async with store.open() as opened:
        await opened.put(b"whole", b"w" * 9_000)
        [hit] = await opened.put(b"hit", b"h" * 9_000)
        [healable] = await opened.put(b"healable", b"b" * 700)
        await opened.shadow(healable)
        [spare] = await opened.put(b"spare", b"s" * 700)
        bad_shadow = await opened.shadow(spare)
        await opened.put(b"dies", b"d" * 5_000)
        await opened.delete(b"dies")
        await opened.write(b"never acknowledged", b"n" * 700, b"o" * 700)
    async with store.open(sweep=False) as opened:
        await opened.write(b"alone in its segment", b"a" * 700)
    for page in (hit, healable, bad_shadow):
        store.turn(page)
    turn_byte(store.segments()[0], 30)
    turn_byte(store.ssd / SUPERBLOCK_NAME, 20)
    (store.ssd / ".probe-left").write_bytes(b"x")
    store.sql("UPDATE tenants SET used_bytes = 5", "UPDATE versions SET is_current = 0")
    return store


def kinds(report: FsckReport) -> set[Kind]:
    return {count.kind for count in report.counts}


@pytest.mark.slow
async def test_repairs_that_are_cut_off_anywhere_are_ended_by_the_next_run(
    tmp_path: Path,
) -> None:
    for step in range(STEPS_MAX):
        store = await damaged_store(tmp_path / str(step))
        found = kinds(await store.fsck())
        fuse = Fuse(step)
        with pytest.MonkeyPatch.context() as patched:
            for owner, name in (
                (Catalog, "commit"),
                (FileDevice, "write"),
                (FileDevice, "flush"),
                (FileDevice, "punch"),
                (FileDevice, "remove_file"),
            ):
                patched.setattr(owner, name, fuse.guard(getattr(owner, name)))
            try:
                await store.fsck(repair=True)
            except* PowerCut:
                assert fuse.has_blown

        left = kinds(await store.fsck())
        await store.fsck(repair=True)
        ended = await store.fsck()

        assert left <= found, step
        assert kinds(ended) == LASTING, step
        assert [owner.key for item in ended.findings for owner in item.owners] == ["hit"], step
        if not fuse.has_blown:
            return
    raise AssertionError("the repairs did not come to their end")
