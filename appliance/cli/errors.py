"""How a command ends: exit codes, which are part of the interface, and the errors behind them."""

from __future__ import annotations

import enum

import click

__all__ = ["ExitCode", "PartlyDone", "Refused", "ServerFault", "ServerUnreachable"]


class ExitCode(enum.IntEnum):
    """What the shell gets."""

    OK = 0
    REFUSED = 1
    """The state forbids it: no such tenant, name taken, no server, damaged catalog."""
    USAGE = 2
    """The call is wrong: option, name, size, date, settings file, missing --yes."""
    PARTIAL = 3
    """Of several things asked for, some were done and some refused."""
    INTERNAL = 70
    """A fault of the program or the server; the server's log says more."""


class Refused(click.ClickException):
    """The state does not allow what was asked.

    Attributes:
        code: The admin API's code, empty where this program itself refused.
    """

    exit_code = int(ExitCode.REFUSED)

    def __init__(self, message: str, *, code: str = "") -> None:
        super().__init__(f"{message} ({code})" if code else message)
        self.code = code


class ServerUnreachable(Refused):
    """Nobody answers on the admin socket."""

    def __init__(self, socket: str, reason: str) -> None:
        super().__init__(
            f"no server answers on {socket} ({reason}); start one with `thermocline serve`"
        )
        self.socket = socket


class PartlyDone(click.ClickException):
    """Some of several things were refused; what was done has been printed."""

    exit_code = int(ExitCode.PARTIAL)


class ServerFault(click.ClickException):
    """The server answered what it must not, or failed inside."""

    exit_code = int(ExitCode.INTERNAL)
