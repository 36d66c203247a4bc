"""`thermocline status` and `thermocline audit`: the server, and who changed what on it."""

from __future__ import annotations

import click

from appliance.admin.documents import AuditList, StatusView
from appliance.cli.client import join_path
from appliance.cli.output import format_missing, print_fields, print_table
from appliance.cli.session import Session, common_options, pass_session
from appliance.units import format_duration

__all__ = ["audit", "status"]


@click.command()
@common_options
@pass_session
def status(session: Session) -> None:
    """Show the running server: version, addresses, since when."""
    with session.open_client() as client:
        found = client.call("GET", join_path("status"), StatusView)
    session.print(found, _show_status)


@click.group()
def audit() -> None:
    """Show who changed what."""


@audit.command("list")
@click.option(
    "--limit",
    type=click.IntRange(1, 1000),
    default=50,
    show_default=True,
    help="How many of the newest entries.",
)
@common_options
@pass_session
def list_(session: Session, *, limit: int) -> None:
    """List the latest changes made through the admin API, the newest first."""
    with session.open_client() as client:
        found = client.call("GET", join_path("audit"), AuditList, query={"limit": str(limit)})
    session.print(found, _show_audit)


def _show_status(view: StatusView) -> None:
    print_fields(
        [
            ("version", view.version),
            ("appliance", view.appliance),
            ("catalog", view.catalog),
            ("started", view.started_at),
            ("uptime", format_duration(view.uptime_seconds)),
            *sorted(view.listeners.items()),
            ("last copy", format_missing(view.last_copy_at)),
            *([("copy failed", view.copy_failure)] if view.copy_failure else []),
            ("policy", _name_policy(view.policy_revision)),
            *(("policy failed", failure) for failure in view.policy_failures),
        ]
    )


def _name_policy(revision: int | None) -> str:
    return "default" if revision is None else f"revision {revision}"


def _show_audit(found: AuditList) -> None:
    print_table(
        ["AT", "ACTOR", "ACTION", "SUBJECT", "OUTCOME", "DETAIL"],
        [
            (entry.at, entry.actor, entry.action, entry.subject, entry.outcome, entry.detail)
            for entry in found.entries
        ],
    )
