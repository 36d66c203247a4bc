"""Presigned claims: Signature Version 4 in the query string.

Every parameter of the claim must be there exactly once. A query that carries any sign of one is a
claim and is judged as one: it can fail, but never become anonymous.

Source: AWS, "Authenticating Requests: Using Query Parameters", Amazon S3 API Reference.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING

from appliance.s3.canonical import parse_query
from appliance.s3.claim import (
    ALGORITHM,
    SKEW_MAX,
    UNSIGNED_PAYLOAD,
    AuthKind,
    Claim,
    admit_payload_text,
    admit_session_token,
    admit_signed_headers,
    format_iso,
    format_scope,
    malformed,
    parse_credential,
    parse_signed_headers,
    parse_timestamp,
)
from appliance.s3.codes import S3Code
from appliance.s3.errors import S3Error

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from appliance.s3.canonical import QueryPairs
    from appliance.s3.messages import RequestHead
    from appliance.s3.query import ClaimFields

__all__ = [
    "EXPIRES_S_MAX",
    "has_presigned_claim",
    "has_version_2_claim",
    "list_query_names",
    "parse_presigned",
]

EXPIRES_S_MAX = 604_800  # seven days, AWS's limit

_REQUIRED = (
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Signature",
    "X-Amz-Date",
    "X-Amz-SignedHeaders",
    "X-Amz-Expires",
)
_SINGLE = (*_REQUIRED, "X-Amz-Content-Sha256", "X-Amz-Security-Token")

# Any of these, in any case, makes the query a claim.
_MARKS = frozenset({"x-amz-algorithm", "x-amz-credential", "x-amz-signature"})
_VERSION_2_MARKS = frozenset({"AWSAccessKeyId", "Signature"})

_EXPIRES = re.compile(r"[0-9]{1,7}")


def has_presigned_claim(names: Collection[str]) -> bool:
    """True where a query of these names carries a claim, a broken one included."""
    return not _MARKS.isdisjoint([name.lower() for name in names])


def has_version_2_claim(names: Collection[str]) -> bool:
    """True where a query of these names carries a claim of the old Signature Version 2."""
    return not _VERSION_2_MARKS.isdisjoint(names)


def list_query_names(head: RequestHead) -> Collection[str]:
    """The names of the query's parameters, also of one that cannot be read as a whole."""
    if head.query is not None:
        return head.query.values.keys()
    return [name.decode("latin-1") for name, _ in parse_query(head.raw_query)]


def parse_presigned(head: RequestHead, *, region: str, now: datetime) -> Claim:
    """The claim in the query.

    Args:
        head: The request as received.
        region: The only region accepted.
        now: Aware UTC time.

    Raises:
        S3Error: Malformed, expired, not valid yet, or with unsigned headers.
    """
    fields = _collect(head)
    if fields["X-Amz-Algorithm"] != ALGORITHM:
        raise malformed(AuthKind.PRESIGNED, f'X-Amz-Algorithm only supports "{ALGORITHM}"')
    access_key_id, scope_date = parse_credential(
        fields["X-Amz-Credential"], kind=AuthKind.PRESIGNED, region=region
    )
    request_time = parse_timestamp(fields["X-Amz-Date"])
    if request_time is None:
        raise malformed(AuthKind.PRESIGNED, 'X-Amz-Date must be in the form "yyyyMMddTHHmmssZ"')
    if not fields["X-Amz-Date"].startswith(scope_date):
        raise malformed(AuthKind.PRESIGNED, "the date of the Credential is not that of X-Amz-Date")
    expires_s = _parse_expires(fields["X-Amz-Expires"])
    _admit_time(request_time, expires_s, now)
    signed_headers = parse_signed_headers(fields["X-Amz-SignedHeaders"], kind=AuthKind.PRESIGNED)
    admit_signed_headers(head, signed_headers)
    admit_session_token(fields.get("X-Amz-Security-Token", "").encode())
    return Claim(
        kind=AuthKind.PRESIGNED,
        access_key_id=access_key_id,
        scope_date=scope_date,
        region=region,
        signed_headers=signed_headers,
        signature=fields["X-Amz-Signature"],
        request_time=request_time,
        timestamp=fields["X-Amz-Date"],
        scope=format_scope(scope_date, region),
        expires_s=expires_s,
        payload_sha256=_find_payload_text(head, fields),
    )


def _collect(head: RequestHead) -> ClaimFields:
    if head.claim_fields is not None:
        return head.claim_fields
    query = head.query
    if query is not None and not query.repeated:
        values = query.values
        fields = {name: values[name].decode("latin-1") for name in _SINGLE if name in values}
    else:
        fields = _collect_pairs(parse_query(head.raw_query))
    if not all(map(fields.get, _REQUIRED)):
        raise malformed(AuthKind.PRESIGNED, f"all of these are required: {', '.join(_REQUIRED)}")
    return fields


def _collect_pairs(pairs: QueryPairs) -> dict[str, str]:
    """The same from a query that names something twice, or cannot be read as a whole."""
    fields: dict[str, str] = {}
    for raw_name, raw_value in pairs:
        # Bytes beyond ASCII cannot match a name, and no value with one passes its own check.
        name = raw_name.decode("latin-1")
        if name not in _SINGLE:
            continue
        if name in fields:
            raise malformed(AuthKind.PRESIGNED, f"{name} is present more than once")
        fields[name] = raw_value.decode("latin-1")
    return fields


def _parse_expires(text: str) -> int:
    if not _EXPIRES.fullmatch(text) or not 1 <= int(text) <= EXPIRES_S_MAX:
        raise malformed(
            AuthKind.PRESIGNED,
            f"X-Amz-Expires must be a whole number of seconds from 1 to {EXPIRES_S_MAX}",
        )
    return int(text)


def _admit_time(request_time: datetime, expires_s: int, now: datetime) -> None:
    # The future is refused first: so the sum below cannot pass the end of the calendar.
    if request_time - now > SKEW_MAX:
        raise S3Error(
            S3Code.ACCESS_DENIED,
            "Request is not valid yet",
            elements={"ServerTime": format_iso(now)},
        )
    expiry = request_time + timedelta(seconds=expires_s)
    if now > expiry:
        raise S3Error(
            S3Code.ACCESS_DENIED,
            "Request has expired",
            elements={
                "X-Amz-Expires": str(expires_s),
                "Expires": format_iso(expiry),
                "ServerTime": format_iso(now),
            },
        )


def _find_payload_text(head: RequestHead, fields: dict[str, str]) -> str:
    """The signed header's text, else the query's (JavaScript signers hoist it there)."""
    header = head.find_header(b"x-amz-content-sha256")
    parameter = fields.get("X-Amz-Content-Sha256")
    text = parameter if header is None else header.decode("latin-1")
    if text is None:
        return UNSIGNED_PAYLOAD
    if parameter is not None and parameter != text:
        raise malformed(
            AuthKind.PRESIGNED, "X-Amz-Content-Sha256 and the header of that name differ"
        )
    admit_payload_text(text)
    return text
