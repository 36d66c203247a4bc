"""`thermocline serve`: the server itself."""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import TYPE_CHECKING

import click
import trio

from appliance.cli.errors import Refused, ServerFault
from appliance.cli.faults import translate_faults
from appliance.cli.session import Session, config_option, json_option, pass_session
from appliance.clock import SystemClock
from appliance.log import start_log
from appliance.runtime import serve as run_server
from appliance.worker_place import WorkerPlace, take_sockets

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.settings import Settings

__all__ = ["serve"]


@click.command()
@json_option
@config_option
@click.option("--worker-slot", type=click.IntRange(min=0), hidden=True)
@click.option("--worker-sockets", default="", hidden=True)
@pass_session
def serve(session: Session, worker_slot: int | None, worker_sockets: str) -> None:
    """Run the server until SIGTERM or SIGINT; SIGHUP reads the certificates again.

    One line that begins with `ready` and names the bound addresses goes to standard output once
    requests are served; the log goes to standard error. With --json the line is an object of the
    same names.
    """
    announce = _announce_json if session.as_json else click.echo
    is_serving = False

    def become_ready(line: str) -> None:
        nonlocal is_serving
        is_serving = True
        # click.echo flushes: whoever waits for the line gets it at once, through a pipe too.
        announce(line)

    try:
        with translate_faults():
            settings = session.load_settings()
            if settings.appliance.workers > 1 and worker_slot is None:
                sys.exit(_supervise(session, settings, become_ready))
            place = None
            if worker_slot is not None:
                place = WorkerPlace(
                    slot=worker_slot,
                    workers=settings.appliance.workers,
                    sockets=take_sockets(worker_sockets),
                    has_supervisor=True,
                )
            trio.run(partial(run_server, settings, on_ready=become_ready, place=place))
    except Refused as error:
        if not is_serving:
            raise
        # Nothing forbade the start: a failed catalog or device ended a server that was working,
        # and the supervisor is to start it again, which recovers.
        raise ServerFault(error.message) from error


def _supervise(session: Session, settings: Settings, on_ready: Callable[[str], None]) -> int:
    """Run the workers in processes of their own; the exit code."""
    # With subprocesses and their pipes, which a single worker need not load.
    from appliance.supervisor import Supervisor, main_command  # noqa: PLC0415

    start_log(settings.log, clock=SystemClock())
    command = [*main_command(), "serve"]
    if session.config is not None:
        command.append(f"--config={session.config}")
    supervisor = Supervisor(settings, command=command, on_ready=on_ready)
    return trio.run(supervisor.run)


def _announce_json(line: str) -> None:
    click.echo(json.dumps(dict(word.split("=", 1) for word in line.split()[1:])))
