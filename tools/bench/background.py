"""Work of our server's own that runs beside a load: how it is begun, ended, and seen to run.

The migrator sinks large objects that a rule pins to the slow tier, at its default budget, and is
paused between samples. Its six seconds of calm in each minute belong to it: a sample may meet them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.client.server import CommandFailed
from tools.bench.generators import RunVoid
from tools.bench.records import MIB, Background
from tools.bench.servers import BUCKET, TENANT

if TYPE_CHECKING:
    from collections.abc import Callable

    from tools.bench.records import Pace
    from tools.bench.servers import OurServer

__all__ = ["BACKGROUNDS", "FILLER_PREFIX", "BackgroundWork", "begin_sinking"]

FILLER_PREFIX = "filler"
SCRUB_BYTES_PER_S = 64 * MIB  # scrub.bytes_per_s_max, its default
SCRUB_ASKING_S = 10
SINK_BYTES_PER_S = 384 * MIB  # more than one disk with both tiers was seen to let sink
SINK_ASKING_S = 3  # in each round, around the sample
SINK_POLICY = """\
version = 1
{budget}
[[rule]]
id = "filler"
filter = {{ tenant = "{tenant}", bucket = "{bucket}", prefix = "{prefix}/" }}
pin = "hdd"

[[rule]]
id = "demote"
from_pool = "ssd"
to_pool = "hdd"

[[rule]]
id = "promote"
from_pool = "hdd"
to_pool = "ssd"

[[rule]]
id = "default"
managed = true
"""


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
    filler_bytes: Callable[[Pace], int]


def _is_scrub_running(server: OurServer) -> bool:
    view = server.process.command_json("scrub", "status")
    volumes = view.get("volumes") if isinstance(view, dict) else None
    if not isinstance(volumes, list):
        raise RunVoid("the status of the scrub is not what it is known to be")
    return any(isinstance(volume, dict) and volume.get("state") == "running" for volume in volumes)


def _scrub_filler_bytes(pace: Pace) -> int:
    """At the default rate of 64 MiB/s: three samples, and what asking around them takes."""
    return int(3 * pace.seconds + SCRUB_ASKING_S) * SCRUB_BYTES_PER_S


def _sink_filler_bytes(pace: Pace) -> int:
    """What is sunk stays below: enough for the samples of all rounds."""
    return int(pace.rounds * (pace.seconds + SINK_ASKING_S)) * SINK_BYTES_PER_S


def begin_sinking(server: OurServer, *, budget: str = "") -> None:
    """Let the filler sink, from the first call on by a policy of its own.

    Args:
        server: Running.
        budget: The policy's `[budget]` in TOML; the default where it is left out.

    Raises:
        RunVoid: The policy was refused.
    """
    policy = server.directory / "sink.toml"
    if not policy.exists():
        text = SINK_POLICY.format(budget=budget, tenant=TENANT, bucket=BUCKET, prefix=FILLER_PREFIX)
        policy.write_text(text, encoding="utf-8")
        try:
            server.process.command("policy", "apply", str(policy))
        except CommandFailed as error:
            raise RunVoid(f"the policy was refused: {error}") from error
    server.process.command("tier", "resume")


def _is_sinking(server: OurServer) -> bool:
    view = server.process.command_json("tier", "status")
    if not isinstance(view, dict) or not {"state", "queued_orders"} <= view.keys():
        raise RunVoid("the status of the tiers is not what it is known to be")
    is_at_work = bool(view["queued_orders"] or view["in_flight_pages"])
    return view["state"] == "running" and is_at_work


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
    Background.MIGRATOR: BackgroundWork(
        begin=begin_sinking,
        end=_command("tier", "pause"),
        is_running=_is_sinking,
        filler_bytes=_sink_filler_bytes,
    ),
}
