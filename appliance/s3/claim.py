"""What a request says of its signer, and the checks that header and presigned claims share.

A claim is unproven: `appliance.s3.sigv4.verify` proves it. Both kinds of authentication pass
through the same checks here, so that neither can forget one.

Source: AWS, "Authenticating Requests (AWS Signature Version 4)", Amazon S3 API Reference.
"""

from __future__ import annotations

import enum
import re
from dataclasses import field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

from appliance.record import record
from appliance.s3.codes import S3Code
from appliance.s3.errors import S3Error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from appliance.s3.messages import RequestHead

__all__ = [
    "ALGORITHM",
    "SKEW_MAX",
    "TERMINATOR",
    "UNSIGNED_PAYLOAD",
    "AuthKind",
    "Claim",
    "admit_payload_text",
    "admit_session_token",
    "admit_signed_headers",
    "format_iso",
    "format_scope",
    "format_timestamp",
    "malformed",
    "parse_credential",
    "parse_signed_headers",
    "parse_timestamp",
]

ALGORITHM = "AWS4-HMAC-SHA256"
SERVICE = "s3"
TERMINATOR = "aws4_request"
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"

SKEW_MAX = timedelta(minutes=15)  # AWS: RequestTimeTooSkewed beyond it, in both directions

# What a key id may be made of. AWS's are 16 to 128 word characters; others import ids with
# punctuation. Nothing here can end a line or a quotation in a log.
_ACCESS_KEY_ID = re.compile(r"[A-Za-z0-9_.@+=/-]{1,128}")

_SCOPE_DATE = re.compile(r"[0-9]{8}")
_TIMESTAMP = re.compile(
    r"([0-9]{4})([0-9]{2})([0-9]{2})T([0-9]{2})([0-9]{2})([0-9]{2})Z",
)
_TIMESTAMP_CHARS = 16
_REMEMBERED_CHARS_MAX = 256  # an id of 128 characters with its scope; lists of signed headers
_HEADER_NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")
_SHA256_HEX = re.compile(r"[0-9a-fA-F]{64}")

_PAYLOAD_KEYWORDS = frozenset(
    {
        UNSIGNED_PAYLOAD,
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
        "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
    }
)
_PAYLOAD_ECDSA_PREFIX = "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD"


class AuthKind(enum.Enum):
    """Where the claim stood."""

    HEADER = "header"
    PRESIGNED = "presigned"

    # In the keys of what is remembered below, where an enumeration's own hash is half the cost.
    __hash__ = object.__hash__


@record
class Claim:
    """Who a request says it comes from.

    Attributes:
        kind: Header or query.
        access_key_id: Safe to log; 1 to 128 characters.
        scope_date: `YYYYMMDD` of the credential scope, the UTC day of `request_time`.
        region: Of the credential scope; the server's own.
        signed_headers: Lower-case names in the signer's order; has `host` and every `x-amz-*`
            header that the request carries.
        signature: As sent; lower-case hexadecimal once it is verified.
        request_time: UTC, whole seconds.
        timestamp: The same as strings to sign have it: `YYYYMMDDTHHMMSSZ`.
        scope: The credential scope: date, region, service and terminator.
        expires_s: 1 to 604,800 for a presigned claim, None for a header.
        payload_sha256: Text of `x-amz-content-sha256`, or `UNSIGNED-PAYLOAD` for a presigned claim
            without one.
    """

    kind: AuthKind
    access_key_id: str
    scope_date: str
    region: str
    signed_headers: tuple[bytes, ...]
    signature: str = field(repr=False)
    request_time: datetime
    timestamp: str
    scope: str
    expires_s: int | None
    payload_sha256: str


def malformed(
    kind: AuthKind, message: str, *, elements: Mapping[str, str] | None = None
) -> S3Error:
    """The error for a claim of this kind that does not follow the form."""
    if kind is AuthKind.HEADER:
        return S3Error(
            S3Code.AUTHORIZATION_HEADER_MALFORMED,
            f"The authorization header is malformed; {message}",
            elements=elements,
        )
    return S3Error(
        S3Code.AUTHORIZATION_QUERY_PARAMETERS_ERROR,
        f"The authorization query parameters are wrong; {message}",
        elements=elements,
    )


def parse_credential(text: str, *, kind: AuthKind, region: str) -> tuple[str, str]:
    """The access key id and the scope date of a Credential. Those of usual length are remembered.

    Args:
        text: `<access key id>/<YYYYMMDD>/<region>/s3/aws4_request`.
        kind: Chooses the error.
        region: The only region accepted.

    Raises:
        S3Error: Malformed or of another region (with a `Region` element); `InvalidAccessKeyId`
            where the id has characters that no id has.
    """
    if len(text) > _REMEMBERED_CHARS_MAX:
        return _parse_credential(text, kind, region)
    return _parse_usual_credential(text, kind, region)


def _parse_credential(text: str, kind: AuthKind, region: str) -> tuple[str, str]:
    fields = text.rsplit("/", 4)
    if len(fields) != 5:
        raise malformed(
            kind,
            "the Credential is mal-formed; expecting"
            ' "<access key id>/YYYYMMDD/REGION/SERVICE/aws4_request"',
        )
    access_key_id, scope_date, scope_region, service, terminator = fields
    if terminator != TERMINATOR:
        raise malformed(kind, f'the Credential must end with "{TERMINATOR}"')
    if service != SERVICE:
        raise malformed(kind, f'the service of the Credential must be "{SERVICE}"')
    if not _SCOPE_DATE.fullmatch(scope_date):
        raise malformed(kind, 'the date of the Credential is not in the form "YYYYMMDD"')
    if scope_region != region:
        raise malformed(
            kind,
            f"the region of the Credential is wrong; expecting '{region}'",
            elements={"Region": region},
        )
    if not _ACCESS_KEY_ID.fullmatch(access_key_id):
        raise S3Error(S3Code.INVALID_ACCESS_KEY_ID)
    return access_key_id, scope_date


# What well-behaved clients send comes again with every request of a key and a day, or of a second.
# The memories are bounded in number and length; they hold nothing that was proven, and a time or a
# key is judged anew with each request.
_parse_usual_credential = lru_cache(maxsize=1024)(_parse_credential)


@lru_cache(maxsize=1024)
def _parse_usual_timestamp(text: str) -> datetime | None:
    return _parse_timestamp(text)


def parse_timestamp(text: str) -> datetime | None:
    """The UTC time of `YYYYMMDDTHHMMSSZ`, None for anything else."""
    return _parse_usual_timestamp(text) if len(text) == _TIMESTAMP_CHARS else None


def _parse_timestamp(text: str) -> datetime | None:
    match = _TIMESTAMP.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second = map(int, match.groups())
    try:
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None


def format_timestamp(time: datetime) -> str:
    """`YYYYMMDDTHHMMSSZ` of an aware UTC time."""
    return (
        f"{time.year:04}{time.month:02}{time.day:02}"
        f"T{time.hour:02}{time.minute:02}{time.second:02}Z"
    )


def format_scope(scope_date: str, region: str) -> str:
    """The credential scope: date, region, service and terminator."""
    return f"{scope_date}/{region}/{SERVICE}/{TERMINATOR}"


def format_iso(time: datetime) -> str:
    """`YYYY-MM-DDTHH:MM:SSZ` of an aware UTC time, as error documents show it."""
    return f"{time.replace(microsecond=0, tzinfo=None).isoformat()}Z"


def parse_signed_headers(text: str, *, kind: AuthKind) -> tuple[bytes, ...]:
    """The lower-case names of a SignedHeaders list, in its order.

    Raises:
        S3Error: Malformed: empty, not lower case, or a name twice.
    """
    if len(text) > _REMEMBERED_CHARS_MAX:
        return _parse_signed_headers(text, kind)
    return _parse_usual_signed_headers(text, kind)


def _parse_signed_headers(text: str, kind: AuthKind) -> tuple[bytes, ...]:
    names = text.split(";")
    if not all(map(_HEADER_NAME.fullmatch, names)) or len(set(names)) != len(names):
        raise malformed(kind, "SignedHeaders must be lower-case header names joined by ';'")
    return tuple(name.encode("ascii") for name in names)


_parse_usual_signed_headers = lru_cache(maxsize=256)(_parse_signed_headers)


def admit_signed_headers(head: RequestHead, signed_headers: tuple[bytes, ...]) -> None:
    """Refuses a request with headers that had to be signed and were not.

    An unsigned `x-amz-*` header is refused, never dropped: a presigned PUT with an unsigned
    `x-amz-copy-source` would otherwise read what its signer may read.

    Raises:
        S3Error: `AccessDenied` with a `HeadersNotSigned` element.
    """
    signed = frozenset(signed_headers)
    unsigned = [] if b"host" in signed else ["host"]
    unsigned += [
        name.decode("ascii", "replace")
        for name in head.fields.values
        if name.startswith(b"x-amz-") and name not in signed
    ]
    if unsigned:
        raise S3Error(
            S3Code.ACCESS_DENIED,
            "There were headers present in the request which were not signed",
            elements={"HeadersNotSigned": ", ".join(unsigned)},
        )


def admit_payload_text(text: str) -> None:
    """Refuses an `x-amz-content-sha256` that is neither a hash nor a keyword.

    Raises:
        S3Error: `NotImplemented` for the ECDSA keywords, else `InvalidArgument`.
    """
    if text in _PAYLOAD_KEYWORDS or _SHA256_HEX.fullmatch(text):
        return
    if text.startswith(_PAYLOAD_ECDSA_PREFIX):
        raise S3Error(
            S3Code.NOT_IMPLEMENTED, "Payloads signed with ECDSA (SigV4A) are not implemented"
        )
    raise S3Error(
        S3Code.INVALID_ARGUMENT,
        "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER,"
        " STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
        " or a valid sha256 value",
        elements={"ArgumentName": "x-amz-content-sha256"},
    )


def admit_session_token(token: bytes | None) -> None:
    """Refuses temporary credentials: this server issues none, so no token can be valid.

    Raises:
        S3Error: `InvalidToken`.
    """
    if token:
        raise S3Error(S3Code.INVALID_TOKEN)
