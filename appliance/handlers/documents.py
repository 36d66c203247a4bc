"""Receives the XML document of a request, bounded and verified."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.s3.checksums import ContentDigest, verify_digests
from appliance.s3.codes import S3Code
from appliance.s3.errors import S3Error
from appliance.s3.payload import PayloadDecoder, plan_payload

if TYPE_CHECKING:
    from appliance.handlers.request import S3Request

__all__ = ["receive_document"]


async def receive_document(
    request: S3Request,
    *,
    bytes_max: int,
    digest_required: bool = False,
    is_checksum_of_body: bool = True,
) -> bytes:
    """The whole body of a small request, its length, signature and digests verified.

    Args:
        request: Whose body to take; it is read to its end.
        bytes_max: Refused above this, before anything is buffered where the length is announced.
        digest_required: True where S3 demands Content-MD5 or a checksum (DeleteObjects).
        is_checksum_of_body: False where checksum headers speak of the object and not of this
            document (CompleteMultipartUpload).

    Raises:
        S3Error: `MaxMessageLengthExceeded`, `InvalidRequest`, or what a digest mismatch is called.
    """
    plan = plan_payload(
        request.head,
        request.verified,
        content_length=request.body.content_length,
        is_secure=request.head.is_secure,
        require_signed_payload=request.services.limits.require_signed_payload,
        is_checksum_of_body=is_checksum_of_body,
    )
    # A signed SHA-256 proves as much; Go's SDK sends nothing else with some of its settings.
    has_digest = bool(plan.md5 or plan.checksum or plan.sha256_hex)
    if digest_required and not has_digest:
        raise S3Error(
            S3Code.INVALID_REQUEST,
            "Missing required header for this request: Content-MD5 or x-amz-checksum-*",
        )
    announced = plan.decoded_bytes
    if announced is not None and announced > bytes_max:
        raise S3Error(S3Code.MAX_MESSAGE_LENGTH_EXCEEDED)
    decoder = PayloadDecoder(plan, request.verified)
    digest = ContentDigest(plan.algorithms, with_sha256=plan.sha256_hex is not None)
    document = bytearray()
    while data := await request.body.receive():
        for piece in decoder.receive(data):
            document += piece
            digest.update(piece)
        if len(document) > bytes_max:
            raise S3Error(S3Code.MAX_MESSAGE_LENGTH_EXCEEDED)
    verify_digests(plan, decoder.finish(), digest.finish())
    return bytes(document)
