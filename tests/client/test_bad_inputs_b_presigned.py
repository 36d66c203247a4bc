"""Bad inputs B: presigned URLs."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tests.client.bad_inputs import Row, World, check_row, row_id
from tests.client.raw import Header, RawRequest, Signing, presign

if TYPE_CHECKING:
    from tests.client.server import TenantAccess

pytestmark = [pytest.mark.client]

QUERY_ERROR = "AuthorizationQueryParametersError"


def presigned(
    world: World,
    method: str = "GET",
    key: str = "kept",
    *headers: Header,
    expires: str = "300",
    offset: timedelta = timedelta(0),
    unsigned: frozenset[str] = frozenset(),
    body: bytes = b"",
    who: TenantAccess | None = None,
    bucket: str | None = None,
) -> RawRequest:
    """A request with its signature in the query."""
    return presign(
        world.request(method, key, *headers, body=body, bucket=bucket),
        (who or world.alice).credentials,
        Signing(now=datetime.now(tz=UTC) + offset, unsigned=unsigned),
        expires=expires,
    )


def doubled(world: World, name: str) -> RawRequest:
    """A presigned request in which one parameter stands twice."""
    request = presigned(world)
    found = re.search(rf"{name}=[^&]*", request.query)
    assert found is not None
    return replace(request, query=f"{request.query}&{found.group()}")


def without(world: World, name: str) -> RawRequest:
    """A presigned request that lacks one parameter."""
    request = presigned(world)
    return replace(request, query=re.sub(rf"&?{name}=[^&]*", "", request.query))


def as_method(request: RawRequest, method: str) -> RawRequest:
    """The same URL used with another method."""
    return replace(request, method=method)


def with_host(request: RawRequest, host: str) -> RawRequest:
    """The same URL sent to another host name."""
    return replace(request, headers=(("host", host),))


def unsigned_header(world: World, name: str, value: str) -> RawRequest:
    """A presigned PUT to which somebody added a header."""
    request = presigned(world, "PUT", "added", body=b"x")
    return request.adding((name, value))


ROWS = [
    Row(number="B", title="honest", build=presigned, status=200),
    *[
        Row(
            number="B26",
            title=f"X-Amz-Expires {expires}",
            build=lambda world, expires=expires: presigned(world, expires=expires),  # type: ignore[misc]
            status=400,
            code=QUERY_ERROR,
        )
        for expires in ("0", "-1", "604801", "abc", "1e3", "", "\uff19", "99999999999999999999")
    ],
    *[
        Row(
            number="B27",
            title=f"{name} twice",
            build=lambda world, name=name: doubled(world, name),  # type: ignore[misc]
            status=400,
            code=QUERY_ERROR,
        )
        for name in ("X-Amz-Signature", "X-Amz-Credential", "X-Amz-Expires", "X-Amz-Date")
    ],
    *[
        Row(
            number="B27",
            title=f"without {name}",
            build=lambda world, name=name: without(world, name),  # type: ignore[misc]
            status=400,
            code=QUERY_ERROR,
        )
        for name in (
            "X-Amz-Signature",
            "X-Amz-Credential",
            "X-Amz-Expires",
            "X-Amz-Date",
            "X-Amz-SignedHeaders",
        )
    ],
    Row(
        number="B28",
        title="expired by a second",
        build=lambda world: presigned(world, expires="60", offset=timedelta(seconds=-62)),
        status=403,
        code="AccessDenied",
    ),
    Row(
        number="B29",
        title="dated 16 minutes ahead",
        build=lambda world: presigned(world, offset=timedelta(minutes=16)),
        status=403,
        code="AccessDenied",
    ),
    Row(
        number="B29",
        title="six days old and valid for seven",
        build=lambda world: presigned(world, expires="604800", offset=timedelta(days=-6)),
        status=200,
    ),
    *[
        Row(
            number="B30",
            title=f"a GET used as {method}",
            build=lambda world, method=method: as_method(presigned(world), method),  # type: ignore[misc]
            status=403,
            code="SignatureDoesNotMatch",
        )
        for method in ("PUT", "DELETE", "POST", "HEAD")
    ],
    *[
        Row(
            number="B31",
            title=f"sent to {host}",
            build=lambda world, host=host: with_host(presigned(world), host),  # type: ignore[misc]
            status=403,
            code="SignatureDoesNotMatch",
        )
        for host in ("127.0.0.1:1", "localhost", "elsewhere.example")
    ],
    Row(
        number="B31",
        title="used on another key",
        build=lambda world: replace(presigned(world), path=f"/{world.bucket}/other"),
        status=403,
        code="SignatureDoesNotMatch",
    ),
    *[
        Row(
            number="B33",
            title=f"added copy source: {what}",
            build=lambda world, source=source: unsigned_header(  # type: ignore[misc]
                world,
                "x-amz-copy-source",
                source.replace("BOBS", world.bob_bucket).replace("OWN", world.bucket),
            ),
            status=403,
            code="AccessDenied",
            invisible="added",
        )
        for what, source in {
            "same bucket": "/OWN/kept",
            "other bucket": "other-bucket/kept",
            "other tenant": "/BOBS/kept",
        }.items()
    ],
    *[
        Row(
            number="B34",
            title=f"added {name}",
            build=lambda world, name=name, value=value: unsigned_header(  # type: ignore[misc]
                world, name, value
            ),
            status=403,
            code="AccessDenied",
            invisible="added",
        )
        for name, value in {
            "x-amz-tagging": "a=b",
            "x-amz-acl": "public-read",
            "x-amz-meta-added": "1",
            "x-amz-storage-class": "GLACIER",
            "x-amz-object-lock-mode": "GOVERNANCE",
            "x-amz-object-lock-legal-hold": "ON",
            "x-amz-server-side-encryption": "AES256",
        }.items()
    ],
    Row(
        number="B",
        title="presigned and Authorization header at once",
        build=lambda world: presigned(world).adding(
            ("authorization", "AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=0")
        ),
        status=400,
        code=("InvalidArgument", QUERY_ERROR, "AuthorizationHeaderMalformed"),
    ),
    Row(
        number="B",
        title="Signature Version 2 in the query",
        build=lambda world: replace(
            world.request(),
            query="AWSAccessKeyId=AKIAEXAMPLE&Expires=4102444800&Signature=c2lnbmF0dXJl",
        ),
        status=400,
        code="InvalidRequest",
    ),
    Row(
        number="B",
        title="a credential that would forge a log line",
        build=lambda world: replace(
            presigned(world),
            query=re.sub(
                "X-Amz-Credential=[^%]*",
                "X-Amz-Credential=A%0D%0Aforged-log-line",
                presigned(world).query,
            ),
        ),
        status=(400, 403),
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=[f"{n:02} {row_id(r)}" for n, r in enumerate(ROWS)])
def test_a_bad_presigned_url_is_refused(world: World, row: Row) -> None:
    check_row(world, row)


def test_an_expired_url_says_that_it_expired(world: World) -> None:
    answer = world.ask(presigned(world, expires="60", offset=timedelta(seconds=-90)))

    assert b"Request has expired" in answer.body


def test_no_log_line_is_forged(world: World) -> None:
    check_row(world, ROWS[-1])

    lines = world.server.log_text().splitlines()
    assert not [line for line in lines if line.startswith("forged-log-line")]


def test_a_url_of_a_revoked_key_is_refused(world: World) -> None:
    key = world.server.create_key(world.alice.name)
    request = presigned(world, who=key)
    assert world.ask(request).status == 200
    world.server.command("key", "delete", key.access_key_id, "--yes")

    answer = world.ask(request)
    assert (answer.status, answer.code) == (403, "InvalidAccessKeyId"), str(answer)
