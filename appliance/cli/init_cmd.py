"""`thermocline init`: a new appliance on this machine's directories."""

from __future__ import annotations

import os
import uuid
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
import trio

from appliance.cli.faults import translate_faults
from appliance.cli.output import print_fields, print_table
from appliance.cli.parameters import read_size
from appliance.cli.session import Session, json_option, pass_session
from appliance.clock import SystemClock
from appliance.provision import InitWanted, Provisioned, VolumeWanted, provision
from appliance.setting_types import parse_address
from appliance.units import format_size

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["init"]


def _read_volumes(
    _context: click.Context, _parameter: click.Parameter, value: Sequence[str]
) -> tuple[VolumeWanted, ...]:
    return tuple(_parse_volume(text) for text in value)


def _parse_volume(text: str) -> VolumeWanted:
    tier, _, path = text.partition("=")
    if not path:
        raise click.BadParameter(f"{text!r}: write a volume as ssd=DIR or hdd=DIR")
    match tier:
        case "ssd" | "hdd":
            return VolumeWanted(tier=tier, path=Path(path))
        case _:
            raise click.BadParameter(f"{tier!r} is no tier: ssd or hdd")


def _read_listen(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> str | None:
    if value is not None:
        try:
            parse_address(value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from error
    return value


@click.command()
@click.option(
    "--data",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Directory for settings, keys and catalog.",
)
@click.option(
    "--volume",
    "volumes",
    multiple=True,
    required=True,
    callback=_read_volumes,
    metavar="TIER=DIR",
    help="An empty directory on an SSD (ssd=DIR) or a disk (hdd=DIR); several may be given.",
)
@click.option(
    "--segment-bytes",
    callback=read_size,
    metavar="SIZE",
    help="Size of the files a volume is made of; 1GiB, less on small file systems.",
)
@click.option(
    "--allow-buffered", is_flag=True, help="Take file systems that refuse direct I/O; slower."
)
@click.option(
    "--s3-listen", callback=_read_listen, metavar="HOST:PORT", help="Where S3 will be served."
)
@click.option("--catalog-url", metavar="URL", help="postgresql://...; SQLite in DIR by default.")
@json_option
@pass_session
def init(
    session: Session,
    *,
    data: Path,
    volumes: tuple[VolumeWanted, ...],
    segment_bytes: int | None,
    allow_buffered: bool,
    s3_listen: str | None,
    catalog_url: str | None,
) -> None:
    """Make a new appliance: settings file, key file, catalog, formatted volumes.

    Nothing that exists is overwritten, and after a failure everything is as it was before.
    """
    wanted = InitWanted(
        data=data,
        volumes=volumes,
        segment_bytes=segment_bytes,
        allow_buffered=allow_buffered,
        s3_listen=s3_listen,
        catalog_url=catalog_url,
    )
    with translate_faults():
        made = trio.run(
            partial(
                provision,
                wanted,
                environ=os.environ,
                clock=SystemClock(),
                random_bytes=os.urandom,
                random_uuid=uuid.uuid4,
            )
        )
    session.print(made, _show)


def _show(made: Provisioned) -> None:
    print_fields(
        [("appliance", made.appliance), ("settings", made.config), ("key file", made.key_file)]
    )
    click.echo()
    print_table(
        ["ID", "TIER", "SIZE", "SEGMENTS OF", "DIRECT", "PATH"],
        [
            (
                str(volume.volume_id),
                volume.tier,
                format_size(volume.total_bytes),
                format_size(volume.segment_bytes),
                "yes" if volume.direct_io else "NO",
                volume.path,
            )
            for volume in made.volumes
        ],
    )
    click.echo()
    click.echo("Keep a copy of the key file apart from the data: without it no secret can be read.")
    click.echo(f"Start with: thermocline serve --config {made.config}")
