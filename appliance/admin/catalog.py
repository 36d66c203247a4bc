"""The catalog as a whole: check it, write a copy of it."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from appliance.admin.documents import BackupResult, BackupWanted, CheckResult, CopyResult
from appliance.admin.errors import AdminRefused
from appliance.admin.routes import Route
from appliance.admin.units import change
from appliance.admin.views import format_us
from hal.errors import HalError

if TYPE_CHECKING:
    from appliance.admin.routes import Call
    from appliance.admin.state import AdminState
    from appliance.catalog.unit import Connection

__all__ = ["ROUTES"]


async def check_catalog(state: AdminState, _call: Call) -> CheckResult:
    """Read all of the catalog and say what is wrong with it."""
    findings = await state.catalog.check()
    return CheckResult(
        ok=not findings,
        findings=tuple(
            f"{finding.kind}: {finding.subject}: {finding.detail}" for finding in findings
        ),
    )


async def backup_catalog(state: AdminState, call: Call) -> BackupResult:
    """Write a consistent copy of the catalog."""
    target = trio.Path(call.read_body(BackupWanted).path)
    if not target.is_absolute():
        rule = "path: must be absolute"
        raise AdminRefused("RequestInvalid", rule, status=HTTPStatus.BAD_REQUEST, fields=(rule,))
    if await target.exists():
        raise AdminRefused(
            "BackupTargetExists",
            f"{target} exists already and is left alone",
            status=HTTPStatus.CONFLICT,
        )
    await state.catalog.backup(Path(target))
    size_bytes = (await target.stat()).st_size
    await change(state, call, _nothing, action="catalog backup", subject=str(target))
    return BackupResult(path=str(target), size_bytes=size_bytes)


async def copy_catalog(state: AdminState, call: Call) -> CopyResult:
    """Make a copy of the catalog on the cold tier, now."""
    try:
        copy = await state.copy_catalog()
    except (HalError, OSError) as error:
        raise AdminRefused("CopyFailed", str(error), status=HTTPStatus.CONFLICT) from error
    await change(state, call, _nothing, action="catalog copy", subject=str(copy.path))
    return CopyResult(
        path=str(copy.path), made_at=format_us(copy.made_us), size_bytes=copy.size_bytes
    )


def _nothing(_connection: Connection) -> None:
    """The audit entry is all that there is to commit."""


ROUTES = (
    Route(
        method="POST",
        template="/v1/catalog/check",
        handler=check_catalog,
        summary="Read all of the catalog and compare it with itself.",
        result=CheckResult,
        refusals=("CatalogUnavailable",),
    ),
    Route(
        method="POST",
        template="/v1/catalog/backup",
        handler=backup_catalog,
        summary="Write a consistent copy of a SQLite catalog to a new file of mode 0600.",
        body=BackupWanted,
        result=BackupResult,
        refusals=("BackupTargetExists", "CatalogUnavailable"),
    ),
    Route(
        method="POST",
        template="/v1/catalog/copy",
        handler=copy_catalog,
        summary="Make a copy of a SQLite catalog on the cold tier, besides those of the schedule.",
        result=CopyResult,
        refusals=("CatalogUnavailable", "CopyFailed"),
    ),
)
