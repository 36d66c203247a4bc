"""`thermocline volume`: the devices under it all."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from appliance.admin.documents import VolumeList, VolumeView
from appliance.admin.tiering_documents import DrainView
from appliance.cli.client import join_path
from appliance.cli.errors import Refused
from appliance.cli.output import MISSING, confirm, print_table, show_progress
from appliance.cli.session import Session, common_options, pass_session
from appliance.cli.tiering_tables import show_drains
from appliance.units import format_size

if TYPE_CHECKING:
    from appliance.cli.client import AdminClient

__all__ = ["volume"]

POLL_S = 1.0  # of --wait; the answer is made from memory
_VOLUME = click.argument("volume_id", metavar="VOLUME", type=click.IntRange(0, 65_535))


@click.group()
def volume() -> None:
    """Show the volumes and their devices, and empty one for its removal."""


@volume.command("list")
@common_options
@pass_session
def list_(session: Session) -> None:
    """List the volumes that the server has open."""
    with session.open_client() as client:
        found = client.call("GET", join_path("volumes"), VolumeList)
    session.print(found, _show)


@volume.command()
@_VOLUME
@click.option("--cancel", is_flag=True, help="Let it take new pages again instead.")
@click.option("--wait", is_flag=True, help="Wait until it is empty.")
@common_options
@pass_session
def drain(session: Session, *, volume_id: int, cancel: bool, wait: bool) -> None:
    """Empty VOLUME for its removal; its pages go to others of its tier.

    Nothing new is placed on it from now on, over restarts as well. Reads and writes go on. What was
    deleted leaves it after its grace. See `volume remove` for what follows. With --wait, exit code
    1 where it does not go on.
    """
    if cancel and wait:
        raise click.UsageError("--cancel has nothing to wait for")
    path = join_path("volumes", str(volume_id), "drain")
    with session.open_client() as client:
        found = client.call("DELETE" if cancel else "POST", path, DrainView, is_long=True)
        if wait:
            found = _wait(client, path, found, is_quiet=session.as_json)
    session.print(found, _show_drain)
    if wait and found.failure:
        raise Refused(f"volume {volume_id} is not empty: {found.failure}")


@volume.command()
@_VOLUME
@click.option("--yes", is_flag=True, help="Do not ask.")
@common_options
@pass_session
def remove(session: Session, *, volume_id: int, yes: bool) -> None:
    """Take the empty VOLUME out of the appliance for good.

    It must be drained first. Take its [[volume]] section out of the settings file afterwards, and
    start the server again: then the device may go.
    """
    confirm(f"Take volume {volume_id} out of the appliance for good?", is_agreed=yes)
    with session.open_client() as client:
        found = client.call("DELETE", join_path("volumes", str(volume_id)), DrainView)
    session.print(found, _show_removed)


def _wait(client: AdminClient, path: str, found: DrainView, *, is_quiet: bool) -> DrainView:
    """Wait until the volume is empty or something keeps it from becoming so."""
    with show_progress("Draining", is_quiet=is_quiet) as work:
        while found.state == "draining" and not found.failure:
            if found.left_bytes is not None:
                work.report(found.moved_bytes, found.moved_bytes + found.left_bytes)
            time.sleep(POLL_S)
            found = client.call("GET", path, DrainView)
    return found


def _show_drain(found: DrainView) -> None:
    if found.state == "active":
        click.echo(f"volume {found.volume_id} takes new pages again")
        return
    show_drains([found])


def _show_removed(found: DrainView) -> None:
    click.echo(
        f"volume {found.volume_id} is removed; take the [[volume]] section of {found.path} out of"
        " the settings file before the next start"
    )


def _show(found: VolumeList) -> None:
    print_table(
        [
            "ID",
            "TIER",
            "STATE",
            "SIZE",
            "FREE",
            "SEGMENTS",
            "DEVICE",
            "FILESYSTEM",
            "DIRECT",
            "PATH",
        ],
        [
            (
                str(view.volume_id),
                view.tier,
                view.state,
                format_size(view.total_bytes),
                format_size(view.free_bytes),
                str(view.segment_count),
                _name_medium(view),
                view.filesystem,
                "yes" if view.direct_io else "NO",
                view.path,
            )
            for view in found.volumes
        ],
        right="ID SIZE FREE SEGMENTS",
    )


def _name_medium(view: VolumeView) -> str:
    match view.rotational:
        case True:
            return "rotational"
        case False:
            return "solid-state"
        case None:
            return MISSING
