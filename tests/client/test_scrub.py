"""Damage on the disks of the real server: found by a scrub, named by object, and never served."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
import urllib.request
import uuid
from typing import TYPE_CHECKING, TypeGuard

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from tests.client.access import Access
from tests.client.server import CommandFailed, ServerProcess, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mypy_boto3_s3 import S3Client

pytestmark = [pytest.mark.client, pytest.mark.slow]

MIB = 1024**2
PAGE_BYTES = 4 * MIB


def pseudo_bytes(seed: str, length: int) -> bytes:
    """Bytes that lie nowhere else on the volume."""
    return hashlib.shake_256(seed.encode()).digest(length)


Shown = dict[str, list[dict[str, object]]]


def is_shown(found: object) -> TypeGuard[Shown]:
    return isinstance(found, dict)


def turn_byte(directory: Path, needle: bytes) -> None:
    """Changes the first byte of `needle` where a segment holds it, behind the server's back."""
    for segment in directory.glob("volume-*/*.segment"):
        with segment.open("r+b") as file:
            # Records lie in the first megabytes; a preallocated segment is 1 GiB of zeros.
            place = file.read(64 * MIB).find(needle)
            if place >= 0:
                file.seek(place)
                file.write(bytes([needle[0] ^ 0x10]))
                return
    raise AssertionError("no segment holds it")


def wait_until(is_so: Callable[[], bool], *, deadline_s: float = 10.0) -> bool:
    end = time.monotonic() + deadline_s
    while not is_so():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that scrubs only when told to, and may be damaged."""
    settings = {
        "THERMOCLINE_SCRUB_ENABLED": "false",
        "THERMOCLINE_MEMORY_BUFFER_BYTES": "64MiB",
    }
    with running(ServerProcess(tmp_path_factory.mktemp("scrub"), settings=settings)) as started:
        yield started


@pytest.fixture
def access(server: ServerProcess) -> Access:
    """A tenant of this test's own."""
    return Access(server=server, tenant=server.create_tenant(f"t{uuid.uuid4().hex[:12]}"))


@pytest.fixture
def s3(access: Access) -> Iterator[S3Client]:
    with access.open_s3() as client:
        yield client


def scrub(access: Access) -> Shown:
    """A whole pass; what it shows, whether or not anything is damaged."""
    try:
        printed = access.server.command("scrub", "start", "--wait", "--json", "--limit", "1000")
    except CommandFailed as error:
        if error.status != 1:
            raise
        printed = error.output
    found = json.loads(printed)
    assert is_shown(found)
    return found


def objects_of(access: Access, found: Shown) -> list[dict[str, object]]:
    """The damaged objects of the test's tenant."""
    return [item for item in found["objects"] if item["tenant"] == access.tenant.name]


def pages_of(item: dict[str, object]) -> list[dict[str, object]]:
    """The damaged pages of an object."""
    pages = item["pages"]
    assert isinstance(pages, list)
    return pages


def total(found: Shown, field: str) -> int:
    """A number of all volumes together."""
    return sum(int(str(item[field])) for item in found["volumes"])


def test_a_damaged_object_is_named_and_never_served_whole(access: Access, s3: S3Client) -> None:
    whole, rotten = pseudo_bytes("whole", 5000), pseudo_bytes("rotten", 9 * MIB)
    s3.create_bucket(Bucket="photos")
    s3.put_object(Bucket="photos", Key="whole", Body=whole)
    s3.put_object(Bucket="photos", Key="a/rotten key", Body=rotten)
    s3.copy_object(
        Bucket="photos", Key="its copy", CopySource={"Bucket": "photos", "Key": "a/rotten key"}
    )
    sound = scrub(access)
    turn_byte(access.server.directory, rotten[5 * MIB : 5 * MIB + 64])

    found = scrub(access)

    assert objects_of(access, sound) == []
    assert total(sound, "done_pages") >= 4
    assert [item["state"] for item in found["volumes"]] == ["idle", "idle"]
    assert total(found, "quarantined_pages") == total(sound, "quarantined_pages") + 1
    named = objects_of(access, found)
    assert [(item["bucket"], item["key"]) for item in named] == [
        ("photos", "a/rotten key"),
        ("photos", "its copy"),
    ]
    [page] = pages_of(named[0])
    assert (page["page_index"], page["first_byte"]) == (1, PAGE_BYTES)
    assert page["is_readable"] is False
    assert "page_quarantined" in access.server.log_text()
    received = b""
    with pytest.raises((BotoCoreError, ClientError)):
        received = s3.get_object(Bucket="photos", Key="a/rotten key")["Body"].read()
    assert received == b""
    assert s3.get_object(Bucket="photos", Key="whole")["Body"].read() == whole


def test_what_is_deleted_leaves_the_report_and_what_is_mended_too(
    access: Access, s3: S3Client
) -> None:
    s3.create_bucket(Bucket="photos")
    bodies = {name: pseudo_bytes(name, 5000) for name in ("deleted", "mended")}
    for name, body in bodies.items():
        s3.put_object(Bucket="photos", Key=name, Body=body)
        turn_byte(access.server.directory, body[100:164])
    damaged = scrub(access)
    s3.delete_object(Bucket="photos", Key="deleted")
    mended = bytes([bodies["mended"][100] ^ 0x10]) + bodies["mended"][101:164]
    turn_byte(access.server.directory, mended)

    found = scrub(access)

    assert [item["key"] for item in objects_of(access, damaged)] == ["deleted", "mended"]
    assert objects_of(access, found) == []
    assert s3.get_object(Bucket="photos", Key="mended")["Body"].read() == bodies["mended"]


def test_a_page_that_a_get_found_lost_is_listed_without_a_pass(
    access: Access, s3: S3Client
) -> None:
    s3.create_bucket(Bucket="photos")
    body = pseudo_bytes("lost", 5000)
    s3.put_object(Bucket="photos", Key="rotten", Body=body)
    turn_byte(access.server.directory, body[:64])
    with pytest.raises(ClientError):
        s3.get_object(Bucket="photos", Key="rotten")

    def is_listed() -> bool:
        found = access.server.command_json("scrub", "status")
        assert is_shown(found)
        return [item["key"] for item in objects_of(access, found)] == ["rotten"]

    assert wait_until(is_listed)
    with contextlib.closing(
        urllib.request.urlopen(f"{access.server.metrics_endpoint}/metrics")
    ) as answer:
        metrics = answer.read().decode()
    sample = 'thermocline_scrub_quarantined_pages{tier="ssd",volume="1"} '
    [count] = [line.removeprefix(sample) for line in metrics.splitlines() if sample in line]
    assert float(count) >= 1


def test_parts_are_named_by_their_number_and_place(access: Access, s3: S3Client) -> None:
    s3.create_bucket(Bucket="photos")
    parts = [pseudo_bytes(f"part {number}", 6 * MIB) for number in (1, 2)]
    made = s3.create_multipart_upload(Bucket="photos", Key="big")
    done = [
        {
            "PartNumber": number,
            "ETag": s3.upload_part(
                Bucket="photos",
                Key="big",
                UploadId=made["UploadId"],
                PartNumber=number,
                Body=part,
            )["ETag"],
        }
        for number, part in enumerate(parts, start=1)
    ]
    turn_byte(access.server.directory, parts[1][5 * MIB : 5 * MIB + 64])
    in_progress = scrub(access)
    s3.complete_multipart_upload(
        Bucket="photos",
        Key="big",
        UploadId=made["UploadId"],
        MultipartUpload={"Parts": done},  # type: ignore[typeddict-item]
    )

    found = scrub(access)

    [upload] = objects_of(access, in_progress)
    assert (upload["version_id"], upload["upload_id"]) == (None, made["UploadId"])
    [damaged] = objects_of(access, found)
    assert (damaged["key"], damaged["version_id"]) == ("big", "null")
    [page] = pages_of(damaged)
    assert (page["part_number"], page["page_index"]) == (2, 1)
    assert page["first_byte"] == 6 * MIB + PAGE_BYTES


def test_a_pause_lasts_over_a_restart(access: Access) -> None:
    access.server.command("scrub", "pause")
    access.server.stop()
    access.server.start()

    paused = access.server.command_json("scrub", "status")
    resumed = access.server.command_json("scrub", "start", "--resume")

    assert is_shown(paused)
    assert is_shown(resumed)
    assert [item["state"] for item in paused["volumes"]] == ["paused", "paused"]
    assert [item["state"] for item in resumed["volumes"]] == ["idle", "idle"]
