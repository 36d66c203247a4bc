"""`thermocline tier`: what moves between the tiers. What is here works on files.

What asks a server is in `appliance.cli.tiering_cmd`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from appliance.cli.errors import Refused
from appliance.cli.output import print_fields, print_table, show_progress
from appliance.cli.policy_cmd import load_policy_file
from appliance.cli.session import Session, json_option, pass_session
from appliance.cli.tiering_cmd import COMMANDS
from appliance.units import format_size, parse_duration, parse_size
from tiers.errors import TraceInvalid
from tiers.policy import default_policy
from tiers.simulator.chart import draw_comparison
from tiers.simulator.replay import Replay, list_runs
from tiers.simulator.trace import DEFAULT_SPAN_S, READ
from tiers.simulator.trace_formats import FORMATS, LoadedTrace, load_trace

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["tier"]

T = TypeVar("T")
_SHARE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)%", re.ASCII)
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceFacts:
    """What was replayed.

    Attributes:
        has_times: False where accesses were spread evenly over a span.
        ignored: Lines that are neither reads nor writes of data.
        broken: Lines that could not be read and were left out.
    """

    file: str
    format: str
    reads: int
    writes: int
    pages: int
    footprint_bytes: int
    has_times: bool
    ignored: int
    broken: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """A comparison; the policy's run comes first."""

    trace: TraceFacts
    ssd_bytes: int
    policy: str
    runs: tuple[Replay, ...]


@click.group()
def tier() -> None:
    """See, try out and steer what moves between the tiers."""


for _command in COMMANDS:
    tier.add_command(_command)


@tier.command()
@click.option("--trace", "trace_file", type=_FILE, required=True, help="Recorded accesses.")
@click.option("--format", "form", required=True, metavar="NAME", help=f"{', '.join(FORMATS)}.")
@click.option("--policy", "policy_file", type=_FILE, help="Policy file; else the default policy.")
@click.option(
    "--ssd",
    "ssd",
    default="10%",
    show_default=True,
    metavar="SIZE",
    help="Size of the fast tier, or its share of all bytes in the trace.",
)
@click.option("--page-size", metavar="SIZE", help="Cut objects into pages; else they move whole.")
@click.option("--span", metavar="TIME", help="Length of a trace that has no times; else 7d.")
@click.option(
    "--plot", type=click.Path(dir_okay=False, path_type=Path), help="Write an SVG file as well."
)
@json_option
@pass_session
def simulate(  # noqa: PLR0913  # one parameter an option
    session: Session,
    *,
    trace_file: Path,
    form: str,
    policy_file: Path | None,
    ssd: str,
    page_size: str | None,
    span: str | None,
    plot: Path | None,
) -> None:
    """Replay a trace through the policy, beside LRU, LFU, S3-FIFO and MIN.

    The decisions are the server's own, on the clock of the trace. MIN knows the future: nothing
    does better. PROMOTED and DEMOTED are bytes copied, in units of all bytes in the trace.
    """
    policy = load_policy_file(policy_file).policy if policy_file else default_policy()
    loaded = _load(
        trace_file,
        form,
        span_s=_read(parse_duration, span, "--span") if span else DEFAULT_SPAN_S,
        page_bytes=_read(_parse_page, page_size, "--page-size") if page_size else None,
    )
    trace = loaded.trace
    ssd_bytes = _read(lambda text: _parse_ssd(text, trace.footprint_bytes), ssd, "--ssd")
    try:
        runs = list_runs(trace, policy, ssd_bytes=ssd_bytes)
    except LookupError as error:
        raise click.UsageError(str(error)) from error
    replays: list[Replay] = []
    with show_progress("replaying", is_quiet=session.as_json) as work:
        for done, (_, run) in enumerate(runs):
            work.report(done, len(runs))
            replays.append(run())
    reads = sum(op == READ for op in trace.ops)
    document = Simulated(
        trace=TraceFacts(
            file=str(trace_file),
            format=form,
            reads=reads,
            writes=len(trace) - reads,
            pages=len(trace.sizes),
            footprint_bytes=trace.footprint_bytes,
            has_times=trace.has_times,
            ignored=loaded.ignored,
            broken=loaded.broken,
        ),
        ssd_bytes=ssd_bytes,
        policy=str(policy_file) if policy_file else "default",
        runs=tuple(replays),
    )
    if plot is not None:
        _write_plot(plot, document)
    if loaded.first_broken is not None:
        number, why = loaded.first_broken
        click.echo(
            f"warning: {trace_file}: {loaded.broken} lines could not be read, the first is line"
            f" {number}: {why}",
            err=True,
        )
    session.print(document, _show)


def _load(file: Path, form: str, *, span_s: float, page_bytes: int | None) -> LoadedTrace:
    if form not in FORMATS:
        raise click.UsageError(f"unknown format {form!r}; known: {', '.join(FORMATS)}")
    try:
        return load_trace(file, form, span_s=span_s, pages_of=page_bytes)
    except TraceInvalid as error:
        raise Refused(str(error)) from error
    except OSError as error:
        raise click.UsageError(f"{file}: {error.strerror}") from error


def _read(parse: Callable[[str], T], text: str, option: str) -> T:
    try:
        return parse(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=option) from error


def _parse_page(text: str) -> int:
    size = parse_size(text)
    if size < 4096:
        raise ValueError(f"{text!r}: a page has at least 4096 bytes")
    return size


def _parse_ssd(text: str, footprint_bytes: int) -> int:
    match = _SHARE.fullmatch(text)
    size = int(footprint_bytes * float(match[1]) / 100) if match else parse_size(text)
    if size < 1:
        raise ValueError(f"{text!r}: a fast tier without room")
    return size


def _write_plot(plot: Path, document: Simulated) -> None:
    trace = document.trace
    drawing = draw_comparison(
        document.runs,
        title=f"{Path(trace.file).name}: {document.policy} policy",
        subtitle=f"{trace.reads:,} reads and {trace.writes:,} writes of {trace.pages:,} objects,"
        f" {format_size(trace.footprint_bytes)} in all; SSD {format_size(document.ssd_bytes)}",
    )
    try:
        plot.write_text(drawing, encoding="utf-8")
    except OSError as error:
        raise Refused(f"{plot}: {error.strerror}") from error


def _show(document: Simulated) -> None:
    trace = document.trace
    share = document.ssd_bytes / max(trace.footprint_bytes, 1)
    print_fields(
        [
            ("trace", f"{trace.file} ({trace.format})"),
            ("accesses", f"{trace.reads} reads, {trace.writes} writes, {trace.ignored} ignored"),
            ("footprint", f"{format_size(trace.footprint_bytes)} in {trace.pages} objects"),
            ("ssd", f"{format_size(document.ssd_bytes)}, {share:.1%} of the footprint"),
        ]
    )
    click.echo()
    print_table(
        ["POLICY", "HITS", "BYTE-HITS", "PROMOTED", "DEMOTED", "PING-PONG"],
        [
            [
                document.policy if number == 0 else run.name,
                f"{run.hit_ratio:.1%}",
                f"{run.byte_hit_ratio:.1%}",
                f"{run.promoted:.2f}",
                f"{run.demoted:.2f}",
                f"{run.ping_pong:.1%}",
            ]
            for number, run in enumerate(document.runs)
        ],
        right="HITS BYTE-HITS PROMOTED DEMOTED PING-PONG",
    )
