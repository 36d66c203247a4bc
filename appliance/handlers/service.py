"""The S3 face as one function: from a request head and body to a response.

Order (SECURITY, rules 1 and 2): address, authenticate, route, authorise, handler. Nothing of a
bucket or key is looked up before the signature held, and every refusal before a handler leaves the
body unread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import structlog

from appliance.handlers.authenticate import authenticate
from appliance.handlers.dispatch import dispatch
from appliance.handlers.faults import fault_of
from appliance.handlers.forwarding import Network, restore_client
from appliance.handlers.request import S3Request, Services
from appliance.rate import RateExceeded
from appliance.s3 import operations as ops, xml_documents
from appliance.s3.addressing import parse_address
from appliance.s3.codes import S3Code
from appliance.s3.errors import S3Error
from appliance.s3.messages import BodyReader, RequestHead, Response
from appliance.s3.router import (
    action_of,
    bucket_of,
    expected_owner,
    expected_source_owner,
    key_of,
    route,
)
from tenants.access import decide
from tenants.records import Action, Principal, TenantId

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.keyring import KeyRing
    from appliance.rate import RateLimiter, RateLimits

__all__ = ["RequestNotes", "S3Service"]

_log = structlog.get_logger("s3")


class RequestNotes(Protocol):
    """What the server is told of a request as it becomes known, for its log and metrics."""

    request_id: str
    host_id: str
    operation: str
    tenant: str
    tenant_id: TenantId | None
    error_code: str


class S3Service:
    """Answers every S3 request of one server process.

    Args:
        services: What the handlers use.
        keyring: Who may sign.
        limiter: Counts requests and bytes by tenant.
        rates: What each tenant may.
        trusted_proxies: Peers whose forwarding headers are believed.
    """

    def __init__(
        self,
        services: Services,
        keyring: KeyRing,
        *,
        limiter: RateLimiter,
        rates: RateLimits,
        trusted_proxies: Sequence[Network] = (),
    ) -> None:
        self._services = services
        self._keyring = keyring
        self._limiter = limiter
        self._rates = rates
        self._trusted_proxies = tuple(trusted_proxies)

    async def handle(self, head: RequestHead, body: BodyReader, notes: RequestNotes) -> Response:
        """The answer to one request, refusals and faults included.

        Raises:
            ClientDisconnected: Nobody is there to answer.
            Exception: What nobody foresaw; the server's boundary logs it and answers 500.
        """
        try:
            return await self._answer(head, body, notes)
        except Exception as error:
            fault = fault_of(error)
            if fault is None:
                raise
            if fault.code.status >= 500 and not isinstance(error, S3Error):
                _log.warning(
                    "request_failed",
                    request_id=notes.request_id,
                    operation=notes.operation,
                    tenant=notes.tenant,
                    error=str(error),
                )
            notes.error_code = fault.code.code
            return _refuse(fault, head, notes)

    async def _answer(self, head: RequestHead, body: BodyReader, notes: RequestNotes) -> Response:
        services = self._services
        now = services.clock.now()
        head = restore_client(head, self._trusted_proxies)
        address = parse_address(head, domains=services.limits.domains)
        principal, verified = await authenticate(
            head, keyring=self._keyring, region=services.limits.region, now=now
        )
        notes.tenant = principal.tenant.name
        notes.tenant_id = principal.tenant.tenant_id
        operation = route(head, address)
        notes.operation = type(operation).__name__
        _authorise(operation, principal, now=now)
        _check_owners(head, principal)
        self._admit_rate(principal)
        request = S3Request(
            head=head, body=body, principal=principal, verified=verified, services=services
        )
        return await dispatch(operation, request)

    def _admit_rate(self, principal: Principal) -> None:
        try:
            self._limiter.admit_request(
                principal.tenant.tenant_id, self._rates, now=self._services.clock.monotonic()
            )
        except RateExceeded as error:
            raise S3Error(
                S3Code.SLOW_DOWN, headers={"retry-after": str(error.retry_after_s)}
            ) from error


def _authorise(operation: ops.Operation, principal: Principal, *, now: float) -> None:
    """Ask the rules about the operation, and about the source of a copy besides.

    DeleteObjects is asked for again key by key, once the keys are known.
    """
    prefix: bytes | None = None
    if isinstance(
        operation,
        ops.ListObjects | ops.ListObjectsV2 | ops.ListObjectVersions | ops.ListMultipartUploads,
    ):
        prefix = operation.prefix
    decide(
        principal,
        action_of(operation),
        bucket=bucket_of(operation),
        key=key_of(operation),
        now=now,
        prefix=prefix,
    )
    if isinstance(operation, ops.CopyObject | ops.UploadPartCopy):
        source = operation.source
        decide(principal, Action.READ_OBJECT, bucket=source.bucket, key=source.key, now=now)


def _check_owners(head: RequestHead, principal: Principal) -> None:
    """Refuse a request that expects another owner than the caller's tenant."""
    for owner in (expected_owner(head), expected_source_owner(head)):
        if owner is not None and owner not in {
            principal.tenant.canonical_id,
            principal.tenant.name,
        }:
            raise S3Error(S3Code.ACCESS_DENIED)


def _refuse(error: S3Error, head: RequestHead, notes: RequestNotes) -> Response:
    headers = [(b"content-type", b"application/xml")]
    headers += [
        (name.encode("ascii"), value.encode("latin-1", "replace"))
        for name, value in error.headers.items()
    ]
    body = xml_documents.error_document(
        code=error.code.code,
        message=error.message,
        resource=head.raw_path.decode("latin-1"),
        request_id=notes.request_id,
        host_id=notes.host_id,
        elements=error.elements,
    )
    return Response(status=error.code.status, headers=tuple(headers), body=body)
