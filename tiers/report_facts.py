"""The facts that a capacity report is counted from, and how it is cut. Pure values.

What a catalog tells of pages, of who names their bodies, and of moves; it knows nothing of sums.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

__all__ = [
    "PING_PONG_S",
    "BodyFact",
    "BodyUse",
    "Cut",
    "GroupKey",
    "MoveFact",
    "PageFact",
    "Role",
    "Use",
    "cut_prefix",
]

PING_PONG_S = 86_400.0
"""A page that leaves the fast tier within a day of its promotion was promoted for nothing."""

Role = Literal["version", "upload", "manifest", "dead"]


class GroupKey(NamedTuple):
    """What a tally is of; None where it is not cut so, or nobody owns it."""

    tenant_id: int | None
    bucket_id: int | None
    prefix: bytes | None
    volume_id: int


class PageFact(NamedTuple):
    """A record of a page, and of its shadow where it has one; and what its body's row says.

    Attributes:
        shadow_volume_id: None for a page without a shadow.
        reference_count: How many versions, parts and manifests name the body.
        is_dead: Whether none does any more.
    """

    body_id: int
    page_index: int
    payload_bytes: int
    record_bytes: int
    volume_id: int
    shadow_volume_id: int | None
    shadow_bytes: int
    tenant_id: int
    reference_count: int
    is_dead: bool


class BodyFact(NamedTuple):
    """What a body's row says of it."""

    tenant_id: int
    reference_count: int
    is_dead: bool


class Use(NamedTuple):
    """What names a body: a version, a part of an upload, or what a manifest states.

    Attributes:
        is_first: For a version: this body holds its first byte, so that it is counted here.
    """

    bucket_id: int
    key: bytes | None
    written_us: int
    is_first: bool


class BodyUse(NamedTuple):
    """Who a body belongs to.

    Attributes:
        role: Of what it is; a part of an upload in progress is the upload's.
        uses: The owner first; empty for what is dead.
    """

    tenant_id: int | None
    role: Role
    uses: tuple[Use, ...]


class MoveFact(NamedTuple):
    """A line of the journal of moves.

    Attributes:
        is_return: Whether the page had been promoted to where it left from within `PING_PONG_S`.
    """

    body_id: int
    page_index: int
    action: str
    from_volume_id: int
    to_volume_id: int
    record_bytes: int
    at_us: int
    is_return: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """How pages are grouped, and which of them count.

    Attributes:
        by: Some of `tiers.report_columns.DIMENSIONS`.
        tenant_id: Only this tenant's; None for all.
        bucket_id: Only this bucket's; None for all.
        prefix: Only keys that begin so; None for all.
        prefix_depth: How many parts between slashes a row's prefix has, behind `prefix`.
    """

    by: frozenset[str]
    tenant_id: int | None = None
    bucket_id: int | None = None
    prefix: bytes | None = None
    prefix_depth: int = 1

    @property
    def is_whole(self) -> bool:
        """Whether every page counts."""
        return self.tenant_id is None and self.bucket_id is None and self.prefix is None

    def holds(self, tenant_id: int | None, bucket_id: int | None, key: bytes | None) -> bool:
        """Whether what such an owner has counts."""
        if self.tenant_id is not None and tenant_id != self.tenant_id:
            return False
        if self.bucket_id is not None and bucket_id != self.bucket_id:
            return False
        return self.prefix is None or (key is not None and key.startswith(self.prefix))

    def group(
        self, tenant_id: int | None, bucket_id: int | None, key: bytes | None, volume_id: int
    ) -> GroupKey:
        """The tally that such a page belongs to."""
        by = self.by
        prefix: bytes | None = None
        if "prefix" in by and key is not None:
            prefix = cut_prefix(key, skip=len(self.prefix or b""), depth=self.prefix_depth)
        return GroupKey(
            tenant_id if "tenant" in by or "bucket" in by or "prefix" in by else None,
            bucket_id if "bucket" in by or "prefix" in by else None,
            prefix,
            volume_id,
        )


def cut_prefix(key: bytes, *, skip: int, depth: int) -> bytes:
    """The first parts of a key, each with its slash: `a/b/` of `a/b/c/d` at depth 2.

    Args:
        key: An object's key. With fewer slashes, all its directories.
        skip: How many bytes of it are taken as they are, before parts are counted.
        depth: How many parts, at least 1.
    """
    end = skip
    for _ in range(depth):
        slash = key.find(b"/", end)
        if slash < 0:
            break
        end = slash + 1
    return key[:end]
