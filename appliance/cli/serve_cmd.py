"""`thermocline serve`: the server itself."""

from __future__ import annotations

from functools import partial

import click
import trio

from appliance.cli.faults import translate_faults
from appliance.cli.session import Session, common_options, pass_session
from appliance.runtime import serve as run_server

__all__ = ["serve"]


@click.command()
@common_options
@pass_session
def serve(session: Session) -> None:
    """Run the server until SIGTERM or SIGINT; SIGHUP reads the certificates again.

    One line that begins with `ready` and names the bound addresses goes to standard output once
    requests are served; the log goes to standard error.
    """
    with translate_faults():
        settings = session.load_settings()
        # click.echo flushes: whoever waits for the line gets it at once, through a pipe too.
        trio.run(partial(run_server, settings, on_ready=click.echo))
