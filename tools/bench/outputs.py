"""What load generators print, read into numbers. Pure; anything unexpected is an error.

wrk prints one line of JSON by `requests.lua`; curl what `--write-out` asks for; s5cmd its JSON log
of one line per file; rclone its JSON log with statistics; restic its JSON messages; fio its JSON.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = [
    "CURL_FORMAT",
    "CurlTransfer",
    "OutputUnclear",
    "WrkResult",
    "parse_curl",
    "parse_fio",
    "parse_rclone",
    "parse_restic",
    "parse_s5cmd",
    "parse_wrk",
]

CURL_FORMAT = (
    '{"status": "%{http_code}", "sent_bytes": %{size_upload},'
    ' "received_bytes": %{size_download}, "seconds": %{time_total}, "exit": %{exitcode}}\\n'
)
"""For curl's `--write-out`: one line of JSON a transfer."""

_US_PER_S = 1e6
_WRK_FAILURES = ("socket_errors", "status_errors", "timeouts")


class OutputUnclear(Exception):
    """A program printed something else than its figures.

    Attributes:
        program: Which one.
        shown: The end of what it printed.
    """

    def __init__(self, program: str, reason: str, text: str) -> None:
        self.program = program
        self.shown = text[-600:]
        super().__init__(f"{program}: {reason}: {self.shown}" if text else f"{program}: {reason}")


@dataclass(frozen=True, slots=True, kw_only=True)
class WrkResult:
    """One run of wrk with `requests.lua`.

    Attributes:
        requests: Answers that came in whole within `seconds`.
        received_bytes: Heads and bodies of them.
        seconds: From the first request to the end of the run or of the list.
        is_exhausted: True where the list ended before the time did.
        failures: How many answers were other than 2xx and 3xx, connections broke, and answers took
            too long; only kinds that happened.
        p50_s: Median time of an answer; likewise `p99_s`, and the longest in `max_s`.
    """

    requests: int
    received_bytes: int
    seconds: float
    is_exhausted: bool
    failures: dict[str, int]
    p50_s: float
    p99_s: float
    max_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CurlTransfer:
    """One transfer of one run of curl; `is_whole` is False where the time ended it."""

    status: int
    sent_bytes: int
    received_bytes: int
    seconds: float
    is_whole: bool


def parse_wrk(text: str) -> WrkResult:
    """The figures of the line that `requests.lua` prints last.

    Raises:
        OutputUnclear: There is no such line, or nothing was answered.
    """
    record = _last_object("wrk", text)
    requests = _number("wrk", record, "requests")
    if requests <= 0:
        raise OutputUnclear("wrk", "no request was answered", "")
    exhausted_us = _number("wrk", record, "exhausted_us")
    is_exhausted = exhausted_us > 0
    taken_us = (
        exhausted_us - _number("wrk", record, "first_us")
        if is_exhausted
        else _number("wrk", record, "duration_us")
    )
    if taken_us <= 0:
        raise OutputUnclear("wrk", "it took no time", text)
    counts = {name: int(_number("wrk", record, name)) for name in _WRK_FAILURES}
    return WrkResult(
        requests=int(requests),
        received_bytes=int(_number("wrk", record, "bytes")),
        seconds=taken_us / _US_PER_S,
        is_exhausted=is_exhausted,
        failures={name: count for name, count in counts.items() if count},
        p50_s=_number("wrk", record, "p50_us") / _US_PER_S,
        p99_s=_number("wrk", record, "p99_us") / _US_PER_S,
        max_s=_number("wrk", record, "max_us") / _US_PER_S,
    )


def parse_curl(text: str) -> list[CurlTransfer]:
    """The transfers, in the order in which they ended.

    Raises:
        OutputUnclear: A line is not of `CURL_FORMAT`, or there is none.
    """
    transfers = [
        CurlTransfer(
            status=_status(record),
            sent_bytes=int(_number("curl", record, "sent_bytes")),
            received_bytes=int(_number("curl", record, "received_bytes")),
            seconds=_number("curl", record, "seconds"),
            is_whole=_number("curl", record, "exit") == 0,
        )
        for record in _iter_objects("curl", text)
    ]
    if not transfers:
        raise OutputUnclear("curl", "no transfer ended", text)
    return transfers


def parse_s5cmd(text: str) -> int:
    """How many files `s5cmd --json cp` copied.

    Raises:
        OutputUnclear: One of them failed, or none was copied.
    """
    copied = 0
    for record in _iter_objects("s5cmd", text):
        if record.get("success") is not True:
            raise OutputUnclear("s5cmd", "a file failed", text)
        copied += 1
    if copied == 0:
        raise OutputUnclear("s5cmd", "nothing was copied", text)
    return copied


def parse_rclone(text: str) -> tuple[int, int]:
    """Files and bytes that `rclone copy --use-json-log` moved, by its last statistics.

    Raises:
        OutputUnclear: There are no statistics, or they count errors.
    """
    last: dict[str, object] | None = None
    for record in _iter_objects("rclone", text, strict=False):
        stats = record.get("stats")
        if isinstance(stats, dict):
            last = stats
    if last is None:
        raise OutputUnclear("rclone", "no statistics", text)
    if _number("rclone", last, "errors") != 0:
        raise OutputUnclear("rclone", "it counts errors", text)
    return int(_number("rclone", last, "transfers")), int(_number("rclone", last, "bytes"))


def parse_restic(text: str) -> int:
    """Bytes that `restic backup --json` read and stored, by its summary.

    Raises:
        OutputUnclear: There is no summary.
    """
    for record in _iter_objects("restic", text):
        if record.get("message_type") == "summary":
            return int(_number("restic", record, "total_bytes_processed"))
    raise OutputUnclear("restic", "no summary", text)


def parse_fio(text: str, direction: str) -> float:
    """Bytes a second of all of fio's jobs together (`--group_reporting`).

    Args:
        text: fio's JSON, with warnings before it or not.
        direction: `read` or `write`.

    Raises:
        OutputUnclear: It is no such report, or a job failed.
    """
    start = text.find("{")
    try:
        report = json.loads(text[start:]) if start >= 0 else None
    except ValueError as error:
        raise OutputUnclear("fio", "not JSON", text) from error
    jobs = report.get("jobs") if isinstance(report, dict) else None
    if not isinstance(jobs, list) or len(jobs) != 1 or not isinstance(jobs[0], dict):
        raise OutputUnclear("fio", "not one group of jobs", text)
    if jobs[0].get("error") != 0:
        raise OutputUnclear("fio", "a job failed", text)
    part = jobs[0].get(direction)
    if not isinstance(part, dict):
        raise OutputUnclear("fio", f"nothing about {direction}", text)
    return _number("fio", part, "bw_bytes")


def _last_object(program: str, text: str) -> dict[str, object]:
    found = [line for line in text.splitlines() if line.startswith("{")]
    if not found:
        raise OutputUnclear(program, "no line of JSON", text)
    return _object(program, found[-1])


def _iter_objects(program: str, text: str, *, strict: bool = True) -> Iterator[dict[str, object]]:
    """The objects of a text with one a line; lines that are none are skipped unless `strict`."""
    lines: Sequence[str] = text.splitlines()
    for line in lines:
        if line.startswith("{"):
            yield _object(program, line)
        elif strict and line.strip():
            raise OutputUnclear(program, "a line is not JSON", text)


def _object(program: str, line: str) -> dict[str, object]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise OutputUnclear(program, "a line is not JSON", line) from error
    if not isinstance(record, dict):
        raise OutputUnclear(program, "a line is no object", line)
    return record


def _status(record: dict[str, object]) -> int:
    """Curl writes three digits, "000" where no answer came."""
    value = record.get("status")
    if not isinstance(value, str) or not value.isdecimal():
        raise OutputUnclear("curl", "status is no number", json.dumps(record))
    return int(value)


def _number(program: str, record: dict[str, object], name: str) -> float:
    value = record.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise OutputUnclear(program, f"{name} is no number", json.dumps(record))
    return float(value)
