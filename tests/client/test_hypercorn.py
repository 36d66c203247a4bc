"""The S3 port under Hypercorn: `s3.server = "hypercorn"`, with clients that know nothing of it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.request import urlopen

import pytest
from botocore.exceptions import ClientError

from tests.client.access import Access
from tests.client.clients import require_client, run_client
from tests.client.server import ServerProcess, TlsFiles, running
from tests.client.trees import pseudo_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.client]

BODY = pseudo_bytes("hypercorn", 9_000_000)


@pytest.fixture(scope="module", params=["plain", "tls"])
def access(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tls_files: TlsFiles
) -> Iterator[Access]:
    """A tenant of a server with Hypercorn on its S3 port."""
    process = ServerProcess(
        tmp_path_factory.mktemp("hypercorn"),
        tls=tls_files if request.param == "tls" else None,
        settings={"THERMOCLINE_S3_SERVER": "hypercorn"},
    )
    with running(process) as server:
        yield Access(server=server, tenant=server.create_tenant("acme"))


def test_boto3_stores_reads_lists_and_removes(access: Access) -> None:
    bucket = access.make_bucket()
    with access.open_s3() as s3:
        s3.put_object(Bucket=bucket, Key="whole", Body=BODY)
        upload = s3.create_multipart_upload(Bucket=bucket, Key="parts")["UploadId"]
        part = s3.upload_part(Bucket=bucket, Key="parts", UploadId=upload, PartNumber=1, Body=BODY)
        s3.complete_multipart_upload(
            Bucket=bucket,
            Key="parts",
            UploadId=upload,
            MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
        )
        listed = [item["Key"] for item in s3.list_objects_v2(Bucket=bucket)["Contents"]]
        whole = s3.get_object(Bucket=bucket, Key="whole")["Body"].read()
        middle = s3.get_object(Bucket=bucket, Key="parts", Range="bytes=4194300-4194310")
        read = middle["Body"].read()
        s3.delete_object(Bucket=bucket, Key="whole")
        with pytest.raises(ClientError, match="404"):
            s3.head_object(Bucket=bucket, Key="whole")

    assert listed == ["parts", "whole"]
    assert whole == BODY
    assert read == BODY[4194300:4194311]


def test_curl_waits_for_100_continue_and_gets_what_it_put(
    access: Access, tmp_path: Path, home: Path
) -> None:
    bucket = access.make_bucket()
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(BODY)
    with access.open_s3() as s3:
        put, get = (
            s3.generate_presigned_url(name, Params={"Bucket": bucket, "Key": "key"})
            for name in ("put_object", "get_object")
        )
    command = [str(require_client("curl")), "-sS", "-m", "30", "-w", "%{http_code}"]
    if access.ca_bundle is not None:
        command += ["--cacert", str(access.ca_bundle)]

    answers = [
        run_client([*command, *words], home=home, environment={}).stdout
        for words in (
            ["-H", "Expect: 100-continue", "-T", str(source), put],
            ["-o", str(target), get],
        )
    ]

    assert answers == ["200", "200"]
    assert target.read_bytes() == BODY


def test_the_log_says_that_limits_are_missing_and_the_metrics_do_not_pretend(
    access: Access,
) -> None:
    with urlopen(f"{access.server.metrics_endpoint}/metrics", timeout=10) as answer:
        metrics = answer.read().decode()

    assert "s3_served_by_hypercorn" in access.server.log_text()
    assert "thermocline_http_" not in metrics
    assert "thermocline_catalog_committer_commits_total" in metrics
