"""Bad inputs F: request bodies in XML."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

import pytest

from tests.client.bad_inputs import Row, World, check_row, md5_header, row_id
from tests.client.raw import Signing

if TYPE_CHECKING:
    from tests.client.raw import RawRequest

pytestmark = [pytest.mark.client]

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
ETAG = "d41d8cd98f00b204e9800998ecf8427e"


def delete(world: World, body: bytes) -> RawRequest:
    """A DeleteObjects with its Content-MD5."""
    return world.signed("POST", None, md5_header(body), query="delete=", body=body)


def complete(world: World, body: bytes) -> RawRequest:
    """A CompleteMultipartUpload of Alice's upload, which has no parts."""
    return world.signed("POST", "upload", query=f"uploadId={world.upload_id}", body=body)


def tag(world: World, body: bytes) -> RawRequest:
    """A PutObjectTagging on the object that stays."""
    return world.signed("PUT", "kept", md5_header(body), query="tagging=", body=body)


def versioning(world: World, body: bytes) -> RawRequest:
    """A PutBucketVersioning."""
    return world.signed("PUT", None, md5_header(body), query="versioning=", body=body)


def deletion_of(count: int) -> bytes:
    """A Delete document with that many keys that do not exist."""
    keys = "".join(f"<Object><Key>absent-{n}</Key></Object>" for n in range(count))
    return f'<Delete xmlns="{NAMESPACE}">{keys}</Delete>'.encode()


def parts(*numbers: int | str) -> bytes:
    """A CompleteMultipartUpload document."""
    listed = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{ETAG}</ETag></Part>" for number in numbers
    )
    return f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()


def tags(*pairs: tuple[str, str]) -> bytes:
    """A Tagging document."""
    listed = "".join(f"<Tag><Key>{key}</Key><Value>{value}</Value></Tag>" for key, value in pairs)
    return f"<Tagging><TagSet>{listed}</TagSet></Tagging>".encode()


def laughs() -> bytes:
    """Ten entities, each ten times the one before."""
    lines = ['<!DOCTYPE Delete [<!ENTITY e0 "ha">']
    lines += [f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 11)]
    lines.append("]><Delete><Object><Key>&e10;</Key></Object></Delete>")
    return "\n".join(lines).encode()


def quadratic() -> bytes:
    """One long entity used very often."""
    uses = "&e;" * 20_000
    return (
        f'<!DOCTYPE Delete [<!ENTITY e "{"x" * 50_000}">]>'
        f"<Delete><Object><Key>{uses}</Key></Object></Delete>"
    ).encode()


DELETE_KEPT = b"<Delete><Object><Key>kept</Key></Object></Delete>"
BROKEN = {
    "billion laughs": laughs(),
    "quadratic entities": quadratic(),
    "100,000 levels": b"<Delete>" + b"<a>" * 100_000 + b"</a>" * 100_000 + b"</Delete>",
    "100,000 attributes": b"<Delete "
    + b" ".join(b'a%d="1"' % n for n in range(100_000))
    + b"></Delete>",
    "a document type": b"<!DOCTYPE Delete>" + DELETE_KEPT,
    "an external file": b'<!DOCTYPE Delete [<!ENTITY x SYSTEM "file:///etc/hostname">]>'
    b"<Delete><Object><Key>&x;</Key></Object></Delete>",
    "a parameter entity": b'<!DOCTYPE Delete [<!ENTITY % x SYSTEM "file:///etc/hostname"> %x;]>'
    + DELETE_KEPT,
    "UTF-16": DELETE_KEPT.decode().encode("utf-16"),
    "UTF-16 without mark": DELETE_KEPT.decode().encode("utf-16-be"),
    "UTF-7": b'<?xml version="1.0" encoding="utf-7"?>' + DELETE_KEPT,
    "a lie about its encoding": b'<?xml version="1.0" encoding="utf-16"?>' + DELETE_KEPT,
    "bytes that are no UTF-8": b"<Delete><Object><Key>\xff\xfe</Key></Object></Delete>",
    "NUL": b"<Delete><Object><Key>a\x00b</Key></Object></Delete>",
    "a NUL reference": b"<Delete><Object><Key>a&#0;b</Key></Object></Delete>",
    "truncation": DELETE_KEPT[:-9],
    "two roots": DELETE_KEPT * 2,
    "another root": b"<Tagging/>",
    "no element": b"   ",
    "JSON": b'{"Objects": []}',
    "no keys": b"<Delete></Delete>",
    "an empty key": b"<Delete><Object><Key></Key></Object></Delete>",
}

ROWS = [
    *[
        Row(
            number="F75-78",
            title=f"DeleteObjects with {what}",
            build=lambda world, body=body: delete(world, body),  # type: ignore[misc]
            status=400,
            code=("MalformedXML", "UserKeyMustBeSpecified"),
            deadline_s=2.0,
        )
        for what, body in BROKEN.items()
    ],
    *[
        Row(
            number="F78",
            title=f"{send.__name__} with {what}",
            build=lambda world, send=send, body=body: send(world, body),  # type: ignore[misc]
            status=400,
            code=("MalformedXML", "MissingRequestBodyError"),
            deadline_s=2.0,
        )
        for send in (complete, tag, versioning)
        for what, body in {
            "nothing": b"",
            "truncation": b"<CompleteMultipartUpload><Part>",
            "another root": b"<Wrong/>",
            "billion laughs": laughs(),
        }.items()
    ],
    Row(
        number="F78",
        title="DeleteObjects without a body",
        build=lambda world: delete(world, b""),
        status=400,
        code=("MalformedXML", "MissingRequestBodyError"),
    ),
    Row(
        number="F79",
        title="1,001 keys",
        build=lambda world: delete(world, deletion_of(1001)),
        status=400,
        code="MalformedXML",
    ),
    Row(
        number="F79",
        title="1,000 keys",
        build=lambda world: delete(world, deletion_of(1000)),
        status=200,
    ),
    Row(
        number="F79",
        title="a body above 2 MiB",
        build=lambda world: delete(world, DELETE_KEPT + b" " * (2 * 1024 * 1024)),
        status=400,
        code="MaxMessageLengthExceeded",
    ),
    Row(
        number="F79",
        title="neither digest nor signed payload",
        build=lambda world: world.signed(
            "POST",
            None,
            query="delete=",
            body=deletion_of(1),
            signing=Signing(payload="UNSIGNED-PAYLOAD"),
        ),
        status=400,
        code="InvalidRequest",
    ),
    Row(
        number="F79",
        title="wrong Content-MD5",
        build=lambda world: world.signed(
            "POST", None, md5_header(b"other"), query="delete=", body=DELETE_KEPT
        ),
        status=400,
        code="BadDigest",
    ),
    Row(
        number="F79",
        title="wrong checksum",
        build=lambda world: world.signed(
            "POST",
            None,
            ("x-amz-checksum-crc32", "AAAAAA=="),
            query="delete=",
            body=DELETE_KEPT,
        ),
        status=400,
        code="BadDigest",
    ),
    Row(
        number="F80",
        title="10,001 parts",
        build=lambda world: complete(world, parts(*range(1, 10_001), 10_000)),
        status=400,
        code=("MalformedXML", "InvalidPartOrder"),
    ),
    *[
        Row(
            number="F80",
            title=what,
            build=lambda world, body=body: complete(world, body),  # type: ignore[misc]
            status=400,
            code=code,
        )
        for what, body, code in (
            ("no parts", parts(), ("MalformedXML",)),
            ("a part twice", parts(1, 1), ("InvalidPartOrder",)),
            ("parts in disorder", parts(2, 1), ("InvalidPartOrder",)),
            ("a part that is not there", parts(1), ("InvalidPart",)),
            ("part zero", parts(0), ("MalformedXML", "InvalidArgument", "InvalidPart")),
            ("part 10,001", parts(10_001), ("MalformedXML", "InvalidArgument", "InvalidPart")),
            ("part x", parts("x"), ("MalformedXML",)),
            ("part 2^70", parts(2**70), ("MalformedXML", "InvalidArgument", "InvalidPart")),
        )
    ],
    *[
        Row(
            number="F81",
            title=what,
            build=lambda world, body=body: tag(world, body),  # type: ignore[misc]
            status=400,
            code=("InvalidTag", "MalformedXML", "BadRequest"),
        )
        for what, body in {
            "11 tags": tags(*((f"k{n}", "v") for n in range(11))),
            "a tag twice": tags(("k", "1"), ("k", "2")),
            "a key of 129 characters": tags(("k" * 129, "v")),
            "a value of 257 characters": tags(("k", "v" * 257)),
            "an empty key": tags(("", "v")),
            "a reserved key": tags(("aws:k", "v")),
            "a letter outside the rules": tags(("k?", "v")),
        }.items()
    ],
    *[
        Row(
            number="F81",
            title=f"x-amz-tagging {text[:30]}",
            build=lambda world, text=text: world.signed(  # type: ignore[misc]
                "PUT", "tagged", ("x-amz-tagging", text), body=b"x"
            ),
            status=400,
            code=("InvalidTag", "InvalidArgument"),
            invisible="tagged",
        )
        for text in (
            "&".join(f"k{n}=v" for n in range(11)),
            "k=1&k=2",
            "k" * 129 + "=v",
            "=v",
            "k=%ZZ",
            "k=%FF",
        )
    ],
]


@pytest.mark.parametrize("row", ROWS, ids=[f"{n:02} {row_id(r)}" for n, r in enumerate(ROWS)])
def test_a_bad_document_is_refused(world: World, row: Row) -> None:
    check_row(world, row)


@pytest.mark.parametrize("what", ["billion laughs", "quadratic entities", "100,000 levels"])
def test_a_bomb_costs_neither_time_nor_memory(world: World, what: str) -> None:
    keys = (f"<Object><Key>{n:0>1000}</Key></Object>".encode() for n in range(1000))
    honest = b"<Delete>" + b"".join(keys) + b"</Delete>"
    answer = world.ask(delete(world, honest))  # so that the memory of honest work is there
    assert answer.status == 200, str(answer)
    before = world.server.memory_bytes()
    answers = [world.ask(delete(world, BROKEN[what])) for _ in range(3)]

    assert [answer.code for answer in answers] == ["MalformedXML"] * 3
    assert min(answer.seconds for answer in answers) < 0.25
    assert world.server.memory_bytes() - before < 5 * 1024 * 1024


def test_an_external_entity_is_never_fetched(world: World) -> None:
    visits: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as canary:
        canary.settimeout(1.0)

        def listen() -> None:
            try:
                canary.accept()[0].close()
            except TimeoutError:
                return
            visits.append("came")

        listener = threading.Thread(target=listen)
        listener.start()
        port = canary.getsockname()[1]
        body = (
            f'<!DOCTYPE Delete [<!ENTITY x SYSTEM "http://127.0.0.1:{port}/x">]>'
            "<Delete><Object><Key>&x;</Key></Object></Delete>"
        ).encode()
        answer = world.ask(delete(world, body))
        listener.join()

    assert (answer.status, answer.code) == (400, "MalformedXML")
    assert visits == []


def test_a_batch_with_a_wrong_digest_deletes_nothing(world: World) -> None:
    for key in ("batch/1", "batch/2"):
        assert world.ask(world.signed("PUT", key, body=b"x")).status == 200
    body = (
        b"<Delete><Object><Key>batch/1</Key></Object><Object><Key>batch/2</Key></Object></Delete>"
    )
    answer = world.ask(world.signed("POST", None, md5_header(b"other"), query="delete=", body=body))

    assert answer.code == "BadDigest"
    assert world.read("batch/1").status == 200
    assert world.read("batch/2").status == 200
