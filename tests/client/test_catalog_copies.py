"""The restore drill: a server with data, a copy, more data, a crash, the catalog lost, restored."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
import urllib.request
from typing import TYPE_CHECKING

import pytest

from tests.client.access import Access
from tests.client.server import ROOT, ServerProcess, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.client, pytest.mark.slow]

OBJECTS = 12
DEADLINE_S = 30.0
SETTINGS = {
    "THERMOCLINE_SCRUB_ENABLED": "false",
    "THERMOCLINE_MEMORY_BUFFER_BYTES": "64MiB",
    "THERMOCLINE_RECLAIM_GRACE_S": "3600",
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    made = ServerProcess(tmp_path, settings=SETTINGS, init_options=["--segment-bytes", "16MiB"])
    with running(made) as started:
        yield started


def run(server: ServerProcess, *arguments: str) -> tuple[int, str]:
    """A command that works on files: its exit code, and what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "appliance", *arguments, "--config", str(server.config_path)],
        env=server.environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return done.returncode, done.stdout + done.stderr


def body_of(number: int) -> bytes:
    return f"object {number} ".encode() * (200 + 9_000 * (number % 4))


def lose_catalog(server: ServerProcess) -> None:
    for path in server.data_path.glob("catalog.db*"):
        path.unlink()


def test_a_lost_catalog_comes_back_from_its_newest_copy(server: ServerProcess) -> None:
    access = Access(server=server, tenant=server.create_tenant("acme"))
    with access.open_s3() as s3:
        s3.create_bucket(Bucket="photos")
        for number in range(OBJECTS):
            s3.put_object(Bucket="photos", Key=f"old/{number}", Body=body_of(number))
        made = server.command_json("catalog", "copy")
        for number in range(3):
            s3.put_object(Bucket="photos", Key=f"new/{number}", Body=body_of(number))
        s3.delete_object(Bucket="photos", Key="old/0")
    server.kill()
    lose_catalog(server)

    listed = json.loads(run(server, "catalog", "copies", "--json")[1])
    [copy] = listed["copies"]
    restored = run(server, "catalog", "restore", copy["name"], "--yes")
    checked = run(server, "fsck", "--json")
    found = json.loads(checked[1][: checked[1].rindex("}") + 1])
    server.start()

    assert isinstance(made, dict)
    assert copy["path"] == made["path"]
    assert str(server.directory / "volume-hdd" / "catalog-copies") in copy["path"]
    assert restored[0] == 0, restored
    assert f"{copy['path']} was made" in restored[1]
    # What was written after the copy: told by name, before the sweep of the start takes it.
    assert checked[0] == 1
    assert {finding["kind"] for finding in found["findings"]} == {"orphan"}
    orphans = {owner["key"] for finding in found["findings"] for owner in finding["owners"]}
    assert orphans >= {"new/0", "new/1", "new/2"}
    with access.open_s3() as s3:
        for number in range(OBJECTS):
            body = s3.get_object(Bucket="photos", Key=f"old/{number}")["Body"].read()
            assert body == body_of(number)
        keys = [item["Key"] for item in s3.list_objects_v2(Bucket="photos")["Contents"]]
        assert sorted(keys) == sorted(f"old/{number}" for number in range(OBJECTS))
        s3.put_object(Bucket="photos", Key="after", Body=b"goes on")
    assert server.stop() == 0
    assert run(server, "fsck")[0] == 0


def test_the_schedule_makes_copies_that_old_ones_make_room_for(tmp_path: Path) -> None:
    settings = {
        **SETTINGS,
        "THERMOCLINE_CATALOG_COPY_INTERVAL_S": "0.2",
        "THERMOCLINE_CATALOG_COPIES_KEPT": "2",
    }
    made = ServerProcess(tmp_path, settings=settings, init_options=["--segment-bytes", "16MiB"])
    with running(made) as server:
        names: set[str] = set()
        end = time.monotonic() + DEADLINE_S
        while len(names) < 4 and time.monotonic() < end:
            found = json.loads(run(server, "catalog", "copies", "--json")[1])
            assert len(found["copies"]) <= 3  # one may just have been made
            names |= {copy["name"] for copy in found["copies"]}
        status = server.command_json("status")
        with contextlib.closing(
            urllib.request.urlopen(f"{server.metrics_endpoint}/metrics")
        ) as answer:
            metrics = answer.read().decode()
        server.stop()
        checked = run(server, "fsck")

    assert len(names) >= 4
    assert isinstance(status, dict)
    assert status["last_copy_at"] is not None
    assert status["copy_failure"] == ""
    assert "\nthermocline_catalog_copies_copies 2.0\n" in metrics
    assert "\nthermocline_catalog_copies_failing 0.0\n" in metrics
    # The directory of copies is no unknown file on its volume.
    assert checked[0] == 0, checked
