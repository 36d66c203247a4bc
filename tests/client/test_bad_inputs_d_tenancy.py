"""Bad inputs D: tenancy and authorisation. Alice owns, Bob attacks with a valid key of his own."""

from __future__ import annotations

import http.client
import re
import socket
import threading
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.client.bad_inputs import Row, World, check_row, row_id, wait_until
from tests.client.raw import RawRequest, sign
from tests.client.wire import read_answer

if TYPE_CHECKING:
    from tests.client.raw import Header
    from tests.client.server import TenantAccess
    from tests.client.wire import Answer

pytestmark = [pytest.mark.client]

DELETE_XML = b"<Delete><Object><Key>kept</Key></Object></Delete>"

COMPLETE_XML = (
    b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber>"
    b"<ETag>d41d8cd98f00b204e9800998ecf8427e</ETag></Part></CompleteMultipartUpload>"
)


def attack(
    world: World,
    method: str,
    key: str | None,
    *headers: Header,
    query: str = "",
    body: bytes = b"",
    bucket: str | None = None,
) -> RawRequest:
    """A request of Bob's, well signed, against Alice's bucket where no other is named."""
    return world.signed(method, key, *headers, query=query, body=body, bucket=bucket, who=world.bob)


ATTACKS: list[tuple[str, str | None, str, bytes]] = [
    *((method, "kept", "", b"") for method in ("GET", "HEAD", "DELETE")),
    ("PUT", "planted", "", b"x"),
    *((method, None, "", b"") for method in ("GET", "HEAD", "DELETE")),
    *(("GET", None, query, b"") for query in ("list-type=2", "versions=", "uploads=", "acl=")),
    *(("GET", None, query, b"") for query in ("location=", "versioning=", "policy=")),
    ("POST", None, "delete=", DELETE_XML),
    *(("GET", "kept", query, b"") for query in ("tagging=", "acl=", "versionId=null")),
    ("PUT", "kept", "tagging=", b"<Tagging><TagSet/></Tagging>"),
    ("DELETE", "kept", "tagging=", b""),
    ("POST", "planted", "uploads=", b""),
]

ROWS = [
    *[
        Row(
            number="D42",
            title=f"{method} {key} ?{query}",
            build=lambda world, method=method, key=key, query=query, body=body: attack(  # type: ignore[misc]
                world, method, key, query=query, body=body
            ),
            status=404,
            code="NoSuchBucket",
            invisible="planted",
        )
        for method, key, query, body in ATTACKS
    ],
    *[
        Row(
            number="D47",
            title=f"{method} on an upload of Alice's",
            build=lambda world, method=method, query=query, body=body: attack(  # type: ignore[misc]
                world,
                method,
                "upload",
                query=query.replace("UPLOAD", world.upload_id),
                body=body,
                bucket=world.bob_bucket,
            ),
            status=404,
            code="NoSuchUpload",
        )
        for method, query, body in (
            ("PUT", "partNumber=1&uploadId=UPLOAD", b"x"),
            (
                "POST",
                "uploadId=UPLOAD",
                COMPLETE_XML,
            ),
            ("GET", "uploadId=UPLOAD", b""),
            ("DELETE", "uploadId=UPLOAD", b""),
        )
    ],
    *[
        Row(
            number="D48",
            title=f"own upload id {upload_id!r} with {what}",
            build=lambda world, key=key, upload_id=upload_id: world.signed(  # type: ignore[misc]
                "GET", key, query=f"uploadId={upload_id or world.upload_id}"
            ),
            status=404,
            code="NoSuchUpload",
        )
        for what, key, upload_id in (
            ("another key", "other-key", ""),
            ("nonsense", "upload", "nonsense"),
            ("a very long id", "upload", "x" * 3000),
            ("percent signs", "upload", "%25%0A%22"),
        )
    ],
    Row(
        number="D45",
        title="anonymous listing",
        build=lambda world: world.request("GET", None),
        status=403,
        code="AccessDenied",
    ),
    *[
        Row(
            number="D55",
            title=f"bucket called {name}",
            build=lambda world, name=name: world.signed("PUT", None, bucket=name),  # type: ignore[misc]
            status=(200, 400),
            code="InvalidBucketName",
        )
        for name in ("admin", "metrics", "health", "healthz", "readyz", ".sys", "_admin")
    ],
    *[
        Row(
            number="D55",
            title=f"bucket name {name!r}",
            build=lambda world, name=name: world.signed("PUT", None, bucket=name),  # type: ignore[misc]
            status=400,
            code="InvalidBucketName",
        )
        for name in (
            "ab",
            "a" * 64,
            "UPPER",
            "a..b",
            "192.168.0.1",
            "-a-b",
            "a_b",
            "xn--a",
        )
    ],
    Row(
        number="D57",
        title="POST form upload",
        build=lambda world: world.request(
            "POST",
            None,
            ("content-type", "multipart/form-data; boundary=x"),
            body=b'--x\r\ncontent-disposition: form-data; name="key"\r\n\r\nplanted\r\n--x--\r\n',
        ),
        status=(403, 501),
        invisible="planted",
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=[f"{n:02} {row_id(r)}" for n, r in enumerate(ROWS)])
def test_a_stranger_gets_nothing(world: World, row: Row) -> None:
    check_row(world, row)


def blur(answer: Answer) -> tuple[int, bytes]:
    """Status and body without what differs between any two answers."""
    body = re.sub(rb"<(RequestId|HostId)>[^<]*</\1>", b"", answer.body)
    return answer.status, re.sub(rb"only-alices-[0-9a-f]+|never-was-there-[0-9a-f]+", b"NAME", body)


def test_a_foreign_bucket_looks_like_one_that_exists_nowhere(world: World) -> None:
    nowhere = f"never-was-there-{uuid.uuid4().hex[:10]}"
    for method, key, query, body in ATTACKS:
        foreign = world.ask(attack(world, method, key, query=query, body=body))
        absent = world.ask(attack(world, method, key, query=query, body=body, bucket=nowhere))
        assert blur(foreign) == blur(absent)


@pytest.mark.parametrize("query", ["", "partNumber=1&uploadId=UPLOAD"])
def test_a_foreign_source_is_not_copied(world: World, query: str) -> None:
    if query:
        created = world.ask(
            attack(world, "POST", "target", query="uploads=", bucket=world.bob_bucket)
        )
        upload = created.body.partition(b"<UploadId>")[2].partition(b"<")[0].decode()
        query = query.replace("UPLOAD", upload)
    answer = world.ask(
        attack(
            world,
            "PUT",
            "target",
            ("x-amz-copy-source", f"/{world.bucket}/kept"),
            query=query,
            bucket=world.bob_bucket,
        )
    )

    assert (answer.status, answer.code) == (404, "NoSuchBucket"), str(answer)
    read = world.ask(attack(world, "GET", "target", bucket=world.bob_bucket))
    assert read.status == 404


def test_each_tenant_lists_only_its_own(world: World) -> None:
    listed = world.ask(RawRequest(path="/", headers=(world.host,)))
    assert listed.status == 403
    from_bob = world.ask(_list_buckets(world, world.bob))

    assert world.bob_bucket.encode() in from_bob.body
    assert world.bucket.encode() not in from_bob.body
    assert world.alice.name.encode() not in from_bob.body


def _list_buckets(world: World, who: TenantAccess) -> RawRequest:
    return sign(replace(world.request("GET", None), path="/"), who.credentials)


@pytest.mark.parametrize(
    ("role", "allowed", "denied"),
    [("ro", "GET", ("PUT", "DELETE")), ("wo", "PUT", ("GET", "HEAD"))],
)
def test_a_key_does_only_what_its_role_says(
    world: World, role: str, allowed: str, denied: tuple[str, ...]
) -> None:
    key = world.server.create_key(world.alice.name, "--role", role)
    body = b"kept body" if allowed == "PUT" else b""

    assert world.ask(world.signed(allowed, "kept", body=body, who=key)).status == 200
    for method in denied:
        answer = world.ask(world.signed(method, "kept", who=key))
        assert answer.status == 403, f"{method}: {answer}"
    world.assert_alive()


def test_a_scoped_key_stays_in_its_scope(world: World) -> None:
    key = world.server.create_key(world.alice.name, "--bucket", world.bucket, "--prefix", "inside/")

    assert world.ask(world.signed("PUT", "inside/k", body=b"x", who=key)).status == 200
    for method, name in (("PUT", "outside"), ("GET", "kept"), ("DELETE", "kept")):
        answer = world.ask(world.signed(method, name, who=key))
        assert (answer.status, answer.code) == (403, "AccessDenied"), str(answer)
    copied = world.ask(
        world.signed("PUT", "inside/copy", ("x-amz-copy-source", f"/{world.bucket}/kept"), who=key)
    )
    assert copied.status == 403, str(copied)


@pytest.mark.parametrize(
    ("change", "undo"),
    [
        (("key", "disable", "KEY"), ("key", "enable", "KEY")),
        (("tenant", "suspend", "TENANT"), ("tenant", "resume", "TENANT")),
        (("key", "delete", "KEY", "--yes"), ()),
    ],
    ids=["disabled", "suspended", "deleted"],
)
def test_a_change_of_keys_works_within_a_second(
    world: World, change: tuple[str, ...], undo: tuple[str, ...]
) -> None:
    tenant = world.server.create_tenant(f"changing-{uuid.uuid4().hex[:10]}")
    names = {"KEY": tenant.access_key_id, "TENANT": tenant.name}
    assert world.ask(_list_buckets(world, tenant)).status == 200
    world.server.command(*(names.get(word, word) for word in change))

    assert wait_until(lambda: world.ask(_list_buckets(world, tenant)).status == 403, deadline_s=1.0)
    if undo:
        world.server.command(*(names.get(word, word) for word in undo))
        assert wait_until(
            lambda: world.ask(_list_buckets(world, tenant)).status == 200, deadline_s=1.0
        )


@pytest.mark.slow
def test_an_expired_key_is_refused(world: World) -> None:
    key = world.server.create_key(world.alice.name, "--expires", "3s")
    assert world.ask(world.signed(who=key)).status == 200

    # The key's own lifetime passes: nothing else announces its end.
    assert wait_until(lambda: world.ask(world.signed(who=key)).status == 403, deadline_s=5)
    answer = world.ask(world.signed(who=key))
    assert answer.code in {"InvalidAccessKeyId", "AccessDenied"}


@pytest.mark.slow
def test_a_hundred_racing_puts_never_pass_the_quota(world: World) -> None:
    tenant = world.server.create_tenant(
        f"racing-{uuid.uuid4().hex[:10]}", "--quota-bytes", "100KiB", "--quota-objects", "20"
    )
    assert world.ask(world.signed("PUT", None, bucket="race", who=tenant)).status == 200
    answers: list[Answer] = []

    def put(number: int) -> None:
        request = world.signed("PUT", f"k{number}", body=b"x" * 10_240, bucket="race", who=tenant)
        answers.append(world.ask(request, deadline_s=30))

    threads = [threading.Thread(target=put, args=(number,)) for number in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted({answer.status for answer in answers}) == [200, 403]
    assert {answer.code for answer in answers if answer.status == 403} == {"QuotaExceeded"}
    assert sum(answer.status == 200 for answer in answers) == 10
    shown = world.server.command_json("usage", "show", "--tenant", tenant.name)
    assert "102400" in str(shown)


def fetch(address: str, path: str, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    """A plain request to another listener than the S3 one."""
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    try:
        connection.request("GET", path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_health_and_metrics_tell_nothing_private(world: World) -> None:
    for path in ("/healthz", "/readyz", "/metrics"):
        status, body = fetch(world.server.metrics_endpoint, path)
        assert status == 200
        for private in (
            world.alice.secret_access_key,
            world.alice.access_key_id,
            str(world.server.directory),
            "PYTHONUNBUFFERED",
            "kept",
        ):
            assert private.encode() not in body


def test_the_metrics_port_serves_nothing_else(world: World) -> None:
    for path in ("/", "/v1/tenants", "/tenants", "/admin", "/openapi.json", f"/{world.bucket}"):
        status, _ = fetch(world.server.metrics_endpoint, path)
        assert status in {401, 403, 404, 405}, path


def test_no_internal_route_answers_on_the_s3_port(world: World) -> None:
    for path in ("/healthz", "/readyz", "/metrics", "/v1/tenants", "/openapi.json"):
        status, body = fetch(world.server.endpoint, path)
        assert status == 403
        assert b"<Code>AccessDenied</Code>" in body


def test_a_tenant_deleted_during_a_put_leaves_nothing(world: World) -> None:
    tenant = world.server.create_tenant(f"leaving-{uuid.uuid4().hex[:10]}")
    assert world.ask(world.signed("PUT", None, bucket="leaving", who=tenant)).status == 200
    request = world.signed("PUT", "k", body=b"x" * 1_000_000, bucket="leaving", who=tenant)
    wire = request.encode()
    with socket.create_connection(world.address, timeout=10) as connection:
        connection.sendall(wire[:500_000])
        assert world.ask(world.signed("DELETE", None, bucket="leaving", who=tenant)).status == 204
        world.server.command("tenant", "delete", tenant.name, "--yes")
        connection.sendall(wire[500_000:])
        answer = read_answer(connection, deadline_s=10)
    assert answer.status in {403, 404}, str(answer)
    assert tenant.name not in world.server.command("tenant", "list")
