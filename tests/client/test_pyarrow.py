"""pyarrow's S3FileSystem (the C++ SDK): Parquet written, listed and read, over TLS and plain."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from tests.client.clients import require_module, run_client

if TYPE_CHECKING:
    from pathlib import Path

    from tests.client.access import Access

pytestmark = [pytest.mark.client, pytest.mark.slow]

# The SDK takes its trust from global state set before its first use: a process of its own.
PROGRAM = """
import json, os, sys
import pyarrow, pyarrow.fs, pyarrow.parquet, pyarrow.dataset

bucket, endpoint, ca_bundle = sys.argv[1:4]
options = {"tls_ca_file_path": ca_bundle} if ca_bundle else {}
filesystem = pyarrow.fs.S3FileSystem(
    endpoint_override=endpoint.partition("://")[2],
    scheme=endpoint.partition("://")[0],
    region="us-east-1",
    **options,
)
table = pyarrow.table({"n": list(range(200_000)), "s": [str(i % 97) for i in range(200_000)]})
for part in range(3):
    pyarrow.parquet.write_table(
        table, f"{bucket}/set/part={part}/data.parquet", filesystem=filesystem
    )
with filesystem.open_output_stream(f"{bucket}/stream.bin") as stream:
    for number in range(12):
        stream.write(bytes([number]) * (1 << 20))
with filesystem.open_input_file(f"{bucket}/stream.bin") as file:
    size = file.size()
    piece = file.read_at(4, (3 << 20) - 2).hex()
filesystem.create_dir(f"{bucket}/empty/dir")
found = filesystem.get_file_info(pyarrow.fs.FileSelector(f"{bucket}/", recursive=True))
listed = sorted((entry.path.partition("/")[2], entry.type.name) for entry in found)
same = all(
    pyarrow.parquet.read_table(
        f"{bucket}/set/part={part}/data.parquet", filesystem=filesystem, partitioning=None
    ).equals(table)
    for part in range(3)
)
dataset = pyarrow.dataset.dataset(f"{bucket}/set", filesystem=filesystem, partitioning="hive")
rows = dataset.count_rows(filter=pyarrow.dataset.field("part") == 1)
filesystem.copy_file(f"{bucket}/stream.bin", f"{bucket}/copied.bin")
filesystem.move(f"{bucket}/copied.bin", f"{bucket}/moved.bin")
filesystem.delete_dir(f"{bucket}/set")
left = sorted(
    entry.path.partition("/")[2]
    for entry in filesystem.get_file_info(pyarrow.fs.FileSelector(f"{bucket}/"))
)
print(json.dumps({"same": same, "rows": rows, "size": size, "piece": piece,
                  "listed": listed, "left": left}))
pyarrow.fs.finalize_s3()
"""


def test_parquet_there_and_back(access: Access, home: Path) -> None:
    require_module("pyarrow")
    bucket = access.make_bucket()
    ca_bundle = str(access.ca_bundle) if access.ca_bundle is not None else ""
    done = run_client(
        [sys.executable, "-c", PROGRAM, bucket, access.endpoint, ca_bundle],
        home=home,
        environment=access.aws_environment(),
    )

    assert json.loads(done.stdout) == {
        "same": True,
        "rows": 200_000,
        "size": 12 << 20,
        "piece": "02020303",
        "listed": [
            ["empty", "Directory"],
            ["empty/dir", "Directory"],
            ["set", "Directory"],
            ["set/part=0", "Directory"],
            ["set/part=0/data.parquet", "File"],
            ["set/part=1", "Directory"],
            ["set/part=1/data.parquet", "File"],
            ["set/part=2", "Directory"],
            ["set/part=2/data.parquet", "File"],
            ["stream.bin", "File"],
        ],
        "left": ["empty", "moved.bin", "stream.bin"],
    }
