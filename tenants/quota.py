"""Whether a change fits under hard limits. Pure; the catalog asks inside its transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tenants.errors import QuotaExceeded

if TYPE_CHECKING:
    from tenants.records import QuotaLimits, Usage

__all__ = ["admit"]


def admit(limits: QuotaLimits, usage: Usage, delta: Usage, *, owner: str = "tenant") -> None:
    """Return if `usage` plus `delta` stays within `limits`, each figure by itself.

    A figure that does not grow is always admitted, also above its limit: deletes and overwrites
    with something smaller must work when a limit was lowered below what is used.

    Args:
        limits: Hard limits; None is unlimited. A use equal to the limit is allowed.
        usage: What is used now.
        delta: The change; figures may be negative.
        owner: Whose limit it is, `tenant` or `bucket`: it begins the error's `what`.

    Raises:
        QuotaExceeded: The first figure that would pass its limit, in the order bytes, objects,
            buckets.
    """
    figures = (
        ("bytes", limits.bytes_max, usage.used_bytes, delta.used_bytes),
        ("objects", limits.objects_max, usage.object_count, delta.object_count),
        ("buckets", limits.buckets_max, usage.bucket_count, delta.bucket_count),
    )
    for what, limit, used, wanted in figures:
        if limit is not None and wanted > 0 and used + wanted > limit:
            raise QuotaExceeded(f"{owner} {what}", limit=limit, used=used, wanted=wanted)
