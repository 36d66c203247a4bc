"""`thermocline scrub`: verify everything stored, and see what is damaged."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from appliance.admin.scrub_documents import ScrubView, ScrubWanted
from appliance.cli.client import join_path
from appliance.cli.errors import Refused
from appliance.cli.output import MISSING, format_missing, print_table, show_progress
from appliance.cli.session import Session, common_options, pass_session
from appliance.units import format_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from appliance.admin.scrub_documents import DamagedObjectView, DamagedPageView, ScrubVolumeView
    from appliance.cli.client import AdminClient

__all__ = ["scrub"]

POLL_S = 0.5  # of --wait; the answer is made from memory
LIMIT_DEFAULT = 100
_LIMIT = click.option(
    "--limit",
    type=click.IntRange(0, 1000),
    default=LIMIT_DEFAULT,
    show_default=True,
    help="How many damaged objects to list.",
)


@click.group()
def scrub() -> None:
    """Verify everything stored, and see what is damaged.

    The server reads every page and compares it with the catalog: by itself within the periods of
    [scrub] in the settings, or when told to. A page that is bad twice is quarantined.
    """


@scrub.command()
@click.option("--wait", is_flag=True, help="Wait for the end, and show what was found.")
@click.option("--resume", is_flag=True, help="Only end a pause: go on where it stopped.")
@_LIMIT
@common_options
@pass_session
def start(session: Session, *, wait: bool, resume: bool, limit: int) -> None:
    """Begin a new pass over every volume at once, as fast as scrub.bytes_per_s_max allows.

    While requests come it keeps to scrub.busy_bytes_per_s, unless the period asks for more.

    Passes under way are given up for it, and a pause ends. With --wait, exit code 1 where anything
    is damaged or a pass did not reach its end.
    """
    with session.open_client() as client:
        started = client.call(
            "POST", join_path("scrub", "start"), ScrubView, body=ScrubWanted(resume=resume)
        )
        failure = ""
        if wait:
            failure = _wait(client, started, is_quiet=session.as_json)
            started = _load(client, limit)
    session.print(started, _show)
    if wait:
        _judge(started, failure)


@scrub.command()
@common_options
@pass_session
def pause(session: Session) -> None:
    """Stop until `scrub start`, over restarts as well; each pass keeps its place."""
    with session.open_client() as client:
        found = client.call("POST", join_path("scrub", "pause"), ScrubView)
    session.print(found, _show)


@scrub.command()
@_LIMIT
@common_options
@pass_session
def status(session: Session, *, limit: int) -> None:
    """Show how far each volume's pass is, and which objects are damaged."""
    with session.open_client() as client:
        found = _load(client, limit)
    session.print(found, _show)


def _load(client: AdminClient, limit: int) -> ScrubView:
    # Naming the owners of damaged pages reads all of the catalog's versions.
    return client.call(
        "GET", join_path("scrub"), ScrubView, query={"limit": str(limit)}, is_long=limit > 0
    )


def _wait(client: AdminClient, started: ScrubView, *, is_quiet: bool) -> str:
    """Wait until every volume's pass ended; why one will not, empty where all did."""
    wanted = {view.volume_id: view.pass_number for view in started.volumes}
    view = started
    with show_progress("Scrubbing", is_quiet=is_quiet) as work:
        while True:
            left = [volume for volume in view.volumes if _is_under_way(volume, wanted)]
            for volume in left:
                if volume.state in {"paused", "failed"}:
                    reason = volume.failure or f"the scrub is {volume.state}"
                    return f"volume {volume.volume_id}: {reason}"
            if not left:
                return ""
            work.report(
                sum(volume.done_bytes for volume in view.volumes),
                sum(volume.total_bytes for volume in view.volumes),
            )
            time.sleep(POLL_S)
            view = _load(client, 0)


def _is_under_way(volume: ScrubVolumeView, wanted: dict[int, int]) -> bool:
    number = wanted.get(volume.volume_id, 0)
    return volume.pass_number == number and volume.state != "idle"


def _judge(found: ScrubView, failure: str) -> None:
    if failure:
        raise Refused(failure)
    bad = sum(volume.quarantined_pages for volume in found.volumes)
    if bad:
        raise Refused(f"{bad} pages are damaged")


def _show(found: ScrubView) -> None:
    print_table(
        [
            "VOLUME",
            "TIER",
            "STATE",
            "PASS",
            "DONE",
            "OF",
            "%",
            "PAGES",
            "RATE",
            "STARTED",
            "ENDS",
            "NEXT",
            "LAST-FULL",
            "BAD",
            "PATH",
        ],
        [
            (
                str(view.volume_id),
                view.tier,
                view.state,
                str(view.pass_number),
                format_size(view.done_bytes),
                format_size(view.total_bytes),
                MISSING if view.percent is None else f"{view.percent}%",
                str(view.done_pages),
                f"{format_size(view.rate_bytes_per_s)}/s" if view.rate_bytes_per_s else MISSING,
                format_missing(view.started_at),
                format_missing(view.ends_at),
                format_missing(view.next_at),
                format_missing(view.last_ended_at),
                str(view.quarantined_pages),
                view.path,
            )
            for view in found.volumes
        ],
        right="VOLUME PASS DONE OF % PAGES RATE BAD",
    )
    for view in found.volumes:
        if view.failure:
            click.echo(f"volume {view.volume_id} cannot be read: {view.failure}")
    if found.objects:
        click.echo()
        _show_objects(found.objects)
    if not found.is_complete:
        click.echo("more objects are damaged: see `thermocline scrub status --limit`")


def _show_objects(objects: Iterable[DamagedObjectView]) -> None:
    print_table(
        ["TENANT", "BUCKET", "KEY", "VERSION", "PART", "PAGES", "READS", "REASON"],
        [
            (
                item.tenant,
                item.bucket,
                item.key,
                _name_version(item),
                part,
                _format_indexes([page.page_index for page in pages]),
                # No reader is served a manifest.
                "succeed"
                if all(page.is_readable or page.of_manifest for page in pages)
                else "fail",
                pages[0].reason,
            )
            for item in objects
            for part, pages in _split_parts(item.pages)
        ],
        right="PART",
    )


def _name_version(item: DamagedObjectView) -> str:
    if item.version_id is not None:
        return item.version_id
    return MISSING if item.upload_id is None else f"upload {item.upload_id}"


def _split_parts(pages: Iterable[DamagedPageView]) -> list[tuple[str, list[DamagedPageView]]]:
    parts: dict[str, list[DamagedPageView]] = {}
    for page in pages:
        part = MISSING if page.part_number is None else str(page.part_number)
        parts.setdefault("manifest" if page.of_manifest else part, []).append(page)
    return list(parts.items())


def _format_indexes(indexes: Sequence[int]) -> str:
    """Numbers as people list them: `0,3-5`."""
    runs: list[tuple[int, int]] = []
    for index in sorted(set(indexes)):
        if runs and runs[-1][1] == index - 1:
            runs[-1] = (runs[-1][0], index)
        else:
            runs.append((index, index))
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
