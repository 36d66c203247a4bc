"""What the catalog can answer other than yes.

    CatalogError
      CatalogUnavailable (CatalogFull, WorkerFenced) · CatalogBusy · CatalogDamaged · SchemaMismatch
      BucketMissing · BucketTaken · BucketNotEmpty
      VersionMissing · ConditionFailed · ConditionMissing
      UploadMissing · PartInvalid · PartTooSmall · PartOrderInvalid

Quota refusals are `tenants.errors.QuotaExceeded`.
"""

from __future__ import annotations

__all__ = [
    "BucketMissing",
    "BucketNotEmpty",
    "BucketTaken",
    "CatalogBusy",
    "CatalogDamaged",
    "CatalogError",
    "CatalogFull",
    "CatalogUnavailable",
    "ConditionFailed",
    "ConditionMissing",
    "PartInvalid",
    "PartOrderInvalid",
    "PartTooSmall",
    "SchemaMismatch",
    "UploadMissing",
    "VersionMissing",
    "WorkerFenced",
]


class CatalogError(Exception):
    """Base of every error that the catalog raises on purpose."""


class CatalogUnavailable(CatalogError):
    """The database cannot be reached, or a commit's outcome is unknown: stop, do not guess."""


class CatalogFull(CatalogUnavailable):
    """The database's disk has no room: nothing of this was committed, and reads go on."""


class WorkerFenced(CatalogUnavailable):
    """This process' lease is over: others may do as if it were dead, so it commits nothing more."""


class CatalogBusy(CatalogError):
    """A transaction lost against others more often than it is tried."""


class CatalogDamaged(CatalogError):
    """The database fails its own check, or a setting that durability rests on does not hold."""


class SchemaMismatch(CatalogError):
    """The schema is not the one that this program was written for."""

    def __init__(self, *, found: str, wanted: str) -> None:
        super().__init__(
            f"catalog schema is {found}, this program needs {wanted}: "
            "`thermocline catalog upgrade` brings an older one up"
        )
        self.found = found
        self.wanted = wanted


class BucketMissing(CatalogError):
    """The tenant has no such bucket (any more)."""


class BucketTaken(CatalogError):
    """The tenant has a bucket of that name already."""


class BucketNotEmpty(CatalogError):
    """The bucket still holds versions or delete markers."""


class VersionMissing(CatalogError):
    """The key, or the version of it, does not exist."""


class ConditionFailed(CatalogError):
    """A precondition does not hold."""


class ConditionMissing(CatalogError):
    """An If-Match on a key that does not exist."""


class UploadMissing(CatalogError):
    """No such upload in that bucket under that key."""


class PartInvalid(CatalogError):
    """A part of the list was not uploaded, or has another ETag or checksum."""

    def __init__(self, part_number: int) -> None:
        super().__init__(f"part {part_number} was not uploaded as listed")
        self.part_number = part_number


class PartTooSmall(CatalogError):
    """A part other than the last is below the minimum."""

    def __init__(self, part_number: int, *, size_bytes: int, minimum_bytes: int) -> None:
        super().__init__(f"part {part_number} has {size_bytes} of at least {minimum_bytes} bytes")
        self.part_number = part_number
        self.size_bytes = size_bytes
        self.minimum_bytes = minimum_bytes


class PartOrderInvalid(CatalogError):
    """The list of parts is not strictly ascending."""
