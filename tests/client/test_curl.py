"""curl with presigned URLs: what a browser or a script without any S3 code can do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.client.clients import require_client, run_client
from tests.client.trees import pseudo_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mypy_boto3_s3 import S3Client

    from tests.client.access import Access

pytestmark = [pytest.mark.client]


class Curl:
    """curl that trusts the server."""

    def __init__(self, access: Access, home: Path) -> None:
        self.command = [str(require_client("curl")), "-sS", "-m", "30"]
        if access.ca_bundle is not None:
            self.command += ["--cacert", str(access.ca_bundle)]
        self.home = home

    def __call__(self, *arguments: str | Path) -> str:
        """Runs curl and returns the status it was answered with."""
        return run_client(
            [*self.command, "-w", "%{http_code}", *arguments], home=self.home, environment={}
        ).stdout


@pytest.fixture
def curl(access: Access, home: Path) -> Curl:
    """curl, or the reason why not."""
    return Curl(access, home)


@pytest.fixture(scope="module")
def s3(access: Access) -> Iterator[S3Client]:
    """A boto3 client of the module's tenant, which presigns."""
    with access.open_s3() as client:
        yield client


@pytest.fixture(scope="module")
def bucket(access: Access) -> str:
    """A bucket that every test of the module shares; keys are the tests' own."""
    return access.make_bucket()


def test_put_then_get(curl: Curl, s3: S3Client, bucket: str, tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(pseudo_bytes("curl", 9_000_000))
    target = {"Bucket": bucket, "Key": "put/ä b+c"}
    put = s3.generate_presigned_url("put_object", Params=target)
    get = s3.generate_presigned_url("get_object", Params=target)

    assert curl("-T", body, put) == "200"
    assert curl("-o", tmp_path / "back", get) == "200"
    assert (tmp_path / "back").read_bytes() == body.read_bytes()


@pytest.mark.parametrize(
    ("header", "first", "last"), [("0-99", 0, 100), ("5000000-", 5_000_000, None), ("-7", -7, None)]
)
def test_ranges(
    curl: Curl,
    s3: S3Client,
    bucket: str,
    tmp_path: Path,
    header: str,
    first: int,
    last: int | None,
) -> None:
    body = pseudo_bytes("ranges", 6_000_000)
    s3.put_object(Bucket=bucket, Key="ranges", Body=body)
    url = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "ranges"})

    assert curl("-r", header, "-o", tmp_path / "piece", url) == "206"
    assert (tmp_path / "piece").read_bytes() == body[first:last]


def test_a_download_is_resumed(curl: Curl, s3: S3Client, bucket: str, tmp_path: Path) -> None:
    body = pseudo_bytes("resumed", 3_000_000)
    s3.put_object(Bucket=bucket, Key="resumed", Body=body)
    url = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "resumed"})
    (tmp_path / "piece").write_bytes(body[:1_234_567])

    assert curl("-C", "-", "-o", tmp_path / "piece", url) == "206"
    assert (tmp_path / "piece").read_bytes() == body


def test_an_upload_of_unknown_length_is_stored(
    curl: Curl, s3: S3Client, bucket: str, tmp_path: Path
) -> None:
    target = {"Bucket": bucket, "Key": "streamed"}
    url = s3.generate_presigned_url("put_object", Params=target)
    body = tmp_path / "body"
    body.write_bytes(pseudo_bytes("streamed", 5_000_000))

    assert curl("-T", body, "-H", "Transfer-Encoding: chunked", url) == "200"
    assert s3.get_object(Bucket=bucket, Key="streamed")["Body"].read() == body.read_bytes()


def test_a_changed_url_is_refused(curl: Curl, s3: S3Client, bucket: str, tmp_path: Path) -> None:
    s3.put_object(Bucket=bucket, Key="signed", Body=b"x")
    url = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "signed"})

    assert curl("-o", tmp_path / "answer", url.replace("/signed?", "/other?")) == "403"
    assert b"SignatureDoesNotMatch" in (tmp_path / "answer").read_bytes()
    assert curl("-o", tmp_path / "answer", "-X", "DELETE", url) == "403"


def test_early_refusal_stops_an_upload(
    curl: Curl, s3: S3Client, bucket: str, tmp_path: Path
) -> None:
    url = s3.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "early"})
    (tmp_path / "body").write_bytes(b"x" * 3_000_000)
    done = run_client(
        [
            *curl.command,
            "-v",
            "-T",
            tmp_path / "body",
            "-H",
            "Expect: 100-continue",
            "-o",
            tmp_path / "answer",
            f"{url}0",
        ],
        home=curl.home,
        environment={},
        expected=None,
    )

    assert "403" in done.stderr
    assert "100 Continue" not in done.stderr
