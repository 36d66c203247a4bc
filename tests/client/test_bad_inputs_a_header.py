"""Bad inputs A: Signature Version 4 in the Authorization header."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials

from tests.client.bad_inputs import Row, World, check_row, row_id
from tests.client.raw import Credentials, RawRequest, Signing, sign
from tests.client.wire import exchange

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.client]


def authorized(world: World, text: str) -> RawRequest:
    """A request with this Authorization header and a date."""
    stamp = datetime.now(tz=UTC).strftime("%Y%m%dT%H%M%SZ")
    return world.request(
        "GET",
        "kept",
        ("x-amz-date", stamp),
        ("x-amz-content-sha256", "UNSIGNED-PAYLOAD"),
        ("authorization", text),
    )


def edited(world: World, pattern: str, replacement: str) -> RawRequest:
    """A well-signed request whose Authorization header is edited afterwards."""
    request = world.signed()
    value = request.value("authorization")
    changed = re.sub(pattern, replacement, value)
    assert changed != value
    return request.without("authorization").adding(("authorization", changed))


def with_key_id(world: World, key_id: str) -> RawRequest:
    """A request signed for an access key id that does not exist."""
    credentials = Credentials(access_key_id=key_id, secret_access_key="x" * 40)
    return sign(world.request(), credentials)


def at(offset: timedelta) -> Signing:
    """A signature of another time."""
    return Signing(now=datetime.now(tz=UTC) + offset)


def with_unsigned(world: World, name: str, value: str, method: str = "PUT") -> RawRequest:
    """A request with one header that the signature does not cover."""
    key = "unsigned-header"
    return world.signed(
        method, key, (name, value), body=b"x", signing=Signing(unsigned=frozenset({name}))
    )


MALFORMED = "AuthorizationHeaderMalformed"

ROWS = [
    Row(
        number="A1",
        title="no Authorization on a private bucket",
        build=lambda world: world.request(),
        status=403,
        code="AccessDenied",
    ),
    Row(
        number="A1",
        title="no Authorization on a PUT",
        build=lambda world: world.request("PUT", "anonymous", body=b"x"),
        status=403,
        code="AccessDenied",
        invisible="anonymous",
    ),
    Row(
        number="A2",
        title="empty Authorization",
        build=lambda world: authorized(world, ""),
        status=403,
        code="AccessDenied",
    ),
    Row(
        number="A3",
        title="algorithm alone",
        build=lambda world: authorized(world, "AWS4-HMAC-SHA256"),
        status=400,
        code=MALFORMED,
    ),
    Row(
        number="A3",
        title="no Credential",
        build=lambda world: edited(world, r"Credential=[^,]*, ", ""),
        status=400,
        code=MALFORMED,
    ),
    Row(
        number="A3",
        title="no SignedHeaders",
        build=lambda world: edited(world, r"SignedHeaders=[^,]*, ", ""),
        status=400,
        code=MALFORMED,
    ),
    Row(
        number="A3",
        title="no Signature",
        build=lambda world: edited(world, r", Signature=.*", ""),
        status=400,
        code=MALFORMED,
    ),
    Row(
        number="A3",
        title="credential without scope",
        build=lambda world: edited(world, r"Credential=([^/]*)/[^,]*", r"Credential=\1"),
        status=400,
        code=MALFORMED,
    ),
    *[
        Row(
            number="A4",
            title=f"authorization {text.split()[0]}",
            build=lambda world, text=text: authorized(world, text),  # type: ignore[misc]
            status=400,
            code="InvalidArgument",
        )
        for text in (
            "AWS4-HMAC-SHA512 Credential=a/b/c/d/e, SignedHeaders=host, Signature=0",
            "Basic YWxhZGRpbjpvcGVuc2VzYW1l",
            "Bearer eyJhbGciOiJub25lIn0.e30.",
            "AWS4-ECDSA-P256-SHA256 Credential=a/b/s3/aws4_request",
        )
    ],
    Row(
        number="A5",
        title="Signature Version 2",
        build=lambda world: authorized(world, "AWS AKIAEXAMPLE:c2lnbmF0dXJl"),
        status=400,
        code="InvalidRequest",
    ),
    Row(
        number="A6",
        title="unknown access key",
        build=lambda world: with_key_id(world, "AKIAUNKNOWNUNKNOWN12"),
        status=403,
        code="InvalidAccessKeyId",
    ),
    Row(
        number="A7",
        title="wrong secret",
        build=lambda world: sign(
            world.request(),
            replace(world.alice.credentials, secret_access_key="wrong" * 8),
        ),
        status=403,
        code="SignatureDoesNotMatch",
    ),
    Row(
        number="A7",
        title="one digit of the signature",
        build=lambda world: world.signed(signing=Signing(spoiled=True)),
        status=403,
        code="SignatureDoesNotMatch",
    ),
    *[
        Row(
            number="A8",
            title=f"access key id with {what}",
            build=lambda world, key_id=key_id: with_key_id(world, key_id),  # type: ignore[misc]
            status=(400, 403),
        )
        for what, key_id in {
            "NUL": "AKIA\x00BAD",
            "bare CR": "AKIA\rlevel=error forged",
            "CR LF": "AKIA\r\nx-forged: 1",
            "quotes": "AKIA\"' OR 1=1 --",
            "4 kB": "A" * 4096,
            "non-ASCII": "AKIAÄÖÜ",
            "a slash": "AK/IA",
            "nothing": "",
        }.items()
    ],
    Row(
        number="A9",
        title="scope of yesterday",
        build=lambda world: world.signed(
            signing=Signing(day=(datetime.now(tz=UTC) - timedelta(days=1)).strftime("%Y%m%d"))
        ),
        status=400,
        code=MALFORMED,
    ),
    Row(
        number="A10",
        title="wrong region",
        build=lambda world: world.signed(signing=Signing(region="eu-north-7")),
        status=400,
        code=MALFORMED,
    ),
    *[
        Row(
            number="A11",
            title=f"service {service!r}",
            build=lambda world, service=service: world.signed(  # type: ignore[misc]
                signing=Signing(service=service)
            ),
            status=400,
            code=MALFORMED,
        )
        for service in ("sts", "s3tables", "", "S3")
    ],
    Row(
        number="A12",
        title="another terminator",
        build=lambda world: world.signed(signing=Signing(terminator="aws5_request")),
        status=400,
        code=MALFORMED,
    ),
    Row(
        number="A13",
        title="host not signed",
        build=lambda world: world.signed(signing=Signing(unsigned=frozenset({"host"}))),
        status=403,
        code="AccessDenied",
    ),
    *[
        Row(
            number="A14",
            title=f"{name} not signed",
            build=lambda world, name=name, value=value: with_unsigned(  # type: ignore[misc]
                world, name, value.replace("BUCKET", world.bucket)
            ),
            status=403,
            code="AccessDenied",
            invisible="unsigned-header",
        )
        for name, value in {
            "x-amz-copy-source": "/BUCKET/kept",
            "x-amz-acl": "public-read",
            "x-amz-tagging": "a=b",
            "x-amz-meta-a": "b",
            "x-amz-storage-class": "STANDARD",
            "x-amz-checksum-crc32": "AAAAAA==",
            "x-amz-unheard-of": "1",
        }.items()
    ],
    Row(
        number="A15",
        title="no date at all",
        build=lambda world: world.signed(signing=Signing(date_text="")),
        status=403,
        code="AccessDenied",
    ),
    *[
        Row(
            number="A16",
            title=f"signed {offset} from now",
            build=lambda world, offset=offset: world.signed(signing=at(offset)),  # type: ignore[misc]
            status=403,
            code="RequestTimeTooSkewed",
        )
        for offset in (
            timedelta(minutes=-15, seconds=-5),
            timedelta(minutes=15, seconds=5),
            timedelta(days=-400),
        )
    ],
    Row(
        number="A16",
        title="signed almost 15 minutes ago",
        build=lambda world: world.signed(signing=at(timedelta(minutes=-14, seconds=-50))),
        status=200,
    ),
    *[
        Row(
            number="A17",
            title=f"x-amz-date {text}",
            build=lambda world, text=text: world.signed(  # type: ignore[misc]
                signing=Signing(date_text=text)
            ),
            status=403,
            code="AccessDenied",
        )
        for text in ("2026-11-20", "99999999T999999Z", "20261120T000000", "now")
    ],
    *[
        Row(
            number="A18",
            title=f"two {name} headers",
            build=lambda world, name=name: (  # type: ignore[misc]
                (request := world.signed()).adding((name, request.value(name)))
            ),
            status=400,
            code="InvalidArgument",
        )
        for name in ("authorization", "x-amz-date", "x-amz-content-sha256")
    ],
    Row(
        number="A19",
        title="no x-amz-content-sha256",
        build=lambda world: world.signed(signing=Signing(payload="")),
        status=400,
        code="InvalidRequest",
    ),
    Row(
        number="A19",
        title="nonsense as x-amz-content-sha256",
        build=lambda world: world.signed(signing=Signing(payload="nonsense")),
        status=400,
        code=("InvalidArgument", "InvalidRequest"),
    ),
    Row(
        number="A20",
        title="body differs from the signed hash",
        build=lambda world: replace(world.signed("PUT", "mismatch", body=b"one"), body=b"two"),
        status=400,
        code="XAmzContentSHA256Mismatch",
        invisible="mismatch",
    ),
    Row(
        number="A20",
        title="hash of a large body differs in its last byte",
        build=lambda world: replace(
            world.signed("PUT", "mismatch", body=b"1" * 5_000_000), body=b"1" * 4_999_999 + b"2"
        ),
        status=400,
        code="XAmzContentSHA256Mismatch",
        invisible="mismatch",
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=[f"{n:02} {row_id(r)}" for n, r in enumerate(ROWS)])
def test_a_bad_authorization_header_is_refused(world: World, row: Row) -> None:
    check_row(world, row)


def test_the_wrong_region_is_told_the_right_one(world: World) -> None:
    answer = world.ask(world.signed(signing=Signing(region="eu-north-7")))

    assert b"<Region>us-east-1</Region>" in answer.body


def test_a_replay_within_the_window_has_the_same_result(world: World) -> None:
    wire = world.signed("PUT", "replayed", body=b"same").encode()
    answers = [exchange(world.address, wire, method="PUT") for _ in range(2)]

    assert [answer.status for answer in answers] == [200, 200]
    assert world.read("replayed").body == b"same"


def corpus() -> Iterator[tuple[str, str, tuple[tuple[str, str], ...]]]:
    """Path, query and headers that canonicalisation gets wrong easily."""
    pieces = [
        *("a b", "a+b", "a%b", "a//b", "a/./b", "a/../b", "~-_.", "é", "e\u0301", "\U0001f600"),
        *(
            "a=b&c",
            "a;b",
            "a:b@c",
            "(x)'!*",
            "[]{}|\\^`",
            "%41",
            "%2F",
            "a?b#c",
            "\u00ff",
            "x" * 300,
        ),
    ]
    queries = [
        *("", "prefix=", "prefix", "prefix=a%20b", "prefix=a+b", "prefix=%C3%A9", "prefix=a/b"),
        *("list-type=2&prefix=z&delimiter=%2F", "max-keys=3&encoding-type=url", "prefix=%7E~"),
        "delimiter=/&prefix=b&max-keys=7&marker=x%26y",
    ]
    headers = [
        (),
        (("x-amz-meta-a", "  two   spaces  "),),
        (("x-amz-meta-tab", "a \t b"),),
        (("x-amz-meta-b", "1"), ("x-amz-meta-a", "2")),
        (("X-Amz-Meta-CASE", "Value"),),
        (("x-amz-meta-empty", ""),),
        (("cache-control", "no-cache,  max-age=0"), ("content-type", "text/plain; a=b")),
    ]
    for piece in pieces:
        for extra in headers:
            yield f"key/{piece}", "", tuple(extra)
    for query in queries:
        for extra in headers:
            yield "", query, tuple(extra)


def test_requests_signed_by_botocore_match_and_tampered_ones_do_not(world: World) -> None:
    boto = BotoCredentials(world.alice.access_key_id, world.alice.secret_access_key)
    count = 0
    for key, query, extra in corpus():
        path = f"/{world.bucket}" + (f"/{quote(key, safe='/~-_.')}" if key else "")
        host = world.host[1]
        url = f"http://{host}{path}" + (f"?{query}" if query else "")
        method = "PUT" if key else "GET"
        made = AWSRequest(method, url, headers=dict(extra), data=b"")
        S3SigV4Auth(boto, "s3", "us-east-1").add_auth(made)
        request = RawRequest(
            method=method,
            path=path,
            query=query,
            headers=(world.host, *((name, str(value)) for name, value in made.headers.items())),
        )
        answer = world.ask(request)
        assert answer.status == 200, f"{request}: {answer}"
        tampered = replace(
            request, path=request.path + "x", query=request.query and request.query + "x"
        )
        answer = world.ask(tampered)
        assert (answer.status, answer.code) == (403, "SignatureDoesNotMatch"), f"{tampered}"
        count += 1
    assert count >= 200
