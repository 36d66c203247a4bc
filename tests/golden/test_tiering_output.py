"""What `policy check` and `tier simulate` print, against their files in `tests/golden/cli`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cli_harness import Shell
from tests.golden.test_cli_output import compare
from tests.unit.tiers.policies import FULL
from tools.synthetic_traces import iter_cdn

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def shell(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Shell:
    """A shell in a directory of its own."""
    return Shell(capsys, monkeypatch, tmp_path)


def test_the_faults_of_a_policy(shell: Shell) -> None:
    broken = (
        FULL.replace("hysteresis", "histeresis")
        .replace("low = 0.75", "low = 0.9")
        .replace('weight = "-heat"', 'weight = "heat"')
        .replace('"2TiB"', '"2T"')
        .replace('tz = "Europe/Berlin"', 'tz = "Europe/Berlni"')
    )
    (shell.directory / "policy.toml").write_text(broken)

    compare("policy-check-faults", shell.refuse("policy", "check", "policy.toml", status=2))


def test_a_simulation(shell: Shell) -> None:
    lines = [f"{time:.0f} {page} {size}\n" for time, page, size in iter_cdn(1, 2000)]
    (shell.directory / "cdn.txt").write_text("".join(lines))

    printed = shell.do("tier", "simulate", "--trace", "cdn.txt", "--format", "time-id-size").output

    compare("tier-simulate", printed)
