"""Units: revisions of the policy, and of the tenants' overlays.

A scope is the appliance (no tenant) or one tenant. Of each at most one revision is active; the
texts are kept as they were given and judged by `appliance.policy_store`. Every change begins with
`begin_change`, so that what was judged against one state is not committed to another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import Integer, and_, bindparam, delete, insert, select, update

from appliance.catalog import tables
from appliance.catalog.dialects import advance_counter
from tenants.records import TenantId

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement, Connection

__all__ = [
    "REVISIONS_KEPT",
    "ActiveRevisions",
    "PolicyRevision",
    "activate_revision",
    "begin_change",
    "find_revision",
    "insert_revision",
    "list_all",
    "list_revisions",
    "load_active",
]

REVISIONS_KEPT = 10  # of a scope: TIERING 4.2, "last 10 roll back"

_POLICY_CHANGES = "policy_changes"

_r = tables.policy_revisions.c
_t = tables.tenants.c
_SELECT = select(
    _r.revision,
    _r.tenant_id,
    _t.name,
    _r.blake3,
    _r.source,
    _r.author,
    _r.note,
    _r.created_us,
    _r.is_active,
).select_from(tables.policy_revisions.outerjoin(tables.tenants, _t.tenant_id == _r.tenant_id))
_LIST_ACTIVE = _SELECT.where(_r.is_active.is_(True)).order_by(_r.revision)
_COUNT_CHANGES = select(tables.counters.c.value).where(tables.counters.c.name == _POLICY_CHANGES)
_INSERT = insert(tables.policy_revisions).returning(_r.revision)
_RAISE = update(tables.policy_revisions).where(_r.revision == bindparam("wanted"))


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRevision:
    """A text that somebody applied.

    Attributes:
        revision: From 1, over all scopes; never given twice.
        tenant_id: Whose overlay it is; None for the policy of the appliance.
        tenant: That tenant's name; None for the policy of the appliance.
        blake3: Of the text in UTF-8.
        source: The text, as it was given.
        author: Who applied it, as the audit names them.
    """

    revision: int
    tenant_id: TenantId | None
    tenant: str | None
    blake3: bytes
    source: str
    author: str
    note: str
    created_us: int
    is_active: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveRevisions:
    """What is active, as of one moment.

    Attributes:
        change_number: Of the last change of any scope; see `begin_change`.
        revisions: One of each scope that has any, the oldest first.
    """

    change_number: int
    revisions: tuple[PolicyRevision, ...]

    def find(self, tenant_id: TenantId | None) -> PolicyRevision | None:
        """The active one of a scope."""
        return next((item for item in self.revisions if item.tenant_id == tenant_id), None)


def load_active(connection: Connection) -> ActiveRevisions:
    """The active revision of every scope."""
    number: int = connection.execute(_COUNT_CHANGES).scalar_one()
    return ActiveRevisions(
        change_number=number,
        revisions=tuple(_decode(tuple(row)) for row in connection.execute(_LIST_ACTIVE)),
    )


def list_revisions(connection: Connection, *, tenant_id: TenantId | None) -> list[PolicyRevision]:
    """All that are kept of a scope, the newest first; at most `REVISIONS_KEPT`."""
    found = connection.execute(_SELECT.where(_of(tenant_id)).order_by(_r.revision.desc()))
    return [_decode(tuple(row)) for row in found]


def list_all(connection: Connection) -> list[PolicyRevision]:
    """All that are kept, of every scope, the oldest first."""
    return [_decode(tuple(row)) for row in connection.execute(_SELECT.order_by(_r.revision))]


def find_revision(
    connection: Connection, *, tenant_id: TenantId | None, revision: int
) -> PolicyRevision | None:
    """A revision of a scope, None where it is another scope's or not kept."""
    found = connection.execute(_SELECT.where(_of(tenant_id), _r.revision == revision)).first()
    return None if found is None else _decode(tuple(found))


def begin_change(connection: Connection, *, expected: int) -> bool:
    """Lock the revisions until the transaction ends; False where they changed since.

    Args:
        connection: Of a unit that is rolled back where the answer is False.
        expected: `change_number` of what the change was judged against.
    """
    return advance_counter(connection, _POLICY_CHANGES) == expected + 1


def insert_revision(
    connection: Connection,
    *,
    tenant_id: TenantId | None,
    blake3: bytes,
    source: str,
    author: str,
    note: str,
    now_us: int,
) -> int:
    """Add a revision, make it the active one of its scope, and forget the oldest; its number."""
    _rest(connection, tenant_id)
    revision: int = connection.execute(
        _INSERT,
        {
            "tenant_id": tenant_id,
            "blake3": blake3,
            "source": source,
            "author": author,
            "note": note,
            "created_us": now_us,
            "is_active": True,
        },
    ).scalar_one()
    _prune(connection, tenant_id)
    return revision


def activate_revision(connection: Connection, *, tenant_id: TenantId | None, revision: int) -> bool:
    """Make a kept revision the active one of its scope; False where it is not kept any more."""
    if find_revision(connection, tenant_id=tenant_id, revision=revision) is None:
        return False
    _rest(connection, tenant_id)
    connection.execute(_RAISE.values(is_active=True), {"wanted": revision})
    return True


def _of(tenant_id: TenantId | None) -> ColumnElement[bool]:
    return _r.tenant_id.is_(None) if tenant_id is None else _r.tenant_id == tenant_id


def _rest(connection: Connection, tenant_id: TenantId | None) -> None:
    """Let no revision of the scope be active."""
    connection.execute(
        update(tables.policy_revisions)
        .where(_of(tenant_id), _r.is_active.is_(True))
        .values(is_active=False)
    )


def _prune(connection: Connection, tenant_id: TenantId | None) -> None:
    oldest_kept = connection.execute(
        select(_r.revision)
        .where(_of(tenant_id))
        .order_by(_r.revision.desc())
        .offset(REVISIONS_KEPT - 1)
        .limit(bindparam("row_limit", type_=Integer)),
        {"row_limit": 1},
    ).scalar()
    if oldest_kept is not None:
        # None of them is active: the newest is.
        old = and_(_of(tenant_id), _r.revision < oldest_kept)
        connection.execute(delete(tables.policy_revisions).where(old))


def _decode(row: Sequence[object]) -> PolicyRevision:
    revision, tenant_id, tenant, blake3, source, author, note, created_us, is_active = row
    assert isinstance(revision, int)
    assert tenant_id is None or isinstance(tenant_id, int)
    assert tenant is None or isinstance(tenant, str)
    assert isinstance(blake3, bytes)
    assert isinstance(source, str)
    assert isinstance(author, str)
    assert isinstance(note, str)
    assert isinstance(created_us, int)
    return PolicyRevision(
        revision=revision,
        tenant_id=None if tenant_id is None else TenantId(tenant_id),
        tenant=tenant,
        blake3=blake3,
        source=source,
        author=author,
        note=note,
        created_us=created_us,
        is_active=bool(is_active),
    )
