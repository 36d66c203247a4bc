"""Tiering: what moves now, what a policy would move, and why a page is where it is."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from appliance.admin import explanations
from appliance.admin.drains import list_drains
from appliance.admin.errors import AdminRefused
from appliance.admin.routes import Query, Route
from appliance.admin.tiering_documents import (
    ExplainView,
    PlanApplied,
    PlanMade,
    PlanView,
    PlanWanted,
    TieringView,
)
from appliance.admin.tiering_views import (
    show_finite,
    show_hop,
    show_marks,
    show_parked,
    show_plan,
    show_progress,
)
from appliance.admin.units import change
from appliance.policy_store import OverlayUnfit, Proposal
from tiers.errors import PlanMissing, PolicyInvalid
from tiers.plan_desk import Policies

if TYPE_CHECKING:
    from appliance.admin.routes import Call
    from appliance.admin.state import AdminState, TieringDesk
    from appliance.catalog.unit import Connection
    from appliance.policy_store import ActivePolicy

__all__ = ["ROUTES"]


async def show_tiering(state: AdminState, call: Call) -> TieringView:  # noqa: ARG001 - a handler
    """What moves now."""
    return await _show(state, _require_desk(state))


async def pause_tiering(state: AdminState, call: Call) -> TieringView:
    """Begin no further move until resumed, over restarts as well."""
    desk = _require_desk(state)
    await desk.control.pause()
    await change(state, call, _nothing, action="tier pause", subject="all")
    return await _show(state, desk)


async def resume_tiering(state: AdminState, call: Call) -> TieringView:
    """End a pause."""
    desk = _require_desk(state)
    await desk.control.resume()
    await change(state, call, _nothing, action="tier resume", subject="all")
    return await _show(state, desk)


async def make_plan(state: AdminState, call: Call) -> PlanMade:
    """Say what a policy would move; changes nothing."""
    desk, wanted = _require_desk(state), call.read_body(PlanWanted)
    active = state.policies.active()
    if wanted.source is None:
        return PlanMade(plan=await _plan(desk, active, active))
    proposed = await _preview(state, wanted.source, wanted.file)
    plan = await _plan(desk, proposed, active, name=wanted.file)
    before = await _plan(desk, active, active) if wanted.compare else None
    return PlanMade(plan=plan, before=before)


async def apply_plan(state: AdminState, call: Call) -> PlanApplied:
    """Carry out a plan that was shown."""
    desk, plan_id = _require_desk(state), call.path["plan"]
    if desk.control.status().is_paused:
        raise AdminRefused(
            "TieringPaused",
            "moves are paused: resume them with `tier resume` first",
            status=HTTPStatus.CONFLICT,
        )
    kept = desk.plans.find(plan_id)
    digest = state.policies.active().digest
    progress = await desk.plans.apply(plan_id, active_digest=digest)
    detail = f"{kept.plan.chosen_pages} pages, {kept.plan.chosen_bytes} bytes"
    await change(state, call, _nothing, action="tier apply", subject=plan_id, detail=detail)
    return show_progress(progress)


async def show_plan_progress(state: AdminState, call: Call) -> PlanApplied:
    """How far a plan that was applied is."""
    progress = _require_desk(state).control.find_progress(call.path["plan"])
    if progress is None:
        raise PlanMissing(call.path["plan"])
    return show_progress(progress)


async def explain_page(state: AdminState, call: Call) -> ExplainView:
    """Why a page is where it is, and what would happen to it next."""
    return await explanations.explain(state, _require_desk(state), call)


def _require_desk(state: AdminState) -> TieringDesk:
    if state.tiering is None:
        raise AdminRefused(
            "TieringOff",
            "this server moves no pages: it takes volumes of two tiers",
            status=HTTPStatus.CONFLICT,
        )
    return state.tiering


async def _show(state: AdminState, desk: TieringDesk) -> TieringView:
    status = desk.control.status()
    return TieringView(
        state="paused" if status.is_paused else "running",
        in_flight_pages=status.in_flight_pages,
        in_flight_bytes=status.in_flight_bytes,
        queued_orders=status.queued_orders,
        queued_bytes=status.queued_bytes,
        tiers=tuple(show_marks(marks) for marks in status.tiers),
        hops=tuple(show_hop(hop) for hop in status.hops),
        parked=tuple(show_parked(parked) for parked in status.parked),
        drains=await list_drains(state),
        plan=None if status.plan is None else show_progress(status.plan),
        breaker_factor=status.breaker_factor,
        slowdown=show_finite(status.slowdown),
        failure=status.failure,
    )


async def _plan(
    desk: TieringDesk, policies: ActivePolicy, active: ActivePolicy, *, name: str = ""
) -> PlanView:
    digest = policies.digest
    is_in_force = digest == active.digest
    plan = await desk.plans.make(
        Policies(
            policy=policies.policy,
            overlays=policies.overlays,
            digest=digest,
            is_active=is_in_force,
        )
    )
    in_force = "default" if active.revision is None else f"revision {active.revision}"
    return show_plan(plan, policy=name or in_force, is_in_force=is_in_force)


async def _preview(state: AdminState, source: str, file: str) -> ActivePolicy:
    try:
        return await state.policies.preview(Proposal(source=source, tenant=None, file=file))
    except PolicyInvalid as error:
        faults = tuple(fault.format(error.file) for fault in error.faults)
        raise AdminRefused(
            "PolicyInvalid", str(error), status=HTTPStatus.BAD_REQUEST, fields=faults
        ) from error
    except OverlayUnfit as error:
        raise AdminRefused("OverlayUnfit", str(error), status=HTTPStatus.CONFLICT) from error


def _nothing(_connection: Connection) -> None:
    """The audit entry is all that there is to commit."""


ROUTES = (
    Route(
        method="GET",
        template="/v1/tier",
        handler=show_tiering,
        summary="Show what moves now: tiers and marks, rates, what waits, what is drained.",
        result=TieringView,
        refusals=("TieringOff",),
    ),
    Route(
        method="POST",
        template="/v1/tier/pause",
        handler=pause_tiering,
        summary="Begin no further move until resumed, over restarts as well.",
        result=TieringView,
        refusals=("TieringOff",),
    ),
    Route(
        method="POST",
        template="/v1/tier/resume",
        handler=resume_tiering,
        summary="Go on moving pages after a pause.",
        result=TieringView,
        refusals=("TieringOff",),
    ),
    Route(
        method="POST",
        template="/v1/tier/plans",
        handler=make_plan,
        summary="Say what a policy would move, and why the rest stays; changes nothing.",
        body=PlanWanted,
        result=PlanMade,
        refusals=("CatalogUnavailable", "OverlayUnfit", "PlanBusy", "PolicyInvalid", "TieringOff"),
    ),
    Route(
        method="POST",
        template="/v1/tier/plans/{plan}/apply",
        handler=apply_plan,
        summary="Carry out a plan that was shown, exactly as it was.",
        result=PlanApplied,
        refusals=("CatalogUnavailable", "NoSuchPlan", "PlanStale", "TieringOff", "TieringPaused"),
    ),
    Route(
        method="GET",
        template="/v1/tier/plans/{plan}/progress",
        handler=show_plan_progress,
        summary="Show how far a plan that was applied is.",
        result=PlanApplied,
        refusals=("NoSuchPlan", "TieringOff"),
    ),
    Route(
        method="GET",
        template="/v1/tier/explain/{tenant}/{bucket}/{key}",
        handler=explain_page,
        summary="Explain where a page of an object is, why, and what would happen to it next.",
        query=(
            Query(name="page", summary="Number of the page in the object, from 0; 0 by default."),
            Query(name="version", summary="Version id; absent for the current version."),
        ),
        result=ExplainView,
        refusals=("CatalogUnavailable", "NoSuchBucket", "NoSuchPage", "NoSuchTenant", "TieringOff"),
    ),
)
