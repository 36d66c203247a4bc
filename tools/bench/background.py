"""Work of our server's own that runs beside a load: how it is begun, ended, and seen to run.

The migrator enters here once the server has one: a member of `Background` and a row of the table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tools.bench.generators import RunVoid
from tools.bench.records import MIB, Background

if TYPE_CHECKING:
    from collections.abc import Callable

    from tools.bench.servers import OurServer

__all__ = ["BACKGROUNDS", "BackgroundWork"]

SCRUB_BYTES_PER_S = 64 * MIB  # scrub.bytes_per_s_max, its default
SCRUB_ASKING_S = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class BackgroundWork:
    """One kind of work.

    Attributes:
        begin: Makes it run, or run again from its start.
        end: Makes it stop.
        is_running: Asks the server; the work is not done and not paused.
        filler_bytes: What must be stored beside the load, so that the work lasts for a sample.
    """

    begin: Callable[[OurServer], None]
    end: Callable[[OurServer], None]
    is_running: Callable[[OurServer], bool]
    filler_bytes: Callable[[float], int]


def _is_scrub_running(server: OurServer) -> bool:
    view = server.process.command_json("scrub", "status")
    volumes = view.get("volumes") if isinstance(view, dict) else None
    if not isinstance(volumes, list):
        raise RunVoid("the status of the scrub is not what it is known to be")
    return any(isinstance(volume, dict) and volume.get("state") == "running" for volume in volumes)


def _scrub_filler_bytes(seconds: float) -> int:
    """At the default rate of 64 MiB/s: three samples, and what asking around them takes."""
    return int(3 * seconds + SCRUB_ASKING_S) * SCRUB_BYTES_PER_S


def _command(*words: str) -> Callable[[OurServer], None]:
    def run(server: OurServer) -> None:
        server.process.command(*words)

    return run


BACKGROUNDS = {
    Background.SCRUB: BackgroundWork(
        begin=_command("scrub", "start"),
        end=_command("scrub", "pause"),
        is_running=_is_scrub_running,
        filler_bytes=_scrub_filler_bytes,
    ),
}
