"""What a request says of its body, and the decoder that takes its framing off.

`plan_payload` reads every header that speaks of length, digests and framing, and refuses what can
be refused before the first byte. `PayloadDecoder` then turns wire bytes into payload, and
`appliance.s3.checksums.verify_digests` compares the sums at the end. Only after that may anything
become visible.

Checksums in the query of a presigned URL are ignored: SDKs put the sum of an empty body there,
because they sign before they know the body.

Source: AWS, "Checking object integrity in Amazon S3", Amazon S3 User Guide; "Common Request
Headers", Amazon S3 API Reference; RFC 1864 (Content-MD5).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from types import MappingProxyType
from typing import TYPE_CHECKING

from appliance.s3.aws_chunked import ChunkChain, ChunkedDecoder
from appliance.s3.checksums import ALGORITHMS, DEFAULT_ALGORITHM, is_checksum_value
from appliance.s3.claim import UNSIGNED_PAYLOAD, admit_payload_text
from appliance.s3.codes import S3Code
from appliance.s3.errors import S3Error
from appliance.s3.payload_records import DeclaredChecksum, DecodedEnd, PayloadMode, PayloadPlan

if TYPE_CHECKING:
    from collections.abc import Mapping

    from appliance.s3.messages import RequestHead
    from appliance.s3.sigv4 import Verified

__all__ = [
    "DeclaredChecksum",
    "DecodedEnd",
    "PayloadDecoder",
    "PayloadMode",
    "PayloadPlan",
    "plan_payload",
]

# 19 digits hold any signed 64-bit number; what an object may really have is for others to say.
_LENGTH = re.compile(rb"[0-9]{1,19}")

_EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()

_CHECKSUM_PREFIX = b"x-amz-checksum-"
# These share the prefix and are no values.
_CHECKSUM_SETTINGS = frozenset(
    {b"x-amz-checksum-algorithm", b"x-amz-checksum-mode", b"x-amz-checksum-type"}
)
_ALGORITHM_BY_HEADER: Mapping[bytes, str] = MappingProxyType(
    {row.header: row.name for row in ALGORITHMS.values()}
)
# S3 has these too; refused as not implemented, because to ignore one would claim a check unmade.
_ALGORITHMS_NOT_IMPLEMENTED = frozenset(
    b"x-amz-checksum-" + name for name in (b"sha512", b"md5", b"xxhash64", b"xxhash3", b"xxhash128")
)


_MODES: Mapping[str, PayloadMode] = MappingProxyType(
    {
        UNSIGNED_PAYLOAD: PayloadMode.UNSIGNED,
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD": PayloadMode.STREAMING_SIGNED,
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER": PayloadMode.STREAMING_SIGNED_TRAILER,
        "STREAMING-UNSIGNED-PAYLOAD-TRAILER": PayloadMode.STREAMING_UNSIGNED_TRAILER,
    }
)


def plan_payload(
    head: RequestHead,
    verified: Verified | None,
    *,
    content_length: int | None,
    is_secure: bool,
    require_signed_payload: bool = False,
    is_checksum_of_body: bool = True,
) -> PayloadPlan:
    """What the head says of the body.

    Args:
        head: The request as received.
        verified: Who sent it; None for anonymous.
        content_length: Of the wire body in bytes, None where it is chunked or was not announced.
        is_secure: True over TLS.
        require_signed_payload: Refuse unsigned bodies where TLS does not protect them.
        is_checksum_of_body: False for CompleteMultipartUpload, whose `x-amz-checksum-*` headers
            speak of the object and not of the XML sent.

    Raises:
        S3Error: Anything malformed, contradictory or missing; see the table in the tests.
    """
    mode, sha256_hex = _read_mode(head, verified)
    if not mode.is_chunked and not _has_body(head, content_length):
        mode = PayloadMode.EMPTY
        if sha256_hex not in (None, _EMPTY_SHA256):
            raise S3Error(S3Code.X_AMZ_CONTENT_SHA256_MISMATCH)
    is_signed = mode in (PayloadMode.EMPTY, PayloadMode.SIGNED) or mode.has_signed_chunks
    if require_signed_payload and not is_secure and not is_signed:
        raise S3Error(
            S3Code.ACCESS_DENIED, "Without TLS the payload must be signed: sign its SHA-256"
        )
    checksum = _read_checksum(head, mode) if is_checksum_of_body else None
    return PayloadPlan(
        mode=mode,
        decoded_bytes=_read_decoded_bytes(head, mode, content_length),
        sha256_hex=sha256_hex,
        md5=_read_md5(head),
        checksum=checksum,
        algorithms=frozenset({_choose_algorithm(head, checksum)}),
    )


class PayloadDecoder:
    """Turns the wire bytes of one body into payload. Not to be used again after it raised.

    Args:
        plan: From `plan_payload`.
        verified: The same that the plan was made with.
    """

    def __init__(self, plan: PayloadPlan, verified: Verified | None) -> None:
        self._plan = plan
        self._trailer = None if plan.checksum is None else plan.checksum.trailer
        self._size_bytes = 0
        self._chunked: ChunkedDecoder | None = None
        if not plan.mode.is_chunked:
            return
        assert plan.decoded_bytes is not None, "an aws-chunked body declares its length"
        chain: ChunkChain | None = None
        if plan.mode.has_signed_chunks:
            assert verified is not None, "signed chunks follow a verified seed"
            chain = ChunkChain(verified)
        self._chunked = ChunkedDecoder(
            decoded_bytes=plan.decoded_bytes,
            chain=chain,
            has_trailer=plan.mode.has_trailer,
            announced=frozenset() if self._trailer is None else frozenset({self._trailer}),
        )

    def receive(self, data: bytes) -> list[bytes | memoryview]:
        """The payload in the next wire bytes, in order; pieces may be views of `data`.

        Raises:
            S3Error: The framing is broken, a chunk's signature is wrong, or more came than was
                declared.
        """
        pieces: list[bytes | memoryview] = []
        if self._chunked is not None:
            pieces.extend(self._chunked.receive(data))
        elif data:
            pieces.append(data)
        self._size_bytes += sum(map(len, pieces))
        declared = self._plan.decoded_bytes
        if declared is not None and self._size_bytes > declared:
            raise self._wrong_length(declared)
        return pieces

    def skip(self, count: int) -> None:
        """Count payload of a body without framing that did not come through here.

        Raises:
            S3Error: As of `receive`.
        """
        assert self._chunked is None, "framing has to be taken off"
        self._size_bytes += count
        declared = self._plan.decoded_bytes
        if declared is not None and self._size_bytes > declared:
            raise self._wrong_length(declared)

    def finish(self) -> DecodedEnd:
        """What the end told; to be called once, when the wire body has ended.

        Raises:
            S3Error: `IncompleteBody` where the end came too soon; `InvalidRequest` for a trailer
                that is no checksum of its kind.
        """
        checksum: tuple[str, str] | None = None
        if self._chunked is not None:
            checksum = self._read_trailer(self._chunked.finish())
        declared = self._plan.decoded_bytes
        if declared is not None and self._size_bytes != declared:
            raise self._wrong_length(declared)
        return DecodedEnd(checksum=checksum, size_bytes=self._size_bytes)

    def _read_trailer(self, trailers: Mapping[bytes, bytes]) -> tuple[str, str] | None:
        checksum = self._plan.checksum
        if checksum is None or checksum.trailer is None:
            return None
        value = trailers[checksum.trailer].decode("latin-1")
        if not is_checksum_value(checksum.algorithm, value):
            raise S3Error(
                S3Code.INVALID_REQUEST,
                f"Value for {checksum.trailer.decode('ascii')} trailing header is invalid.",
            )
        return checksum.algorithm, value

    def _wrong_length(self, declared: int) -> S3Error:
        return S3Error(
            S3Code.INCOMPLETE_BODY,
            elements={
                "NumberBytesExpected": str(declared),
                "NumberBytesProvided": str(self._size_bytes),
            },
        )


def _read_mode(head: RequestHead, verified: Verified | None) -> tuple[PayloadMode, str | None]:
    """The mode that `x-amz-content-sha256` says, and the hash where it is one."""
    if verified is not None:
        text = verified.claim.payload_sha256
    else:
        text = (head.find_header(b"x-amz-content-sha256") or b"UNSIGNED-PAYLOAD").decode("latin-1")
        admit_payload_text(text)
    mode = _MODES.get(text, PayloadMode.SIGNED)
    if mode.has_signed_chunks and verified is None:
        raise S3Error(S3Code.ACCESS_DENIED, "Signed chunks need a signed request")
    return mode, text.lower() if mode is PayloadMode.SIGNED else None


def _has_body(head: RequestHead, content_length: int | None) -> bool:
    if content_length is not None:
        return content_length > 0
    if head.find_header(b"transfer-encoding") is not None:
        return True
    if head.method == "PUT" and head.find_header(b"x-amz-copy-source") is None:
        raise S3Error(S3Code.MISSING_CONTENT_LENGTH)
    return False


def _read_decoded_bytes(
    head: RequestHead, mode: PayloadMode, content_length: int | None
) -> int | None:
    if mode is PayloadMode.EMPTY:
        return 0
    if not mode.is_chunked:
        return content_length
    values = head.list_header(b"x-amz-decoded-content-length")
    if not values:
        raise S3Error(
            S3Code.MISSING_CONTENT_LENGTH,
            "You must provide the x-amz-decoded-content-length HTTP header",
        )
    if len(values) > 1 or not _LENGTH.fullmatch(values[0]):
        raise S3Error(
            S3Code.INVALID_ARGUMENT,
            "x-amz-decoded-content-length must be one whole number of bytes",
            elements={"ArgumentName": "x-amz-decoded-content-length"},
        )
    return int(values[0])


def _read_md5(head: RequestHead) -> bytes | None:
    values = head.list_header(b"content-md5")
    if not values:
        return None
    try:
        digest = base64.b64decode(values[0], validate=True)
    except binascii.Error:
        raise S3Error(S3Code.INVALID_DIGEST) from None
    if len(digest) != 16 or len(values) > 1:
        raise S3Error(S3Code.INVALID_DIGEST)
    return digest


def _read_checksum(head: RequestHead, mode: PayloadMode) -> DeclaredChecksum | None:
    """The one checksum in the head or announced by it."""
    in_head = [
        (name, value)
        for name, value in head.headers
        if name.startswith(_CHECKSUM_PREFIX) and name not in _CHECKSUM_SETTINGS
    ]
    trailers = [
        name.strip().lower()
        for value in head.list_header(b"x-amz-trailer")
        for name in value.split(b",")
        if name.strip()
    ]
    if len(in_head) + len(trailers) > 1:
        raise S3Error(
            S3Code.INVALID_REQUEST,
            "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.",
        )
    if trailers:
        return _announced_checksum(trailers[0], mode)
    if in_head:
        return _stated_checksum(*in_head[0])
    return None


def _announced_checksum(trailer: bytes, mode: PayloadMode) -> DeclaredChecksum:
    _admit_implemented(trailer)
    algorithm = _ALGORITHM_BY_HEADER.get(trailer)
    if algorithm is None:
        raise S3Error(
            S3Code.INVALID_REQUEST,
            "The value specified in the x-amz-trailer header is not supported",
        )
    if not mode.has_trailer:
        raise S3Error(
            S3Code.INVALID_REQUEST,
            "x-amz-trailer needs a streaming payload with trailer in x-amz-content-sha256",
        )
    return DeclaredChecksum(algorithm=algorithm, value=None, trailer=trailer)


def _stated_checksum(header: bytes, raw_value: bytes) -> DeclaredChecksum:
    _admit_implemented(header)
    algorithm = _ALGORITHM_BY_HEADER.get(header)
    if algorithm is None:
        raise S3Error(
            S3Code.INVALID_REQUEST,
            "The algorithm type you specified in x-amz-checksum- header is invalid.",
        )
    value = raw_value.decode("latin-1")
    if not is_checksum_value(algorithm, value):
        raise S3Error(
            S3Code.INVALID_REQUEST, f"Value for {header.decode('ascii')} header is invalid."
        )
    return DeclaredChecksum(algorithm=algorithm, value=value, trailer=None)


def _admit_implemented(header: bytes) -> None:
    if header in _ALGORITHMS_NOT_IMPLEMENTED:
        raise S3Error(
            S3Code.NOT_IMPLEMENTED, f"The checksum {header.decode('ascii')} is not implemented"
        )


def _choose_algorithm(head: RequestHead, checksum: DeclaredChecksum | None) -> str:
    if checksum is not None:
        return checksum.algorithm
    wished = (head.find_header(b"x-amz-sdk-checksum-algorithm") or b"").decode("latin-1").upper()
    # Unknown names are ignored: SDKs send what their own server would know.
    return wished if wished in ALGORITHMS else DEFAULT_ALGORITHM
