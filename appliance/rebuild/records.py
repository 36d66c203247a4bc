"""What a rebuild reports: plain values, which the shell prints and `--json` shows."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LeftOut", "RebuildReport", "Tally"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A version that could not be rebuilt, and why."""

    tenant: str
    bucket: str
    key: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What the new catalog holds.

    Attributes:
        shadows: Pages that have a second place.
        size_bytes: Of the objects.
    """

    tenants: int
    buckets: int
    versions: int
    delete_markers: int
    pages: int
    shadows: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RebuildReport:
    """A catalog that was made from the volumes.

    Attributes:
        catalog: Where it is.
        replaced: Where the catalog before it was kept, None where there was none.
        old_catalog: What became of the old catalog's knowledge, in words.
        boot_epoch: The last one that the volumes show.
        read_bytes: Verified beyond the scan.
        keys: Access keys taken over from the old catalog.
        policies: Revisions of the policy and of overlays taken over from the old catalog; without
            any the default policy is in force.
        tenants_without_keys: Whose keys must be created or imported again.
        left_out: Versions that could not be rebuilt, the first of `left_out_count`.
        unclaimed_bodies: Bodies that no version refers to: parts of uploads in progress, what was
            deleted or never committed. The next start sweeps them.
        damage: Bad records, the first of `damaged_count`.
    """

    catalog: str
    appliance: str
    replaced: str | None
    old_catalog: str
    boot_epoch: int
    rebuilt: Tally
    read_bytes: int
    keys: int
    policies: int
    tenants_without_keys: tuple[str, ...]
    left_out: tuple[LeftOut, ...]
    left_out_count: int
    unclaimed_bodies: int
    damage: tuple[str, ...]
    damaged_count: int
