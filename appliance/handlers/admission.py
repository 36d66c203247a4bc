"""From a request head to what it asks for and who asks, or a refusal: all before any body byte.

Order (SECURITY, rules 1 and 2): address, authenticate, route, authorise, rate. Nothing of a bucket
or key is looked up before the signature held.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from appliance.handlers.authenticate import authenticate
from appliance.handlers.forwarding import Network, restore_client
from appliance.rate import RateExceeded
from appliance.record import record
from appliance.s3 import operations as ops
from appliance.s3.addressing import parse_address
from appliance.s3.codes import S3Code
from appliance.s3.errors import S3Error
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

    from appliance.clock import Clock
    from appliance.keyring import KeyRing
    from appliance.rate import RateLimiter, RateLimits
    from appliance.s3.messages import RequestHead
    from appliance.s3.sigv4 import Verified

__all__ = ["Admission", "Admitted", "RequestNotes"]


_LISTINGS = (ops.ListObjects, ops.ListObjectsV2, ops.ListObjectVersions, ops.ListMultipartUploads)
_OWNER_HEADERS = frozenset((b"x-amz-expected-bucket-owner", b"x-amz-source-expected-bucket-owner"))
_COPIES = (ops.CopyObject, ops.UploadPartCopy)


class RequestNotes(Protocol):
    """What the server is told of a request as it becomes known, for its log and metrics."""

    request_id: str
    host_id: str
    operation: str
    tenant: str
    tenant_id: TenantId | None
    error_code: str


@record
class Admitted:
    """A request that may be carried out.

    Attributes:
        head: As the client sent it; restored where a trusted proxy stands between.
        operation: What it asks for, its parameters validated.
        principal: Who asks.
        verified: The proof of that.
    """

    head: RequestHead
    operation: ops.Operation
    principal: Principal
    verified: Verified


class Admission:
    """Lets requests in or refuses them.

    Args:
        keyring: Who may sign.
        clock: For signatures' ages, keys' ends and rates.
        region: The only region of this server.
        domains: Base names for virtual-hosted style, lower case.
        limiter: Counts requests and bytes by tenant.
        rates: What each tenant may.
        trusted_proxies: Peers whose forwarding headers are believed.
    """

    def __init__(
        self,
        keyring: KeyRing,
        *,
        clock: Clock,
        region: str,
        domains: Sequence[str],
        limiter: RateLimiter,
        rates: RateLimits,
        trusted_proxies: Sequence[Network] = (),
    ) -> None:
        self._keyring = keyring
        self._clock = clock
        self._region = region
        self._domains = tuple(domains)
        self._limiter = limiter
        self._rates = rates
        self._trusted_proxies = tuple(trusted_proxies)

    async def admit(self, head: RequestHead, notes: RequestNotes) -> Admitted:
        """The request, proven, understood and allowed.

        Raises:
            S3Error: Anything that is wrong with it, or the tenant's rate.
            TenantError: The rules about its principal refuse it.
            CatalogError: The key is not cached and the catalog did not answer.
        """
        now = self._clock.now()
        head = restore_client(head, self._trusted_proxies)
        address = parse_address(head, domains=self._domains)
        principal, verified = await authenticate(
            head, keyring=self._keyring, region=self._region, now=now
        )
        notes.tenant = principal.tenant.name
        notes.tenant_id = principal.tenant.tenant_id
        operation = route(head, address)
        notes.operation = type(operation).__name__
        _authorise(operation, principal, now=now)
        _check_owners(head, principal)
        self._admit_rate(principal)
        return Admitted(head=head, operation=operation, principal=principal, verified=verified)

    def _admit_rate(self, principal: Principal) -> None:
        try:
            self._limiter.admit_request(
                principal.tenant.tenant_id, self._rates, now=self._clock.monotonic()
            )
        except RateExceeded as error:
            raise S3Error(
                S3Code.SLOW_DOWN, headers={"retry-after": str(error.retry_after_s)}
            ) from error


def _authorise(operation: ops.Operation, principal: Principal, *, now: float) -> None:
    """Ask the rules about the operation, and about the source of a copy besides.

    DeleteObjects is asked for again key by key, once the keys are known.
    """
    prefix = operation.prefix if isinstance(operation, _LISTINGS) else None
    decide(
        principal,
        action_of(operation),
        bucket=bucket_of(operation),
        key=key_of(operation),
        now=now,
        prefix=prefix,
    )
    if isinstance(operation, _COPIES):
        source = operation.source
        decide(principal, Action.READ_OBJECT, bucket=source.bucket, key=source.key, now=now)


def _check_owners(head: RequestHead, principal: Principal) -> None:
    """Refuse a request that expects another owner than the caller's tenant."""
    if _OWNER_HEADERS.isdisjoint(head.fields.values):
        return
    for owner in (expected_owner(head), expected_source_owner(head)):
        if owner is not None and owner not in {
            principal.tenant.canonical_id,
            principal.tenant.name,
        }:
            raise S3Error(S3Code.ACCESS_DENIED)
