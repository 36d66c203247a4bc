"""Runs the command line in this process, as a shell would, and keeps what it printed."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.__main__ import run

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

__all__ = ["Outcome", "Shell"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a command ended."""

    status: int
    output: str
    errors: str

    def decode(self) -> dict[str, object]:
        """What it printed as JSON."""
        decoded = json.loads(self.output)
        assert isinstance(decoded, dict)
        return decoded


class Shell:
    """A working directory and an environment to run commands in.

    Args:
        capsys: Captures what is printed.
        monkeypatch: Sets directory, environment and standard input.
        directory: Where to work; holds no settings file unless the test writes one.
    """

    def __init__(
        self,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
        directory: Path,
    ) -> None:
        self._capsys = capsys
        self._monkeypatch = monkeypatch
        self.directory = directory
        monkeypatch.chdir(directory)
        monkeypatch.setenv("COLUMNS", "100")
        monkeypatch.setenv("NO_COLOR", "1")
        for variable in ("THERMOCLINE_SOCKET", "THERMOCLINE_CONFIG"):
            monkeypatch.delenv(variable, raising=False)

    def set_environment(self, **variables: str) -> None:
        """Set environment variables."""
        for name, value in variables.items():
            self._monkeypatch.setenv(name, value)

    def run(self, *arguments: str, given: str = "") -> Outcome:
        """Run a command to its end, with `given` on a standard input that is no terminal."""
        self._monkeypatch.setattr("sys.stdin", io.StringIO(given))
        self._capsys.readouterr()
        status = run(arguments)
        captured = self._capsys.readouterr()
        return Outcome(status=int(status), output=captured.out, errors=captured.err)

    def do(self, *arguments: str, given: str = "") -> Outcome:
        """Run a command that must succeed and say nothing on standard error."""
        outcome = self.run(*arguments, given=given)
        assert outcome.status == 0, outcome
        assert outcome.errors == "", outcome
        return outcome

    def refuse(self, *arguments: str, status: int, given: str = "") -> str:
        """Run a command that must end with that status, print nothing, and say why."""
        outcome = self.run(*arguments, given=given)
        assert outcome.status == status, outcome
        assert outcome.output == "", outcome
        assert outcome.errors, outcome
        return outcome.errors
