"""`thermocline serve`: the server itself."""

from __future__ import annotations

import json
from functools import partial

import click
import trio

from appliance.cli.errors import Refused, ServerFault
from appliance.cli.faults import translate_faults
from appliance.cli.session import Session, config_option, json_option, pass_session
from appliance.runtime import serve as run_server

__all__ = ["serve"]


@click.command()
@json_option
@config_option
@pass_session
def serve(session: Session) -> None:
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
            trio.run(partial(run_server, settings, on_ready=become_ready))
    except Refused as error:
        if not is_serving:
            raise
        # Nothing forbade the start: a failed catalog or device ended a server that was working,
        # and the supervisor is to start it again, which recovers.
        raise ServerFault(error.message) from error


def _announce_json(line: str) -> None:
    click.echo(json.dumps(dict(word.split("=", 1) for word in line.split()[1:])))
