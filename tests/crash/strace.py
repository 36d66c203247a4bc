"""Attaches strace to a running server: system calls fail, lie about their length or kill.

Source: strace(1), "Tampering". `when=` counts the calls of each thread by itself, so that the n-th
call of one may be the first of another; the log says what was hit.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["Call", "Injection", "parse_calls", "require_strace"]

# What is written down besides the calls that are tampered with: what an answer rests on.
TRACED = ("pwritev", "pwritev2", "pwrite64", "fdatasync", "fsync")
ATTACH_S_MAX = 10.0
DETACH_S_MAX = 20.0

_LINE = re.compile(r"^(\d+) +(.*)$")
_RESUMED = re.compile(r"^<\.\.\. (\w+) resumed>(.*)$")
_NAME = re.compile(r"^(\w+)\((.*)$")
_PATH = re.compile(r"^\d+<([^>]*)>")
_RESULT = re.compile(r"\) += (-?\d+|\?)(?: (E\w+))?")
_OFFSET = re.compile(r"\], \d+, (\d+)")


def require_strace() -> str:
    """The path of strace; skips the test where it is not installed, which CI does not accept."""
    found = shutil.which("strace")
    if found is None:
        assert os.environ.get("CI") != "true", "strace is missing (Debian: strace)"
        pytest.skip("strace is missing (Debian: strace)")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One finished call of the log.

    Attributes:
        begun: Line on which it was entered.
        ended: Line on which it returned.
        path: Of its descriptor.
        result: What it returned, -1 for an error.
        error: The error's name, such as EIO.
        offset: Of a vectored write, else -1.
    """

    begun: int
    ended: int
    name: str
    path: str
    result: int
    error: str
    offset: int
    is_injected: bool


def parse_calls(lines: list[str]) -> list[Call]:
    """The finished calls of `strace -f -y`, in the order in which they returned."""
    calls: list[Call] = []
    pending: dict[tuple[str, str], tuple[int, str]] = {}
    for number, line in enumerate(lines):
        matched = _LINE.match(line)
        if matched is None:
            continue
        thread, text = matched.groups()
        begun = number
        if resumed := _RESUMED.match(text):
            name, rest = resumed.groups()
            begun, start = pending.pop((thread, name), (number, f"{name}("))
            text = start + rest
        named = _NAME.match(text)
        if named is None:
            continue
        if text.rstrip().endswith("<unfinished ...>"):
            pending[thread, named[1]] = (number, text.rstrip().removesuffix("<unfinished ...>"))
            continue
        path = _PATH.match(named[2])
        result = _RESULT.findall(text)
        offset = _OFFSET.search(text)
        calls.append(
            Call(
                begun=begun,
                ended=number,
                name=named[1],
                path=path[1] if path else "",
                result=int(result[-1][0]) if result and result[-1][0] != "?" else -1,
                error=result[-1][1] if result else "",
                offset=int(offset[1]) if offset else -1,
                is_injected="(INJECTED)" in text,
            )
        )
    return calls


class Injection:
    """strace on a process, from `with` to its end. The process goes on when strace leaves.

    Args:
        pid: The process; all its threads, now and later.
        rule: For `-e inject=`, such as `fdatasync:error=EIO:when=1`; several calls with commas.
        log_path: Where strace writes; overwritten.
        path: Only calls on this file are seen and tampered with.
    """

    def __init__(self, pid: int, rule: str, log_path: Path, *, path: Path | None = None) -> None:
        self.pid = pid
        self.rule = rule
        self.log_path = log_path
        self.path = path
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        names = dict.fromkeys((*TRACED, *self.rule.split(":")[0].split(",")))
        command = [
            require_strace(), "-f", "-y", "-s", "16", "-o", str(self.log_path),
            "-e", f"trace={','.join(names)}", "-e", f"inject={self.rule}", "-p", str(self.pid),
        ]  # fmt: skip
        if self.path is not None:
            command += ["-P", str(self.path)]
        self.log_path.unlink(missing_ok=True)
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        deadline = time.monotonic() + ATTACH_S_MAX
        while not self._is_attached():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._process.kill()
                _, errors = self._process.communicate()
                raise AssertionError(f"strace did not attach: {errors.decode()}")
            time.sleep(0.01)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.communicate(timeout=DETACH_S_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            raise

    def _is_attached(self) -> bool:
        assert self._process is not None
        tracers = set()
        for status in Path(f"/proc/{self.pid}/task").glob("*/status"):
            try:
                found = re.search(r"^TracerPid:\t(\d+)", status.read_text(), re.MULTILINE)
            except (FileNotFoundError, ProcessLookupError):  # a thread that ended meanwhile
                continue
            tracers.add(int(found[1]) if found else 0)
        return tracers == {self._process.pid}

    def lines(self) -> list[str]:
        """All complete lines of the log."""
        try:
            return self.log_path.read_text("utf-8", "replace").split("\n")[:-1]
        except FileNotFoundError:
            return []

    @property
    def hits(self) -> int:
        """How many calls were tampered with."""
        if "signal=" in self.rule:
            return sum("+++ killed" in line or "--- SIG" in line for line in self.lines())
        return sum("(INJECTED)" in line for line in self.lines())
