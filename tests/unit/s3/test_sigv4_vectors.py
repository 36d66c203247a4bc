"""The examples that AWS publishes for S3, byte for byte."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import pytest

from appliance.s3.canonical import canonical_request
from appliance.s3.checksums import ContentDigest, verify_digests
from appliance.s3.messages import RequestHead
from appliance.s3.payload import PayloadDecoder, PayloadMode, plan_payload
from appliance.s3.sigv4 import derive_signing_key, parse_claim
from tests.unit.s3.signer import ACCESS_KEY, EMPTY_SHA256, SECRET, authenticate

NOW = datetime(2013, 5, 24, tzinfo=UTC)
SCOPE = f"{ACCESS_KEY}/20130524/us-east-1/s3/aws4_request"
HOST = (b"host", b"examplebucket.s3.amazonaws.com")
DATE = (b"x-amz-date", b"20130524T000000Z")


def published(
    target: bytes,
    headers: tuple[tuple[bytes, bytes], ...],
    signature: str,
    *,
    method: str = "GET",
) -> RequestHead:
    path, _, query = target.partition(b"?")
    names = ";".join(sorted(name.decode() for name, _ in headers))
    text = f"AWS4-HMAC-SHA256 Credential={SCOPE},SignedHeaders={names},Signature={signature}"
    return RequestHead(
        method=method,
        raw_path=path,
        raw_query=query,
        headers=(*headers, (b"authorization", text.encode())),
    )


EMPTY = (b"x-amz-content-sha256", EMPTY_SHA256.encode())
GET_OBJECT = published(
    b"/test.txt",
    (HOST, (b"range", b"bytes=0-9"), EMPTY, DATE),
    "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
)
PUT_OBJECT = published(
    b"/test%24file.text",
    (
        (b"date", b"Fri, 24 May 2013 00:00:00 GMT"),
        HOST,
        (b"x-amz-content-sha256", hashlib.sha256(b"Welcome to Amazon S3.").hexdigest().encode()),
        DATE,
        (b"x-amz-storage-class", b"REDUCED_REDUNDANCY"),
    ),
    "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
    method="PUT",
)
GET_LIFECYCLE = published(
    b"/?lifecycle",
    (HOST, EMPTY, DATE),
    "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
)
LIST_OBJECTS = published(
    b"/?max-keys=2&prefix=J",
    (HOST, EMPTY, DATE),
    "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
)
PRESIGNED = RequestHead(
    method="GET",
    raw_path=b"/test.txt",
    raw_query=(
        b"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2F"
        b"us-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400"
        b"&X-Amz-SignedHeaders=host&X-Amz-Signature="
        b"aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    ),
    headers=(HOST,),
)


@pytest.mark.parametrize("head", [GET_OBJECT, PUT_OBJECT, GET_LIFECYCLE, LIST_OBJECTS, PRESIGNED])
def test_the_published_examples_verify(head: RequestHead) -> None:
    verified = authenticate(head, now=NOW)

    assert verified.claim.access_key_id == ACCESS_KEY
    assert verified.scope == "20130524/us-east-1/s3/aws4_request"


def test_the_published_canonical_request_of_get_object_is_made() -> None:
    claim = parse_claim(GET_OBJECT, region="us-east-1", now=NOW)
    assert claim is not None

    request = canonical_request(
        GET_OBJECT, signed_headers=claim.signed_headers, payload_sha256=claim.payload_sha256
    )

    assert hashlib.sha256(request).hexdigest() == (
        "7344ae5b7ee6c3e7e6b0fe0640412a37625d1fbfff95c48bbb2dc43964946972"
    )


def test_the_published_signing_key_is_derived() -> None:
    # AWS General Reference, "Examples of how to derive a signing key", with the service s3.
    key = derive_signing_key(SECRET, date="20130524", region="us-east-1")

    assert key.hex() == "dbb893acc010964918f1fd433add87c70e8b0db6be30c1fbeafefa5ec6ba8378"


CHUNKED_HEADERS = (
    (b"content-encoding", b"aws-chunked"),
    (b"content-length", b"66824"),
    (b"host", b"s3.amazonaws.com"),
    (b"x-amz-content-sha256", b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD"),
    DATE,
    (b"x-amz-decoded-content-length", b"66560"),
    (b"x-amz-storage-class", b"REDUCED_REDUNDANCY"),
)
CHUNKED_SEED = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
CHUNK_SIGNATURES = (
    b"ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
    b"0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
    b"b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
)
PAYLOAD = b"a" * 66560


def chunk(size: int, signature: bytes) -> bytes:
    return b"%x;chunk-signature=%b\r\n" % (size, signature) + b"a" * size


def test_the_published_chunked_upload_is_decoded() -> None:
    head = published(b"/examplebucket/chunkObject.txt", CHUNKED_HEADERS, CHUNKED_SEED, method="PUT")
    verified = authenticate(head, now=NOW)
    plan = plan_payload(head, verified, content_length=66824, is_secure=False)
    first, second, last = CHUNK_SIGNATURES
    body = chunk(65536, first) + b"\r\n" + chunk(1024, second) + b"\r\n" + chunk(0, last) + b"\r\n"
    assert len(body) == 66824

    decoder = PayloadDecoder(plan, verified)
    payload = b"".join(decoder.receive(body))

    assert plan.mode is PayloadMode.STREAMING_SIGNED
    assert payload == PAYLOAD
    assert decoder.finish().size_bytes == 66560


def test_the_published_chunked_upload_with_a_trailer_is_decoded() -> None:
    head = published(
        b"/examplebucket/chunkObject.txt",
        (
            (b"content-encoding", b"aws-chunked"),
            (b"host", b"s3.amazonaws.com"),
            (b"x-amz-content-sha256", b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"),
            DATE,
            (b"x-amz-decoded-content-length", b"66560"),
            (b"x-amz-storage-class", b"REDUCED_REDUNDANCY"),
            (b"x-amz-trailer", b"x-amz-checksum-crc32c"),
        ),
        "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e",
        method="PUT",
    )
    verified = authenticate(head, now=NOW)
    plan = plan_payload(head, verified, content_length=66946, is_secure=False)
    body = (
        chunk(65536, b"b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2")
        + b"\r\n"
        + chunk(1024, b"1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7")
        + b"\r\n"
        + chunk(0, b"2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992")
        # AWS's text ends the checksum with LF CR LF.
        + b"x-amz-checksum-crc32c:sOO8/Q==\n\r\n"
        + b"x-amz-trailer-signature:"
        + b"d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n\r\n"
    )

    decoder = PayloadDecoder(plan, verified)
    digest = ContentDigest(plan.algorithms, with_sha256=False)
    for piece in decoder.receive(body):
        digest.update(piece)
    end = decoder.finish()
    verify_digests(plan, end, digest.finish())

    assert end.checksum == ("CRC32C", "sOO8/Q==")
