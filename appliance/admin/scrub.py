"""The scrub: start it, pause it, see how far it is and what it found."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

from appliance.admin.errors import AdminRefused
from appliance.admin.routes import Query, Route
from appliance.admin.scrub_documents import (
    DamagedObjectView,
    DamagedPageView,
    ScrubView,
    ScrubVolumeView,
    ScrubWanted,
)
from appliance.admin.units import change
from appliance.admin.views import format_us
from appliance.catalog.damage import list_damaged_objects

if TYPE_CHECKING:
    from appliance.admin.routes import Call
    from appliance.admin.state import AdminState
    from appliance.catalog.damage import DamagedObject
    from appliance.catalog.unit import Connection
    from tiers.volume_scrub import VolumeScrubStatus

__all__ = ["ROUTES"]

OBJECTS_DEFAULT = 100
OBJECTS_MAX = 1000


async def show_scrub(state: AdminState, call: Call) -> ScrubView:
    """The scrub as it is, with the objects it found damaged."""
    limit = _read_limit(call.query.get("limit"))
    volumes = _show_volumes(state)
    if limit == 0:
        return ScrubView(volumes=volumes, objects=(), is_complete=_is_sound(volumes))
    report = await state.catalog.read(partial(list_damaged_objects, limit=limit))
    return ScrubView(
        volumes=volumes,
        objects=tuple(_show_object(found) for found in report.objects),
        is_complete=report.is_complete,
    )


async def start_scrub(state: AdminState, call: Call) -> ScrubView:
    """Begin new passes, or go on after a pause."""
    wanted = call.read_body(ScrubWanted)
    if wanted.resume:
        await state.scrub.resume()
    else:
        await state.scrub.start()
    detail = "resumed" if wanted.resume else ""
    await change(state, call, _nothing, action="scrub start", subject="all", detail=detail)
    volumes = _show_volumes(state)
    return ScrubView(volumes=volumes, objects=(), is_complete=_is_sound(volumes))


async def pause_scrub(state: AdminState, call: Call) -> ScrubView:
    """Stop until started again, over restarts as well."""
    await state.scrub.pause()
    await change(state, call, _nothing, action="scrub pause", subject="all")
    volumes = _show_volumes(state)
    return ScrubView(volumes=volumes, objects=(), is_complete=_is_sound(volumes))


def _nothing(_connection: Connection) -> None:
    """The audit entry is all that there is to commit."""


def _is_sound(volumes: tuple[ScrubVolumeView, ...]) -> bool:
    """Whether an empty list of objects is the whole truth."""
    return not any(view.quarantined_pages for view in volumes)


def _read_limit(text: str | None) -> int:
    if text is None:
        return OBJECTS_DEFAULT
    if text.isascii() and text.isdigit() and len(text) <= 4 and int(text) <= OBJECTS_MAX:
        return int(text)
    rule = f"limit: a number from 0 to {OBJECTS_MAX}"
    raise AdminRefused("RequestInvalid", rule, status=HTTPStatus.BAD_REQUEST, fields=(rule,))


def _show_volumes(state: AdminState) -> tuple[ScrubVolumeView, ...]:
    return tuple(_show_volume(status) for status in state.scrub.list_statuses())


def _show_volume(status: VolumeScrubStatus) -> ScrubVolumeView:
    known = status.scrub_pass
    return ScrubVolumeView(
        volume_id=status.volume_id,
        tier=status.tier,
        path=status.path,
        state=status.state.value,
        pass_number=known.number,
        is_urgent=known.is_urgent,
        started_at=format_us(known.started_us) if known.number else None,
        done_pages=known.done_pages,
        done_bytes=known.done_bytes,
        total_bytes=status.total_bytes,
        percent=_find_percent(status) if known.number else None,
        rate_bytes_per_s=round(status.rate_bytes_per_s),
        ends_at=_show_time(status.ends_us),
        next_at=_show_time(status.next_us),
        last_started_at=_show_time(known.last_started_us),
        last_ended_at=_show_time(known.last_ended_us),
        last_bytes=known.last_bytes,
        quarantined_pages=status.quarantined_pages,
        failure=status.failure,
    )


def _find_percent(status: VolumeScrubStatus) -> int:
    if not status.scrub_pass.is_running:
        return 100
    # Rounded down; before its volume is measured a pass has no length yet.
    return status.scrub_pass.done_bytes * 100 // status.total_bytes if status.total_bytes else 0


def _show_time(time_us: int | None) -> str | None:
    return None if time_us is None else format_us(time_us)


def _show_object(found: DamagedObject) -> DamagedObjectView:
    return DamagedObjectView(
        tenant=found.tenant,
        bucket=found.bucket,
        key=found.key.decode("utf-8", errors="backslashreplace"),
        version_id=found.version_id,
        upload_id=found.upload_id,
        is_current=found.is_current,
        pages=tuple(
            DamagedPageView(
                of_manifest=page.of_manifest,
                part_number=page.part_number,
                page_index=page.page_index,
                first_byte=page.first_byte,
                length_bytes=page.length_bytes,
                volume_id=page.volume_id,
                is_readable=page.is_readable,
                reason=page.reason,
                found_at=format_us(page.found_us),
            )
            for page in found.pages
        ),
    )


ROUTES = (
    Route(
        method="GET",
        template="/v1/scrub",
        handler=show_scrub,
        summary="Show the scrub of every volume, and the objects that it found damaged.",
        query=(Query(name="limit", summary=f"How many objects, 0 to {OBJECTS_MAX}."),),
        result=ScrubView,
    ),
    Route(
        method="POST",
        template="/v1/scrub/start",
        handler=start_scrub,
        summary="Begin a new pass over every volume at once, or go on after a pause.",
        body=ScrubWanted,
        result=ScrubView,
    ),
    Route(
        method="POST",
        template="/v1/scrub/pause",
        handler=pause_scrub,
        summary="Pause the scrub until it is started again.",
        result=ScrubView,
    ),
)
