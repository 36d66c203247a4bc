"""The values that moving pages speaks of: who a page belongs to, what is to happen, what happened.

A *flip* is the one way in which a page gets another place: it names the page as it was read, with
its generation, and the places it shall have. Promotion, demotion, release, premigration, draining a
volume, dropping a shadow and healing a bad copy differ in nothing but the places.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from tiers.policy import RuleFacts

if TYPE_CHECKING:
    from hal.records import BodyId, Extent, VolumeId
    from tiers.decisions import Action
    from tiers.records import PageId, StoredPage
    from tiers.scrub_records import ScrubPlace

__all__ = ["MovablePage", "MoveEntry", "MoveOrder", "PageFlip", "PageMove", "PageOwner"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PageOwner:
    """Whose page it is, for the rules of the policy and for the order on the slow tier.

    Of a body that several versions name (server-side copies) the version with the lowest sequence
    speaks; of a part, the upload; of a manifest, the tenant alone, with an empty bucket and key.

    Attributes:
        tags: Of the object.
        object_bytes: Of the whole object; of a part, its own.
        written_us: When the object was written, microseconds since 1970; 0 where not known.
    """

    tenant: str
    bucket: str = ""
    key: bytes = b""
    tags: frozenset[tuple[str, str]] = frozenset()
    object_bytes: int = 0
    written_us: int = 0

    def rule_facts(self, tier: str) -> RuleFacts:
        """What the policy's rules ask about a page of this owner on a tier."""
        return RuleFacts(
            tier=tier,
            tenant=self.tenant,
            bucket=self.bucket,
            key=self.key.decode("utf-8", "surrogateescape"),
            tags=self.tags,
            object_bytes=self.object_bytes,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MovablePage:
    """A living page that is not in quarantine, with all of its places.

    Attributes:
        shadow: Its second place, None where there is none.
    """

    page: StoredPage
    shadow: Extent | None
    owner: PageOwner


class ResidentRow(NamedTuple):
    """A living page at its first place that is not in quarantine: what the fast tier keeps of it.

    Of millions of them one after the other, which is why it is no more.

    Attributes:
        record_bytes: Of its record.
        written_us: See `PageOwner`.
        has_shadow: Whether it has a second place.
        behind: The place behind its record.
    """

    page_id: PageId
    record_bytes: int
    written_us: int
    has_shadow: bool
    behind: ScrubPlace


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveEntry:
    """Why a page moves, as `tier explain` will tell it.

    Attributes:
        rule: Id of the policy's rule, or the command that asked for it.
        reason: In words, see `tiers.decisions.Reason`.
        plan: Id of the plan that it was part of, None for the migrator's own.
    """

    action: Action
    rule: str
    reason: str
    plan: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveOrder:
    """A page that shall move, by its number; what it is by then, the catalog says.

    Attributes:
        target_tier: Where it shall be copied to or given up in favour of.
        leave_volume: Drain: leave this volume, whatever the tier.
    """

    page_id: PageId
    target_tier: str
    entry: MoveEntry
    leave_volume: VolumeId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PageFlip:
    """New places for a page, compared and set.

    Holds if the page lives, its generation and extent are those of `page`, its shadow is `shadow`,
    and it is not in quarantine at `extent`. Then the page lies at `extent`, its shadow at
    `new_shadow`, its generation is one higher, and every place of before that is not one of these
    two is dead. Else nothing of it happens.

    Attributes:
        page: As it was read.
        shadow: As it was read.
        extent: The page's place from now on.
        new_shadow: The shadow's place from now on, None for none; not on the volume of `extent`.
    """

    page: StoredPage
    shadow: Extent | None
    extent: Extent
    new_shadow: Extent | None
    entry: MoveEntry

    @property
    def left(self) -> tuple[Extent, ...]:
        """Places that the page has now and will not have: dead once the flip holds."""
        kept = {self.extent, self.new_shadow}
        return tuple(
            place
            for place in (self.page.extent, self.shadow)
            if place is not None and place not in kept
        )

    def journal(self, *, at_us: int) -> PageMove:
        """The journal's line, once it held: from the place given up or copied to the one gained."""
        if self.extent != self.page.extent:
            source, target = self.page.extent, self.extent
        else:
            source, target = self.shadow or self.page.extent, self.new_shadow or self.page.extent
        return PageMove(
            body_id=self.page.body_id,
            page_index=self.page.page_index,
            entry=self.entry,
            from_volume=source.volume_id,
            to_volume=target.volume_id,
            record_bytes=self.page.extent.length_bytes,
            at_us=at_us,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PageMove:
    """A line of the journal: a flip that held.

    Attributes:
        record_bytes: Of the record; copied for promote, demote, premigrate and drain alone.
        at_us: When it was committed, microseconds since 1970.
    """

    body_id: BodyId
    page_index: int
    entry: MoveEntry
    from_volume: VolumeId
    to_volume: VolumeId
    record_bytes: int
    at_us: int
