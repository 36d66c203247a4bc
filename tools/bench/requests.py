"""Prepared requests: signed before the clock runs, written as the list that `requests.lua` sends.

A presigned URL costs the load generator nothing while it measures, and the server all of its check.
Requests signed in their headers are good for a quarter of an hour and may be sent again, so that
some of them are enough. The signer is the one of the client tests; only the presigned form is made
here a second time, with the signing key derived once instead of per request (a test compares them).

Source: AWS, "Authenticating Requests: Using Query Parameters", Amazon S3 API Reference.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import quote
from zlib import crc32

from tests.client.raw import (
    Credentials,
    RawRequest,
    Signing,
    sign,
    signed_chunks,
    signing_key,
    unsigned_chunks,
)
from tools.bench.records import KIB, Body

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["PreparedRequest", "Presigner", "prepare_put", "write_list"]

EXPIRES_S = 86_400
CHUNK_BYTES = 64 * KIB  # what AWS's SDKs send
_ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedRequest:
    """A request that needs no more work.

    Attributes:
        method: GET, HEAD, PUT or DELETE.
        target: Path and query as they go on the wire.
        headers: Name and value; the length of a body is added by the generator.
        body: The file with the body, None for no body.
    """

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: Path | None = None


class Presigner:
    """Makes presigned URLs for one host and key, all with one date.

    Args:
        credentials: Whose secret signs.
        host: Value of the Host header, with its port.
        now: Time of signing; by default the present.
    """

    def __init__(self, credentials: Credentials, host: str, *, now: datetime | None = None) -> None:
        moment = now if now is not None else datetime.now(tz=UTC)
        self._host = host
        self._stamp = moment.strftime("%Y%m%dT%H%M%SZ")
        self._scope = f"{moment:%Y%m%d}/us-east-1/s3/aws4_request"
        self._key = signing_key(credentials, self._scope)
        self._claim = {
            "X-Amz-Algorithm": _ALGORITHM,
            "X-Amz-Credential": f"{credentials.access_key_id}/{self._scope}",
            "X-Amz-Date": self._stamp,
            "X-Amz-Expires": str(EXPIRES_S),
            "X-Amz-SignedHeaders": "host",
        }

    def presign(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, str] | None = None,
        headers: tuple[tuple[str, str], ...] = (),
        body: Path | None = None,
    ) -> PreparedRequest:
        """One request.

        Args:
            method: The HTTP method.
            path: Bucket and key; of characters that need no percent-encoding.
            query: Parameters besides the claim.
            headers: Sent, and not signed.
            body: The file to send; its hash is not signed.
        """
        pairs = sorted({**self._claim, **(query or {})}.items())
        text = "&".join(
            f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in pairs
        )
        canonical = f"{method}\n{path}\n{text}\nhost:{self._host}\n\nhost\nUNSIGNED-PAYLOAD"
        to_sign = "\n".join(
            (_ALGORITHM, self._stamp, self._scope, hashlib.sha256(canonical.encode()).hexdigest())
        )
        signature = hmac.new(self._key, to_sign.encode(), "sha256").hexdigest()
        return PreparedRequest(
            method=method,
            target=f"{path}?{text}&X-Amz-Signature={signature}",
            headers=(("Host", self._host), *headers),
            body=body,
        )


def prepare_put(
    kind: Body, path: str, payload: bytes, *, credentials: Credentials, host: str, body_file: Path
) -> PreparedRequest:
    """A PUT; writes the body as it goes on the wire to `body_file`."""
    if kind is Body.PRESIGNED:
        body_file.write_bytes(payload)
        return Presigner(credentials, host).presign("PUT", path, body=body_file)
    request = _sign_put(kind, path, payload, credentials=credentials, host=host)
    body_file.write_bytes(request.body)
    return PreparedRequest(
        method="PUT", target=request.target, headers=request.headers, body=body_file
    )


def _sign_put(
    kind: Body, path: str, payload: bytes, *, credentials: Credentials, host: str
) -> RawRequest:
    bare = RawRequest(method="PUT", path=path, headers=(("host", host),), body=payload)
    if kind is Body.UNSIGNED:
        return sign(bare, credentials, Signing(payload="UNSIGNED-PAYLOAD"))
    if kind is Body.SIGNED:
        return sign(bare, credentials)
    chunks = [payload[at : at + CHUNK_BYTES] for at in range(0, len(payload), CHUNK_BYTES)]
    if kind is Body.CHUNKS_SIGNED:
        return signed_chunks(bare, credentials, chunks)
    assert kind is Body.CHUNKS_TRAILER
    name = "x-amz-checksum-crc32"
    value = b64encode(crc32(payload).to_bytes(4, "big")).decode()
    return unsigned_chunks(bare, credentials, chunks, announced=name, trailers=((name, value),))


def write_list(path: Path, requests: Iterable[PreparedRequest]) -> None:
    """Writes the list for `requests.lua`."""
    with path.open("w", encoding="ascii") as file:
        for request in requests:
            fields = [request.method, request.target, str(request.body or "-")]
            fields += [f"{name}: {value}" for name, value in request.headers]
            file.write("\t".join(fields) + "\n")
