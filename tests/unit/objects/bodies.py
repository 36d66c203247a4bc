"""Bodies on their way to a simulated store."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import trio

from appliance.objects.buffers import RequestBuffers
from appliance.objects.writer import BodyRequest, BodyWriter
from appliance.s3.payload import PayloadMode, PayloadPlan
from hal.records import BodyId

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.s3.checksums import Digests
    from tiers.page_store import PageStore

__all__ = ["DirectBody", "ListBody", "make_buffers", "make_request", "make_writer"]

MIB = 1024 * 1024


class ListBody:
    """A request's body out of pieces; ends early with `error` if there is one."""

    def __init__(
        self,
        pieces: Sequence[bytes],
        *,
        announced: int | None = None,
        error: Exception | None = None,
    ) -> None:
        self._pieces = list(pieces)
        self._announced = announced
        self._error = error

    @property
    def content_length(self) -> int | None:
        return self._announced

    @property
    def has_body(self) -> bool:
        return True

    async def receive(self) -> bytes:
        await trio.lowlevel.checkpoint()
        if self._pieces:
            return self._pieces.pop(0)
        if self._error is not None:
            raise self._error
        return b""


class DirectBody(ListBody):
    """The same, put where its receiver wants it."""

    receives_into = True

    async def receive_into(self, target: memoryview) -> int:
        piece = await self.receive()
        count = min(len(piece), len(target))
        target[:count] = piece[:count]
        if count < len(piece):
            self._pieces.insert(0, piece[count:])
        return count


def make_buffers(total_bytes: int = 64 * MIB) -> RequestBuffers:
    return RequestBuffers(total_bytes)


def make_writer(store: PageStore, buffers: RequestBuffers) -> BodyWriter:
    return BodyWriter(store, buffers, hashing=trio.CapacityLimiter(1), now_us=lambda: 5)


def make_request(
    payload: bytes | None = None,
    *,
    md5: bytes | None = None,
    announced: int | None = None,
    object_bytes_max: int = 1 << 40,
    body_id: int = 9,
) -> BodyRequest:
    """An unsigned upload that announces what it is given."""
    if payload is not None and md5 is None:
        md5 = hashlib.md5(payload, usedforsecurity=False).digest()
    plan = PayloadPlan(
        mode=PayloadMode.UNSIGNED,
        decoded_bytes=announced,
        sha256_hex=None,
        md5=md5,
        checksum=None,
        algorithms=frozenset({"CRC64NVME"}),
    )

    def make_annex(size_bytes: int, digests: Digests) -> bytes:
        return f"{size_bytes}:{digests.md5.hex()}".encode()

    return BodyRequest(
        tenant_id=1,
        body_id=BodyId(body_id),
        plan=plan,
        verified=None,
        stored_algorithm="CRC64NVME",
        object_bytes_max=object_bytes_max,
        expected_bytes=announced,
        make_annex=make_annex,
    )
