"""What every command shares: where the server is, and how answers are printed.

`--json`, `--socket` and `--config` are taken before the noun and after the verb alike; the last one
given counts.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import click

from appliance.admin.documents import encode_document
from appliance.settings_file import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.cli.client import AdminClient
    from appliance.settings import Settings

__all__ = [
    "CONFIG_PLACES",
    "CONFIG_VARIABLE",
    "SOCKET_VARIABLE",
    "Session",
    "common_options",
    "config_option",
    "json_option",
    "pass_session",
]

CONFIG_VARIABLE = "THERMOCLINE_CONFIG"
SOCKET_VARIABLE = "THERMOCLINE_SOCKET"

CONFIG_PLACES = (
    Path("thermocline.toml"),
    Path("var/thermocline.toml"),
    Path("/etc/thermocline/thermocline.toml"),
)
"""Where a settings file is looked for when none is named."""

DocumentT = TypeVar("DocumentT")
P = ParamSpec("P")


@dataclass(slots=True, kw_only=True)
class Session:
    """One call of the command line.

    Attributes:
        socket: The admin socket, None to take the settings file's.
        config: The settings file, None to look for one.
    """

    as_json: bool = False
    is_debug: bool = False
    socket: Path | None = None
    config: Path | None = None

    def open_client(self) -> AdminClient:
        """A client of the server that is meant."""
        # With httpx, which `serve` and whatever works without a server need not wait for.
        from appliance.cli.client import AdminClient  # noqa: PLC0415

        return AdminClient(self.find_socket())

    def find_socket(self) -> Path:
        """Where the server's admin socket is.

        Raises:
            click.UsageError: Nothing says where.
            SettingsInvalid: The settings file is wrong.
        """
        if self.socket is not None:
            return self.socket
        named = os.environ.get(SOCKET_VARIABLE)
        # A settings file named in the call is meant before a socket named in the environment.
        if named and self.config is None:
            return Path(named)
        return self.load_settings().admin.socket

    def load_settings(self) -> Settings:
        """The settings of the appliance that is meant.

        Raises:
            click.UsageError: There is no settings file.
            SettingsInvalid: It is wrong.
        """
        return load_settings(self.find_config(), os.environ)

    def find_config(self) -> Path:
        """The settings file that is meant.

        Raises:
            click.UsageError: None was named, and none is in any of the places.
        """
        if self.config is not None:
            return self.config
        named = os.environ.get(CONFIG_VARIABLE)
        if named:
            return Path(named)
        for place in CONFIG_PLACES:
            if place.is_file():
                return place
        places = ", ".join(str(place) for place in CONFIG_PLACES)
        raise click.UsageError(
            f"no settings file ({places}): name one with --config, or the server with --socket"
        )

    def print(self, document: DocumentT, show: Callable[[DocumentT], None]) -> None:
        """Print an answer: as JSON where asked, else with `show`."""
        if self.as_json:
            click.echo(encode_document(document, indent=2).decode())
        else:
            show(document)


pass_session = click.make_pass_decorator(Session, ensure=True)


def _keep_json(context: click.Context, _parameter: click.Parameter, value: object) -> None:
    if value is True:
        context.ensure_object(Session).as_json = True


def _keep_socket(context: click.Context, _parameter: click.Parameter, value: object) -> None:
    if isinstance(value, Path):
        context.ensure_object(Session).socket = value


def _keep_config(context: click.Context, _parameter: click.Parameter, value: object) -> None:
    if isinstance(value, Path):
        context.ensure_object(Session).config = value


_PATH = click.Path(path_type=Path, dir_okay=False)


def json_option(command: Callable[P, None]) -> Callable[P, None]:
    """Give a command the form of its answer."""
    return click.option(
        "--json", is_flag=True, expose_value=False, callback=_keep_json, help="Print JSON."
    )(command)


def config_option(command: Callable[P, None]) -> Callable[P, None]:
    """Give a command the settings file it works with."""
    return click.option(
        "--config",
        type=_PATH,
        expose_value=False,
        callback=_keep_config,
        metavar="FILE",
        help="Settings file.",
    )(command)


def common_options(command: Callable[P, None]) -> Callable[P, None]:
    """Give a command what every command has that asks the server."""
    socket_option = click.option(
        "--socket",
        type=_PATH,
        expose_value=False,
        callback=_keep_socket,
        metavar="FILE",
        help="Admin socket of the server.",
    )
    return json_option(socket_option(config_option(command)))
