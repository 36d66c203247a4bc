"""Bad inputs C: aws-chunked bodies, signed and unsigned, with and without trailers."""

from __future__ import annotations

import base64
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.client.bad_inputs import Row, World, check_row, row_id
from tests.client.raw import (
    STREAMING_SIGNED,
    STREAMING_SIGNED_TRAILER,
    STREAMING_UNSIGNED_TRAILER,
    Header,
    RawRequest,
    Signing,
    presign,
    sign,
    signed_chunks,
    unsigned_chunks,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.client]

KEY = "chunked"
CHUNKS = [b"a" * 8192, b"b" * 65_536, b"c" * 100]
DATA = b"".join(CHUNKS)
CRC32 = base64.b64encode(zlib.crc32(DATA).to_bytes(4)).decode()
WRONG_CRC32 = base64.b64encode((zlib.crc32(DATA) ^ 1).to_bytes(4)).decode()
TRAILER: Header = ("x-amz-checksum-crc32", CRC32)
DENIED = "SignatureDoesNotMatch"


def streamed(
    world: World,
    *,
    chunks: list[bytes] | None = None,
    trailer: Header | None = None,
    spoiled_chunk: int | None = None,
    spoiled_trailer: bool = False,
    decoded_length: str | None = None,
) -> RawRequest:
    """A PUT in signed chunks."""
    return signed_chunks(
        world.request("PUT", KEY),
        world.alice.credentials,
        chunks if chunks is not None else CHUNKS,
        trailer=trailer,
        spoiled_chunk=spoiled_chunk,
        spoiled_trailer=spoiled_trailer,
        decoded_length=decoded_length,
    )


def unsigned(
    world: World,
    *,
    announced: str | None = "x-amz-checksum-crc32",
    trailers: tuple[Header, ...] = (TRAILER,),
    decoded_length: str | None = None,
    signing: Signing | None = None,
    headers: tuple[Header, ...] = (),
) -> RawRequest:
    """A PUT in unsigned chunks with a trailer."""
    return unsigned_chunks(
        world.request("PUT", KEY, *headers),
        world.alice.credentials,
        CHUNKS,
        signing=signing,
        announced=announced,
        trailers=trailers,
        decoded_length=decoded_length,
    )


def cut(request: RawRequest, length: int) -> RawRequest:
    """The request with its body's last bytes gone, and a Content-Length that says so."""
    return replace(request, body=request.body[:-length])


def final_chunk(request: RawRequest) -> int:
    """How many bytes the last chunk (the empty one) takes on the wire."""
    return len(request.body) - request.body.rindex(b"\r\n0;") - 2


def row(
    title: str,
    build: object,
    status: int | tuple[int, ...],
    code: str | tuple[str, ...] = (),
    *,
    number: str,
    invisible: bool = True,
    half_close: bool = False,
) -> Row:
    """A row of this table: all of them write the same key."""
    assert callable(build)
    return Row(
        number=number,
        title=title,
        build=build,
        status=status,
        code=code,
        invisible=KEY if invisible else "",
        half_close=half_close,
    )


ROWS = [
    *[
        row(
            f"signature of chunk {index} is wrong",
            lambda world, index=index: streamed(world, spoiled_chunk=index),
            403,
            DENIED,
            number="C35",
        )
        for index in (0, 1, 2, 3)
    ],
    row(
        "data of the second chunk is tampered with",
        lambda world: replace(made := streamed(world), body=made.body.replace(b"bbbb", b"bbbx", 1)),
        403,
        DENIED,
        number="C35",
    ),
    row(
        "no final chunk",
        lambda world: cut(made := streamed(world), final_chunk(made)),
        400,
        "IncompleteBody",
        number="C36",
    ),
    row(
        "connection cut behind a valid chunk",
        lambda world: cut(
            (made := streamed(world)).adding(("content-length", str(len(made.body)))), 400
        ),
        (0, 400),
        "IncompleteBody",
        number="C36",
        half_close=True,
    ),
    *[
        row(
            f"{kind.__name__}: decoded length off by {difference}",
            lambda world, kind=kind, difference=difference: kind(
                world, decoded_length=str(len(DATA) + difference)
            ),
            400,
            "IncompleteBody",
            number="C37",
        )
        for kind in (streamed, unsigned)
        for difference in (-1, 1)
    ],
    *[
        row(
            f"{kind.__name__}: no decoded length",
            lambda world, kind=kind: kind(world, decoded_length=""),
            411,
            "MissingContentLength",
            number="C37",
        )
        for kind in (streamed, unsigned)
    ],
    *[
        row(
            f"{kind.__name__}: decoded length {text}",
            lambda world, kind=kind, text=text: kind(world, decoded_length=text),
            400,
            "InvalidArgument",
            number="C37",
        )
        for kind in (streamed, unsigned)
        for text in ("-1", "abc", "1.5", "0x10", "+5")
    ],
    row(
        "a chunk in the middle below 8 KiB",
        lambda world: streamed(world, chunks=[b"a" * 8192, b"b" * 100, b"c" * 8192]),
        403,
        "InvalidChunkSizeError",
        number="C38",
    ),
    row(
        "signed trailer with a wrong signature",
        lambda world: streamed(world, trailer=TRAILER, spoiled_trailer=True),
        403,
        DENIED,
        number="C39",
    ),
    row(
        "signed trailer with a wrong checksum",
        lambda world: streamed(world, trailer=("x-amz-checksum-crc32", WRONG_CRC32)),
        400,
        "BadDigest",
        number="C39",
    ),
    row(
        "unsigned trailer with a wrong checksum",
        lambda world: unsigned(world, trailers=(("x-amz-checksum-crc32", WRONG_CRC32),)),
        400,
        "BadDigest",
        number="C39",
    ),
    row(
        "announced trailer missing",
        lambda world: unsigned(world, trailers=()),
        400,
        ("MalformedTrailerError", "IncompleteBody"),
        number="C39",
    ),
    row(
        "trailer of another name",
        lambda world: unsigned(world, trailers=(("x-amz-checksum-crc32c", CRC32),)),
        400,
        "MalformedTrailerError",
        number="C39",
    ),
    row(
        "trailer that nobody announced",
        lambda world: unsigned(world, announced=None),
        400,
        "MalformedTrailerError",
        number="C39",
    ),
    row(
        "17 trailers",
        lambda world: unsigned(
            world, trailers=(TRAILER, *((f"x-amz-checksum-x{n}", "AAAA") for n in range(16)))
        ),
        400,
        "MalformedTrailerError",
        number="C39",
    ),
    row(
        "a trailer of 8 KiB",
        lambda world: unsigned(world, trailers=(("x-amz-checksum-crc32", "A" * 8192),)),
        400,
        "MalformedTrailerError",
        number="C39",
    ),
    row(
        "checksum in header and trailer at once",
        lambda world: unsigned(world, headers=(("x-amz-checksum-crc32", CRC32),)),
        400,
        "InvalidRequest",
        number="C39",
    ),
    row(
        "unsigned trailer with a forged head",
        lambda world: unsigned(world, signing=Signing(spoiled=True)),
        403,
        DENIED,
        number="C40",
    ),
    *[
        row(
            f"chunk framing: {what}",
            lambda world, body=body: replace(unsigned(world), body=body),
            400,
            number="C36",
        )
        for what, body in {
            "garbage": b"this is no chunk\r\n",
            "negative size": b"-5\r\nhello\r\n0\r\n\r\n",
            "size beyond the data": b"ffff\r\nhello",
            "no CR LF behind the data": b"5\r\nhelloXX0\r\n\r\n",
            "size of 20 digits": b"fffffffffffffffffffff\r\nhello\r\n0\r\n\r\n",
            "a line without end": b"5;" + b"x" * 20_000,
            "nothing": b"",
        }.items()
    ],
]


@pytest.mark.parametrize("table_row", ROWS, ids=[f"{n:02} {row_id(r)}" for n, r in enumerate(ROWS)])
def test_a_bad_chunked_body_is_refused_and_invisible(world: World, table_row: Row) -> None:
    check_row(world, table_row)


@pytest.mark.parametrize(
    ("title", "build"),
    [
        ("signed", streamed),
        ("signed with trailer", lambda world: streamed(world, trailer=TRAILER)),
        ("unsigned with trailer", unsigned),
        ("unsigned, nothing announced", lambda world: unsigned(world, announced=None, trailers=())),
    ],
)
def test_an_honest_chunked_body_is_stored_without_its_framing(
    world: World, title: str, build: object
) -> None:
    assert callable(build)
    answer = world.ask(build(world))

    assert answer.status == 200, str(answer)
    stored = world.read(KEY)
    assert stored.body == DATA
    assert stored.find("content-encoding") is None
    assert world.ask(world.signed("DELETE", KEY)).status == 204


ROUTES = [
    *(("GET", None, ""), ("HEAD", None, ""), ("PUT", "new-bucket", ""), ("DELETE", None, "")),
    *((method, None, "versioning=") for method in ("GET", "PUT")),
    *((method, None, "acl=") for method in ("GET", "PUT")),
    *(("GET", None, query) for query in ("location=", "uploads=", "versions=", "list-type=2")),
    *(("GET", None, query) for query in ("policy=", "lifecycle=", "cors=", "tagging=")),
    *(("PUT", None, query) for query in ("policy=", "lifecycle=", "cors=", "tagging=")),
    ("POST", None, "delete="),
    *((method, "kept", "") for method in ("GET", "HEAD", "PUT", "DELETE", "POST")),
    *((method, "kept", "tagging=") for method in ("GET", "PUT", "DELETE")),
    *((method, "kept", "acl=") for method in ("GET", "PUT")),
    ("GET", "kept", "attributes="),
    ("POST", "kept", "uploads="),
    *((method, "upload", "uploadId=UPLOAD") for method in ("GET", "POST", "DELETE")),
    ("PUT", "upload", "uploadId=UPLOAD&partNumber=1"),
    ("GET", "kept", "versionId=null"),
]


def forgeries(world: World, base: RawRequest) -> Iterator[tuple[str, RawRequest]]:
    """The same request under every kind of authentication, each with a bad signature."""
    alice = world.alice.credentials
    yield "none", base
    for payload in (
        None,
        "UNSIGNED-PAYLOAD",
        STREAMING_SIGNED,
        STREAMING_SIGNED_TRAILER,
        STREAMING_UNSIGNED_TRAILER,
    ):
        spoiled = Signing(payload=payload, spoiled=True)
        yield f"header {payload}", sign(base, alice, spoiled)
        yield f"presigned {payload}", presign(base, alice, spoiled)
    yield "v2", base.adding(("authorization", f"AWS {alice.access_key_id}:c2lnbmF0dXJl"))
    yield (
        "v2 query",
        replace(
            base,
            query=f"{base.query}&AWSAccessKeyId={alice.access_key_id}&Signature=x&Expires=9999999999",
        ),
    )
    yield "unknown", base.adding(("authorization", "Bearer " + alice.access_key_id))
    service = Signing(service="s3tables", spoiled=True)
    yield "other service", sign(base, alice, service)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "key", "query"), ROUTES, ids=[f"{m} {k} {q}" for m, k, q in ROUTES]
)
def test_no_route_takes_any_kind_of_bad_signature(
    world: World, method: str, key: str | None, query: str
) -> None:
    query = query.replace("UPLOAD", world.upload_id)
    body = b"<x/>" if method in {"PUT", "POST"} else b""
    if key == "new-bucket":
        base = world.request(method, None, query=query, body=body, bucket="new-bucket-forged")
    else:
        base = world.request(method, key, query=query, body=body)
    for kind, request in forgeries(world, base):
        answer = world.ask(request)
        assert answer.status in {400, 403}, f"{kind}: {answer}"
    world.assert_alive()
