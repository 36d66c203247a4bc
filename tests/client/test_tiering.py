"""Pages move while the real server serves: up by reads, by pins, off a volume, over kill -9."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from tests.client.access import Access
from tests.client.server import ServerProcess, run_command, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mypy_boto3_s3 import S3Client

pytestmark = [pytest.mark.client, pytest.mark.slow]

SETTINGS = {
    "THERMOCLINE_SCRUB_ENABLED": "false",
    "THERMOCLINE_MEMORY_BUFFER_BYTES": "64MiB",
    "THERMOCLINE_RECLAIM_GRACE_S": "1",
    "THERMOCLINE_RECLAIM_INTERVAL_S": "1",
}
PATIENCE_S = 60.0  # what takes seconds on a quiet machine
BODY = os.urandom(5 * 1024 * 1024 + 17)
SMALL = os.urandom(3000)
PINS = """
version = 1

[[rule]]
id = "wal"
filter = { tenant = "acme", bucket = "data", prefix = "wal/" }
pin = "ssd"
pin_limit = "100MiB"

[[rule]]
id = "rest"
managed = true
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    second = tmp_path / "volume-more"
    second.mkdir()
    options = ["--segment-bytes", "16MiB", "--volume", f"hdd={second}"]
    with running(ServerProcess(tmp_path, settings=SETTINGS, init_options=options)) as server:
        yield server


@pytest.fixture
def s3(server: ServerProcess) -> Iterator[S3Client]:
    with Access(server=server, tenant=server.create_tenant("acme")).open_s3() as client:
        client.create_bucket(Bucket="data")
        yield client


def put_cold(s3: S3Client, key: str, body: bytes) -> None:
    s3.put_object(Bucket="data", Key=key, Body=body, StorageClass="STANDARD_IA")


def explain(server: ServerProcess, key: str, *options: str) -> dict[str, object]:
    found = server.command_json("tier", "explain", f"acme/data/{key}", *options)
    assert isinstance(found, dict)
    return found


def wait_until_on(tier: str, server: ServerProcess, key: str, *options: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while explain(server, key, *options)["tier"] != tier:
        assert time.monotonic() < deadline, f"{key} never came to {tier}"
        time.sleep(0.5)


def read(s3: S3Client, key: str) -> bytes:
    return s3.get_object(Bucket="data", Key=key)["Body"].read()


def introduce(s3: S3Client) -> None:
    """Let the client be known by a read of something else: a stranger's read promotes nothing."""
    s3.put_object(Bucket="data", Key="zz", Body=SMALL)
    read(s3, "zz")


def test_what_is_read_rises_and_is_the_same_after_kill_9(
    server: ServerProcess, s3: S3Client
) -> None:
    for key, body in (("big", BODY), ("small", SMALL), ("cold", BODY)):
        put_cold(s3, key, body)
    assert explain(server, "big")["tier"] == "hdd"
    introduce(s3)

    # Not in the order of their names: who reads in order only is taken for a backup.
    assert read(s3, "small") == SMALL
    assert read(s3, "big") == BODY
    for key, page in (("big", "0"), ("big", "1"), ("small", "0")):
        wait_until_on("ssd", server, key, "--page", page)
    risen = explain(server, "big")
    assert (risen["shadow_tier"], risen["storage_class"]) == ("hdd", "STANDARD_IA")
    assert explain(server, "cold")["tier"] == "hdd"

    server.kill()
    server.start()

    again = explain(server, "big")
    assert (again["tier"], again["moves"]) == ("ssd", risen["moves"])
    server.stop()
    assert "catalog and volumes agree" in run_command(
        ("fsck", "--config", str(server.config_path)), server.environment
    )


def test_a_pin_brings_pages_up_that_nobody_reads(server: ServerProcess, s3: S3Client) -> None:
    put_cold(s3, "wal/1", BODY)
    put_cold(s3, "other", BODY)
    policy = server.directory / "policy.toml"
    policy.write_text(PINS)

    server.command("policy", "apply", str(policy))

    wait_until_on("ssd", server, "wal/1")
    assert explain(server, "wal/1")["arrived_by"] != "written here"
    assert explain(server, "other")["tier"] == "hdd"
    assert read(s3, "wal/1") == BODY


def test_moves_wait_while_they_are_paused(server: ServerProcess, s3: S3Client) -> None:
    put_cold(s3, "a", SMALL)
    introduce(s3)
    server.command("tier", "pause")
    read(s3, "a")
    time.sleep(3.0)
    assert explain(server, "a")["tier"] == "hdd"
    server.kill()
    server.start()
    found = server.command_json("tier", "status")
    assert isinstance(found, dict)
    assert found["state"] == "paused"
    server.command("tier", "resume")


def test_a_volume_is_emptied_while_it_serves(server: ServerProcess, s3: S3Client) -> None:
    for number in range(6):
        put_cold(s3, f"k{number}", BODY)
    homes = {explain(server, f"k{number}")["volume_id"] for number in range(6)}
    volume = max(home for home in homes if isinstance(home, int))

    server.command("volume", "drain", str(volume), "--wait")

    for number in range(6):
        assert explain(server, f"k{number}")["volume_id"] != volume
        assert read(s3, f"k{number}") == BODY
    server.command("volume", "remove", str(volume), "--yes")
