"""A start after an unclean end looks at what was written last, says what it found, and serves."""

from __future__ import annotations

import contextlib
import re
import sqlite3
import time
import urllib.request
import uuid
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError

from tests.client.access import Access
from tests.client.server import ServerProcess, running
from tests.client.test_scrub import pseudo_bytes, turn_byte

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.client, pytest.mark.slow]

SETTINGS = {"THERMOCLINE_SCRUB_ENABLED": "false", "THERMOCLINE_MEMORY_BUFFER_BYTES": "64MiB"}
LOG_S_MAX = 10.0
BODIES = {f"object-{number}": pseudo_bytes(f"body {number}", 5000) for number in range(6)}


@pytest.fixture
def access(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Access]:
    """A server with six objects."""
    server = ServerProcess(tmp_path_factory.mktemp("recovery"), settings=SETTINGS)
    with running(server) as started:
        made = Access(server=started, tenant=started.create_tenant(f"t{uuid.uuid4().hex[:12]}"))
        with made.open_s3() as s3:
            s3.create_bucket(Bucket="photos")
            for key, body in BODIES.items():
                s3.put_object(Bucket="photos", Key=key, Body=body)
        yield made


def restart(server: ServerProcess, *, is_clean: bool = False) -> str:
    """Ends and starts the server; what the new one logged until it was ready."""
    if is_clean:
        server.stop()
    else:
        server.kill()
    length = len(server.log_text())
    server.start()
    return server.log_text()[length:]


def wait_for_log(server: ServerProcess, word: str) -> str:
    """The first line of the log with that word."""
    deadline = time.monotonic() + LOG_S_MAX
    while time.monotonic() < deadline:
        for line in server.log_text().splitlines():
            if word in line:
                return line
        time.sleep(0.05)
    raise AssertionError(f"no {word} in\n{server.log_tail()}")


def read_metric(server: ServerProcess, name: str) -> float:
    with contextlib.closing(urllib.request.urlopen(f"{server.metrics_endpoint}/metrics")) as answer:
        text = answer.read().decode()
    found = re.search(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)
    assert found is not None, name
    return float(found[1])


def test_what_a_lying_drive_lost_is_named_before_the_first_request(access: Access) -> None:
    server = access.server
    server.kill()
    turn_byte(server.directory, BODIES["object-4"][:64])
    server.start()
    log = server.log_text()

    assert "page_quarantined" in log
    assert re.search(r"recheck_ended.*\bbad=1\b", log), log
    assert read_metric(server, "thermocline_recovery_recheck_bad_pages_total") == 1
    status = server.command_json("scrub", "status")
    assert isinstance(status, dict)
    assert [item["key"] for item in status["objects"]] == ["object-4"]
    with access.open_s3() as s3:
        with pytest.raises(ClientError):
            s3.get_object(Bucket="photos", Key="object-4")
        for key in BODIES.keys() - {"object-4"}:
            assert s3.get_object(Bucket="photos", Key=key)["Body"].read() == BODIES[key]
        s3.put_object(Bucket="photos", Key="object-4", Body=b"again")
        assert s3.get_object(Bucket="photos", Key="object-4")["Body"].read() == b"again"


def pages_of(log: str) -> int:
    """How many pages a start read again."""
    found = re.search(r"recheck_ended.*\bpages=(\d+)\b", log)
    assert found is not None, log
    return int(found[1])


def test_each_record_is_looked_at_by_one_start(access: Access) -> None:
    first = restart(access.server)
    with access.open_s3() as s3:
        s3.put_object(Bucket="photos", Key="later", Body=b"later")
    second = restart(access.server)
    clean = restart(access.server, is_clean=True)

    # Beside the bodies there is what states buckets and versions in the segments.
    assert pages_of(first) >= len(BODIES)
    assert 1 <= pages_of(second) < len(BODIES)
    assert "recheck" not in clean


def test_counts_that_a_crash_left_wrong_are_named_and_left_alone(access: Access) -> None:
    server = access.server
    server.kill()
    with contextlib.closing(sqlite3.connect(server.data_path / "catalog.db")) as database:
        database.execute("UPDATE tenants SET used_bytes = used_bytes + 7")
        database.commit()
    server.start()

    assert "tenant" in wait_for_log(server, "usage_differs")
    wait_for_log(server, "usage_compared")
    assert read_metric(server, "thermocline_recovery_usage_findings") == 1
    with contextlib.closing(sqlite3.connect(server.data_path / "catalog.db")) as database:
        [(used_bytes,)] = database.execute("SELECT used_bytes FROM tenants").fetchall()
    assert used_bytes == sum(len(body) for body in BODIES.values()) + 7
