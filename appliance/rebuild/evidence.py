"""What the volumes say, before anything is concluded from it.

One `FoundBody` for each body of which a record was found, with what its last record says of it. A
page may lie in several places: it has a shadow, a move was under way, or its source not freed yet.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from appliance.objects.annex import Annex
    from appliance.objects.manifest import Manifest
    from hal.records import BodyId
    from tenants.records import TenantId
    from tiers.records import StoredPage

__all__ = ["Evidence", "FoundBody"]

DAMAGE_TOLD_MAX = 1_000  # a lost segment has more bad records than anybody reads


@dataclass(slots=True, kw_only=True)
class FoundBody:
    """A body as its records show it.

    Attributes:
        pages: Where each page was found, by index; of a verified body its place and then, if there
            is one, its shadow.
        last_index: Index of the last page; None where the record that would say so was not found.
        written_us: Of the last record, 0 where it was not found.
        annex: Of the last record; None for manifests and where it cannot be read.
        manifest: What the body says, where it is a manifest.
        is_bad: Whether a page of it was read and is not what was written.
    """

    body_id: BodyId
    tenant_id: TenantId
    pages: dict[int, list[StoredPage]] = field(default_factory=dict)
    last_index: int | None = None
    written_us: int = 0
    annex: Annex | None = None
    manifest: Manifest | None = None
    is_bad: bool = False

    @property
    def is_complete(self) -> bool:
        """Whether every page was found, and none is known to be bad."""
        return (
            not self.is_bad
            and self.last_index is not None
            and len(self.pages) == self.last_index + 1
        )

    @property
    def size_bytes(self) -> int:
        """Bytes of the pages that were found."""
        return sum(places[0].payload_bytes for places in self.pages.values())


@dataclass(slots=True, kw_only=True)
class Evidence:
    """Everything that the volumes say.

    Attributes:
        epoch_max: The highest boot epoch that any segment or body carries.
        damage: Records that are not what was written, the first `DAMAGE_TOLD_MAX` in words.
        damaged_count: How many there are.
    """

    bodies: dict[int, FoundBody] = field(default_factory=dict)
    epoch_max: int = 0
    damage: list[str] = field(default_factory=list)
    damaged_count: int = 0

    def body(self, body_id: BodyId, tenant_id: TenantId) -> FoundBody:
        """The body of that id, new where nothing of it was found before."""
        found = self.bodies.get(body_id)
        if found is None:
            found = self.bodies[body_id] = FoundBody(body_id=body_id, tenant_id=tenant_id)
        return found

    def note_damage(self, where: str, reason: str) -> None:
        """Count a bad record, and tell of it if not too many were told."""
        self.damaged_count += 1
        if len(self.damage) < DAMAGE_TOLD_MAX:
            self.damage.append(f"{where}: {reason}")
