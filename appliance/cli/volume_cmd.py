"""`thermocline volume`: the devices under it all."""

from __future__ import annotations

import click

from appliance.admin.documents import VolumeList, VolumeView
from appliance.cli.client import join_path
from appliance.cli.output import MISSING, print_table
from appliance.cli.session import Session, common_options, pass_session
from appliance.units import format_size

__all__ = ["volume"]


@click.group()
def volume() -> None:
    """Show the volumes and their devices."""


@volume.command("list")
@common_options
@pass_session
def list_(session: Session) -> None:
    """List the volumes that the server has open."""
    with session.open_client() as client:
        found = client.call("GET", join_path("volumes"), VolumeList)
    session.print(found, _show)


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
