"""Plans, the state of tiering and explanations as people read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from appliance.cli.output import MISSING, format_missing, print_fields, print_table
from appliance.units import format_duration, format_size

if TYPE_CHECKING:
    from collections.abc import Iterable

    from appliance.admin.tiering_documents import (
        DrainView,
        ExplainView,
        PlanApplied,
        PlanMade,
        PlanRule,
        PlanTier,
        PlanView,
        TieringView,
    )

__all__ = [
    "show_applied",
    "show_drains",
    "show_explained",
    "show_made",
    "show_tiering",
]


def show_made(made: PlanMade) -> None:
    """A plan, or two of them side by side."""
    plan = made.plan
    _show_plan(plan, before=made.before)
    for warning in plan.warnings:
        click.echo(f"warning: {warning}")
    click.echo()
    if not plan.chosen_pages:
        click.echo("Nothing would be moved.")
    elif plan.is_in_force:
        click.echo(f"Carry it out with `thermocline tier apply {plan.plan_id}`.")
    else:
        click.echo(
            f"Put {plan.policy} in force with `thermocline policy apply`, then carry it out with"
            f" `thermocline tier apply {plan.plan_id}`."
        )


def _show_plan(plan: PlanView, *, before: PlanView | None) -> None:
    print_fields(
        [
            ("plan", plan.plan_id),
            ("made at", plan.made_at),
            ("policy", plan.policy + (", in force" if plan.is_in_force else ", not in force")),
            ("pages", f"{plan.pages} with {format_size(plan.size_bytes)}"),
            ("chosen", f"{plan.chosen_pages} with {format_size(plan.chosen_bytes)}"),
            ("time at budget", _format_time(plan.seconds)),
        ]
    )
    click.echo()
    _show_rules(plan.rules)
    _show_reasons(plan.rules)
    click.echo()
    _show_fills(plan.tiers, before)
    if plan.hops:
        click.echo()
        _show_plan_hops(plan)
    if before is not None:
        click.echo()
        _show_difference(plan, before)


def _show_rules(rules: Iterable[PlanRule]) -> None:
    print_table(
        ["RULE", "KIND", "OVERLAY", "MATCHED", "BYTES", "CHOSEN", "BYTES-CHOSEN", "HOW"],
        [
            (
                rule.rule,
                rule.kind,
                format_missing(rule.overlay),
                str(rule.matched_pages),
                format_size(rule.matched_bytes),
                str(rule.chosen_pages),
                format_size(rule.chosen_bytes),
                ", ".join(f"{item.action} {item.pages}" for item in rule.chosen) or MISSING,
            )
            for rule in rules
        ],
        right="MATCHED BYTES CHOSEN BYTES-CHOSEN",
    )


def _show_reasons(rules: Iterable[PlanRule]) -> None:
    rows = [
        (rule.rule, stay.reason, str(stay.pages), format_size(stay.size_bytes))
        for rule in rules
        for stay in rule.stays
    ]
    if rows:
        click.echo()
        print_table(["RULE", "NOT-CHOSEN", "PAGES", "BYTES"], rows, right="PAGES BYTES")


def _show_fills(tiers: Iterable[PlanTier], before: PlanView | None) -> None:
    others = {tier.tier: tier for tier in before.tiers} if before is not None else {}
    heads = ["TIER", "SIZE", "NOW", "AFTER", "WRITTEN", "WEAR"]
    if others:
        heads.append("AFTER-IN-FORCE")
    print_table(
        heads,
        [
            (
                tier.tier,
                format_size(tier.total_bytes),
                _format_fill(tier.used_before_bytes, tier.total_bytes),
                _format_fill(tier.used_after_bytes, tier.total_bytes),
                format_size(tier.written_bytes),
                f"{tier.drive_writes:.4f} drive writes",
                *(
                    [_format_fill(others[tier.tier].used_after_bytes, tier.total_bytes)]
                    if tier.tier in others
                    else []
                ),
            )
            for tier in tiers
        ],
        right="SIZE NOW AFTER WRITTEN WEAR AFTER-IN-FORCE",
    )


def _show_plan_hops(plan: PlanView) -> None:
    print_table(
        ["FROM", "TO", "COPIED", "RELEASED", "BUDGET", "TIME"],
        [
            (
                hop.source,
                hop.target,
                format_size(hop.copied_bytes),
                format_size(hop.released_bytes),
                _format_rate(hop.bytes_per_s),
                _format_time(hop.seconds),
            )
            for hop in plan.hops
        ],
        right="COPIED RELEASED BUDGET TIME",
    )


def _show_difference(plan: PlanView, before: PlanView) -> None:
    """Chosen bytes rule by rule, under both policies."""
    sums: dict[tuple[str, str], list[int]] = {}
    for column, view in enumerate((before, plan)):
        for rule in view.rules:
            row = sums.setdefault((rule.rule, rule.overlay or ""), [0, 0])
            row[column] = rule.chosen_bytes
    print_table(
        ["RULE", "OVERLAY", "IN-FORCE", "PLANNED", "DIFFERENCE"],
        [
            (
                rule,
                overlay or MISSING,
                format_size(first),
                format_size(second),
                f"{'-' if second < first else '+'}{format_size(abs(second - first))}",
            )
            for (rule, overlay), (first, second) in sums.items()
        ],
        right="IN-FORCE PLANNED DIFFERENCE",
    )


def show_applied(applied: PlanApplied) -> None:
    """How far a plan is."""
    done, total = format_size(applied.done_bytes), format_size(applied.total_bytes)
    print_fields(
        [
            ("plan", applied.plan_id),
            ("state", applied.state),
            (
                "done",
                f"{applied.done_pages} of {applied.total_pages} pages, {done} of {total}",
            ),
            ("dropped", f"{applied.dropped_pages} pages that changed meanwhile"),
            ("failed", f"{applied.failed_pages} pages"),
        ]
    )


def show_tiering(view: TieringView) -> None:
    """Whatever moves pages, as it is now."""
    fields = [
        ("state", view.state),
        ("in flight", f"{view.in_flight_pages} pages, {format_size(view.in_flight_bytes)}"),
        ("waiting", f"{view.queued_orders} orders, {format_size(view.queued_bytes)}"),
        ("slowdown", MISSING if view.slowdown is None else f"{view.slowdown:.2f} of the requests"),
        ("breaker", f"hysteresis x {view.breaker_factor:g}"),
    ]
    if view.plan is not None:
        plan = view.plan
        fields.append(
            ("plan", f"{plan.plan_id} {plan.state}, {plan.done_pages} of {plan.total_pages} pages")
        )
    if view.failure:
        fields.append(("failure", view.failure))
    print_fields(fields)
    click.echo()
    _show_marks(view)
    click.echo()
    _show_rates(view)
    if view.parked:
        click.echo()
        print_table(
            ["PARKED", "UNTIL", "REASON"],
            [(parked.name, parked.until, parked.reason) for parked in view.parked],
        )
    if view.drains:
        click.echo()
        show_drains(view.drains)


def _show_marks(view: TieringView) -> None:
    print_table(
        [
            "TIER",
            "SIZE",
            "KEPT-FREE",
            "USED",
            "DIRTY",
            "SHADOWS",
            "HIGH",
            "LOW",
            "PREMIGRATE",
            "STOP-ABOVE",
            "CUT",
            "WRITES",
        ],
        [
            (
                tier.tier,
                format_size(tier.total_bytes),
                format_size(tier.keep_free_bytes),
                _format_fill(tier.used_bytes, tier.total_bytes),
                _format_fill(tier.dirty_bytes, tier.total_bytes),
                _format_fill(tier.shadow_bytes, tier.total_bytes),
                _format_share(tier.high),
                _format_share(tier.low),
                _format_share(tier.premigrate),
                _format_share(tier.stop_above),
                MISSING if tier.cut is None else f"{tier.cut:.2f}",
                "yes" if tier.takes_writes else "NO",
            )
            for tier in view.tiers
        ],
        right="SIZE KEPT-FREE USED DIRTY SHADOWS HIGH LOW PREMIGRATE STOP-ABOVE CUT",
    )


def _show_rates(view: TieringView) -> None:
    print_table(
        ["FROM", "TO", "PAGES", "COPIED", "RATE", "BUDGET"],
        [
            (
                hop.source,
                hop.target,
                str(hop.pages),
                format_size(hop.copied_bytes),
                _format_rate(hop.bytes_per_s) if hop.bytes_per_s else MISSING,
                "unlimited"
                if hop.budget_bytes_per_s is None
                else _format_rate(hop.budget_bytes_per_s),
            )
            for hop in view.hops
        ],
        right="PAGES COPIED RATE BUDGET",
    )


def show_drains(drains: Iterable[DrainView]) -> None:
    """Volumes that are emptied."""
    print_table(
        ["VOLUME", "TIER", "STATE", "LEFT", "BYTES-LEFT", "MOVED", "FAILURE", "PATH"],
        [
            (
                str(drain.volume_id),
                drain.tier,
                drain.state,
                MISSING if drain.left_pages is None else str(drain.left_pages),
                MISSING if drain.left_bytes is None else format_size(drain.left_bytes),
                format_size(drain.moved_bytes),
                drain.failure or MISSING,
                drain.path,
            )
            for drain in drains
        ],
        right="VOLUME LEFT BYTES-LEFT MOVED",
    )


def show_explained(view: ExplainView) -> None:
    """Where a page is, why, and what comes next."""
    shadow = (
        MISSING
        if view.shadow_tier is None
        else f"{view.shadow_tier} (volume {view.shadow_volume_id})"
    )
    print_fields(
        [
            ("object", f"{view.tenant}/{view.bucket}/{view.key}"),
            ("version", view.version_id),
            ("page", f"{view.page} of {view.pages}, number {view.page_id:#x}"),
            ("size", format_size(view.size_bytes)),
            ("class", view.storage_class),
            ("tier", f"{view.tier} (volume {view.volume_id})"),
            ("copy below", shadow),
            ("sound", "NO: it is in quarantine" if view.is_quarantined else "yes"),
            ("written", format_missing(view.written_at)),
            ("here since", f"{format_missing(view.arrived_at)}, {view.arrived_by}"),
            ("heat", f"{view.heat:g}"),
            ("priority", _format_number(view.priority) + _format_rank(view.percentile)),
            ("cut line", _format_number(view.cut)),
            ("rules", f"rise {view.rise_rule}, sink {view.sink_rule}"),
            ("next", view.decision),
        ]
    )
    if view.moves:
        click.echo()
        print_table(
            ["AT", "MOVE", "FROM", "TO", "RULE", "PLAN", "REASON"],
            [
                (
                    move.at,
                    move.action,
                    f"volume {move.from_volume}",
                    f"volume {move.to_volume}",
                    move.rule,
                    format_missing(move.plan),
                    move.reason,
                )
                for move in view.moves
            ],
        )


def _format_fill(used_bytes: int, total_bytes: int) -> str:
    return f"{used_bytes / total_bytes:.1%}" if total_bytes else MISSING


def _format_share(share: float | None) -> str:
    return MISSING if share is None else f"{share:.1%}"


def _format_rate(bytes_per_s: float | None) -> str:
    return MISSING if bytes_per_s is None else f"{format_size(round(bytes_per_s))}/s"


def _format_time(seconds: float | None) -> str:
    return "not known yet" if seconds is None else format_duration(round(seconds))


def _format_number(value: float | None) -> str:
    return MISSING if value is None else f"{value:.2f}"


def _format_rank(percentile: float | None) -> str:
    return "" if percentile is None else f" (p{percentile * 100:.0f} of its tier)"
