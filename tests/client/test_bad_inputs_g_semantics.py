"""Bad inputs G: part numbers, copy sources, digests, conditions, what is not implemented."""

from __future__ import annotations

import base64
import threading
from typing import TYPE_CHECKING

import pytest

from tests.client.bad_inputs import Row, World, check_row, row_id

if TYPE_CHECKING:
    from tests.client.raw import Header, RawRequest
    from tests.client.wire import Answer

pytestmark = [pytest.mark.client]


def part(world: World, number: str, *headers: Header, body: bytes = b"x") -> RawRequest:
    """A part of Alice's upload."""
    return world.signed(
        "PUT",
        "upload",
        *headers,
        query=f"partNumber={number}&uploadId={world.upload_id}",
        body=body,
    )


def copied(world: World, source: str, *headers: Header) -> RawRequest:
    """A copy to a key that does not exist yet."""
    return world.signed("PUT", "copied", ("x-amz-copy-source", source), *headers)


def copied_part(world: World, span: str) -> RawRequest:
    """A part of Alice's upload, copied from a range of the object that stays (9 bytes)."""
    return part(
        world,
        "1",
        ("x-amz-copy-source", f"/{world.bucket}/kept"),
        ("x-amz-copy-source-range", span),
        body=b"",
    )


def put(world: World, *headers: Header, key: str = "refused") -> RawRequest:
    """A PUT with more headers."""
    return world.signed("PUT", key, *headers, body=b"body")


ROWS = [
    *[
        Row(
            number="G82",
            title=f"part number {number!r}",
            build=lambda world, number=number: part(world, number),  # type: ignore[misc]
            status=400,
            code="InvalidArgument",
        )
        for number in ("0", "10001", "-1", "abc", "1.0", str(2**63), "", "%31%30%30%30%31", "%2B1")
    ],
    *[
        Row(
            number="G82",
            title=f"max-keys {text!r}",
            build=lambda world, text=text: world.signed(  # type: ignore[misc]
                "GET", None, query=f"max-keys={text}"
            ),
            status=400,
            code="InvalidArgument",
        )
        for text in ("-1", "abc", "1.5", str(2**64))
    ],
    *[
        Row(
            number="G83",
            title=f"listing with {what}",
            build=lambda world, query=query: world.signed("GET", None, query=query),  # type: ignore[misc]
            status=status,
            code=("InvalidArgument", "InvalidURI", "KeyTooLongError"),
        )
        for what, query, status in (
            ("an unknown encoding", "encoding-type=base64", 400),
            ("a forged token", "list-type=2&continuation-token=forged", 400),
            ("an empty token", "list-type=2&continuation-token=", (200, 400)),
            ("a long delimiter", f"delimiter={'x' * 2000}", (200, 400)),
            ("a prefix that is no UTF-8", "prefix=%FF", 400),
            ("list-type 3", "list-type=3", 400),
            ("a prefix with NUL", "prefix=%00", (200, 400)),
        )
    ],
    *[
        Row(
            number="G85",
            title=f"copy source {source!r}",
            build=lambda world, source=source: copied(world, source),  # type: ignore[misc]
            status=400,
            code="InvalidArgument",
            invisible="copied",
        )
        for source in (
            "",
            "   ",
            "/",
            "//",
            "bucket-only",
            "/bucket/",
            "/b/%ZZ",
            "/b/%FF",
            "?versionId=1",
        )
    ],
    Row(
        number="G85",
        title="copy source with dots stays in its bucket",
        build=lambda world: copied(world, f"/{world.bucket}/../{world.bob_bucket}/kept"),
        status=404,
        code="NoSuchKey",
        invisible="copied",
    ),
    Row(
        number="G86",
        title="copy onto itself without change",
        build=lambda world: world.signed(
            "PUT", "kept", ("x-amz-copy-source", f"/{world.bucket}/kept")
        ),
        status=400,
        code="InvalidRequest",
    ),
    *[
        Row(
            number="G86",
            title=f"copy range {span!r}",
            build=lambda world, span=span: copied_part(world, span),  # type: ignore[misc]
            status=400,
            code="InvalidArgument",
        )
        for span in ("0-5", "bytes=5-0", "bytes=-5", "bytes=a-b", "bytes=0-1,3-4", "", "bytes=0-")
    ],
    Row(
        number="G86",
        title="copy range out of bounds",
        build=lambda world: copied_part(world, "bytes=0-9"),
        status=(400, 416),
        code=("InvalidRange", "InvalidArgument"),
    ),
    *[
        Row(
            number="G87",
            title=f"Content-MD5 {text!r}",
            build=lambda world, text=text: put(world, ("content-md5", text)),  # type: ignore[misc]
            status=400,
            code="InvalidDigest",
            invisible="refused",
        )
        for text in ("", "abc", "====", base64.b64encode(b"short").decode(), "x" * 500)
    ],
    Row(
        number="G87",
        title="Content-MD5 of another body",
        build=lambda world: put(world, ("content-md5", base64.b64encode(bytes(16)).decode())),
        status=400,
        code="BadDigest",
        invisible="refused",
    ),
    *[
        Row(
            number="G87",
            title=f"{name} {value!r}",
            build=lambda world, name=name, value=value: put(world, (name, value)),  # type: ignore[misc]
            status=400,
            code=("InvalidRequest", "InvalidArgument", "BadDigest"),
            invisible="refused",
        )
        for name, value in (
            ("x-amz-checksum-crc32", "AAAAAA=="),
            ("x-amz-checksum-crc32", "not base64"),
            ("x-amz-checksum-sha256", "AAAA"),
            ("x-amz-checksum-md4", "AAAA"),
        )
    ],
    Row(
        number="G88",
        title="If-Match of another ETag",
        build=lambda world: put(world, ("if-match", '"other"'), key="kept"),
        status=412,
        code="PreconditionFailed",
    ),
    Row(
        number="G88",
        title="a condition without a signature is not judged",
        build=lambda world: world.request("PUT", "kept", ("if-none-match", "*"), body=b"x"),
        status=403,
        code="AccessDenied",
    ),
    *[
        Row(
            number="G90",
            title=name,
            build=lambda world, name=name, value=value: put(world, (name, value)),  # type: ignore[misc]
            status=501,
            code="NotImplemented",
            invisible="refused",
        )
        for name, value in {
            "x-amz-server-side-encryption": "AES256",
            "x-amz-server-side-encryption-aws-kms-key-id": "key",
            "x-amz-server-side-encryption-customer-algorithm": "AES256",
            "x-amz-object-lock-mode": "GOVERNANCE",
            "x-amz-object-lock-legal-hold": "ON",
            "x-amz-grant-read": 'uri="http://acs.amazonaws.com/groups/global/AllUsers"',
            "x-amz-acl": "public-read",
            "x-amz-storage-class": "GLACIER",
        }.items()
    ],
    *[
        Row(
            number="G90",
            title=f"{method} ?{query}",
            build=lambda world, method=method, key=key, query=query: world.signed(  # type: ignore[misc]
                method, key, query=query, body=b"<x/>" if method != "GET" else b""
            ),
            status=(501, 405),
            code=("NotImplemented", "MethodNotAllowed"),
        )
        for method, key, query in (
            *(("PUT", None, f"{name}=") for name in ("policy", "lifecycle", "cors", "tagging")),
            *(("PUT", None, f"{name}=") for name in ("encryption", "object-lock", "replication")),
            *(("PUT", None, f"{name}=") for name in ("website", "notification", "logging")),
            ("POST", "kept", "restore="),
            ("POST", "kept", "select=&select-type=2"),
            ("PUT", "kept", "retention="),
            ("PUT", "kept", "legal-hold="),
            ("GET", "kept", "torrent="),
        )
    ],
    *[
        Row(
            number="G",
            title=f"range {text!r} is ignored",
            build=lambda world, text=text: world.signed("GET", "kept", ("range", text)),  # type: ignore[misc]
            status=200,
        )
        for text in ("bytes=5-1", "lines=0-1", "bytes=a-", "bytes=0-1,3-4", "nonsense", "bytes=-")
    ],
    *[
        Row(
            number="G",
            title=f"range {text!r} is not satisfiable",
            build=lambda world, text=text: world.signed("GET", "kept", ("range", text)),  # type: ignore[misc]
            status=416,
            code="InvalidRange",
        )
        for text in ("bytes=9-", "bytes=99999999999999999999-", "bytes=-0")
    ],
    Row(
        number="G",
        title="an unknown version",
        build=lambda world: world.signed("GET", "kept", query="versionId=unheard-of"),
        status=(400, 404),
        code=("NoSuchVersion", "InvalidArgument"),
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=[f"{n:02} {row_id(r)}" for n, r in enumerate(ROWS)])
def test_a_bad_value_is_refused(world: World, row: Row) -> None:
    check_row(world, row)


@pytest.mark.parametrize("text", ["line%0Abreak", "caf%C3%A9", "unheard-of"])
def test_a_delete_of_what_is_no_version_id_is_no_error_and_does_not_echo_it(
    world: World, text: str
) -> None:
    answer = world.ask(world.signed("DELETE", "kept", query=f"versionId={text}"))

    assert answer.status == 204
    assert answer.find("x-amz-version-id") is None


@pytest.mark.slow
def test_of_a_hundred_racing_creations_exactly_one_wins(world: World) -> None:
    answers: list[Answer] = []

    def create(number: int) -> None:
        request = world.signed(
            "PUT", "created-once", ("if-none-match", "*"), body=b"by %d" % number
        )
        answers.append(world.ask(request, deadline_s=30))

    threads = [threading.Thread(target=create, args=(number,)) for number in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    statuses = sorted(answer.status for answer in answers)
    assert statuses[0] == 200
    assert statuses.count(200) == 1
    assert set(statuses[1:]) <= {409, 412}
