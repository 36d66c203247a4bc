"""Why a page is where it is: the catalog's facts, the heat, and the decision that comes next."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from appliance.admin.errors import AdminRefused
from appliance.admin.tiering_documents import ExplainView
from appliance.admin.tiering_views import format_s, show_finite, show_move
from appliance.admin.units import load_bucket, load_tenant
from appliance.admin.views import format_us
from appliance.catalog.versions import find_version, list_slices
from tiers.decisions import Action
from tiers.explain import explain_page
from tiers.records import count_pages, make_page_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.admin.routes import Call
    from appliance.admin.state import AdminState, TieringDesk
    from appliance.catalog.records import BodySlice, VersionRecord
    from appliance.catalog.unit import Connection
    from hal.records import BodyId
    from tiers.move_records import MovablePage, PageMove

__all__ = ["MOVES_SHOWN", "explain"]

MOVES_SHOWN = 5  # TIERING 4.10
_NUMBER_DIGITS_MAX = 9  # an object of 50 TiB has 13 million pages

_ARRIVALS = frozenset({Action.PROMOTE, Action.DEMOTE, Action.RELEASE, Action.DRAIN})
"""Moves that bring a page to its place; the others leave it where it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    """A page of an object, before it is looked up."""

    tenant: str
    bucket: str
    key: str
    version: VersionRecord
    number: int
    count: int
    body_id: BodyId
    page_index: int


async def explain(state: AdminState, desk: TieringDesk, call: Call) -> ExplainView:
    """Explain one page of an object."""
    target = await _find_target(state, call)
    page_id = make_page_id(target.body_id, target.page_index)
    sound = await desk.ledger.find_pages([page_id])
    found = sound.get(page_id)
    if found is None:
        all_found = await desk.ledger.find_pages([page_id], with_quarantined=True)
        found = all_found.get(page_id)
    if found is None or found.page.body_id != target.body_id:
        raise _missing(f"page {target.number} was deleted a moment ago")
    moves = await desk.ledger.list_moves(target.body_id, target.page_index, limit=MOVES_SHOWN)
    return _show(state, desk, target, found, moves, is_sound=page_id in sound)


async def _find_target(state: AdminState, call: Call) -> _Target:
    key = call.path["key"].encode()
    number = _read_number(call.query.get("page"))

    def find(connection: Connection) -> tuple[VersionRecord | None, list[BodySlice]]:
        tenant = load_tenant(connection, call.path["tenant"])
        bucket = load_bucket(connection, tenant, call.path["bucket"])
        version = find_version(
            connection,
            bucket_id=bucket.bucket_id,
            key=key,
            version_id=call.query.get("version"),
        )
        return version, [] if version is None else list_slices(connection, version=version)

    version, slices = await state.catalog.read(find)
    if version is None or version.is_delete_marker:
        what = "version" if "version" in call.query else "object"
        raise _missing(f"no such {what} of {call.path['tenant']}/{call.path['bucket']}")
    count = sum(count_pages(item.size_bytes) for item in slices)
    if number >= count:
        raise _missing(f"no page {number}: the object has {count}, from 0 on")
    body_id, page_index = _locate(slices, number)
    return _Target(
        tenant=call.path["tenant"],
        bucket=call.path["bucket"],
        key=call.path["key"],
        version=version,
        number=number,
        count=count,
        body_id=body_id,
        page_index=page_index,
    )


def _locate(slices: Sequence[BodySlice], number: int) -> tuple[BodyId, int]:
    """Body and index of an object's page."""
    left = number
    for item in slices:
        pages = count_pages(item.size_bytes)
        if left < pages:
            return item.body_id, left
        left -= pages
    raise AssertionError("the number is below the count")


def _show(
    state: AdminState,
    desk: TieringDesk,
    target: _Target,
    found: MovablePage,
    moves: Sequence[PageMove],
    *,
    is_sound: bool,
) -> ExplainView:
    active = state.policies.active()
    [page] = desk.control.describe([found])
    heat = desk.control.gauge(page)
    situation = desk.control.situate(active.policy, active.policy_of)
    outlook = explain_page(page, heat, situation, format_time=format_s)
    arrived = next((move for move in moves if move.entry.action in _ARRIVALS), None)
    written_us = found.owner.written_us
    return ExplainView(
        tenant=target.tenant,
        bucket=target.bucket,
        key=target.key,
        version_id=target.version.version_id,
        page=target.number,
        pages=target.count,
        page_id=page.page_id,
        size_bytes=page.size_bytes,
        storage_class=target.version.attributes.storage_class,
        tier=page.tier,
        volume_id=found.page.extent.volume_id,
        shadow_tier=page.shadow_tier,
        shadow_volume_id=found.shadow.volume_id if found.shadow else None,
        is_quarantined=not is_sound,
        written_at=format_us(written_us) if written_us else None,
        arrived_at=_show_arrival(arrived, written_us, is_whole=len(moves) < MOVES_SHOWN),
        arrived_by=_name_arrival(arrived, is_whole=len(moves) < MOVES_SHOWN),
        heat=round(heat.heat, 3),
        priority=show_finite(page.priority),
        percentile=show_finite(heat.percentile),
        cut=show_finite(outlook.cut),
        rule=outlook.found.rule.id,
        rise_rule=outlook.rise_rule,
        sink_rule=outlook.sink_rule,
        action=outlook.found.action.value,
        stays=outlook.found.stay.value if outlook.found.stay else None,
        until=format_s(outlook.found.until) if outlook.found.until is not None else None,
        decision=outlook.sentence if is_sound else "stays: it is damaged, and no move touches it",
        moves=tuple(show_move(move) for move in moves),
    )


def _show_arrival(arrived: PageMove | None, written_us: int, *, is_whole: bool) -> str | None:
    if arrived is not None:
        return format_us(arrived.at_us)
    # Older lines of the journal may name another arrival.
    return format_us(written_us) if written_us and is_whole else None


def _name_arrival(arrived: PageMove | None, *, is_whole: bool) -> str:
    if arrived is None:
        return "written here" if is_whole else "not in the last moves"
    plan = f", plan {arrived.entry.plan}" if arrived.entry.plan else ""
    return (
        f"{arrived.entry.action.value} by rule {arrived.entry.rule}{plan}: {arrived.entry.reason}"
    )


def _read_number(text: str | None) -> int:
    if text is None:
        return 0
    if text.isascii() and text.isdigit() and len(text) <= _NUMBER_DIGITS_MAX:
        return int(text)
    rule = "page: a number from 0 on"
    raise AdminRefused("RequestInvalid", rule, status=HTTPStatus.BAD_REQUEST, fields=(rule,))


def _missing(message: str) -> AdminRefused:
    return AdminRefused("NoSuchPage", message, status=HTTPStatus.NOT_FOUND)
