"""What a start of the server loads: nothing heavy that it has no use for.

A start is ready again within 2 s (p99) also after a crash; most of that time is imports.
"""

from __future__ import annotations

import subprocess
import sys

UNUSED = (
    "alembic",  # changes schemas; a start compares two revisions
    "mako",  # alembic's
    "httpx",  # speaks to a server; this is one
    "psycopg",  # the other database's driver
    "pytest",
    "hypothesis",
)


def test_a_start_loads_nothing_heavy_that_it_does_not_use() -> None:
    program = (
        "import sys; import appliance.__main__, appliance.cli.serve_cmd;"
        f"print(*sorted(set({UNUSED!r}) & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60
    )

    assert done.stdout.strip() == ""
