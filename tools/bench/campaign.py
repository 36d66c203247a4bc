"""Runs workloads: rounds on the outside, sides in turn within them, ceilings in the same rounds.

A machine that slows down in the middle of a run so meets every side. Whatever cannot be measured
(a missing program, no room, a void sample, no time left) is a `Skipped` of the row with its reason,
and the run goes on. Servers are ended and stores removed when their workload is over, or the run.
"""

from __future__ import annotations

import os
import shutil
import time
from typing import TYPE_CHECKING, Protocol

from hal.errors import HalError
from tests.client.server import CommandFailed
from tools.bench.background import BACKGROUNDS, FILLER_PREFIX
from tools.bench.generators import ProgramMissing, RunVoid
from tools.bench.outputs import OutputUnclear
from tools.bench.page_cache import StillCached
from tools.bench.plan import Plan, put_large
from tools.bench.records import GIB, MIB, Row, Side, Skipped, format_figure
from tools.bench.scenarios import room_needed_bytes
from tools.bench.servers import OurServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from tools.bench.plan import Scenario
    from tools.bench.records import Pace, Workload
    from tools.bench.servers import MeasuredServer

__all__ = ["Campaign", "CeilingMeter"]

FEW_SHARE = 100  # `Side.FEW` has a hundredth of the objects
KEEP_FREE_BYTES = 4 * GIB  # keep_free of two volumes, and segments that are preallocated
FILLER_OBJECT_BYTES = 64 * MIB
BACKGROUND_START_S, BACKGROUND_LOOK_S = 5.0, 0.1
_VOID = (
    *(RunVoid, OutputUnclear, StillCached, ProgramMissing, CommandFailed),
    *(HalError, OSError, AssertionError),
)
"""What spoils a sample and no other: every one of them says why in its message."""


class CeilingMeter(Protocol):
    """Measures limits; `tools.bench.ceilings.Ceilings` is the real one."""

    def measure(self, name: str, *, connections: int, size_bytes: int, method: str) -> float:
        """See `Ceilings.measure`."""


class Campaign:
    """One run.

    Args:
        directory: On the file system that is measured; everything is made and removed below it.
        make_server: A server of a side, not started; a directory below is its own.
        make_scenario: What drives a workload, with a directory for its files.
        ceilings: Measures limits on the same file system.
        say: Takes lines about what is going on.

    Attributes:
        rows: What was measured so far.
    """

    def __init__(
        self,
        directory: Path,
        *,
        make_server: Callable[[Side], MeasuredServer],
        make_scenario: Callable[[Workload, Path], Scenario],
        ceilings: CeilingMeter,
        pace: Pace,
        say: Callable[[str], None],
    ) -> None:
        self._directory = directory
        self._make_server = make_server
        self._make_scenario = make_scenario
        self._ceilings = ceilings
        self._pace = pace
        self._say = say
        self._until = None if pace.seconds_max is None else time.monotonic() + pace.seconds_max
        self._number = 0
        self.rows: list[Row] = []
        self._kept: dict[Side, MeasuredServer] = {}

    def run(self, workloads: Iterable[Workload]) -> None:
        """Measures everything, in order, into `rows`."""
        try:
            for workload in workloads:
                self._run_workload(workload)
        finally:
            self._discard(self._kept)

    def _run_workload(self, workload: Workload) -> None:
        rows = [Row(workload=workload, connections=count) for count in workload.connections]
        self.rows += rows
        if self._is_over():
            for row in rows:
                self._skip(row, "all", "the run's time was over")
            return
        self._say(f"{workload.name}: {workload.does}")
        place = self._directory / "work"
        scenario = self._make_scenario(workload, place)
        if not self._may_keep(workload):
            self._discard(self._kept)
        servers, self._kept = self._kept, {}
        try:
            for side in workload.sides:
                self._bring_up(rows, servers, scenario, side)
            for number in range(self._pace.rounds):
                for row in rows:
                    self._run_round(row, servers, scenario, number)
            if self._may_keep(workload) and not any(row.skipped for row in rows):
                servers, self._kept = {}, servers
        finally:
            self._discard(servers)
            shutil.rmtree(place, ignore_errors=True)

    def _may_keep(self, workload: Workload) -> bool:
        """Whether any other such workload could go on where this one ends."""
        is_plain = not workload.catalog_objects and workload.background is None
        return self._pace.keeps_servers and is_plain

    @staticmethod
    def _discard(servers: dict[Side, MeasuredServer]) -> None:
        while servers:
            servers.popitem()[1].discard()

    def _bring_up(
        self,
        rows: list[Row],
        servers: dict[Side, MeasuredServer],
        scenario: Scenario,
        side: Side,
    ) -> None:
        """A prepared server for a side; without it, the side is missing from every row."""
        workload = rows[0].workload
        if side is Side.QUIET:  # the same store: only what runs beside differs
            if Side.OURS in servers:
                servers[side] = servers[Side.OURS]
            return
        is_new = side not in servers
        if is_new:
            servers[side] = self._make_server(side)
        server = servers[side]
        try:
            if is_new:
                server.renew()
            if isinstance(server, OurServer):
                self._fill(server, workload, side)
            scenario.prepare(server)
        except _VOID as failure:
            server.discard()
            del servers[side]
            for row in rows:
                self._skip(row, side.value, f"not prepared: {failure}")

    def _fill(self, server: OurServer, workload: Workload, side: Side) -> None:
        if workload.catalog_objects:
            share = FEW_SHARE if side is Side.FEW else 1
            server.fill_catalog(max(workload.catalog_objects // share, 2_000))
        if workload.background is not None:
            filler_bytes = BACKGROUNDS[workload.background].filler_bytes(self._pace)
            plan = Plan(workload, self._directory / "work", seconds=self._pace.seconds)
            put_large(
                plan,
                server.access,
                FILLER_PREFIX,
                count=max(1, filler_bytes // FILLER_OBJECT_BYTES),
                size_bytes=FILLER_OBJECT_BYTES,
            )

    def _run_round(
        self, row: Row, servers: Mapping[Side, MeasuredServer], scenario: Scenario, number: int
    ) -> None:
        """One sample of every side, the first of one round the last of the next, then ceilings."""
        if self._is_over():
            self._skip(row, "all", f"the run's time was over in round {number + 1}")
            return
        missing = self._missing_room(row)
        if missing:
            self._skip(row, "all", missing)
            return
        sides = row.workload.sides if number % 2 == 0 else row.workload.sides[::-1]
        for side in sides:
            if side in servers:
                self._take_sample(row, side, servers[side], scenario, number)
        for name in (*row.workload.ceilings, *row.workload.shown):
            self._take_ceiling(row, name, number)

    def _take_sample(
        self, row: Row, side: Side, server: MeasuredServer, scenario: Scenario, number: int
    ) -> None:
        workload = row.workload
        self._number += 1
        try:
            self._set_background(workload, side, server, is_before=True)
            os.sync()  # what the other side left to be written is not this side's load
            sample = scenario.run(server, connections=row.connections, number=self._number)
            self._set_background(workload, side, server, is_before=False)
            figure = sample.figure(workload.metric)
        except _VOID as failure:
            self._skip(row, side.value, f"round {number + 1}: {failure}")
            return
        row.samples.setdefault(side, {})[number] = sample
        shown = format_figure(figure, workload.metric)
        self._say(f"  {row.row_id} round {number + 1}, {side.value}: {shown}")

    def _set_background(
        self, workload: Workload, side: Side, server: MeasuredServer, *, is_before: bool
    ) -> None:
        """Begins or ends the work beside before a sample, and looks after it that it was so."""
        if workload.background is None:
            return
        assert isinstance(server, OurServer)
        work = BACKGROUNDS[workload.background]
        if is_before:
            (work.begin if side is Side.OURS else work.end)(server)
            wait_until = time.monotonic() + BACKGROUND_START_S
            while work.is_running(server) != (side is Side.OURS) and time.monotonic() < wait_until:
                time.sleep(BACKGROUND_LOOK_S)
        if work.is_running(server) != (side is Side.OURS):
            raise RunVoid(f"{workload.background.value} was not as the sample wants it")

    def _take_ceiling(self, row: Row, name: str, number: int) -> None:
        try:
            os.sync()
            figure = self._ceilings.measure(
                name,
                connections=row.connections,
                size_bytes=row.workload.size_bytes,
                method=row.workload.method,
            )
        except _VOID as failure:
            self._skip(row, name, f"round {number + 1}: {failure}")
            return
        row.ceilings.setdefault(name, {})[number] = figure

    def _missing_room(self, row: Row) -> str:
        """Why the row does not fit on the file system, or nothing."""
        needed = 2 * room_needed_bytes(row.workload, row.connections) + KEEP_FREE_BYTES
        free = shutil.disk_usage(self._directory).free
        if free >= needed:
            return ""
        return f"needs {needed / GIB:.0f} GiB of room, {free / GIB:.0f} are free"

    def _is_over(self) -> bool:
        return self._until is not None and time.monotonic() >= self._until

    def _skip(self, row: Row, side: str, reason: str) -> None:
        text = " ".join(reason.split())
        row.skipped.append(Skipped(row=str(row.row_id), side=side, reason=text))
        self._say(f"  {row.row_id}: {side} not measured: {text}")
