"""`thermocline config` and `thermocline version`: what needs no server."""

from __future__ import annotations

from dataclasses import dataclass

import click

from appliance.cli.session import Session, config_option, json_option, pass_session
from appliance.version import find_version

__all__ = ["config", "version"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigChecked:
    """A settings file without a fault."""

    ok: bool
    file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionFound:
    """This program."""

    version: str


@click.group()
def config() -> None:
    """Check a settings file."""


@config.command()
@json_option
@config_option
@pass_session
def check(session: Session) -> None:
    """Check the settings file and the THERMOCLINE_ variables.

    What is wrong is named with file, line and key. Only the settings are looked at, not the volumes
    or addresses that they name.
    """
    path = session.find_config()
    session.load_settings()
    session.print(
        ConfigChecked(ok=True, file=str(path)),
        lambda document: click.echo(f"{document.file}: ok"),
    )


@click.command()
@json_option
@pass_session
def version(session: Session) -> None:
    """Show the version of this program."""
    session.print(
        VersionFound(version=find_version()),
        lambda found: click.echo(f"thermocline {found.version}"),
    )
