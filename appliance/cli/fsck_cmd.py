"""`thermocline fsck`: compare catalog and volumes while no server runs, and repair."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click
import trio

from appliance.cli.errors import PartlyDone, Refused
from appliance.cli.faults import translate_faults
from appliance.cli.output import confirm, print_table, show_progress, to_printable
from appliance.cli.parameters import yes_option
from appliance.cli.rebuild_view import show_rebuilt
from appliance.cli.session import Session, config_option, json_option, pass_session
from appliance.clock import SystemClock
from appliance.fsck.check import run_fsck
from appliance.fsck.records import FINDINGS_MAX
from appliance.rebuild.run import rebuild_catalog as make_catalog
from appliance.units import format_size

if TYPE_CHECKING:
    from appliance.fsck.records import FsckFinding, FsckReport, Owner
    from appliance.settings import Settings

__all__ = ["fsck"]


@click.command()
@click.option("--repair", is_flag=True, help="Repair what can be; else nothing is written.")
@click.option("--no-data", is_flag=True, help="Read headers of records only: fast, finds no rot.")
@click.option("--rebuild-catalog", is_flag=True, help="Make a new catalog of what the volumes say.")
@yes_option
@json_option
@config_option
@pass_session
def fsck(
    session: Session, *, repair: bool, no_data: bool, rebuild_catalog: bool, yes: bool
) -> None:
    """Compare catalog and volumes both ways; no server may run.

    Every row of the catalog must have its record, verified byte by byte, and every record its row
    or a place among the dead. Each finding says what it means, whose object it hits, and what
    --repair does about it, or why nothing can be done.

    Exit code 0 where nothing is wrong or all of it was repaired, 1 where findings are left, 3 where
    some were repaired and some are left.

    --rebuild-catalog is for a catalog that is lost or damaged and has no good copy: it makes one of
    the volumes alone and keeps the old one aside. What was deleted less than the grace before may
    come back; uploads in progress do not. Access keys, tenants' limits and version ids come from
    the old catalog where that is sound, else keys must be made or imported again. Exit code 3 where
    versions were left out.
    """
    settings = session.load_settings()
    if rebuild_catalog:
        if repair or no_data:
            raise click.UsageError("--rebuild-catalog goes with neither --repair nor --no-data")
        _rebuild(session, settings, yes=yes)
        return
    with (
        translate_faults(),
        show_progress("Comparing", is_quiet=session.as_json) as work,
    ):
        found = trio.run(
            partial(
                run_fsck,
                settings,
                repair=repair,
                with_data=not no_data,
                clock=SystemClock(),
                report=work.report,
            )
        )
    session.print(found, _show)
    _judge(found)


def _rebuild(session: Session, settings: Settings, *, yes: bool) -> None:
    question = f"Replace the catalog of {settings.appliance.data} by one made of its volumes?"
    confirm(question, is_agreed=yes)
    with (
        translate_faults(),
        show_progress("Reading the volumes", is_quiet=session.as_json) as work,
    ):
        done = trio.run(partial(make_catalog, settings, clock=SystemClock(), report=work.report))
    session.print(done, show_rebuilt)
    if done.left_out_count:
        raise PartlyDone(f"{done.left_out_count} versions were left out")


def _judge(found: FsckReport) -> None:
    if not found.left:
        return
    repaired = found.found - found.left
    if repaired:
        raise PartlyDone(f"{repaired} findings repaired, {found.left} left")
    raise Refused(f"{found.left} findings")


def _show(found: FsckReport) -> None:
    if found.counts:
        print_table(
            ["SEVERITY", "KIND", "FOUND", "REPAIRED"],
            [
                (count.severity, count.kind, str(count.found), str(count.repaired))
                for count in found.counts
            ],
            right="FOUND REPAIRED",
        )
    for finding in found.findings:
        click.echo()
        _show_finding(finding)
    told = len(found.findings)
    if told == FINDINGS_MAX and found.found > told:
        click.echo()
        click.echo(f"{found.found - told} more findings are counted above and not told")
    if found.counts:
        click.echo()
    click.echo(
        f"{found.pages} pages and {found.records} records compared, "
        f"{format_size(found.checked_bytes)} read and verified"
        + ("" if found.with_data else " (headers only)")
    )
    if not found.is_complete:
        click.echo("not everything could be looked at: see the findings")
    if not found.counts:
        click.echo("catalog and volumes agree")


def _show_finding(finding: FsckFinding) -> None:
    click.echo(to_printable(f"{finding.severity}: {finding.kind}: {finding.where}"))
    click.echo(to_printable(f"  {finding.detail}"))
    for owner in finding.owners:
        click.echo(to_printable(f"  object   {_format_owner(owner)}"))
    click.echo(f"  means    {finding.meaning}")
    click.echo(f"  repair   {finding.remedy}")
    click.echo(f"  outcome  {finding.outcome}")


def _format_owner(owner: Owner) -> str:
    name = f"{owner.tenant}/{owner.bucket}/{owner.key}"
    if owner.of_manifest:
        what = f" version {owner.version_id}" if owner.key else ""
        return f"{name}{what} (its manifest)"
    if owner.upload_id is not None:
        return f"{name} upload {owner.upload_id}"
    return name if owner.version_id is None else f"{name} version {owner.version_id}"
