"""Reports of a real store: its rows, its volumes and its file systems agree to the byte."""

from __future__ import annotations

import itertools
import threading
import time
from typing import TYPE_CHECKING
from urllib.request import urlopen

import pytest

from appliance.admin.documents import decode_document
from appliance.admin.report_documents import CapacityReport
from tests.client.access import Access
from tests.client.server import CommandFailed, ServerProcess, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mypy_boto3_s3 import S3Client

pytestmark = [pytest.mark.client, pytest.mark.slow]

MIB = 1024 * 1024
SETTINGS = {
    "THERMOCLINE_SCRUB_ENABLED": "false",
    "THERMOCLINE_MEMORY_BUFFER_BYTES": "64MiB",
    "THERMOCLINE_RECLAIM_GRACE_S": "3600",
}
DEADLINE_S = 30.0
REPORTS_MAX = 60
REPORTS_ALIKE = 3  # a report takes most of a second, and reclaim runs every second


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server for the whole module."""
    made = ServerProcess(
        tmp_path_factory.mktemp("reports"),
        settings=SETTINGS,
        init_options=["--segment-bytes", "16MiB"],
    )
    with running(made) as server:
        yield server


def put_in_parts(client: S3Client, bucket: str, key: str, sizes: list[int]) -> str:
    """Begins an upload and writes its parts; its id."""
    upload = client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    for number, size in enumerate(sizes, 1):
        client.upload_part(
            Bucket=bucket, Key=key, UploadId=upload, PartNumber=number, Body=bytes(size)
        )
    return upload


def complete(client: S3Client, bucket: str, key: str, upload: str) -> None:
    parts = client.list_parts(Bucket=bucket, Key=key, UploadId=upload)["Parts"]
    client.complete_multipart_upload(
        Bucket=bucket,
        Key=key,
        UploadId=upload,
        MultipartUpload={
            "Parts": [{"ETag": part["ETag"], "PartNumber": part["PartNumber"]} for part in parts]
        },
    )


def fill(server: ServerProcess) -> None:
    """Everything that takes room: plain objects, versions, parts, copies, markers, the dead."""
    acme = Access(server=server, tenant=server.create_tenant("acme"))
    with acme.open_s3() as client:
        client.create_bucket(Bucket="data")
        client.create_bucket(Bucket="old")
        client.put_bucket_versioning(Bucket="old", VersioningConfiguration={"Status": "Enabled"})
        for number in range(20):
            client.put_object(
                Bucket="data", Key=f"logs/{number % 3}/{number}", Body=bytes(1000 * number)
            )
        client.put_object(Bucket="data", Key="big", Body=bytes(9 * MIB + 1))
        client.copy_object(Bucket="data", Key="a/copy", CopySource={"Bucket": "data", "Key": "big"})
        for _ in range(3):
            client.put_object(Bucket="old", Key="k", Body=bytes(5000))
        client.delete_object(Bucket="old", Key="k")
        upload = put_in_parts(client, "data", "parts/whole", [5 * MIB, 5 * MIB, 17])
        complete(client, "data", "parts/whole", upload)
        put_in_parts(client, "data", "parts/open", [5 * MIB])
        aborted = put_in_parts(client, "data", "parts/aborted", [5 * MIB])
        client.abort_multipart_upload(Bucket="data", Key="parts/aborted", UploadId=aborted)
        client.delete_objects(
            Bucket="data", Delete={"Objects": [{"Key": f"logs/{n % 3}/{n}"} for n in range(5)]}
        )
    demo = Access(server=server, tenant=server.create_tenant("demo"))
    with demo.open_s3() as client:
        client.create_bucket(Bucket="data")
        client.put_object(Bucket="data", Key="x/é", Body=b"x" * 12345)


def report(server: ServerProcess, *options: str) -> CapacityReport:
    printed = server.command("report", "capacity", "--format", "json", *options)
    return decode_document(CapacityReport, printed.encode())


@pytest.fixture(scope="module")
def filled(server: ServerProcess) -> ServerProcess:
    fill(server)
    return server


def check_balance(server: ServerProcess, found: CapacityReport) -> None:
    """Everything adds up, and the file systems say the same."""
    assert len(found.volumes) == 2
    for volume in found.volumes:
        folder = server.directory / f"volume-{volume.tier}"
        files = [path.stat() for path in folder.glob("*.segment")]
        assert volume.segment_count == len(files)
        assert volume.size_bytes == sum(file.st_size for file in files)
        assert volume.taken_bytes == sum(file.st_blocks * 512 for file in files)
        assert volume.difference_bytes == volume.fault_bytes == 0
        explained = (
            volume.header_bytes
            + volume.live_bytes
            + volume.shadow_bytes
            + volume.dead_bytes
            + volume.unnamed_bytes
            + volume.tail_bytes
            + volume.filesystem_bytes
        )
        assert explained == volume.taken_bytes
        mapped = volume.taken_bytes - volume.filesystem_bytes
        assert volume.size_bytes == mapped + volume.returned_bytes
    rows, volumes = found.rows, found.volumes
    assert sum(row.physical_bytes for row in rows) == sum(one.live_bytes for one in volumes) > 0
    assert sum(row.shadow_bytes for row in rows) == sum(one.shadow_bytes for one in volumes)
    assert sum(row.dead_bytes for row in rows) == sum(one.dead_bytes for one in volumes)
    assert found.unmatched_live_bytes == found.unmatched_shadow_bytes == 0


@pytest.mark.parametrize("by", ["tier", "tenant", "tenant,bucket", "tenant,bucket,prefix,tier"])
def test_rows_volumes_and_file_systems_agree_to_the_byte(filled: ServerProcess, by: str) -> None:
    found = report(filled, "--by", by)

    check_balance(filled, found)
    assert found.snapshot_count == 1


def test_logical_bytes_are_what_usage_counts(filled: ServerProcess) -> None:
    usage = filled.command_json("usage", "show", "--tenant", "acme")
    assert isinstance(usage, dict)
    used = {
        row["bucket"]: (row["usage"]["used_bytes"], row["usage"]["object_count"])
        for row in usage["rows"]
    }
    rows = {
        row.bucket: row
        for row in report(filled, "--tenant", "acme", "--by", "bucket").rows
        if row.bucket is not None
    }

    for bucket, row in rows.items():
        open_parts = 5 * MIB if bucket == "data" else 0
        assert (row.logical_bytes + open_parts, row.version_count) == used[bucket]
    # A copy is a version like any, and takes no room of its own.
    data = rows["data"]
    assert data.logical_bytes > data.physical_bytes
    assert data.upload_bytes > 5 * MIB
    assert data.manifest_bytes == 4 * 4096  # of the bucket, the source, the copy, the parts


def test_prefixes_are_cut_at_slashes_and_drill_down(filled: ServerProcess) -> None:
    shallow = report(filled, "--bucket", "acme/data", "--prefix-depth", "1").rows
    deep = report(filled, "--bucket", "acme/data", "--prefix", "logs/", "--prefix-depth", "1").rows

    by_prefix = {row.prefix: row.logical_bytes for row in shallow}
    assert set(by_prefix) == {"", "a/", "logs/", "parts/", None}
    assert by_prefix["a/"] == by_prefix[""] == 9 * MIB + 1
    assert {row.prefix for row in deep} == {"logs/0/", "logs/1/", "logs/2/"}
    assert sum(row.logical_bytes for row in deep) == by_prefix["logs/"]


def test_what_was_reclaimed_is_returned_and_still_adds_up(tmp_path: Path) -> None:
    settings = {
        **SETTINGS,
        "THERMOCLINE_RECLAIM_GRACE_S": "1",
        "THERMOCLINE_RECLAIM_INTERVAL_S": "1",
    }
    made = ServerProcess(tmp_path, settings=settings, init_options=["--segment-bytes", "16MiB"])
    with running(made) as server:
        fill(server)
        ends = time.monotonic() + DEADLINE_S
        found = report(server)
        while found.total.dead_bytes:
            assert time.monotonic() < ends, "nothing is reclaimed"
            time.sleep(0.2)
            found = report(server)
        check_balance(server, found)
        assert sum(volume.returned_bytes for volume in found.volumes) > 5 * MIB

        server.kill()  # open segments keep their tails, which nobody knows the end of
        server.start()
        check_balance(server, report(server))


def test_requests_of_a_month_outlive_a_stop_and_add_up(tmp_path: Path) -> None:
    made = ServerProcess(tmp_path, settings=SETTINGS, init_options=["--segment-bytes", "16MiB"])
    with running(made) as server:
        access = Access(server=server, tenant=server.create_tenant("acme"))
        for _ in range(2):
            with access.open_s3() as client:
                if not client.list_buckets()["Buckets"]:
                    client.create_bucket(Bucket="bills")
                client.put_object(Bucket="bills", Key="k", Body=b"x" * 1000)
                client.get_object(Bucket="bills", Key="k")["Body"].read()
                client.head_object(Bucket="bills", Key="k")
                client.list_objects_v2(Bucket="bills")
                client.delete_object(Bucket="bills", Key="k")
            server.stop()
            server.start()
        found = server.command_json("report", "tenant", "acme")

        assert isinstance(found, dict)
        assert found["requests"] == {"reads": 4, "writes": 3, "lists": 4, "deletes": 2}
        assert found["sent_bytes"] >= 2000
        assert found["received_bytes"] >= 2000
        assert found["is_complete"] is False
        with pytest.raises(CommandFailed) as refused:
            server.command("report", "tenant", "acme", "--month", "2999-01")
        assert refused.value.status == 2


def test_gauges_are_those_of_the_last_sample(filled: ServerProcess) -> None:
    with urlopen(f"{filled.metrics_endpoint}/metrics") as answer:
        text = answer.read().decode()

    assert 'thermocline_capacity_total_bytes{tier="ssd"}' in text
    assert "thermocline_capacity_sampler_samples_total 1.0" in text
    assert "thermocline_capacity_days_until_full" not in text  # one sample tells nothing


def report_settled(server: ServerProcess) -> CapacityReport:
    """The report once nothing is left to reclaim: what it says is then true of the files."""
    last: list[tuple[int, int, int]] = []
    alike = 0
    for _ in range(REPORTS_MAX):
        found = report(server)
        state = [(each.taken_bytes, each.dead_bytes, each.segment_count) for each in found.volumes]
        alike = alike + 1 if state == last and not any(dead for _, dead, _ in state) else 0
        if alike == REPORTS_ALIKE:
            return found
        last = state
    raise AssertionError(f"reclaim does not come to rest: {last}")


def test_a_busy_server_is_never_said_to_be_damaged(tmp_path: Path) -> None:
    settings = {
        **SETTINGS,
        "THERMOCLINE_RECLAIM_GRACE_S": "1",
        "THERMOCLINE_RECLAIM_INTERVAL_S": "1",
    }
    made = ServerProcess(tmp_path, settings=settings, init_options=["--segment-bytes", "16MiB"])
    with running(made) as server:
        access = Access(server=server, tenant=server.create_tenant("acme"))
        is_over = threading.Event()

        def write() -> None:
            with access.open_s3() as client:
                client.create_bucket(Bucket="busy")
                for number in itertools.count():
                    if is_over.is_set():
                        return
                    key = str(number % 7)
                    client.put_object(Bucket="busy", Key=key, Body=bytes(300_000 * (number % 5)))
                    if number % 3 == 0:
                        client.delete_object(Bucket="busy", Key=key)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            found = [report(server) for _ in range(8)]
        finally:
            is_over.set()
            writer.join()
        check_balance(server, report_settled(server))

    for each in found:
        for volume in each.volumes:
            assert volume.difference_bytes == volume.fault_bytes == 0
            assert not volume.failure
    assert any(each.total.physical_bytes for each in found)
