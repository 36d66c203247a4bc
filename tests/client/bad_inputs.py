"""What the tables of bad inputs share: the world they act on, a row, and how a row is checked.

A row is numbered as in the security rules. Beside its own answer every row asserts that the answer
came in time, that it is no accident of the server (5xx), that what must stay invisible is, and
that the next request on a fresh connection works.
"""

from __future__ import annotations

import base64
import hashlib
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from tests.client.raw import Header, RawRequest, Signing, sign
from tests.client.wire import Answer, address_of, exchange

if TYPE_CHECKING:
    from tests.client.server import ServerProcess, TenantAccess
    from tests.client.wire import Address

__all__ = ["Row", "World", "check_row", "make_world", "md5_header", "row_id", "wait_until"]

KEPT = b"kept body"
MEANT_5XX = {501, 503, 507}  # NotImplemented, SlowDown, InsufficientStorage: said on purpose


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Two tenants on one server; Alice owns `bucket` with one object, Bob attacks.

    Attributes:
        bucket: Only Alice has it; it holds the object `kept`.
        upload_id: Of a multipart upload of Alice's in progress, for the key `upload`.
    """

    server: ServerProcess
    alice: TenantAccess
    bob: TenantAccess
    bucket: str
    bob_bucket: str
    upload_id: str

    @property
    def address(self) -> Address:
        """Where the server listens."""
        return address_of(self.server.endpoint)

    @property
    def host(self) -> Header:
        """The Host header of an honest request."""
        host, port = self.address
        return ("host", f"{host}:{port}")

    def request(
        self,
        method: str = "GET",
        key: str | None = "kept",
        *headers: Header,
        query: str = "",
        body: bytes = b"",
        bucket: str | None = None,
    ) -> RawRequest:
        """An unsigned request for a key of Alice's bucket; key None means the bucket itself."""
        path = f"/{bucket if bucket is not None else self.bucket}"
        if key is not None:
            path += f"/{quote(key, safe='/-_.~')}"
        return RawRequest(
            method=method, path=path, query=query, headers=(self.host, *headers), body=body
        )

    def signed(
        self,
        method: str = "GET",
        key: str | None = "kept",
        *headers: Header,
        query: str = "",
        body: bytes = b"",
        bucket: str | None = None,
        who: TenantAccess | None = None,
        signing: Signing | None = None,
    ) -> RawRequest:
        """The same, signed by Alice or by whom the test names."""
        request = self.request(method, key, *headers, query=query, body=body, bucket=bucket)
        return sign(request, (who or self.alice).credentials, signing)

    def ask(self, request: RawRequest, *, deadline_s: float = 10.0) -> Answer:
        """Sends a request on a fresh connection and returns the answer."""
        return exchange(
            self.address, request.encode(), deadline_s=deadline_s, method=request.method
        )

    def read(self, key: str = "kept", *, bucket: str | None = None) -> Answer:
        """What Alice sees under a key."""
        return self.ask(self.signed("GET", key, bucket=bucket))

    def assert_alive(self) -> None:
        """The next request on a fresh connection works, and the object is what it was."""
        answer = self.read()
        assert answer.status == 200, str(answer)
        assert answer.body == KEPT, str(answer)

    def assert_invisible(self, key: str) -> None:
        """Nothing is stored under the key."""
        answer = self.read(key)
        assert (answer.status, answer.code) == (404, "NoSuchKey"), str(answer)


Build = Callable[[World], RawRequest | bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One bad input and the answer that it must get.

    Attributes:
        number: Of the security rules' list, such as `A20`.
        title: What is wrong.
        build: Makes the request, or the raw bytes.
        status: The one status, or several that are all right. 0: closed without an answer.
        code: The S3 code, or several; empty where the list names none.
        invisible: A key that must not exist afterwards.
        half_close: True where the client shuts its side down after the bytes.
        deadline_s: When the answer must be there.
    """

    number: str
    title: str
    build: Build
    status: int | tuple[int, ...]
    code: str | tuple[str, ...] = ()
    invisible: str = ""
    half_close: bool = False
    deadline_s: float = 10.0

    @property
    def statuses(self) -> tuple[int, ...]:
        """All statuses that are right."""
        return self.status if isinstance(self.status, tuple) else (self.status,)

    @property
    def codes(self) -> tuple[str, ...]:
        """All codes that are right; none where it does not matter."""
        return self.code if isinstance(self.code, tuple) else (self.code,)


def row_id(row: Row) -> str:
    """How pytest names a row."""
    return f"{row.number} {row.title}".encode("ascii", "backslashreplace").decode()


def check_row(world: World, row: Row) -> Answer:
    """Sends what a row says and asserts everything that holds for every row."""
    built = row.build(world)
    wire = built if isinstance(built, bytes) else built.encode()
    method = wire.split(b" ", 1)[0].decode("latin-1")
    answer = exchange(
        world.address,
        wire,
        deadline_s=row.deadline_s,
        half_close=row.half_close,
        method=method,
    )

    assert answer.status in row.statuses, f"expected {row.statuses}: {answer}"
    assert answer.status < 500 or answer.status in MEANT_5XX, str(answer)
    if row.codes and method != "HEAD" and answer.status >= 300:
        assert answer.code in row.codes, f"expected {row.codes}: {answer}"
    if row.invisible:
        world.assert_invisible(row.invisible)
    world.assert_alive()
    return answer


def make_world(server: ServerProcess) -> World:
    """Creates both tenants and what Alice owns."""
    suffix = uuid.uuid4().hex[:10]
    alice = server.create_tenant(f"alice-{suffix}")
    bob = server.create_tenant(f"bob-{suffix}")
    world = World(
        server=server,
        alice=alice,
        bob=bob,
        bucket=f"only-alices-{suffix}",
        bob_bucket=f"only-bobs-{suffix}",
        upload_id="",
    )
    ask = world.ask
    assert ask(world.signed("PUT", None)).status == 200
    assert ask(world.signed("PUT", None, bucket=world.bob_bucket, who=bob)).status == 200
    assert ask(world.signed("PUT", "kept", body=KEPT)).status == 200
    created = ask(world.signed("POST", "upload", query="uploads="))
    assert created.status == 200, str(created)
    upload_id = created.body.partition(b"<UploadId>")[2].partition(b"</UploadId>")[0].decode()
    return World(
        server=server,
        alice=alice,
        bob=bob,
        bucket=world.bucket,
        bob_bucket=world.bob_bucket,
        upload_id=upload_id,
    )


def wait_until(condition: Callable[[], bool], *, deadline_s: float) -> bool:
    """True once the condition holds; False at the deadline. For effects that come by themselves."""
    until = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def md5_header(body: bytes) -> Header:
    """Content-MD5 of a body."""
    return ("content-md5", base64.b64encode(hashlib.md5(body).digest()).decode())
