"""Workloads of large objects and whole trees: curl, s5cmd, rclone, restic. And the table of all.

A scenario serves one workload on any side and holds no state of a server.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from tools.bench.generators import (
    backup_with_restic,
    copy_with_rclone,
    put_with_s5cmd,
    run_curl,
)
from tools.bench.plan import (
    PREPARING_S_MAX,
    Plan,
    Scenario,
    ask_first,
    key_path,
    put_large,
    require_cold,
    require_written,
)
from tools.bench.records import KIB, MIB, Kind
from tools.bench.servers import device_bytes, note_device_bytes
from tools.bench.small_scenarios import (
    ListScenario,
    ReadScenario,
    RemoveScenario,
    WriteScenario,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tools.bench.generators import Access
    from tools.bench.records import Sample, Workload
    from tools.bench.servers import MeasuredServer

__all__ = ["make_scenario", "room_needed_bytes"]

UPLOAD_BYTES_MIN = 512 * MIB  # of one sample: process starts must not count


class DownloadScenario:
    """GET of large objects by curl."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def prepare(self, server: MeasuredServer) -> None:
        """See `Scenario`."""
        workload = self._plan.workload
        put_large(
            self._plan,
            server.access,
            "g",
            count=workload.objects,
            size_bytes=workload.size_bytes,
        )
        ask_first(server.access, "g", count=workload.objects)

    def run(self, server: MeasuredServer, *, connections: int, number: int) -> Sample:
        """See `Scenario`."""
        workload = self._plan.workload
        if workload.is_cold:
            server.make_cold()
        access = server.access
        signer = self._plan.presigner(access)
        least = workload.objects if workload.is_cold else UPLOAD_BYTES_MIN // workload.size_bytes
        order = list(range(workload.objects))
        Random(number).shuffle(order)  # noqa: S311 - not a secret
        requests = [
            signer.presign("GET", key_path(access, "g", order[index % len(order)]))
            for index in range(max(connections, least))
        ]
        if not workload.is_cold:
            run_curl(access, requests[:1], connections=1, seconds_max=PREPARING_S_MAX)
        before = device_bytes(server.pid)
        sample = run_curl(
            access, requests, connections=connections, seconds_max=2 * self._plan.seconds
        )
        sample = note_device_bytes(sample, before, server.pid)
        # More connections than objects read the same ones, which either side may then have cached.
        if workload.is_cold and connections <= workload.objects:
            require_cold(sample)
        return sample


class UploadScenario:
    """PUT of large objects by curl, every sample on a new store."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def prepare(self, server: MeasuredServer) -> None:
        """See `Scenario`: every sample begins on a new store."""

    def run(self, server: MeasuredServer, *, connections: int, number: int) -> Sample:
        """See `Scenario`."""
        server.renew()
        workload = self._plan.workload
        before = device_bytes(server.pid)
        sample = put_large(
            self._plan,
            server.access,
            f"u{number}",
            count=upload_count(workload, connections),
            size_bytes=workload.size_bytes,
            connections=connections,
        )
        sample = note_device_bytes(sample, before, server.pid)
        require_written(server, sample)
        return sample


class ClientScenario:
    """s5cmd, rclone or restic does what people use it for, every sample on a new store."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def prepare(self, server: MeasuredServer) -> None:
        """See `Scenario`: the files are made when they are first needed."""

    def run(self, server: MeasuredServer, *, connections: int, number: int) -> Sample:
        """See `Scenario`."""
        server.renew()
        before = device_bytes(server.pid)
        sample = self._transfer(server.access, connections, number)
        sample = note_device_bytes(sample, before, server.pid)
        require_written(server, sample)
        return sample

    def _transfer(self, access: Access, connections: int, number: int) -> Sample:
        workload = self._plan.workload
        if workload.kind is Kind.MULTIPART:
            file = self._plan.payload(workload.size_bytes)
            return put_with_s5cmd(access, file, connections=connections)
        tree = self._tree()
        if workload.kind is Kind.COPY_TREE:
            return copy_with_rclone(access, tree, connections=connections, files=workload.objects)
        return backup_with_restic(
            access, tree, connections=connections, repository=f"repository-{number}"
        )

    def _tree(self) -> Path:
        """The files, made once: a hundred directories, every file different."""
        workload, tree = self._plan.workload, self._plan.directory / "tree"
        if not tree.exists():
            random = Random(workload.objects)  # noqa: S311 - not a secret
            for index in range(workload.objects):
                path = tree / f"{index % 100:02}" / f"{index:06}.dat"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(random.randbytes(workload.size_bytes))
        return tree


_SCENARIOS: dict[Kind, Callable[[Plan], Scenario]] = {
    Kind.READ: ReadScenario,
    Kind.WRITE: WriteScenario,
    Kind.REMOVE: RemoveScenario,
    Kind.LIST: ListScenario,
    Kind.DOWNLOAD: DownloadScenario,
    Kind.UPLOAD: UploadScenario,
    Kind.MULTIPART: ClientScenario,
    Kind.COPY_TREE: ClientScenario,
    Kind.BACKUP: ClientScenario,
}


def make_scenario(workload: Workload, directory: Path, *, seconds: float) -> Scenario:
    """The scenario of a workload.

    Args:
        workload: What is measured.
        directory: For lists and source files; removed by the caller.
        seconds: About how long a sample takes, where that can be chosen.
    """
    return _SCENARIOS[workload.kind](Plan(workload, directory, seconds=seconds))


def room_needed_bytes(workload: Workload, connections: int) -> int:
    """The most that one side stores for a sample, and its source files."""
    if workload.kind is Kind.UPLOAD:
        return upload_count(workload, connections) * workload.size_bytes + workload.size_bytes
    stored = max(workload.size_bytes * workload.objects, workload.object_bytes)
    return 2 * max(stored, KIB)


def upload_count(workload: Workload, connections: int) -> int:
    """How many objects a sample of `Kind.UPLOAD` puts."""
    return max(connections, workload.objects, UPLOAD_BYTES_MIN // workload.size_bytes)
