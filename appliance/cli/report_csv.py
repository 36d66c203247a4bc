"""Rows of a report as CSV (RFC 4180): one header line, null as an empty field.

Prefixes are parts of keys, which clients of S3 choose. A spreadsheet takes a field that begins like
a formula for one, so such a text gets an apostrophe in front, which spreadsheets hide.
"""

from __future__ import annotations

import csv
from io import StringIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tiers.report_columns import Column

__all__ = ["encode_csv"]

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def encode_csv(columns: Sequence[Column], rows: Sequence[Mapping[str, object]]) -> str:
    """The rows, in the order of the columns."""
    target = StringIO()
    writer = csv.writer(target, lineterminator="\r\n")
    writer.writerow([column.name for column in columns])
    for row in rows:
        writer.writerow([_format(row[column.name]) for column in columns])
    return target.getvalue()


def _format(value: object) -> object:
    if isinstance(value, str) and value.startswith(_FORMULA_STARTS):
        return f"'{value}"
    return "" if value is None else value
