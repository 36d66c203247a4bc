"""Volumes that are emptied and taken out of the appliance."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

from appliance.admin.errors import AdminRefused
from appliance.admin.routes import Route
from appliance.admin.tiering_documents import DrainView
from appliance.admin.units import change
from appliance.catalog.records import VolumeState
from appliance.catalog.volumes import (
    is_volume_named,
    list_volumes,
    measure_volume,
    set_volume_state,
)
from tiers.units import format_size

if TYPE_CHECKING:
    from appliance.admin.routes import Call
    from appliance.admin.state import AdminState, TieringDesk
    from appliance.catalog.records import VolumeRow
    from appliance.catalog.unit import Connection
    from hal.records import VolumeId
    from tiers.tiering_views import DrainProgress

__all__ = ["ROUTES", "list_drains"]

_ID_DIGITS_MAX = 5  # volume ids are small integers of two bytes


async def show_drain(state: AdminState, call: Call) -> DrainView:
    """How far a volume's drain is."""
    row = await _load(state, call)
    if row.state is VolumeState.ACTIVE:
        raise _refuse("NotDraining", f"volume {row.volume_id} is not drained")
    return await _show(state, row)


async def start_drain(state: AdminState, call: Call) -> DrainView:
    """Empty a volume; nothing new is placed on it."""
    _require_mover(state)
    row = await _load(state, call)
    if row.state is VolumeState.REMOVED:
        raise _refuse("VolumeRemoved", f"volume {row.volume_id} was removed already")
    if row.state is VolumeState.ACTIVE:
        await _check_room(state, row)
        await _set_state(state, call, row.volume_id, VolumeState.DRAINING, verb="drain")
    return await _show(state, await _load(state, call))


async def cancel_drain(state: AdminState, call: Call) -> DrainView:
    """Let a volume take new pages again; what has left it stays away."""
    row = await _load(state, call)
    if row.state is not VolumeState.DRAINING:
        raise _refuse("NotDraining", f"volume {row.volume_id} is not drained")
    await _set_state(state, call, row.volume_id, VolumeState.ACTIVE, verb="drain cancel")
    return await _show(state, await _load(state, call))


async def remove_volume(state: AdminState, call: Call) -> DrainView:
    """Take an empty volume out of the appliance."""
    row = await _load(state, call)
    if row.state is VolumeState.REMOVED:
        return await _show(state, row)
    if row.state is not VolumeState.DRAINING:
        raise _refuse("NotDraining", f"volume {row.volume_id} is not empty: drain it first")
    # Once more, for a write that chose the volume a moment before it was barred.
    await state.drains.obey(await state.catalog.read(list_volumes))
    is_bare = await state.drains.look_bare(row.volume_id)
    wanted = VolumeState.REMOVED
    await _set_state(state, call, row.volume_id, wanted, verb="remove", is_bare=is_bare)
    return await _show(state, await _load(state, call))


async def list_drains(state: AdminState) -> tuple[DrainView, ...]:
    """Every volume that is emptied, or was and is not removed yet."""
    rows = await state.catalog.read(list_volumes)
    return tuple([await _show(state, row) for row in rows if row.state is VolumeState.DRAINING])


def _require_mover(state: AdminState) -> TieringDesk:
    if state.tiering is None:
        raise _refuse("TieringOff", "this server moves no pages")
    return state.tiering


async def _load(state: AdminState, call: Call) -> VolumeRow:
    text = call.path["volume"]
    rows = await state.catalog.read(list_volumes)
    if text.isascii() and text.isdigit() and len(text) <= _ID_DIGITS_MAX:
        for row in rows:
            if row.volume_id == int(text):
                return row
    known = ", ".join(str(row.volume_id) for row in rows)
    raise AdminRefused(
        "NoSuchVolume",
        f"no volume {text!r}; there are {known}",
        status=HTTPStatus.NOT_FOUND,
    )


async def _check_room(state: AdminState, row: VolumeRow) -> None:
    """Refuse a drain that could not come to its end."""
    rows = await state.catalog.read(list_volumes)
    active = {int(item.volume_id) for item in rows if item.state is VolumeState.ACTIVE}
    others = [
        view
        for view in await state.list_volume_facts()
        if view.tier == row.tier and view.volume_id != row.volume_id and view.volume_id in active
    ]
    if not others:
        raise _refuse(
            "LastVolume",
            f"volume {row.volume_id} is the last one of tier {row.tier} that takes writes:"
            " nothing of its tier could take its pages",
        )
    load = await state.catalog.read(partial(measure_volume, volume_id=row.volume_id))
    free = sum(view.free_bytes for view in others)
    if load.record_bytes > free:
        raise _refuse(
            "NoRoom",
            f"{format_size(load.record_bytes)} lie on volume {row.volume_id}, and the other"
            f" volumes of tier {row.tier} have {format_size(free)} free",
        )


async def _set_state(
    state: AdminState,
    call: Call,
    volume_id: VolumeId,
    wanted: VolumeState,
    *,
    verb: str,
    is_bare: bool = True,
) -> None:
    def unit(connection: Connection) -> list[VolumeRow]:
        if wanted is VolumeState.REMOVED and (
            not is_bare or is_volume_named(connection, volume_id=volume_id)
        ):
            raise _refuse(
                "VolumeNotEmpty",
                f"volume {volume_id} is not empty yet: see `tier status`; what was deleted is"
                " freed after its grace",
            )
        set_volume_state(connection, volume_id=volume_id, state=wanted)
        return list_volumes(connection)

    subject = f"volume {volume_id}"
    rows = await change(state, call, unit, action=f"volume {verb}", subject=subject)
    await state.drains.obey(rows)


async def _show(state: AdminState, row: VolumeRow) -> DrainView:
    progress = _find_progress(state, row.volume_id)
    name = row.state.value
    if row.state is VolumeState.DRAINING and progress is not None and progress.is_empty:
        name = "empty"
    return DrainView(
        volume_id=row.volume_id,
        tier=row.tier,
        path=row.path,
        state=name,
        left_pages=progress.left_pages if progress else None,
        left_bytes=progress.left_bytes if progress else None,
        moved_bytes=progress.moved_bytes if progress else 0,
        failure=progress.failure if progress else "",
    )


def _find_progress(state: AdminState, volume_id: VolumeId) -> DrainProgress | None:
    if state.tiering is None:
        return None
    drains = state.tiering.control.status().drains
    return next((item for item in drains if item.volume_id == volume_id), None)


def _refuse(code: str, message: str) -> AdminRefused:
    return AdminRefused(code, message, status=HTTPStatus.CONFLICT)


ROUTES = (
    Route(
        method="GET",
        template="/v1/volumes/{volume}/drain",
        handler=show_drain,
        summary="Show how far a volume's drain is.",
        result=DrainView,
        refusals=("NoSuchVolume", "NotDraining"),
    ),
    Route(
        method="POST",
        template="/v1/volumes/{volume}/drain",
        handler=start_drain,
        summary="Empty a volume for its removal; nothing new is placed on it.",
        result=DrainView,
        refusals=(
            "LastVolume",
            "NoRoom",
            "NoSuchVolume",
            "TieringOff",
            "VolumeFailed",
            "VolumeRemoved",
        ),
    ),
    Route(
        method="DELETE",
        template="/v1/volumes/{volume}/drain",
        handler=cancel_drain,
        summary="Let a volume take new pages again; what has left it stays away.",
        result=DrainView,
        refusals=("NoSuchVolume", "NotDraining"),
    ),
    Route(
        method="DELETE",
        template="/v1/volumes/{volume}",
        handler=remove_volume,
        summary="Take an empty volume out of the appliance.",
        result=DrainView,
        refusals=("NoSuchVolume", "NotDraining", "VolumeNotEmpty"),
    ),
)
