"""`thermocline report`: what is held and by whom, when it is full, what a tenant used."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from appliance.admin.documents import encode_document
from appliance.admin.report_documents import CapacityReport, TenantMonth
from appliance.capacity.rows import pivot_rows
from appliance.cli.client import join_path
from appliance.cli.errors import Refused
from appliance.cli.output import show_progress
from appliance.cli.report_csv import encode_csv
from appliance.cli.report_html import render_page
from appliance.cli.report_month import MONTH_COLUMNS, list_items, render_month, show_month
from appliance.cli.report_text import show_capacity
from appliance.cli.session import Session, common_options, pass_session
from appliance.units import format_size
from tiers.report_columns import COLUMNS, DIMENSIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tiers.report_columns import Column

__all__ = ["report"]

FORMATS = ("table", "json", "csv", "parquet", "html")
_PAGE_BY = ("tenant", "bucket", "tier")  # what the plots of a page are made of

_format_option = click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    help="How it is written.  [default: as the name of --output ends, else table]",
)
_output_option = click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write it to this file, in place of one that is there.",
)


@click.group()
def report() -> None:
    """Report capacity, and what tenants used."""


@report.command()
@click.option("--tenant", metavar="NAME", help="Only this tenant.")
@click.option("--bucket", metavar="NAME", help="Only this bucket of --tenant, or TENANT/BUCKET.")
@click.option("--prefix", metavar="TEXT", help="Only keys of the bucket that begin so.")
@click.option(
    "--prefix-depth",
    type=click.IntRange(1, 32),
    metavar="N",
    help="Cut by prefix, at the Nth slash behind --prefix.",
)
@click.option(
    "--by",
    metavar="LIST",
    help=f"What rows are of: some of {', '.join(DIMENSIONS)}.  [default: tenant,tier]",
)
@_format_option
@_output_option
@common_options
@pass_session
def capacity(  # noqa: PLR0913  # one parameter an option
    session: Session,
    *,
    tenant: str | None,
    bucket: str | None,
    prefix: str | None,
    prefix_depth: int | None,
    by: str | None,
    form: str | None,
    output: Path | None,
) -> None:
    """Report what is held, by whom and where, and when it is full.

    Physical bytes count every record once, for the oldest version that names it, and reconcile with
    the segment files to the byte. Reads the whole catalog: seconds for a million pages.
    """
    chosen = _choose_format(session, form, output)
    tenant, bucket = _split_bucket(tenant, bucket)
    if prefix is not None and bucket is None:
        raise click.UsageError("--prefix needs --bucket")
    wanted = _choose_by(by, has_depth=prefix_depth is not None)
    _require_writable(output)
    # A page plots tenants, buckets and tiers, whatever its table is cut by.
    asked = (*wanted, *(_PAGE_BY if chosen == "html" else ()))
    with (
        session.open_client() as client,
        show_progress("reading the catalog", is_quiet=chosen != "table"),
    ):
        found = client.call(
            "GET",
            join_path("reports", "capacity"),
            CapacityReport,
            query={
                "by": ",".join(name for name in DIMENSIONS if name in asked),
                "tenant": tenant,
                "bucket": bucket,
                "prefix": prefix,
                "prefix_depth": None if prefix_depth is None else str(prefix_depth),
            },
            is_long=True,
        )
    writers: dict[str, Callable[[], str | bytes]] = {
        "json": lambda: encode_document(found, indent=2) + b"\n",
        "csv": lambda: encode_csv(COLUMNS, [asdict(row) for row in found.rows]),
        "parquet": lambda: _encode_parquet(
            COLUMNS,
            [asdict(row) for row in found.rows],
            about={"report": "thermocline capacity", "made_at": found.made_at},
        ),
        "html": lambda: render_page(found, rows=pivot_rows(found.rows, wanted), by=wanted),
    }
    _write(output, chosen, writers, lambda: show_capacity(found))


@report.command("tenant")
@click.argument("tenant", metavar="TENANT")
@click.option("--month", metavar="YYYY-MM", help="In UTC.  [default: the current one]")
@_format_option
@_output_option
@common_options
@pass_session
def tenant_month(
    session: Session, *, tenant: str, month: str | None, form: str | None, output: Path | None
) -> None:
    """Report what a tenant stored, asked for and moved in a month, for its bill."""
    chosen = _choose_format(session, form, output)
    _require_writable(output)
    with session.open_client() as client:
        found = client.call(
            "GET", join_path("reports", "tenants", tenant), TenantMonth, query={"month": month}
        )
    writers: dict[str, Callable[[], str | bytes]] = {
        "json": lambda: encode_document(found, indent=2) + b"\n",
        "csv": lambda: encode_csv(MONTH_COLUMNS, list_items(found)),
        "parquet": lambda: _encode_parquet(
            MONTH_COLUMNS,
            list_items(found),
            about={"report": "thermocline tenant", "tenant": found.tenant, "month": found.month},
        ),
        "html": lambda: render_month(found),
    }
    _write(output, chosen, writers, lambda: show_month(found))


def _choose_format(session: Session, form: str | None, output: Path | None) -> str:
    if session.as_json and form not in {None, "json"}:
        raise click.UsageError(f"--json and --format {form} contradict each other")
    chosen = "json" if session.as_json else form or _guess_format(output)
    if chosen == "table" and output is not None:
        raise click.UsageError("--output needs --format json, csv, parquet or html")
    if chosen == "parquet" and output is None and sys.stdout.isatty():
        raise click.UsageError("Parquet is nothing to read: name a file with --output")
    return chosen


def _guess_format(output: Path | None) -> str:
    """What a file's name ends in, where that is a format."""
    ending = "" if output is None else output.suffix.removeprefix(".").lower()
    return ending if ending in FORMATS else "table"


def _choose_by(text: str | None, *, has_depth: bool) -> tuple[str, ...]:
    names = ["tenant", "tier"] if text is None else [name.strip() for name in text.split(",")]
    if text is None and has_depth:
        names = ["prefix"]
    elif has_depth and "prefix" not in names:
        names.append("prefix")
    for name in names:
        if name not in DIMENSIONS:
            raise click.BadParameter(
                f"{name!r} is none of {', '.join(DIMENSIONS)}", param_hint="--by"
            )
    # A prefix means nothing without its bucket, nor a bucket without its tenant.
    implied = {"prefix": ("tenant", "bucket"), "bucket": ("tenant",)}
    names += [more for name in names for more in implied.get(name, ())]
    return tuple(name for name in DIMENSIONS if name in names)


def _split_bucket(tenant: str | None, bucket: str | None) -> tuple[str | None, str | None]:
    if bucket is None:
        return tenant, None
    owner, slash, name = bucket.partition("/")
    if not slash:
        if tenant is None:
            raise click.UsageError("--bucket needs --tenant, or is written TENANT/BUCKET")
        return tenant, bucket
    if tenant not in {None, owner}:
        raise click.UsageError(f"--tenant {tenant} and --bucket {bucket} contradict each other")
    return owner, name


def _require_writable(output: Path | None) -> None:
    """Find out before the server is asked: a report may take minutes.

    Raises:
        Refused: The file cannot be written there.
    """
    if output is None:
        return
    place = output if output.exists() else output.absolute().parent
    if not place.exists():
        raise Refused(f"{output}: the directory {place} does not exist")
    if output.is_dir():
        raise Refused(f"{output}: is a directory")
    if not os.access(place, os.W_OK):
        raise Refused(f"{output}: may not be written")


def _encode_parquet(
    columns: Sequence[Column], rows: Sequence[Mapping[str, object]], *, about: Mapping[str, str]
) -> bytes:
    # pyarrow takes a third of a second to load, and no other format needs it.
    from tiers.report_table import encode_parquet  # noqa: PLC0415

    return encode_parquet(columns, rows, about=about)


def _write(
    output: Path | None,
    form: str,
    writers: Mapping[str, Callable[[], str | bytes]],
    show: Callable[[], None],
) -> None:
    """Write a report in its format to its place."""
    if form == "table":
        show()
        return
    content = writers[form]()
    raw = content.encode() if isinstance(content, str) else content
    if output is None:
        click.echo(raw, nl=False)
        return
    try:
        output.write_bytes(raw)
    except OSError as error:
        raise Refused(f"{output}: {error.strerror}") from error
    click.echo(f"wrote {output}, {format_size(len(raw))}")
