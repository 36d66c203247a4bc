"""The S3 face as one function: from a request head and body to a response.

Every refusal before a handler leaves the body unread (`appliance.handlers.admission`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from appliance.handlers.admission import Admission, RequestNotes
from appliance.handlers.dispatch import dispatch
from appliance.handlers.faults import fault_of
from appliance.handlers.request import S3Request, Services
from appliance.s3 import xml_documents
from appliance.s3.errors import S3Error
from appliance.s3.messages import BodyReader, RequestHead, Response

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.handlers.forwarding import Network
    from appliance.keyring import KeyRing
    from appliance.rate import RateLimiter, RateLimits

__all__ = ["S3Service"]

_log = structlog.get_logger("s3")


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
        self._admission = Admission(
            keyring,
            clock=services.clock,
            region=services.limits.region,
            domains=services.limits.domains,
            limiter=limiter,
            rates=rates,
            trusted_proxies=trusted_proxies,
        )

    async def handle(self, head: RequestHead, body: BodyReader, notes: RequestNotes) -> Response:
        """The answer to one request, refusals and faults included.

        Raises:
            ClientDisconnected: Nobody is there to answer.
            Exception: What nobody foresaw; the server's boundary logs it and answers 500.
        """
        try:
            admitted = await self._admission.admit(head, notes)
            request = S3Request(
                head=admitted.head,
                body=body,
                principal=admitted.principal,
                verified=admitted.verified,
                services=self._services,
            )
            return await dispatch(admitted.operation, request)
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
