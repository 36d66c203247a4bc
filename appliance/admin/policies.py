"""The policy and the tenants' overlays: apply, show, list, roll back."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

from appliance.admin.errors import AdminRefused
from appliance.admin.policy_documents import (
    PolicyApplied,
    PolicyHistory,
    PolicyRevisionView,
    PolicyView,
    PolicyWanted,
    PolicyWarningView,
    RollbackWanted,
)
from appliance.admin.routes import Query, Route
from appliance.admin.units import change, load_tenant
from appliance.admin.views import format_us
from appliance.catalog.policies import (
    activate_revision,
    begin_change,
    find_revision,
    insert_revision,
    list_revisions,
    load_active,
)
from appliance.policy_store import DEFAULT_SOURCE, OverlayUnfit, Proposal, hash_source
from tiers.errors import PolicyInvalid

if TYPE_CHECKING:
    from appliance.admin.routes import Call
    from appliance.admin.state import AdminState
    from appliance.catalog.policies import ActiveRevisions, PolicyRevision
    from appliance.catalog.unit import Connection
    from tenants.records import TenantId
    from tiers.errors import PolicyFault

__all__ = ["ROUTES"]

_HASH_CHARS = 12


async def show_policy(state: AdminState, call: Call) -> PolicyView:
    """A policy's text: the active one, or the revision that is asked for."""
    tenant, wanted = call.query.get("tenant"), _read_revision(call.query.get("revision"))
    found = await state.catalog.read(partial(_find, tenant=tenant, revision=wanted))
    if found is not None:
        return PolicyView(revision=_show(found), source=found.source)
    if wanted is not None:
        raise _missing(tenant, wanted)
    if tenant is not None:
        raise AdminRefused(
            "NoSuchRevision",
            f"tenant {tenant} has no overlay: the policy of the appliance holds",
            status=HTTPStatus.NOT_FOUND,
        )
    return PolicyView(revision=None, source=DEFAULT_SOURCE)


async def list_policy_revisions(state: AdminState, call: Call) -> PolicyHistory:
    """What is kept of the policy, or of a tenant's overlay."""

    def unit(connection: Connection) -> list[PolicyRevision]:
        tenant_id = _resolve(connection, call.query.get("tenant"))
        return list_revisions(connection, tenant_id=tenant_id)

    found = await state.catalog.read(unit)
    return PolicyHistory(revisions=tuple(_show(item) for item in found))


async def apply_policy(state: AdminState, call: Call) -> PolicyApplied:
    """Check a file, and put it in force as a new revision."""
    wanted = call.read_body(PolicyWanted)
    if not wanted.note.isprintable():
        raise _invalid("note: one line of printable characters")
    now = await state.catalog.read(partial(_take_stock, tenant=wanted.tenant, revision=None))
    proposal = Proposal(source=wanted.source, tenant=wanted.tenant, file=wanted.file)
    found = await _check(state, proposal, now.stored, status=HTTPStatus.BAD_REQUEST)
    warnings = tuple(
        PolicyWarningView(line=item.line, column=item.column, key=item.key, rule=item.rule)
        for item in found
    )
    digest = hash_source(wanted.source)
    active = now.stored.find(now.tenant_id)
    if active is not None and active.blake3 == digest:
        return PolicyApplied(
            revision=active.revision, is_new=False, is_dry_run=wanted.dry_run, warnings=warnings
        )
    if wanted.dry_run:
        return PolicyApplied(revision=None, is_new=True, is_dry_run=True, warnings=warnings)
    now_us = state.clock.now_us()

    def unit(connection: Connection) -> int:
        _begin(connection, now.stored)
        return insert_revision(
            connection,
            tenant_id=_resolve(connection, wanted.tenant),
            blake3=digest,
            source=wanted.source,
            author=call.actor,
            note=wanted.note,
            now_us=now_us,
        )

    revision = await change(
        state,
        call,
        unit,
        action="policy apply",
        subject=_name_scope(wanted.tenant),
        detail=f"{digest.hex()[:_HASH_CHARS]} {wanted.note}".rstrip(),
    )
    await state.policies.load()
    return PolicyApplied(revision=revision, is_new=True, is_dry_run=False, warnings=warnings)


async def roll_back_policy(state: AdminState, call: Call) -> PolicyRevisionView:
    """Put a revision that is kept in force again, if it still is in order."""
    wanted = call.read_body(RollbackWanted)
    now = await state.catalog.read(
        partial(_take_stock, tenant=wanted.tenant, revision=wanted.revision)
    )
    if now.revision is None:
        raise _missing(wanted.tenant, wanted.revision)
    if now.revision.is_active:
        raise AdminRefused(
            "RevisionActive",
            f"revision {wanted.revision} is the active one already",
            status=HTTPStatus.CONFLICT,
        )
    proposal = Proposal(
        source=now.revision.source, tenant=wanted.tenant, file=f"revision {wanted.revision}"
    )
    await _check(state, proposal, now.stored, status=HTTPStatus.CONFLICT)

    def unit(connection: Connection) -> PolicyRevision:
        _begin(connection, now.stored)
        tenant_id = _resolve(connection, wanted.tenant)
        activate_revision(connection, tenant_id=tenant_id, revision=wanted.revision)
        found = find_revision(connection, tenant_id=tenant_id, revision=wanted.revision)
        if found is None:
            raise _missing(wanted.tenant, wanted.revision)
        return found

    made = await change(
        state,
        call,
        unit,
        action="policy rollback",
        subject=_name_scope(wanted.tenant),
        detail=f"to revision {wanted.revision}",
    )
    await state.policies.load()
    return _show(made)


class _Stock(NamedTuple):
    """What a change begins with, as of one moment."""

    stored: ActiveRevisions
    tenant_id: TenantId | None
    revision: PolicyRevision | None


def _take_stock(connection: Connection, *, tenant: str | None, revision: int | None) -> _Stock:
    tenant_id = _resolve(connection, tenant)
    return _Stock(
        stored=load_active(connection),
        tenant_id=tenant_id,
        revision=None
        if revision is None
        else find_revision(connection, tenant_id=tenant_id, revision=revision),
    )


def _resolve(connection: Connection, tenant: str | None) -> TenantId | None:
    return None if tenant is None else load_tenant(connection, tenant).tenant_id


def _find(
    connection: Connection, *, tenant: str | None, revision: int | None
) -> PolicyRevision | None:
    tenant_id = _resolve(connection, tenant)
    if revision is None:
        return load_active(connection).find(tenant_id)
    return find_revision(connection, tenant_id=tenant_id, revision=revision)


def _begin(connection: Connection, judged: ActiveRevisions) -> None:
    if not begin_change(connection, expected=judged.change_number):
        raise AdminRefused(
            "PolicyChanged",
            "somebody else changed the policy or an overlay at the same time; look, and repeat it",
            status=HTTPStatus.CONFLICT,
        )


async def _check(
    state: AdminState, proposal: Proposal, stored: ActiveRevisions, *, status: HTTPStatus
) -> tuple[PolicyFault, ...]:
    """What is doubtful about it; refused with `status` where something is wrong."""
    tier_bytes: dict[str, int] = {}
    for volume in await state.list_volume_facts():
        tier_bytes[volume.tier] = tier_bytes.get(volume.tier, 0) + volume.total_bytes
    try:
        return await state.policies.check(proposal, stored, tier_bytes=tier_bytes)
    except PolicyInvalid as error:
        faults = tuple(fault.format(error.file) for fault in error.faults)
        raise AdminRefused("PolicyInvalid", str(error), status=status, fields=faults) from error
    except OverlayUnfit as error:
        raise AdminRefused("OverlayUnfit", str(error), status=HTTPStatus.CONFLICT) from error


def _name_scope(tenant: str | None) -> str:
    """The subject of an audit entry; no tenant's name has a colon."""
    return "appliance" if tenant is None else f"{tenant}:overlay"


def _show(item: PolicyRevision) -> PolicyRevisionView:
    return PolicyRevisionView(
        revision=item.revision,
        tenant=item.tenant,
        is_active=item.is_active,
        created_at=format_us(item.created_us),
        author=item.author,
        blake3=item.blake3.hex(),
        note=item.note,
    )


def _read_revision(text: str | None) -> int | None:
    if text is None:
        return None
    if text.isascii() and text.isdigit() and len(text) <= 18:
        return int(text)
    raise _invalid("revision: a number from 1 on")


def _invalid(rule: str) -> AdminRefused:
    return AdminRefused("RequestInvalid", rule, status=HTTPStatus.BAD_REQUEST, fields=(rule,))


def _missing(tenant: str | None, revision: int) -> AdminRefused:
    whose = "the policy" if tenant is None else f"the overlay of tenant {tenant}"
    return AdminRefused(
        "NoSuchRevision",
        f"no revision {revision} of {whose} is kept",
        status=HTTPStatus.NOT_FOUND,
    )


_TENANT = Query(name="tenant", summary="Whose overlay; absent for the policy of the appliance.")

ROUTES = (
    Route(
        method="GET",
        template="/v1/policy",
        handler=show_policy,
        summary="Show the text of the policy, or of a tenant's overlay.",
        query=(_TENANT, Query(name="revision", summary="Which one; absent for the active one.")),
        result=PolicyView,
        refusals=("NoSuchTenant", "NoSuchRevision"),
    ),
    Route(
        method="PUT",
        template="/v1/policy",
        handler=apply_policy,
        summary="Check a policy file, and put it in force as a new revision.",
        body=PolicyWanted,
        result=PolicyApplied,
        refusals=("NoSuchTenant", "OverlayUnfit", "PolicyChanged", "PolicyInvalid", "VolumeFailed"),
    ),
    Route(
        method="GET",
        template="/v1/policy/revisions",
        handler=list_policy_revisions,
        summary="List the revisions that are kept, the newest first.",
        query=(_TENANT,),
        result=PolicyHistory,
        refusals=("NoSuchTenant",),
    ),
    Route(
        method="POST",
        template="/v1/policy/rollback",
        handler=roll_back_policy,
        summary="Put a revision that is kept in force again, if it still is in order.",
        body=RollbackWanted,
        result=PolicyRevisionView,
        refusals=(
            "NoSuchTenant",
            "NoSuchRevision",
            "OverlayUnfit",
            "PolicyChanged",
            "PolicyInvalid",
            "RevisionActive",
            "VolumeFailed",
        ),
    ),
)
