"""The S3 port's way of a request, layer by layer, with an answer that costs nothing. A process.

    python -m tools.bench.layered_responder loop|application|admission|log BYTES

Each layer has the ones before it: the connection loop; the S3 application around it; signature,
routing, policy and rate; counts and access log (to standard error). It prints `ready PORT` and
answers what one key, made here, has signed: `CREDENTIALS`. No catalog and no storage is behind it,
so that what a layer costs is the difference to the layer before.
"""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from typing import TYPE_CHECKING, TextIO

import trio

from appliance.access_log import AccessLog
from appliance.clock import SystemClock
from appliance.handlers.admission import Admission
from appliance.http.asgi import S3Application
from appliance.http.early_answer import EarlyAnswers, render_error_document
from appliance.http.listeners import ListenAddress
from appliance.http.request_ids import RequestIds
from appliance.http.server import Listen, Server
from appliance.keyring import KeyRing
from appliance.log import start_log
from appliance.metrics import Metrics
from appliance.rate import RateLimiter, RateLimits
from appliance.request_log import RequestLog
from appliance.s3.messages import Response
from appliance.secrets import SecretBox
from appliance.settings import LogSettings
from tenants.records import (
    AccessKey,
    AccessKeyId,
    Principal,
    QuotaLimits,
    Role,
    Tenant,
    TenantId,
    TenantState,
    Usage,
    User,
    UserId,
)
from tests.client.raw import Credentials

if TYPE_CHECKING:
    from hypercorn.typing import ASGIFramework, ASGIReceiveCallable, ASGISendCallable, Scope

    from appliance.clock import Clock
    from appliance.http.asgi import RequestContext
    from appliance.s3.messages import BodyReader, Headers, RequestHead

__all__ = [
    "CREDENTIALS",
    "LAYERS",
    "make_admission",
    "make_answer",
    "make_application",
    "make_keyring",
    "make_request_log",
]

LAYERS = ("loop", "application", "admission", "log")
REGION = "us-east-1"
CREDENTIALS = Credentials(
    access_key_id="TCWIREBENCH000000000",
    secret_access_key="wire-bench-of-nothing-real",  # noqa: S106  # opens this responder alone
)
_PRINCIPAL = Principal(
    tenant=Tenant(
        tenant_id=TenantId(1),
        name="bench",
        canonical_id="0" * 64,
        state=TenantState.ACTIVE,
        created_at=0.0,
        limits=QuotaLimits(),
        usage=Usage(),
    ),
    user=User(user_id=UserId(1), tenant_id=TenantId(1), name="root", created_at=0.0),
    key=AccessKey(
        access_key_id=AccessKeyId(CREDENTIALS.access_key_id),
        tenant_id=TenantId(1),
        user_id=UserId(1),
        role=Role.READ_WRITE,
        bucket_scope=None,
        prefix_scope=None,
        expires_at=None,
        enabled=True,
        created_at=0.0,
    ),
)


def make_answer(size: int) -> Response:
    """What GetObject answers for an object of so many bytes, headers and all."""
    headers: Headers = (
        (b"content-type", b"binary/octet-stream"),
        (b"etag", b'"d41d8cd98f00b204e9800998ecf8427e"'),
        (b"last-modified", b"Wed, 18 Nov 2026 11:06:40 GMT"),
        (b"accept-ranges", b"bytes"),
        (b"content-length", b"%d" % size),
    )
    return Response(status=200, headers=headers, body=bytes(size))


async def make_keyring(clock: Clock) -> KeyRing:
    """A key ring of the one key, just polled; the caller runs it."""
    box = SecretBox.create(os.urandom(32))
    sealed = box.seal(TenantId(1), CREDENTIALS.access_key_id, CREDENTIALS.secret_access_key)

    async def load_key(access_key_id: str) -> tuple[AccessKey, bytes, Tenant, User] | None:
        await trio.lowlevel.checkpoint()
        if access_key_id != CREDENTIALS.access_key_id:
            return None
        return _PRINCIPAL.key, sealed, _PRINCIPAL.tenant, _PRINCIPAL.user

    async def load_revision() -> int:
        await trio.lowlevel.checkpoint()
        return 1

    keyring = KeyRing(load_key=load_key, load_revision=load_revision, box=box, clock=clock)
    await keyring.poll()
    return keyring


def make_admission(keyring: KeyRing, clock: Clock) -> Admission:
    """Admission as a server without rates and with one domain has it."""
    return Admission(
        keyring,
        clock=clock,
        region=REGION,
        domains=("s3.bench.test",),
        limiter=RateLimiter(),
        rates=RateLimits(),
    )


def make_request_log(clock: Clock, stream: TextIO | None = None) -> RequestLog:
    """Counts and an access log, with nobody else to tell."""
    return RequestLog(
        Metrics(),
        AccessLog(LogSettings(), clock=clock, stream=stream),
        limiter=RateLimiter(),
        rates=RateLimits(),
        clock=clock,
        tell=(),
    )


def make_application(
    layer: str, answer: Response, *, keyring: KeyRing, clock: Clock
) -> S3Application:
    """The application of a layer but `loop`, with one answer for everybody it lets in."""
    admission = make_admission(keyring, clock)

    async def let_in(head: RequestHead, _body: BodyReader, context: RequestContext) -> Response:
        await admission.admit(head, context)
        return answer

    async def reply(_head: RequestHead, _body: BodyReader, _context: RequestContext) -> Response:
        return answer

    return S3Application(
        reply if layer == "application" else let_in,
        mint_request_id=RequestIds(os.urandom).mint,
        now_us=clock.now_us,
        host_id="0" * 32,
        on_finished=make_request_log(clock).note if layer == "log" else None,
    )


def make_plain_application(answer: Response) -> ASGIFramework:
    """An ASGI application that is nothing but its answer."""

    async def reply(scope: Scope, _receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        assert scope["type"] == "http"
        assert isinstance(answer.body, bytes)
        await send({"type": "http.response.start", "status": 200, "headers": answer.headers})
        body = b"" if scope["method"] == "HEAD" else answer.body
        await send({"type": "http.response.body", "body": body, "more_body": False})

    return reply


async def serve(layer: str, size: int) -> None:
    """Serves until the process is ended."""
    clock = SystemClock()
    start_log(LogSettings(), clock=clock)
    keyring, answer = await make_keyring(clock), make_answer(size)
    app: ASGIFramework = (
        make_plain_application(answer)
        if layer == "loop"
        else make_application(layer, answer, keyring=keyring, clock=clock)
    )
    server = Server(
        app,
        listens=[Listen(address=ListenAddress(host="127.0.0.1", port=0))],
        answers=EarlyAnswers(
            render_error=render_error_document,
            mint_request_id=RequestIds(os.urandom).mint,
            now_us=clock.now_us,
        ),
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(keyring.run)
        bound = await nursery.start(server.serve)
        print(f"ready {bound[0].port}", flush=True)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("layer", choices=LAYERS)
    parser.add_argument("size", type=int)
    options = parser.parse_args()
    trio.run(partial(serve, options.layer, options.size))
    return 0


if __name__ == "__main__":
    sys.exit(main())
