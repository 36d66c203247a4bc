"""`thermocline catalog`: check, back up, copy, restore, upgrade."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
import trio

from appliance.admin.documents import BackupResult, BackupWanted, CheckResult, CopyResult
from appliance.admin.views import format_us
from appliance.catalog.connections import is_sqlite, parse_url
from appliance.cli.client import join_path
from appliance.cli.errors import Refused
from appliance.cli.faults import translate_faults
from appliance.cli.output import confirm, print_table, show_progress
from appliance.cli.parameters import yes_option
from appliance.cli.session import (
    Session,
    common_options,
    config_option,
    json_option,
    pass_session,
)
from appliance.clock import SystemClock
from appliance.copies import list_copies
from appliance.copy_rules import parse_copy_name
from appliance.restore import restore_catalog
from appliance.units import format_duration, format_size
from appliance.upgrade import upgrade_catalog

if TYPE_CHECKING:
    from appliance.copy_rules import CatalogCopy
    from appliance.restore import Restored
    from appliance.settings import Settings
    from appliance.upgrade import Upgraded

__all__ = ["catalog"]


@click.group()
def catalog() -> None:
    """Check, back up, copy, restore and upgrade the catalog.

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
@common_options
@pass_session
def copy(session: Session) -> None:
    """Make a copy of the running server's catalog on the cold tier, now.

    The server makes one by itself every catalog.copy_interval_s; this is one more. PostgreSQL has
    pg_dump for it.
    """
    with (
        session.open_client() as client,
        show_progress("Copying the catalog", is_quiet=session.as_json),
    ):
        done = client.call("POST", join_path("catalog", "copy"), CopyResult, is_long=True)
    session.print(
        done, lambda result: click.echo(f"{result.path}: {format_size(result.size_bytes)} written")
    )


@catalog.command()
@json_option
@config_option
@pass_session
def copies(session: Session) -> None:
    """List the catalog's copies on the volumes, the newest first; a server may run or not.

    `thermocline catalog restore NAME` puts one in force. The bytes of objects that were deleted
    after a copy was made may be gone.
    """
    settings = session.load_settings()
    _refuse_postgres(settings)
    found = list_copies(volume.path for volume in settings.volumes)
    now_us = SystemClock().now_us()
    session.print(CopyList(copies=tuple(_view_copy(item, now_us) for item in found)), _show_copies)


@catalog.command()
@click.argument("file", metavar="FILE")
@yes_option
@json_option
@config_option
@pass_session
def restore(session: Session, *, file: str, yes: bool) -> None:
    """Put the backup FILE in force; no server may run.

    FILE is a path, or the name of one of `catalog copies`. The catalog before it is kept aside.
    Objects written after the backup are lost; of those deleted after it, reads may fail, since
    their pages may be reclaimed. Use it when the catalog is lost or damaged.
    """
    settings = session.load_settings()
    backup = _find_backup(settings, file)
    age = _format_age(backup)
    confirm(
        f"Replace the catalog of {settings.appliance.data} by {backup}, made {age} ago?",
        is_agreed=yes,
    )
    with (
        translate_faults(),
        show_progress("Restoring the catalog", is_quiet=session.as_json) as work,
    ):
        done = trio.run(
            partial(restore_catalog, settings, backup, clock=SystemClock(), report=work.report)
        )
    session.print(done, lambda result: _show_restored(result, backup, age))


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


def _show_restored(done: Restored, backup: Path, age: str) -> None:
    click.echo(f"{done.catalog} restored, appliance {done.appliance}")
    click.echo(f"{backup} was made {age} ago; what was written since is not named any more")
    if done.replaced is not None:
        click.echo(f"the catalog before it is {done.replaced}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyView:
    """One copy of the catalog on a volume."""

    name: str
    made_at: str
    age_seconds: int
    size_bytes: int
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyList:
    """All copies, the newest first."""

    copies: tuple[CopyView, ...]


def _view_copy(item: CatalogCopy, now_us: int) -> CopyView:
    return CopyView(
        name=item.path.name,
        made_at=format_us(item.made_us),
        age_seconds=max(now_us - item.made_us, 0) // 1_000_000,
        size_bytes=item.size_bytes,
        path=str(item.path),
    )


def _show_copies(found: CopyList) -> None:
    if not found.copies:
        click.echo("no copies: is catalog.copy_interval_s 0, or are the volumes not mounted?")
        return
    print_table(
        ["NAME", "MADE", "AGE", "SIZE", "PATH"],
        [
            (
                item.name,
                item.made_at,
                format_duration(item.age_seconds),
                format_size(item.size_bytes),
                item.path,
            )
            for item in found.copies
        ],
        right="AGE SIZE",
    )


def _refuse_postgres(settings: Settings) -> None:
    if not is_sqlite(parse_url(settings.catalog.url)):
        raise Refused(
            "a PostgreSQL catalog is copied with pg_dump, or its archive, and by nobody else"
        )


def _find_backup(settings: Settings, file: str) -> Path:
    """The file that is meant: by its path, else by its name among the copies."""
    path = Path(file)
    if path.is_file():
        return path
    for item in list_copies(volume.path for volume in settings.volumes):
        if item.path.name == file:
            return item.path
    raise click.UsageError(
        f"{file} does not exist, and is no copy either: `thermocline catalog copies` lists those"
    )


def _format_age(backup: Path) -> str:
    """How long ago a backup was made: by the name that a copy has, else by the file's time."""
    made_us = parse_copy_name(backup.name)
    made_s = backup.stat().st_mtime if made_us is None else made_us / 1_000_000
    return format_duration(max(int(SystemClock().now() - made_s), 0))
