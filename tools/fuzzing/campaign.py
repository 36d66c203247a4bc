"""Runs one target: mutates, executes, measures, and keeps what went somewhere new.

The corpus grows by outcomes instead of by covered lines, which costs next to nothing: a refusal is
new when the line that raised it is, a success when the target's summary of it is. A finding is an
exception that the target does not allow, an assertion of the target's own, or an input above the
target's CPU time in each of four measurements.

The sequence of inputs depends on the seed and on nothing else, no clock among it.
"""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from tools.fuzzing.mutation import Mutator

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

__all__ = ["Campaign", "Finding", "Report", "Target", "measure_machine"]

CPU_MS_MAX = 50.0
MEASUREMENTS = 3  # repetitions before a slow input counts as slow
# What `measure_machine` takes on the machine that the limit is meant for, quiet. A busy neighbour
# on the same memory makes everything slower, and is not the parser's fault.
_REFERENCE_MS = 5.0
_STRETCH_MAX = 3.0
_CORPUS_MAX = 2_000
_CORPUS_BYTES_MAX = 64 * 2**20
_MEND_SHARE = 0.5
_SHRINK_RUNS_MAX = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A parser under test.

    Attributes:
        name: As the command line has it.
        seeds: Valid inputs, made by code; each must be accepted.
        run: Parses one input, which is timed; returns what judges the result, which is not. The
            judge asserts the target's own rules and returns a summary of the result, coarse enough
            that few inputs have a new one.
        allowed: The documented errors of `run`; the judges may raise nothing.
        judge_refusal: Asserts what must hold of such an error.
        words: Pieces that mean something to the parser.
        bytes_max: Longest input, the limit that the server itself has.
        mend: Makes checksums and signatures right again; applied to every other input.
        cpu_ms_max: What one input may take, or one delivery of it, on the reference machine.
        delivery_bytes: What the server hands to an incremental parser at once, None for a parser of
            whole inputs. Between deliveries other requests get their turn, so that the time of an
            input is that of its deliveries on average.
    """

    name: str
    seeds: tuple[bytes, ...]
    run: Callable[[bytes], Callable[[], Hashable]]
    allowed: tuple[type[Exception], ...]
    words: tuple[bytes, ...]
    bytes_max: int
    judge_refusal: Callable[[bytes, Exception], None] | None = None
    mend: Callable[[bytes], bytes] | None = None
    cpu_ms_max: float = CPU_MS_MAX
    delivery_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """An input that broke a rule.

    Attributes:
        kind: Exception's class, or `slow`, or `seed refused`.
        detail: Its message and where it was raised.
        data: The input, shortened where that was possible.
        execution: 1-based number of the execution in the campaign.
    """

    kind: str
    detail: str
    data: bytes
    execution: int


@dataclass(slots=True, kw_only=True)
class Report:
    """What a campaign did."""

    target: str
    seed: int
    executions: int = 0
    seconds: float = 0.0
    refusals: int = 0
    corpus_count: int = 0
    slowest_ms: float = 0.0
    slowest: bytes = b""
    findings: list[Finding] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Result:
    """One execution. `error` is None for what is allowed."""

    outcome: Hashable
    cpu_ms: float
    is_refused: bool = False
    error: Exception | None = None


def measure_machine() -> float:
    """How much slower this machine is now than the reference, 1 to 3."""
    fastest_ms = min(_measure_once() for _ in range(5))
    return min(max(fastest_ms / _REFERENCE_MS, 1.0), _STRETCH_MAX)


def _measure_once() -> float:
    """Milliseconds of CPU time of work as parsers do it: many small objects."""
    started = time.thread_time_ns()
    pieces = (b"<a>%d</a>" * 20_000 % (*range(20_000),)).split(b"<a>")
    records = [{"name": piece[:1].decode(), "text": piece.decode()} for piece in pieces]
    assert len(records) == 20_001
    return (time.thread_time_ns() - started) / 1e6


class Campaign:
    """One target under one seed."""

    def __init__(self, target: Target, *, seed: int) -> None:
        self._target = target
        self._random = Random(f"{seed}/{target.name}")  # noqa: S311  # nothing secret
        self._mutator = Mutator(self._random, words=target.words, bytes_max=target.bytes_max)
        self._corpus = list(target.seeds)
        self._corpus_bytes = sum(map(len, self._corpus))
        self._outcomes: set[Hashable] = set()
        self._known: set[Hashable] = set()
        self._cpu_ms_max = target.cpu_ms_max * measure_machine()
        self.report = Report(target=target.name, seed=seed)

    def run(self, *, seconds: float, executions_max: int | None = None) -> Report:
        """Runs for so long, or so many executions if that is sooner; the seeds always run."""
        # What is alive already is none of an input's cost.
        gc.collect()
        gc.freeze()
        started = time.monotonic()
        try:
            for data in self._target.seeds:
                self._admit(data, is_seed=True)
            while time.monotonic() - started < seconds:
                if executions_max is not None and self.report.executions >= executions_max:
                    break
                self._admit(self._make())
        finally:
            gc.unfreeze()
        self.report.seconds = time.monotonic() - started
        self.report.corpus_count = len(self._corpus)
        return self.report

    def _make(self) -> bytes:
        data = self._mutator.make(self._corpus)
        mend = self._target.mend
        if mend is not None and self._random.random() < _MEND_SHARE:
            data = mend(data)[: self._target.bytes_max]
        return data

    def _admit(self, data: bytes, *, is_seed: bool = False) -> None:
        report = self.report
        report.executions += 1
        result = self._execute(data)
        is_slow = result.cpu_ms > self._cpu_ms_max
        if result.cpu_ms > report.slowest_ms or (is_slow and self._is_new_slow(result)):
            self._judge_time(data, result)
        if result.error is not None:
            self._note_error(data, result)
            return
        report.refusals += result.is_refused
        if is_seed and result.is_refused:
            self._note("seed refused", str(result.outcome), data)
        if result.outcome not in self._outcomes:
            self._outcomes.add(result.outcome)
            if not is_seed:
                self._keep(data)

    def _execute(self, data: bytes) -> _Result:
        target = self._target
        refusal: Exception | None = None
        judge: Callable[[], Hashable] | None = None
        deliveries = 1
        if target.delivery_bytes is not None:
            deliveries = max(1, -(-len(data) // target.delivery_bytes))  # rounded up
        started = time.thread_time_ns()
        try:
            judge = target.run(data)
        except target.allowed as error:
            refusal = error
        except Exception as error:  # noqa: BLE001  # a fuzzer is about exactly these
            cpu_ms = (time.thread_time_ns() - started) / 1e6 / deliveries
            return _Result(outcome=_place_of(error), cpu_ms=cpu_ms, error=error)
        cpu_ms = (time.thread_time_ns() - started) / 1e6 / deliveries
        try:
            if judge is not None:
                return _Result(outcome=judge(), cpu_ms=cpu_ms)
            assert refusal is not None
            if target.judge_refusal is not None:
                target.judge_refusal(data, refusal)
        except Exception as error:  # noqa: BLE001  # see above
            return _Result(outcome=_place_of(error), cpu_ms=cpu_ms, error=error)
        return _Result(outcome=_place_of(refusal), cpu_ms=cpu_ms, is_refused=True)

    def _judge_time(self, data: bytes, first: _Result) -> None:
        """A slow input counts with its fastest run: a busy machine is not the parser's fault."""
        cpu_ms = min(first.cpu_ms, *(self._execute(data).cpu_ms for _ in range(MEASUREMENTS)))
        if cpu_ms > self.report.slowest_ms:
            self.report.slowest_ms = cpu_ms
            self.report.slowest = data
        if cpu_ms <= self._cpu_ms_max or not self._is_new_slow(first):
            return
        # The machine may have become slower since the campaign began, and be so for minutes.
        if cpu_ms > self._target.cpu_ms_max * measure_machine():
            self._known.add(("slow", first.outcome))
            self._note("slow", f"{cpu_ms:.0f} ms for {len(data)} bytes: {first.outcome}", data)

    def _is_new_slow(self, result: _Result) -> bool:
        return ("slow", result.outcome) not in self._known

    def _note_error(self, data: bytes, result: _Result) -> None:
        if result.outcome in self._known:
            return
        self._known.add(result.outcome)
        shortest = self._shrink(data, result.outcome)
        self._note(type(result.error).__name__, f"{result.error} at {result.outcome}", shortest)

    def _note(self, kind: str, detail: str, data: bytes) -> None:
        self.report.findings.append(
            Finding(kind=kind, detail=detail[:500], data=data, execution=self.report.executions)
        )

    def _shrink(self, data: bytes, outcome: Hashable) -> bytes:
        """A shorter input with the same error: pieces are left out, ever smaller ones."""
        runs = 0
        step = len(data) // 2
        while step and runs < _SHRINK_RUNS_MAX:
            at = 0
            while at < len(data) and runs < _SHRINK_RUNS_MAX:
                shorter = data[:at] + data[at + step :]
                runs += 1
                result = self._execute(shorter)
                if result.error is not None and result.outcome == outcome:
                    data = shorter
                else:
                    at += step
            step //= 2
        return data

    def _keep(self, data: bytes) -> None:
        if len(self._corpus) >= _CORPUS_MAX or self._corpus_bytes + len(data) > _CORPUS_BYTES_MAX:
            return
        self._corpus.append(data)
        self._corpus_bytes += len(data)


def _place_of(error: Exception) -> Hashable:
    """Class and the line that raised."""
    trace = error.__traceback__
    place = ("", 0)
    while trace is not None:
        place = (trace.tb_frame.f_code.co_filename.rpartition("/")[2], trace.tb_lineno)
        trace = trace.tb_next
    return (type(error).__name__, *place)
