"""Signature Version 4: who a request claims to be from, and whether it proves it.

`parse_claim` refuses whatever is malformed, out of date or not fully signed, before any secret is
looked at. The caller then finds the key, and either `verify`s the claim with its signing key, or
lets `verify_unknown` refuse it after the same work. The derived signing key is good for one key,
day and region, and may be cached as such.

Knows no key ring, no tenants and no clock; never logs.

Source: AWS, "Authenticating Requests (AWS Signature Version 4)", Amazon S3 API Reference.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NoReturn

from appliance.record import record
from appliance.s3.canonical import iter_canonical_requests
from appliance.s3.claim import (
    ALGORITHM,
    SERVICE,
    SKEW_MAX,
    TERMINATOR,
    AuthKind,
    Claim,
    admit_payload_text,
    admit_session_token,
    admit_signed_headers,
    format_iso,
    format_scope,
    format_timestamp,
    malformed,
    parse_credential,
    parse_signed_headers,
    parse_timestamp,
)
from appliance.s3.codes import S3Code
from appliance.s3.dates import parse_http_date
from appliance.s3.errors import S3Error
from appliance.s3.presigned import (
    has_presigned_claim,
    has_version_2_claim,
    list_query_names,
    parse_presigned,
)

if TYPE_CHECKING:
    from appliance.s3.messages import RequestHead

__all__ = [
    "AuthKind",
    "Claim",
    "Verified",
    "derive_signing_key",
    "parse_claim",
    "verify",
    "verify_unknown",
]

# A second one of these would let the signed and the obeyed header be different ones.
_SINGLE_HEADERS = frozenset(
    {b"authorization", b"host", b"date", b"x-amz-date", b"x-amz-content-sha256"}
)

_ZERO_ZONE = re.compile(r" [+-]0000$")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# As every SDK writes them; anything else is taken apart field by field, to the same end.
_USUAL_FIELDS = re.compile(
    r"Credential=(?P<Credential>[^,\s]+), ?SignedHeaders=(?P<SignedHeaders>[^,\s]+)"
    r", ?Signature=(?P<Signature>[^,\s]+)"
)
_AUTHORIZATION_FIELDS = frozenset({"Credential", "SignedHeaders", "Signature"})


@record
class Verified:
    """A claim that was proven, and what a chain of chunk signatures starts from.

    Attributes:
        claim: What was proven.
        signing_key: 32 bytes; secret, kept out of `repr`.
        scope: The credential scope.
        timestamp: The request time as strings to sign have it.
        seed_signature: Lower-case hexadecimal; the first chunk is chained to it.
    """

    claim: Claim
    signing_key: bytes = field(repr=False)
    scope: str
    timestamp: str
    seed_signature: str = field(repr=False)


def parse_claim(head: RequestHead, *, region: str, now: datetime) -> Claim | None:
    """What the request says of its signer; None where it carries no credentials of any kind.

    Args:
        head: The request as received.
        region: The only region accepted in a credential scope.
        now: Aware UTC time.

    Raises:
        S3Error: Anything malformed, out of date, of another region or service, not fully signed,
            or of a kind of authentication that is not supported.
    """
    _refuse_repeated_headers(head)
    authorization = head.find_header(b"authorization")
    is_presigned = head.claim_fields is not None
    if head.raw_query and not is_presigned:
        names = list_query_names(head)
        is_presigned = has_presigned_claim(names)
        if has_version_2_claim(names):
            raise _version_2_refused()
    if authorization is not None and is_presigned:
        raise S3Error(
            S3Code.INVALID_ARGUMENT,
            "Only one auth mechanism allowed; either the query parameters or the Authorization"
            " header should be specified",
            elements={"ArgumentName": "Authorization"},
        )
    if is_presigned:
        return parse_presigned(head, region=region, now=now)
    if authorization is not None:
        return _parse_header(head, authorization.decode("latin-1"), region=region, now=now)
    return None


def derive_signing_key(secret: str, *, date: str, region: str) -> bytes:
    """The 32-byte signing key (kSigning) of a secret for one day and region.

    Args:
        secret: The secret access key.
        date: `YYYYMMDD`, a claim's `scope_date`.
        region: A claim's `region`.
    """
    key = f"AWS4{secret}".encode()
    for step in (date, region, SERVICE, TERMINATOR):
        key = hmac.digest(key, step.encode(), "sha256")
    return key


# Stands in for the key of an access key id that nobody has; it opens nothing, because
# `verify_unknown` refuses whatever it compares to.
_DUMMY_SIGNING_KEY = derive_signing_key("", date="19700101", region="none")


def verify(claim: Claim, head: RequestHead, signing_key: bytes) -> Verified:
    """The claim, proven by its signature over the request.

    Args:
        claim: From `parse_claim` of the same head.
        head: The request as received.
        signing_key: `derive_signing_key` of the claim's key, date and region.

    Raises:
        S3Error: `SignatureDoesNotMatch`.
    """
    if not _is_signed_by(claim, head, signing_key):
        raise S3Error(S3Code.SIGNATURE_DOES_NOT_MATCH)
    return Verified(
        claim=claim,
        signing_key=signing_key,
        scope=claim.scope,
        timestamp=claim.timestamp,
        seed_signature=claim.signature,
    )


def verify_unknown(claim: Claim, head: RequestHead) -> NoReturn:
    """Refuses a claim whose key does not exist, after the work that a known key would take.

    Raises:
        S3Error: `InvalidAccessKeyId`, always.
    """
    _is_signed_by(claim, head, _DUMMY_SIGNING_KEY)
    raise S3Error(S3Code.INVALID_ACCESS_KEY_ID)


def _is_signed_by(claim: Claim, head: RequestHead, signing_key: bytes) -> bool:
    presented = claim.signature.encode("latin-1")
    start = f"{ALGORITHM}\n{claim.timestamp}\n{claim.scope}\n"
    requests = iter_canonical_requests(
        head, signed_headers=claim.signed_headers, payload_sha256=claim.payload_sha256
    )
    for request in requests:
        string_to_sign = start + hashlib.sha256(request).hexdigest()
        expected = hmac.digest(signing_key, string_to_sign.encode(), "sha256").hex().encode()
        if hmac.compare_digest(expected, presented):
            return True
    return False


def _parse_header(head: RequestHead, text: str, *, region: str, now: datetime) -> Claim:
    fields = _parse_authorization(text)
    access_key_id, scope_date = parse_credential(
        fields["Credential"], kind=AuthKind.HEADER, region=region
    )
    request_time, timestamp = _parse_request_time(head)
    if not timestamp.startswith(scope_date):
        raise malformed(AuthKind.HEADER, "the date of the Credential is not that of the request")
    if abs(request_time - now) > SKEW_MAX:
        raise S3Error(
            S3Code.REQUEST_TIME_TOO_SKEWED,
            elements={
                "RequestTime": format_iso(request_time),
                "ServerTime": format_iso(now),
                "MaxAllowedSkewMilliseconds": str(int(SKEW_MAX.total_seconds()) * 1000),
            },
        )
    signed_headers = parse_signed_headers(fields["SignedHeaders"], kind=AuthKind.HEADER)
    admit_signed_headers(head, signed_headers)
    admit_session_token(head.find_header(b"x-amz-security-token"))
    payload = head.find_header(b"x-amz-content-sha256")
    if payload is None:
        raise S3Error(
            S3Code.INVALID_REQUEST,
            "Missing required header for this request: x-amz-content-sha256",
        )
    payload_text = payload.decode("latin-1")
    admit_payload_text(payload_text)
    return Claim(
        kind=AuthKind.HEADER,
        access_key_id=access_key_id,
        scope_date=scope_date,
        region=region,
        signed_headers=signed_headers,
        signature=fields["Signature"],
        request_time=request_time,
        timestamp=timestamp,
        scope=format_scope(scope_date, region),
        expires_s=None,
        payload_sha256=payload_text,
    )


def _parse_authorization(text: str) -> dict[str, str]:
    """The three fields of an Authorization header; all there, each once, none empty."""
    if not text:
        raise S3Error(S3Code.ACCESS_DENIED)
    scheme, _, rest = text.partition(" ")
    if scheme == "AWS":
        raise _version_2_refused()
    if scheme != ALGORITHM:
        raise S3Error(
            S3Code.INVALID_ARGUMENT,
            "Unsupported Authorization Type",
            elements={"ArgumentName": "Authorization"},
        )
    usual = _USUAL_FIELDS.fullmatch(rest)
    if usual is not None:
        return usual.groupdict()
    fields: dict[str, str] = {}
    for item in rest.split(","):
        name, _, value = item.strip(" \t").partition("=")
        if name not in _AUTHORIZATION_FIELDS or name in fields or not value:
            raise malformed(
                AuthKind.HEADER, "it takes Credential, SignedHeaders and Signature, each once"
            )
        fields[name] = value
    if len(fields) != len(_AUTHORIZATION_FIELDS):
        raise malformed(
            AuthKind.HEADER, "one of Credential, SignedHeaders and Signature is missing"
        )
    return fields


def _parse_request_time(head: RequestHead) -> tuple[datetime, str]:
    """The time in `x-amz-date`, else in `Date`, which may be of either form; and its timestamp."""
    time: datetime | None = None
    amz_date = head.find_header(b"x-amz-date")
    if amz_date is not None:
        text = amz_date.decode("latin-1")
        time = parse_timestamp(text)
        if time is not None:
            return time, text  # which has one spelling
    else:
        date = (head.find_header(b"date") or b"").decode("latin-1")
        # botocore writes the zone as RFC 5322 does, with digits.
        since_epoch_us = parse_http_date(_ZERO_ZONE.sub(" GMT", date))
        time = (
            parse_timestamp(date)
            if since_epoch_us is None
            else _EPOCH + timedelta(microseconds=since_epoch_us)
        )
    if time is None:
        raise S3Error(
            S3Code.ACCESS_DENIED, "AWS authentication requires a valid Date or x-amz-date header"
        )
    return time, format_timestamp(time)


def _refuse_repeated_headers(head: RequestHead) -> None:
    if head.fields.repeated.isdisjoint(_SINGLE_HEADERS):
        return
    repeated = head.fields.repeated & _SINGLE_HEADERS
    text = next(name for name in head.fields.values if name in repeated).decode("ascii")
    raise S3Error(
        S3Code.INVALID_ARGUMENT,
        f"The header {text} is present more than once",
        elements={"ArgumentName": text},
    )


def _version_2_refused() -> S3Error:
    return S3Error(
        S3Code.INVALID_REQUEST,
        f"The authorization mechanism you have provided is not supported. Please use {ALGORITHM}.",
    )
