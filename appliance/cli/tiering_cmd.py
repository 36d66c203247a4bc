"""What `thermocline tier` asks of a server: plan, apply, status, pause, resume, explain."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from appliance.admin.documents import encode_document
from appliance.admin.tiering_documents import (
    ExplainView,
    PlanApplied,
    PlanMade,
    PlanWanted,
    TieringView,
)
from appliance.cli.client import join_path
from appliance.cli.errors import PartlyDone
from appliance.cli.output import show_progress
from appliance.cli.policy_cmd import read_policy_text
from appliance.cli.session import Session, common_options, pass_session
from appliance.cli.tiering_tables import (
    show_applied,
    show_explained,
    show_made,
    show_tiering,
)

if TYPE_CHECKING:
    from appliance.cli.client import AdminClient

__all__ = ["COMMANDS"]

POLL_S = 1.0  # of --wait and --watch; the answers are made from memory
WATCH_S_MIN = 0.5
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option("--policy", "policy_file", type=_FILE, help="Policy file; else the one in force.")
@click.option("--diff", is_flag=True, help="Beside what the policy in force would do.")
@common_options
@pass_session
def plan(session: Session, *, policy_file: Path | None, diff: bool) -> None:
    """Say what a policy would move now, and why the rest stays.

    Writes nothing. Every page is counted under one rule, as chosen or with the reason why it stays.
    The server keeps the plan for a day, or until it ends: `tier apply` carries it out.
    """
    if diff and policy_file is None:
        raise click.UsageError("--diff compares a --policy with the one in force")
    wanted = PlanWanted(
        source=None if policy_file is None else read_policy_text(policy_file),
        file="policy" if policy_file is None else str(policy_file),
        compare=diff,
    )
    with session.open_client() as client, show_progress("Planning", is_quiet=session.as_json):
        made = client.call("POST", join_path("tier", "plans"), PlanMade, body=wanted, is_long=True)
    session.print(made, show_made)


@click.command()
@click.argument("plan_id", metavar="PLAN")
@click.option("--wait", is_flag=True, help="Wait for the end, and show what came of it.")
@common_options
@pass_session
def apply(session: Session, *, plan_id: str, wait: bool) -> None:
    """Carry out PLAN, exactly as `tier plan` showed it.

    Refused where the policy changed since, where a tier's fill moved by more than 5 % of its size,
    or where more than 5 % of the chosen bytes are no longer where they were. The budget holds. With
    --wait, exit code 3 where a device or the catalog refused some of it.
    """
    with session.open_client() as client:
        applied = client.call(
            "POST", join_path("tier", "plans", plan_id, "apply"), PlanApplied, is_long=True
        )
        if wait:
            applied = _wait(client, applied, is_quiet=session.as_json)
    session.print(applied, show_applied)
    if wait and applied.failed_pages:
        raise PartlyDone(f"{applied.failed_pages} pages could not be moved; see `tier status`")


@click.command()
@click.option("--watch", is_flag=True, help="Show it again and again, until interrupted.")
@click.option(
    "--interval",
    type=click.FloatRange(WATCH_S_MIN),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="Time between two looks of --watch.",
)
@common_options
@pass_session
def status(session: Session, *, watch: bool, interval: float) -> None:
    """Show what moves now: tiers and marks, rates, what waits, what is drained.

    With --watch and --json, one line of JSON after each other.
    """
    with session.open_client() as client:
        if not watch:
            session.print(_load(client), show_tiering)
            return
        _watch(session, client, interval)


@click.command()
@common_options
@pass_session
def pause(session: Session) -> None:
    """Begin no further move until `tier resume`, over restarts as well."""
    with session.open_client() as client:
        found = client.call("POST", join_path("tier", "pause"), TieringView)
    session.print(found, show_tiering)


@click.command()
@common_options
@pass_session
def resume(session: Session) -> None:
    """Go on moving pages."""
    with session.open_client() as client:
        found = client.call("POST", join_path("tier", "resume"), TieringView)
    session.print(found, show_tiering)


@click.command()
@click.argument("name", metavar="TENANT/BUCKET/KEY")
@click.option(
    "--page",
    type=click.IntRange(0, 999_999_999),
    default=0,
    show_default=True,
    metavar="N",
    help="Number of the page in the object; a page has 4 MiB.",
)
@click.option("--version", "version_id", metavar="ID", help="Version id; else the current version.")
@common_options
@pass_session
def explain(session: Session, *, name: str, page: int, version_id: str | None) -> None:
    """Say where a page is, how it came there, and what would happen to it next.

    The decision is made by the code that moves pages, with the facts of this moment.
    """
    tenant, bucket, key = _split(name)
    with session.open_client() as client:
        found = client.call(
            "GET",
            join_path("tier", "explain", tenant, bucket, key),
            ExplainView,
            query={"page": str(page), "version": version_id},
        )
    session.print(found, show_explained)


COMMANDS = (plan, apply, status, pause, resume, explain)


def _split(name: str) -> tuple[str, str, str]:
    parts = name.split("/", 2)
    if len(parts) != 3 or not all(parts):
        raise click.BadParameter(
            f"{name!r}: write an object as TENANT/BUCKET/KEY", param_hint="TENANT/BUCKET/KEY"
        )
    return parts[0], parts[1], parts[2]


def _load(client: AdminClient) -> TieringView:
    return client.call("GET", join_path("tier"), TieringView)


def _watch(session: Session, client: AdminClient, interval: float) -> None:
    while True:
        found = _load(client)
        if session.as_json:
            click.echo(encode_document(found).decode())
        else:
            click.clear()  # nothing where standard output is no terminal
            show_tiering(found)
        time.sleep(interval)


def _wait(client: AdminClient, applied: PlanApplied, *, is_quiet: bool) -> PlanApplied:
    path = join_path("tier", "plans", applied.plan_id, "progress")
    look = partial(client.call, "GET", path, PlanApplied)
    with show_progress("Moving", is_quiet=is_quiet) as work:
        while applied.state != "done":
            time.sleep(POLL_S)
            applied = look()
            work.report(applied.done_bytes, applied.total_bytes)
    return applied
