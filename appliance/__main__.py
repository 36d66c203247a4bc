"""The way in: refuses `python -O`, runs the command line, and gives the shell its exit code.

The one place besides the request boundaries that catches everything: what nobody expected becomes
exit code 70 and a short line, and a traceback only where `--debug` asks for one.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import TYPE_CHECKING

import click

from appliance.cli.errors import ExitCode
from appliance.cli.main import root
from appliance.cli.session import Session
from appliance.settings_file import SettingsInvalid

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main", "run"]


def run(arguments: Sequence[str], *, is_checked: bool = __debug__) -> int:
    """Run one command and return its exit code.

    Args:
        arguments: Without the program's name.
        is_checked: Whether assertions are in force.
    """
    if not is_checked:
        click.echo("thermocline does not run with python -O: its assertions guard data", err=True)
        return ExitCode.USAGE
    session = Session()
    try:
        outcome = root.main(
            list(arguments), prog_name="thermocline", standalone_mode=False, obj=session
        )
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except SettingsInvalid as error:
        click.echo(f"Error: {error}", err=True)
        return ExitCode.USAGE
    except (click.Abort, KeyboardInterrupt):
        click.echo("Aborted.", err=True)
        return ExitCode.REFUSED
    except BrokenPipeError:
        # Whoever read has gone, as `head` does; what is still buffered must not fail at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # noqa: TID251 - no device
        return ExitCode.REFUSED
    except Exception as error:  # noqa: BLE001 - the last line: exit code 70 instead of a traceback
        return _report_fault(error, is_debug=session.is_debug)
    # Without standalone mode click returns the code of --help and the like.
    return outcome if isinstance(outcome, int) else ExitCode.OK


def _report_fault(error: Exception, *, is_debug: bool) -> int:
    if is_debug:
        traceback.print_exception(error)
    click.echo(
        f"Internal error: {type(error).__name__}: {error}"
        + ("" if is_debug else " (--debug before the command shows more)"),
        err=True,
    )
    return ExitCode.INTERNAL


def main() -> None:
    """Run the command line with the process's arguments and exit."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
