"""Rows of a report as an Arrow table in Parquet, with the schema that the manual documents.

Text is `string`, integers are `int64`, numbers `double`; every column may be null. What each column
means is in its field's metadata under `meaning`, what the table is in the schema's.
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

import pyarrow as pa
from pyarrow import parquet

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tiers.report_columns import Column

__all__ = ["encode_parquet"]

_TYPES = {"text": pa.string(), "integer": pa.int64(), "number": pa.float64()}


def encode_parquet(
    columns: Sequence[Column],
    rows: Sequence[Mapping[str, object]],
    *,
    about: Mapping[str, str],
) -> bytes:
    """The rows as one Parquet file.

    Args:
        columns: Names, kinds and order.
        rows: A value for each column by name, None where there is none.
        about: What the table is, such as when it was made.
    """
    schema = pa.schema(
        [
            pa.field(column.name, _TYPES[column.kind], metadata={"meaning": column.meaning})
            for column in columns
        ],
        metadata=dict(about),
    )
    arrays = [
        pa.array([row[column.name] for row in rows], type=_TYPES[column.kind]) for column in columns
    ]
    target = BytesIO()
    parquet.write_table(pa.Table.from_arrays(arrays, schema=schema), target)
    return target.getvalue()
