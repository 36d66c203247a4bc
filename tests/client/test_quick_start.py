"""`make run` as a new user meets it: what it prints is pasted, word by word, into a shell."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.client.clients import require_client, run_client

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.client, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
LAST_LINE = "  restic backup docs"


class Demo:
    """The program behind `make run`, with its data in a directory of the test's own."""

    def __init__(self, var: Path) -> None:
        self.var = var
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> str:
        """Starts it and returns what it prints."""
        self.process = subprocess.Popen(
            [sys.executable, "tools/run_demo.py", "--var", str(self.var)],
            cwd=ROOT,
            env={
                **os.environ,
                "THERMOCLINE_S3_LISTEN": "127.0.0.1:0",
                "THERMOCLINE_METRICS_LISTEN": "127.0.0.1:0",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        lines: list[str] = []
        while LAST_LINE not in lines:
            line = self.process.stdout.readline()
            assert line, "".join(lines)
            lines.append(line.rstrip("\n"))
        return "\n".join(lines)

    def interrupt(self) -> int:
        """Ctrl-C: the terminal sends it to the whole group."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGINT)
        status = self.process.wait(40)
        self.close()
        return status

    def close(self) -> None:
        """Ends what still runs."""
        if self.process is None:
            return
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.process = None


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    """A demonstration that has not started yet."""
    made = Demo(tmp_path / "var")
    yield made
    made.close()


def pasted(printed: str) -> str:
    """The commands of what was printed: the indented lines behind the call to paste."""
    lines = printed.partition("Paste into another terminal")[2].splitlines()
    return "\n".join(line for line in lines if line.startswith("  "))


def test_what_the_first_run_prints_works_and_the_second_run_keeps_it(
    demo: Demo, home: Path
) -> None:
    for name in ("aws", "rclone", "restic"):
        require_client(name)
    printed = demo.start()
    path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '/usr/bin:/bin')}"
    script = f"cd {ROOT}\n{pasted(printed)}\naws s3 ls --recursive s3://backups/\n"
    done = run_client(["bash", "-e", "-c", script], home=home, environment={"PATH": path})

    assert " README.md" in done.stdout
    assert " docs/ARCHITECTURE.md" in done.stdout
    assert " restic/config" in done.stdout
    assert "0 differences found" in done.stderr
    assert demo.interrupt() == 0

    again = demo.start()
    key = re.search(r"access key id +(\S+)", printed)
    assert key is not None
    assert key.group(1) in again
    listing = "\n".join(
        [
            *(line for line in pasted(again).splitlines() if "export AWS" in line),
            "aws s3 ls backups",
        ]
    )
    done = run_client(["bash", "-e", "-c", listing], home=home, environment={"PATH": path})
    assert " README.md" in done.stdout
    assert (demo.var / "demo-key.json").stat().st_mode & 0o777 == 0o600
