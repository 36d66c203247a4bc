"""The server itself, and the audit of what was changed through it."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

from appliance.admin.documents import AuditList, AuditView, StatusView
from appliance.admin.errors import AdminRefused
from appliance.admin.routes import Query, Route
from appliance.admin.units import PAGE_ROWS
from appliance.admin.views import format_us
from appliance.catalog.audit import list_audit as list_rows
from appliance.version import find_version

if TYPE_CHECKING:
    from appliance.admin.routes import Call
    from appliance.admin.state import AdminState

__all__ = ["ROUTES"]

AUDIT_ROWS_DEFAULT = 50


async def show_status(state: AdminState, _call: Call) -> StatusView:
    """The server."""
    server = state.describe_server()
    policy = state.policies.active()
    uptime_us = state.clock.now_us() - server.started_us
    return StatusView(
        version=find_version(),
        appliance=server.appliance_uuid,
        started_at=format_us(server.started_us),
        uptime_seconds=max(uptime_us, 0) // 1_000_000,
        catalog=server.catalog_kind,
        listeners=dict(server.listeners),
        last_copy_at=None if server.last_copy_us is None else format_us(server.last_copy_us),
        copy_failure=server.copy_failure,
        policy_revision=policy.revision,
        policy_failures=policy.failures,
    )


async def list_audit(state: AdminState, call: Call) -> AuditList:
    """The latest changes."""
    limit = _read_limit(call.query.get("limit"))
    found = await state.catalog.read(partial(list_rows, limit=limit))
    return AuditList(
        entries=tuple(
            AuditView(
                at=format_us(entry.at_us),
                actor=entry.actor,
                action=entry.action,
                subject=entry.subject,
                outcome=entry.outcome,
                detail=entry.detail,
            )
            for entry in found
        )
    )


def _read_limit(text: str | None) -> int:
    if text is None:
        return AUDIT_ROWS_DEFAULT
    if text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= PAGE_ROWS:
        return int(text)
    rule = f"limit: a number from 1 to {PAGE_ROWS}"
    raise AdminRefused("RequestInvalid", rule, status=HTTPStatus.BAD_REQUEST, fields=(rule,))


ROUTES = (
    Route(
        method="GET",
        template="/v1/status",
        handler=show_status,
        summary="Show version, identity, addresses and age of the server.",
        result=StatusView,
    ),
    Route(
        method="GET",
        template="/v1/audit",
        handler=list_audit,
        summary="List the latest changes made through this API, the newest first.",
        query=(Query(name="limit", summary=f"How many, 1 to {PAGE_ROWS}."),),
        result=AuditList,
    ),
)
