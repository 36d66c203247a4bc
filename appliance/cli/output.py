"""What people read: aligned tables, sizes, questions, progress.

Tables have no frames and no colours, and are never cut to the width of the terminal: a line can be
copied, and `awk` can read it. What came from a client of S3 (a prefix, say) is made harmless before
a terminal sees it.
"""

from __future__ import annotations

import contextlib
import sys
from io import StringIO
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from appliance.cli.errors import ExitCode
from appliance.units import format_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = [
    "LongWork",
    "confirm",
    "format_limit",
    "format_missing",
    "format_share",
    "print_fields",
    "print_table",
    "show_progress",
    "to_printable",
]

WIDTH_MAX = 10_000  # of a table: wider than any terminal, so that nothing is cut or wrapped

MISSING = "-"
UNLIMITED = "unlimited"


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, right: str = "") -> None:
    """Print rows under a header, aligned.

    Args:
        heads: Column names, in capitals.
        rows: A cell for each column.
        right: Names of the columns of numbers, separated by spaces.
    """
    numbers = right.split()
    table = Table(box=None, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0))
    for head in heads:
        table.add_column(head, justify="right" if head in numbers else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(to_printable(cell)) for cell in row))
    target = StringIO()
    Console(file=target, width=WIDTH_MAX, color_system=None, legacy_windows=False).print(table)
    for line in target.getvalue().splitlines():
        click.echo(line.rstrip())


def print_fields(fields: Sequence[tuple[str, str]]) -> None:
    """Print one thing, a line for each of its facts."""
    width = max(len(name) for name, _ in fields)
    for name, value in fields:
        click.echo(f"{name:<{width}}  {to_printable(value)}".rstrip())


def to_printable(text: str) -> str:
    """The text without what a terminal would act upon."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def format_limit(limit: int | None, *, is_size: bool = False) -> str:
    """A limit, or `unlimited`."""
    if limit is None:
        return UNLIMITED
    return format_size(limit) if is_size else str(limit)


def format_share(used: int, limit: int | None) -> str:
    """How much of a limit is used, in whole percent rounded down."""
    return MISSING if limit is None else f"{used * 100 // limit}%"


def format_missing(text: str | None) -> str:
    """The text, or a dash where there is none."""
    return MISSING if text is None else text


def confirm(question: str, *, is_agreed: bool) -> None:
    """Ask before something is destroyed, unless `--yes` agreed already.

    Raises:
        click.UsageError: There is nobody to ask.
        click.Abort: The answer was no.
    """
    if is_agreed:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(f"{question} Nobody can be asked here: repeat it with --yes.")
    click.confirm(question, abort=True, err=True)


class LongWork:
    """A long command's progress, as far as it is known."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def report(self, done: int, total: int) -> None:
        """Say that `done` of `total` is done."""
        self._progress.update(self._task, completed=done, total=total)


@contextlib.contextmanager
def show_progress(title: str, *, is_quiet: bool) -> Iterator[LongWork]:
    """A bar on standard error while the block runs; nothing where that is no terminal.

    The bar swings until `LongWork.report` is told how much there is.
    """
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=is_quiet or not console.is_terminal,
    ) as progress:
        yield LongWork(progress, progress.add_task(title, total=None))


EXIT_CODES_HELP = "\b\nExit codes:\n" + "\n".join(
    f"  {code.value:<3} {meaning}"
    for code, meaning in (
        (ExitCode.OK, "done"),
        (ExitCode.REFUSED, "refused by the state of things: no such tenant, name taken, no server"),
        (ExitCode.USAGE, "wrong call: option, name, size, settings file, missing --yes"),
        (ExitCode.PARTIAL, "some of several things were done, some refused"),
        (ExitCode.INTERNAL, "a fault of the program or the server"),
    )
)
"""For the end of `--help`."""
