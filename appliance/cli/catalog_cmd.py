"""`thermocline catalog`: check, back up, restore, upgrade."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
import trio

from appliance.admin.documents import BackupResult, BackupWanted, CheckResult
from appliance.cli.client import join_path
from appliance.cli.errors import Refused
from appliance.cli.faults import translate_faults
from appliance.cli.output import confirm, show_progress
from appliance.cli.parameters import yes_option
from appliance.cli.session import (
    Session,
    common_options,
    config_option,
    json_option,
    pass_session,
)
from appliance.clock import SystemClock
from appliance.restore import restore_catalog
from appliance.units import format_size
from appliance.upgrade import upgrade_catalog

if TYPE_CHECKING:
    from appliance.restore import Restored
    from appliance.upgrade import Upgraded

__all__ = ["catalog"]


@click.group()
def catalog() -> None:
    """Check, back up, restore and upgrade the catalog.

    The catalog knows every bucket, object, key and page. A backup holds secrets only in sealed
    form; it is worth nothing without the key file.
    """


@catalog.command()
@common_options
@pass_session
def check(session: Session) -> None:
    """Read all of the running server's catalog and compare it with itself.

    Exit code 1 where something is wrong.
    """
    with (
        session.open_client() as client,
        show_progress("Checking the catalog", is_quiet=session.as_json),
    ):
        found = client.call("POST", join_path("catalog", "check"), CheckResult, is_long=True)
    session.print(found, _show_check)
    if not found.ok:
        raise Refused(f"the catalog has {len(found.findings)} findings")


@catalog.command()
@click.argument("file", type=click.Path(path_type=Path))
@common_options
@pass_session
def backup(session: Session, *, file: Path) -> None:
    """Write a consistent copy of the running server's catalog to FILE, which must not exist.

    The server writes it, mode 0600, without stopping. A PostgreSQL catalog is backed up with
    pg_dump instead.
    """
    wanted = BackupWanted(path=str(file.absolute()))
    with (
        session.open_client() as client,
        show_progress("Copying the catalog", is_quiet=session.as_json),
    ):
        done = client.call(
            "POST", join_path("catalog", "backup"), BackupResult, body=wanted, is_long=True
        )
    session.print(
        done, lambda result: click.echo(f"{result.path}: {format_size(result.size_bytes)} written")
    )


@catalog.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@yes_option
@json_option
@config_option
@pass_session
def restore(session: Session, *, file: Path, yes: bool) -> None:
    """Put the backup FILE in force; no server may run.

    The catalog before it is kept aside. Objects written after the backup are lost; of those deleted
    after it, reads may fail, since their pages may be reclaimed. Use it when the catalog is lost or
    damaged.
    """
    settings = session.load_settings()
    confirm(f"Replace the catalog of {settings.appliance.data} by {file}?", is_agreed=yes)
    with (
        translate_faults(),
        show_progress("Restoring the catalog", is_quiet=session.as_json) as work,
    ):
        done = trio.run(
            partial(restore_catalog, settings, file, clock=SystemClock(), report=work.report)
        )
    session.print(done, _show_restored)


@catalog.command()
@json_option
@config_option
@pass_session
def upgrade(session: Session) -> None:
    """Bring the catalog's schema up to this program's; no server may run.

    A SQLite catalog is copied aside first; of a PostgreSQL one make a dump before. Going back to an
    older program means going back to that copy.
    """
    settings = session.load_settings()
    with (
        translate_faults(),
        show_progress("Upgrading the catalog", is_quiet=session.as_json),
    ):
        done = upgrade_catalog(settings, clock=SystemClock())
    session.print(done, _show_upgraded)


def _show_upgraded(done: Upgraded) -> None:
    if done.found == done.wanted:
        click.echo(f"the catalog's schema is {done.wanted}, as this program needs it")
        return
    click.echo(f"the catalog's schema went from {done.found} to {done.wanted}")
    if done.kept is not None:
        click.echo(f"the catalog before it is {done.kept}")


def _show_check(found: CheckResult) -> None:
    for finding in found.findings:
        click.echo(finding)
    if found.ok:
        click.echo("the catalog is sound")


def _show_restored(done: Restored) -> None:
    click.echo(f"{done.catalog} restored, appliance {done.appliance}")
    if done.replaced is not None:
        click.echo(f"the catalog before it is {done.replaced}")
