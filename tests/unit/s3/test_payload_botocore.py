"""Uploads as botocore prepares them, captured before they leave, through the whole verification."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.compat import HTTPHeaders
from botocore.config import Config

from appliance.s3.checksums import ContentDigest, verify_digests
from appliance.s3.claim import parse_timestamp
from appliance.s3.messages import RequestHead
from appliance.s3.payload import PayloadDecoder, PayloadMode, plan_payload
from tests.unit.s3.signer import ACCESS_KEY, NOW, REGION, SECRET, authenticate

if TYPE_CHECKING:
    from mypy_boto3_s3.literals import ChecksumAlgorithmType

    from appliance.s3.payload import PayloadPlan

KEY = "a key+é~(1)"
DATA = bytes(range(256)) * 10_000


def as_bytes(value: object) -> bytes:
    """A header value; botocore makes some of them bytes."""
    return value if isinstance(value, bytes) else str(value).encode()


class Empty:
    """A raw response without a body."""

    def stream(self) -> list[bytes]:
        return []


@dataclass(slots=True)
class Wire:
    """Stands where the network is: keeps what would be sent and answers 200."""

    head: RequestHead | None = field(default=None)
    body: bytes = b""

    def take(self, request: AWSPreparedRequest, **_: object) -> AWSResponse:
        parts = urlsplit(str(request.url))
        headers = [(name.lower(), value) for name, value in request.headers.items()]
        if "host" not in request.headers:
            headers.append(("host", parts.netloc))
        self.head = RequestHead(
            method=str(request.method),
            raw_path=parts.path.encode(),
            raw_query=parts.query.encode(),
            headers=tuple((name.encode(), as_bytes(value)) for name, value in headers),
            is_secure=parts.scheme == "https",
        )
        body = request.body
        if isinstance(body, bytearray):
            self.body = bytes(body)
        elif isinstance(body, bytes):
            self.body = body
        else:
            assert body is not None
            assert not isinstance(body, str)
            data = body.read()
            assert isinstance(data, bytes)
            self.body = data
        return AWSResponse(str(request.url), 200, HTTPHeaders(), Empty())


def upload(scheme: str, algorithm: ChecksumAlgorithmType | None) -> tuple[PayloadPlan, bytes]:
    """PutObject through botocore, then what the server makes of it."""
    wire = Wire()
    client = boto3.client(
        "s3",
        region_name=REGION,
        endpoint_url=f"{scheme}://s3.example.test",
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET,
        config=Config(s3={"addressing_style": "path"}),
    )
    # The stubs know no handler that answers in the network's place.
    client.meta.events.register("before-send.s3", wire.take)  # type: ignore[arg-type]
    if algorithm is None:
        client.put_object(Bucket="bucket", Key=KEY, Body=DATA)
    else:
        client.put_object(Bucket="bucket", Key=KEY, Body=DATA, ChecksumAlgorithm=algorithm)
    head = wire.head
    assert head is not None
    now = parse_timestamp((head.find_header(b"x-amz-date") or b"").decode())
    verified = authenticate(head, now=now or NOW)
    length = head.find_header(b"content-length")
    plan = plan_payload(
        head,
        verified,
        content_length=None if length is None else int(length),
        is_secure=head.is_secure,
    )
    decoder = PayloadDecoder(plan, verified)
    digest = ContentDigest(plan.algorithms, with_sha256=plan.sha256_hex is not None)
    payload = b""
    for at in range(0, len(wire.body), 65_537):
        for piece in decoder.receive(wire.body[at : at + 65_537]):
            digest.update(piece)
            payload += piece
    verify_digests(plan, decoder.finish(), digest.finish())
    return plan, payload


@pytest.mark.parametrize("algorithm", [None, "CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"])
@pytest.mark.parametrize(
    ("scheme", "mode"),
    [("https", PayloadMode.STREAMING_UNSIGNED_TRAILER), ("http", PayloadMode.SIGNED)],
)
def test_an_upload_of_botocore_is_verified(
    scheme: str, mode: PayloadMode, algorithm: ChecksumAlgorithmType | None
) -> None:
    plan, payload = upload(scheme, algorithm)

    assert plan.mode is mode
    assert plan.checksum is not None
    assert plan.algorithms == {algorithm or "CRC32"}
    assert payload == DATA
