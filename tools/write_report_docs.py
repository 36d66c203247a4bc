"""Writes the tables of columns in docs/REPORTS.md from `tiers.report_columns`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from appliance.cli.report_month import MONTH_COLUMNS
from tiers.report_columns import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tiers.report_columns import Column

__all__ = ["format_column_tables"]

HEAD = "## Columns\n"


def format_column_tables() -> str:
    """Both tables, as they stand at the end of the page."""
    return (
        "`report capacity`:\n\n"
        + _format_table(COLUMNS)
        + "\n`report tenant`, one row an item:\n\n"
        + _format_table(MONTH_COLUMNS)
    )


def _format_table(columns: Sequence[Column]) -> str:
    lines = ["| column | type | means |", "|---|---|---|"]
    lines += [f"| `{column.name}` | {column.kind} | {column.meaning} |" for column in columns]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the page in the checkout this tool lies in."""
    target = Path(__file__).parents[1] / "docs" / "REPORTS.md"
    before, _, columns = target.read_text(encoding="utf-8").partition(HEAD)
    words = columns.partition("`report capacity`:\n")[0].rstrip()
    target.write_text(f"{before}{HEAD}{words}\n\n{format_column_tables()}", encoding="utf-8")


if __name__ == "__main__":
    main()
