"""Half a minute of the fuzzer over every parser; `make fuzz` is the long form."""

from __future__ import annotations

import os
import zlib
from random import SystemRandom
from typing import TYPE_CHECKING

import pytest

from tools.fuzz import format_report, list_targets
from tools.fuzzing.campaign import Campaign, Target

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

SECONDS_IN_ALL = 30.0
TARGETS = list_targets()
# In CI the same inputs each time, so that a change answers for itself alone. Elsewhere new ones, so
# that the runs of a year are worth a long one; a failure prints the seed.
SEED = 2 if os.environ.get("CI") == "true" else SystemRandom().randrange(2**32)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS, ids=[target.name for target in TARGETS])
def test_a_parser_answers_anything_with_a_value_or_its_own_error(target: Target) -> None:
    report = Campaign(target, seed=SEED).run(seconds=SECONDS_IN_ALL / len(TARGETS))

    assert not report.findings, format_report(report)
    assert report.executions > len(target.seeds)


def judge_broken(data: bytes) -> Callable[[], Hashable]:
    found = broken(data)
    return lambda: found


def broken(data: bytes) -> int:
    """A parser with three faults for the fuzzer to find."""
    if data.startswith(b"x") and data.endswith(b"7"):
        raise ZeroDivisionError
    if not data.isascii():
        raise ValueError("the documented error")
    assert b"ba" not in data
    return len([1 for a in data for b in data if a == b == 0x61])


def broken_target() -> Target:
    return Target(
        name="broken",
        seeds=(b"xaab", b"12345"),
        run=judge_broken,
        allowed=(ValueError,),
        words=(b"x", b"7"),
        bytes_max=1000,
        cpu_ms_max=5.0,
    )


def test_the_fuzzer_finds_a_crash_a_broken_rule_and_a_slow_input() -> None:
    report = Campaign(broken_target(), seed=1).run(seconds=20, executions_max=1500)

    assert {finding.kind for finding in report.findings} == {
        "ZeroDivisionError",
        "AssertionError",
        "slow",
    }
    crash = next(f for f in report.findings if f.kind == "ZeroDivisionError")
    assert crash.data == b"x7"


def test_one_seed_makes_one_sequence_of_inputs() -> None:
    def inputs_of(seed: int) -> list[int]:
        seen: list[int] = []

        def run(data: bytes) -> Callable[[], Hashable]:
            seen.append(zlib.crc32(data))
            return lambda: len(data).bit_length()

        target = Target(
            name="any",
            seeds=(b"abc 123",),
            run=run,
            allowed=(),
            words=(b"x",),
            bytes_max=500,
        )
        Campaign(target, seed=seed).run(seconds=60, executions_max=300)
        # Slow ones are measured again, which depends on the machine.
        return list(dict.fromkeys(seen))

    assert inputs_of(3) == inputs_of(3)
    assert inputs_of(3) != inputs_of(4)
