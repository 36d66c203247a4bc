"""Bad inputs E: HTTP framing, sizes, methods, encodings."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.client.bad_inputs import Row, World, check_row, row_id
from tests.client.raw import RawRequest, Signing, sign

if TYPE_CHECKING:
    from tests.client.raw import Header

pytestmark = [pytest.mark.client]

GIB = 1024**3


def framed(world: World, *headers: Header, body: bytes = b"", method: str = "PUT") -> RawRequest:
    """A well-signed request with framing headers of the row's own, which nobody signs."""
    names = frozenset({name.lower() for name, _ in headers})
    signing = Signing(payload="UNSIGNED-PAYLOAD", unsigned=names)
    return replace(world.signed(method, "framed", *headers, signing=signing), body=body)


def head_only(world: World, length: int, method: str = "PUT", key: str = "framed") -> bytes:
    """A well-signed head that announces a body of a length, and no body."""
    request = world.signed(method, key, signing=Signing(payload="UNSIGNED-PAYLOAD"))
    return request.adding(("content-length", str(length))).encode()


def smuggle(world: World, *framing: Header, body: bytes) -> bytes:
    """A request that two parsers would end at different places, with a PUT hidden behind."""
    hidden = world.signed("PUT", "smuggled", body=b"got in").encode()
    return framed(world, *framing, body=body + hidden).encode()


def raw(world: World, line: str, *headers: str) -> bytes:
    """Any request line and header lines."""
    lines = [line, f"host: {world.host[1]}", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def padded(world: World, count: int, length: int) -> RawRequest:
    """A well-signed request with that many headers of that many bytes added."""
    headers = tuple((f"x-pad-{number}", "v" * length) for number in range(count))
    return world.signed("GET", "kept", *headers)


def raw_path(world: World, path: str, query: str = "") -> RawRequest:
    """A well-signed request for a path as it stands."""
    request = replace(world.request("GET", None), path=f"/{world.bucket}/{path}", query=query)
    return sign(request, world.alice.credentials)


def misdirected(world: World) -> RawRequest:
    """A request signed for the host that a proxy claims, which no proxy is trusted to do."""
    elsewhere = ("host", "elsewhere.example")
    request = replace(world.request(), headers=(elsewhere,))
    made = sign(request, world.alice.credentials).without("host")
    return made.adding(world.host, ("x-forwarded-host", elsewhere[1]))


ROWS = [
    *[
        Row(
            number="E58",
            title=f"smuggling by {what}",
            build=lambda world, framing=framing, body=body: smuggle(  # type: ignore[misc]
                world, *framing, body=body
            ),
            status=(400, 501),
            invisible="smuggled",
        )
        for what, framing, body in (
            (
                "length and chunked",
                (("content-length", "5"), ("transfer-encoding", "chunked")),
                b"0\r\n\r\n",
            ),
            (
                "chunked and length",
                (("transfer-encoding", "chunked"), ("content-length", "5")),
                b"0\r\n\r\n",
            ),
            ("two lengths", (("content-length", "0"), ("content-length", "5")), b""),
            ("a list of lengths", (("content-length", "0, 5"),), b""),
            ("a signed length", (("content-length", "+0"),), b""),
            ("a length in hexadecimal", (("content-length", "0x0"),), b""),
            ("a negative length", (("content-length", "-1"),), b""),
            ("chunked twice", (("transfer-encoding", "chunked, chunked"),), b"0\r\n\r\n"),
            ("xchunked", (("transfer-encoding", "xchunked"),), b"0\r\n\r\n"),
            ("gzip, chunked", (("transfer-encoding", "gzip, chunked"),), b"0\r\n\r\n"),
            ("chunked, identity", (("transfer-encoding", "chunked, identity"),), b"0\r\n\r\n"),
        )
    ],
    *[
        Row(
            number="E59",
            title=f"chunk with {what}",
            build=lambda world, body=body: framed(  # type: ignore[misc]
                world,
                ("transfer-encoding", "chunked"),
                ("x-amz-decoded-content-length", "5"),
                body=body,
            ),
            status=(400, 403, 411, 501),
            invisible="framed",
        )
        for what, body in {
            "garbage behind the data": b"5\r\nhelloXX0\r\n\r\n",
            "LF in an extension": b"5;a\nb\r\nhello\r\n0\r\n\r\n",
            "a negative size": b"-5\r\nhello\r\n0\r\n\r\n",
            "a size of 17 digits": b"10000000000000000\r\nhello\r\n0\r\n\r\n",
            "bare LF": b"5\nhello\n0\n\n",
        }.items()
    ],
    Row(
        number="E60",
        title="header section above 8 KiB",
        build=lambda world: padded(world, 9, 950),
        status=400,
        code="RequestHeaderSectionTooLarge",
    ),
    Row(
        number="E60",
        title="one header of 40 kB",
        build=lambda world: padded(world, 1, 40_000),
        status=400,
        code="RequestHeaderSectionTooLarge",
    ),
    Row(
        number="E60",
        title="more than a hundred headers",
        build=lambda world: padded(world, 100, 1),
        status=400,
        code="RequestHeaderSectionTooLarge",
    ),
    Row(number="E60", title="fifty headers", build=lambda world: padded(world, 50, 20), status=200),
    Row(
        number="E61",
        title="target of 9 KiB",
        build=lambda world: raw_path(world, "kept", "prefix=" + "x" * 9216),
        status=(400, 414),
        code=("InvalidURI", ""),
    ),
    Row(
        number="E62",
        title="key of 1,024 bytes",
        build=lambda world: world.signed("PUT", "k" * 1024, body=b"x"),
        status=200,
    ),
    Row(
        number="E62",
        title="key of 1,025 bytes",
        build=lambda world: world.signed("PUT", "k" * 1025, body=b"x"),
        status=400,
        code="KeyTooLongError",
    ),
    Row(
        number="E62",
        title="key of 600 two-byte letters",
        build=lambda world: world.signed("PUT", "ü" * 600, body=b"x"),
        status=400,
        code="KeyTooLongError",
    ),
    Row(
        number="E62",
        title="metadata above 2,048 bytes",
        build=lambda world: world.signed("PUT", "meta", ("x-amz-meta-a", "v" * 2048), body=b"x"),
        status=400,
        code="MetadataTooLarge",
        invisible="meta",
    ),
    Row(
        number="E62",
        title="metadata above 2,048 bytes in many headers",
        build=lambda world: world.signed(
            "PUT", "meta", *((f"x-amz-meta-{n:02}", "v" * 70) for n in range(30)), body=b"x"
        ),
        status=400,
        code="MetadataTooLarge",
        invisible="meta",
    ),
    *[
        Row(
            number="E63",
            title=f"path {path}",
            build=lambda world, path=path: raw_path(world, path),  # type: ignore[misc]
            status=400,
            code="InvalidURI",
        )
        for path in ("%ZZ", "a%", "a%2", "%FF", "a%00b", "%C0%AF", "%ED%A0%80")
    ],
    *[
        Row(
            number="E64",
            title=f"method {method}",
            build=lambda world, method=method: raw(world, f"{method} /{world.bucket} HTTP/1.1"),  # type: ignore[misc]
            status=(400, 405, 501),
        )
        for method in ("FOO", "TRACE", "CONNECT", "PATCH", "get", "PROPFIND")
    ],
    Row(
        number="E64",
        title="a preflight without CORS",
        build=lambda world: raw(world, f"OPTIONS /{world.bucket}/kept HTTP/1.1"),
        status=(403, 405, 501),
    ),
    *[
        Row(
            number="E64",
            title=what,
            build=lambda world, line=line: raw(world, line.replace("BUCKET", world.bucket)),  # type: ignore[misc]
            status=(0, 400, 403, 405, 505),
        )
        for what, line in {
            "HTTP/2 preface": "PRI * HTTP/2.0\r\n\r\nSM",
            "absolute form": "GET http://elsewhere.example/BUCKET HTTP/1.1",
            "authority form": "GET elsewhere.example:80 HTTP/1.1",
            "asterisk form": "GET * HTTP/1.1",
            "no version": "GET /BUCKET",
            "version 0.9": "GET /BUCKET HTTP/0.9",
            "version 3.7": "GET /BUCKET HTTP/3.7",
            "space in the target": "GET /BUC KET HTTP/1.1",
            "garbage": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        }.items()
    ],
    *[
        Row(
            number="E64",
            title=f"header line {what}",
            build=lambda world, line=line: raw(world, f"GET /{world.bucket} HTTP/1.1", line),  # type: ignore[misc]
            status=400,
        )
        for what, line in {
            "with white space before the colon": "x-a : b",
            "folded over two lines": "x-a: b\r\n c",
            "without a colon": "x-a",
            "with a bare LF": "x-a: b\nx-c: d",
            "with a bare CR": "x-a: b\rc",
            "with NUL": "x-a: b\x00c",
            "without a name": ": b",
            "with a second host": "host: elsewhere.example",
        }.items()
    ],
    Row(
        number="E64",
        title="no host",
        build=lambda world: f"GET /{world.bucket} HTTP/1.1\r\n\r\n".encode(),
        status=400,
    ),
    Row(
        number="E64",
        title="upgrade to h2c",
        build=lambda world: world.signed(
            "GET",
            "kept",
            ("connection", "Upgrade, HTTP2-Settings"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABkAAQCAAAAAAIAAAAA"),
            signing=Signing(unsigned=frozenset({"connection", "upgrade", "http2-settings"})),
        ),
        status=(200, 400),
    ),
    Row(
        number="E65",
        title="PUT without length",
        build=lambda world: (
            world.signed("PUT", "framed").encode().replace(b"content-length: 0\r\n", b"")
        ),
        status=411,
        code="MissingContentLength",
        invisible="framed",
    ),
    Row(
        number="E65",
        title="PUT of 5 GiB and one byte",
        build=lambda world: head_only(world, 5 * GIB + 1),
        status=400,
        code="EntityTooLarge",
        invisible="framed",
    ),
    Row(
        number="E65",
        title="PUT of 10^30 bytes",
        build=lambda world: head_only(world, 10**30),
        status=400,
        invisible="framed",
    ),
    Row(
        number="E70",
        title="100 bytes announced, 50 sent, closed",
        build=lambda world: head_only(world, 100) + b"x" * 50,
        status=(0, 400),
        code="IncompleteBody",
        invisible="framed",
        half_close=True,
    ),
    *[
        Row(
            number="E71",
            title=f"response-{name} with CR LF",
            build=lambda world, name=name: raw_path(  # type: ignore[misc]
                world, "kept", f"response-{name}=a%0D%0Ax-evil:%201"
            ),
            status=400,
            code="InvalidArgument",
        )
        for name in (
            "content-type",
            "content-disposition",
            "content-language",
            "cache-control",
            "content-encoding",
            "expires",
        )
    ],
    Row(
        number="E72",
        title="CORS configuration with a newline",
        build=lambda world: world.signed(
            "PUT",
            None,
            query="cors=",
            body=b"<CORSConfiguration><CORSRule><AllowedMethod>GET</AllowedMethod><AllowedOrigin>"
            b"a&#13;&#10;x-evil: 1</AllowedOrigin></CORSRule></CORSConfiguration>",
        ),
        status=(400, 501),
    ),
    Row(
        number="E73",
        title="X-Forwarded headers change nothing",
        build=lambda world: world.signed(
            "GET",
            "kept",
            ("x-forwarded-for", "10.1.2.3"),
            ("x-forwarded-host", "elsewhere.example"),
            ("x-forwarded-proto", "https"),
        ),
        status=200,
    ),
    Row(
        number="E73",
        title="signed for X-Forwarded-Host",
        build=misdirected,
        status=403,
        code="SignatureDoesNotMatch",
    ),
    *[
        Row(
            number="E74",
            title=f"{method} with a body of 1 GiB",
            build=lambda world, method=method: (  # type: ignore[misc]
                head_only(world, GIB, method, "kept" if method != "DELETE" else "framed")
                + b"x" * 65_536
            ),
            status=(200, 204, 400),
        )
        for method in ("HEAD", "DELETE", "GET")
    ],
]


@pytest.mark.parametrize("row", ROWS, ids=[f"{n:02} {row_id(r)}" for n, r in enumerate(ROWS)])
def test_bad_http_is_refused(world: World, row: Row) -> None:
    answer = check_row(world, row)

    assert answer.find("x-evil") is None
    assert answer.find("x-c") is None
