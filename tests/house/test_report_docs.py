"""The columns of the manual are those that reports have."""

from __future__ import annotations

from pathlib import Path

from tiers.report_columns import COLUMNS, DIMENSIONS
from tools.write_report_docs import format_column_tables

PAGE = Path(__file__).parents[2] / "docs" / "REPORTS.md"


def test_the_page_has_every_column() -> None:
    written = PAGE.read_text(encoding="utf-8")

    assert written.endswith(format_column_tables()), "run tools/write_report_docs.py"


def test_a_column_is_named_once_and_its_meaning_is_a_sentence() -> None:
    assert len({column.name for column in COLUMNS}) == len(COLUMNS)
    assert tuple(column.name for column in COLUMNS[: len(DIMENSIONS)]) == DIMENSIONS
    for column in COLUMNS:
        assert column.meaning.endswith(".")
        assert ("bytes" in column.name) <= (column.kind != "text")
