"""The lock files: hashes for everything, no address of an index, and no version known to be bad."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = ["requirements.lock", "requirements-dev.lock"]
PIN = re.compile(r"^([A-Za-z0-9_.-]+)==([^\s;\\]+)", re.MULTILINE)

# The first version without the fault, and the fault.
LEAST = {
    "h11": ((0, 16), "CVE-2025-43859, lenient chunk endings"),
    "pyarrow": ((14, 0, 1), "CVE-2023-47248, code in a file"),
}


def pins_of(lock: str) -> dict[str, str]:
    """Name and version of every requirement of a lock file."""
    return dict(PIN.findall((ROOT / lock).read_text(encoding="utf-8")))


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_file_names_no_index(lock: str) -> None:
    text = (ROOT / lock).read_text(encoding="utf-8")

    assert "://" not in text
    assert not re.search(r"^\s*-", text.replace("    --hash=", ""), re.MULTILINE)


@pytest.mark.parametrize("lock", LOCKS)
def test_every_requirement_is_pinned_and_hashed(lock: str) -> None:
    text = (ROOT / lock).read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]

    assert [line for line in lines if "==" not in line or "--hash=sha256:" not in line] == []


def test_both_locks_agree() -> None:
    run, dev = (pins_of(lock) for lock in LOCKS)

    assert {name: version for name, version in run.items() if dev.get(name) != version} == {}


@pytest.mark.parametrize("name", sorted(LEAST))
def test_no_version_is_known_to_be_bad(name: str) -> None:
    least, fault = LEAST[name]
    version = tuple(int(number) for number in pins_of("requirements.lock")[name].split(".")[:3])

    assert version >= least, fault
