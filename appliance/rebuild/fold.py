"""The fold: from what the volumes say to tenants, buckets, versions and references. Pure.

The versions of a key are replayed in the order of their times: a null version takes the place of
the one before, others stand beside each other. What is not complete is left out before that, so
that it takes no place: an upload that a crash cut off must not cost the version it would have
replaced.

Nothing here knows which commits took place. So what was deleted and is not reclaimed comes back,
and a write that was under way when the catalog was lost may be there; what was acknowledged is.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

from appliance.catalog.records import BucketId, Versioning
from appliance.objects.manifest import BucketManifest
from appliance.rebuild.records import LeftOut
from appliance.rebuild.statements import BucketName, Statement, collect_statements
from tenants.records import QuotaLimits, TenantId

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from appliance.rebuild.evidence import Evidence, FoundBody
    from hal.records import BodyId

__all__ = [
    "Rebuilt",
    "RebuiltBucket",
    "RebuiltTenant",
    "RebuiltVersion",
    "StatedId",
    "fold",
]

StatedId = tuple[int, str, bytes, int]
"""Tenant id, bucket name, key and the body or manifest that stated a version first."""

LEFT_OUT_TOLD_MAX = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RebuiltTenant:
    """A tenant; `canonical_id` is None where no bucket of it says it."""

    tenant_id: TenantId
    name: str
    canonical_id: str | None
    created_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RebuiltBucket:
    """A bucket; `manifest_id` is None where no manifest states it."""

    bucket_id: BucketId
    tenant_id: TenantId
    name: str
    created_us: int
    versioning: Versioning
    limits: QuotaLimits
    manifest_id: BodyId | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RebuiltVersion:
    """A version with its place: `statement` says what it is."""

    bucket_id: BucketId
    sequence: int
    is_current: bool
    is_null_version: bool
    statement: Statement


@dataclass(slots=True, kw_only=True)
class Rebuilt:
    """What a catalog is to hold.

    Attributes:
        references: How often each body is referred to, manifests included.
        left_out: The first `LEFT_OUT_TOLD_MAX` of what was left out.
        left_out_count: How many there are.
        sequence_next: The next version's.
    """

    tenants: list[RebuiltTenant] = field(default_factory=list)
    buckets: list[RebuiltBucket] = field(default_factory=list)
    versions: list[RebuiltVersion] = field(default_factory=list)
    references: Counter[int] = field(default_factory=Counter)
    left_out: list[LeftOut] = field(default_factory=list)
    left_out_count: int = 0
    sequence_next: int = 1

    def leave_out(self, statement: Statement, reason: str) -> None:
        """Count a version that cannot be rebuilt, and tell of it if not too many were told."""
        self.left_out_count += 1
        if len(self.left_out) < LEFT_OUT_TOLD_MAX:
            self.left_out.append(
                LeftOut(
                    tenant=statement.tenant_name,
                    bucket=statement.bucket_name,
                    key=statement.key.decode("utf-8", "backslashreplace"),
                    reason=reason,
                )
            )


def fold(
    evidence: Evidence,
    *,
    first_sequence: int,
    sequences: Mapping[StatedId, int] | None = None,
) -> Rebuilt:
    """What a catalog made of the evidence holds.

    Args:
        evidence: What was found. Pages that were not read yet count as sound.
        first_sequence: Of the versions whose sequences nobody knows; above all that are known.
        sequences: Those that an older catalog knows.

    Complexity: O(n log n) of the versions; all of it is in memory, some 2.5 KiB a version.
    """
    known = sequences or {}
    rebuilt = Rebuilt()
    statements = collect_statements(evidence)
    manifests = _find_bucket_manifests(evidence)
    tenants = _find_tenants(rebuilt, statements, manifests)
    live = []
    for statement in statements:
        if statement.tenant_id not in tenants:
            rebuilt.leave_out(statement, "its tenant was deleted, and another has its name")
            continue
        reason = _find_gap(evidence, statement)
        if reason is not None:
            rebuilt.leave_out(statement, reason)
            continue
        live.append(statement)
    manifests = {name: body for name, body in manifests.items() if name[0] in tenants}
    rebuilt.buckets = _find_buckets(live, manifests)
    kept = _replay(live, {(b.tenant_id, b.name): b.versioning for b in rebuilt.buckets}, known)
    _number(rebuilt, kept, known, first_sequence)
    _count_references(rebuilt)
    return rebuilt


def _find_gap(evidence: Evidence, statement: Statement) -> str | None:
    """Why the version cannot be served, None where all of its bytes are there."""
    for piece in statement.bodies:
        body = evidence.bodies.get(piece.body_id)
        if body is None:
            return f"body {piece.body_id} is gone"
        if not body.is_complete:
            return f"body {piece.body_id} lacks a page, or one is damaged"
        if body.size_bytes != piece.size_bytes:
            return f"body {piece.body_id} has {body.size_bytes} bytes, not {piece.size_bytes}"
    return None


def _find_bucket_manifests(evidence: Evidence) -> dict[BucketName, FoundBody]:
    latest: dict[BucketName, FoundBody] = {}
    for body in evidence.bodies.values():
        if not isinstance(body.manifest, BucketManifest):
            continue
        name = body.tenant_id, body.manifest.bucket_name
        known = latest.get(name)
        if known is None or _said(known) < _said(body):
            latest[name] = body
    return latest


def _said(body: FoundBody) -> tuple[int, int]:
    return body.written_us, body.body_id


def _find_tenants(
    rebuilt: Rebuilt, statements: Iterable[Statement], manifests: Mapping[BucketName, FoundBody]
) -> set[int]:
    """Fill in the tenants; give their ids."""
    names: dict[int, str] = {}
    created: dict[int, int] = {}
    canonical: dict[int, str] = {}
    for statement in statements:
        names[statement.tenant_id] = statement.tenant_name
        moment = min(statement.bucket_created_us, statement.modified_us)
        created[statement.tenant_id] = min(created.get(statement.tenant_id, moment), moment)
    for (tenant_id, _), body in manifests.items():
        assert isinstance(body.manifest, BucketManifest)
        names[tenant_id] = body.manifest.tenant_name
        canonical[tenant_id] = body.manifest.canonical_id
        moment = body.manifest.created_us
        created[tenant_id] = min(created.get(tenant_id, moment), moment)
    # Names are unique: of two ids with one name the lower one's tenant was deleted, and a tenant
    # can only be deleted once it owns nothing.
    owners: dict[str, int] = {}
    for tenant_id in sorted(names):
        owners[names[tenant_id]] = tenant_id
    rebuilt.tenants = [
        RebuiltTenant(
            tenant_id=TenantId(tenant_id),
            name=name,
            canonical_id=canonical.get(tenant_id),
            created_us=created[tenant_id],
        )
        for name, tenant_id in sorted(owners.items(), key=lambda item: item[1])
    ]
    return set(owners.values())


def _find_buckets(
    statements: Iterable[Statement], manifests: Mapping[BucketName, FoundBody]
) -> list[RebuiltBucket]:
    ids: dict[BucketName, int] = {}
    newest: dict[BucketName, Statement] = {}
    keeps_versions: set[BucketName] = set()
    for statement in statements:
        name = statement.bucket
        ids[name] = max(ids.get(name, 0), statement.bucket_id)
        if statement.is_null_version is False:
            keeps_versions.add(name)
        known = newest.get(name)
        says_more = statement.versioning is not None
        if known is None or (says_more and known.order < statement.order):
            newest[name] = statement
    names = sorted({*ids, *manifests})
    taken = set(ids.values())
    free = (number for number in count(max(taken, default=0) + 1))
    buckets = []
    for name in names:
        body, latest = manifests.get(name), newest.get(name)
        if body is not None and isinstance(body.manifest, BucketManifest):
            created_us, limits = body.manifest.created_us, body.manifest.limits
            versioning: Versioning | None = body.manifest.versioning
        else:
            assert latest is not None
            created_us, limits = latest.bucket_created_us, QuotaLimits()
            versioning = latest.versioning
        if versioning in {None, Versioning.OFF}:
            # What has versions beside each other had versioning on, whatever else is known of it.
            versioning = Versioning.ENABLED if name in keeps_versions else Versioning.OFF
        assert versioning is not None
        buckets.append(
            RebuiltBucket(
                bucket_id=BucketId(ids[name] if name in ids else next(free)),
                tenant_id=TenantId(name[0]),
                name=name[1],
                created_us=created_us,
                versioning=versioning,
                limits=limits,
                manifest_id=None if body is None else body.body_id,
            )
        )
    return buckets


def _replay(
    statements: Iterable[Statement],
    versioning: Mapping[BucketName, Versioning],
    known: Mapping[StatedId, int],
) -> dict[tuple[BucketName, bytes], list[tuple[bool, Statement]]]:
    """The versions that are left of each key, in order, and whether each is the null version."""
    by_key: dict[tuple[BucketName, bytes], list[Statement]] = defaultdict(list)
    for statement in statements:
        by_key[statement.bucket, statement.key].append(statement)
    kept: dict[tuple[BucketName, bytes], list[tuple[bool, Statement]]] = {}
    for place, found in by_key.items():
        # What an older catalog knows came before what it does not, in the order that it has.
        found.sort(key=lambda one: (_stated_id(one) not in known, _sequence(one, known), one.order))
        left: list[tuple[bool, Statement]] = []
        for statement in found:
            is_null = statement.is_null_version
            if is_null is None:
                is_null = versioning[statement.bucket] is not Versioning.ENABLED
            if is_null:
                left = [(was_null, one) for was_null, one in left if not was_null]
            left.append((is_null, statement))
        kept[place] = left
    return kept


def _stated_id(statement: Statement) -> StatedId:
    return (statement.tenant_id, statement.bucket_name, statement.key, statement.origin_id)


def _sequence(statement: Statement, known: Mapping[StatedId, int]) -> int:
    return known.get(_stated_id(statement), 0)


def _number(
    rebuilt: Rebuilt,
    kept: Mapping[tuple[BucketName, bytes], list[tuple[bool, Statement]]],
    known: Mapping[StatedId, int],
    first_sequence: int,
) -> None:
    """Give every version its sequence: the known one, or the next, oldest version first."""
    ids: dict[BucketName, BucketId] = {
        (bucket.tenant_id, bucket.name): bucket.bucket_id for bucket in rebuilt.buckets
    }
    unknown = sorted(
        (
            statement
            for left in kept.values()
            for _, statement in left
            if _stated_id(statement) not in known
        ),
        key=lambda one: one.order,
    )
    given = {one.identity: number for number, one in enumerate(unknown, start=first_sequence)}
    rebuilt.sequence_next = first_sequence + len(unknown)
    # Within a key the replayed order counts, and `unknown` is in the same one.
    for (bucket, _), left in kept.items():
        for position, (is_null, statement) in enumerate(left, start=1):
            sequence = known.get(_stated_id(statement)) or given[statement.identity]
            rebuilt.versions.append(
                RebuiltVersion(
                    bucket_id=ids[bucket],
                    sequence=sequence,
                    is_current=position == len(left),
                    is_null_version=is_null,
                    statement=statement,
                )
            )


def _count_references(rebuilt: Rebuilt) -> None:
    for version in rebuilt.versions:
        statement = version.statement
        rebuilt.references.update(piece.body_id for piece in statement.bodies)
        if statement.manifest_id is not None:
            rebuilt.references[statement.manifest_id] += 1
    for bucket in rebuilt.buckets:
        if bucket.manifest_id is not None:
            rebuilt.references[bucket.manifest_id] += 1
