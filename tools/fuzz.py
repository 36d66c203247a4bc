"""Fuzzes every parser of the appliance, or one; ends with 1 where something was found.

    python tools/fuzz.py --seconds 30                    all targets, 30 s in all
    python tools/fuzz.py --each --seconds 600            all targets, ten minutes each
    python tools/fuzz.py --target xml --seconds 120      one target
    python tools/fuzz.py --target xml --seed 7 --executions 5021    the same inputs again
    python tools/fuzz.py --target xml --input 3c613e     one input, by hexadecimal digits or @file

A finding is an exception that the parser does not document, a broken rule of the target, or an
input that takes more than 50 ms of CPU time in each of four measurements; that limit is stretched
where this machine is slower than the reference (`tools.fuzzing.campaign.measure_machine`).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from random import SystemRandom
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
sys.path[:] = [str(ROOT), *(p for p in sys.path if Path(p).resolve() != ROOT / "tools")]

from tools.fuzzing.campaign import Campaign, Report, Target, measure_machine  # noqa: E402  # needs the path above
from tools.fuzzing.format_targets import format_targets  # noqa: E402
from tools.fuzzing.signed_targets import signed_targets  # noqa: E402
from tools.fuzzing.text_targets import text_targets  # noqa: E402
from tools.fuzzing.wire_targets import wire_targets  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["format_report", "list_targets", "main", "run_all"]

HEX_BYTES_MAX = 1024  # longer findings go to a file


def list_targets() -> list[Target]:
    """Every target there is, in the order of the table."""
    return [*signed_targets(), *wire_targets(), *text_targets(), *format_targets()]


def run_all(
    targets: Sequence[Target],
    *,
    seconds: float,
    seed: int,
    executions_max: int | None = None,
) -> list[Report]:
    """One campaign a target.

    Args:
        targets: Which.
        seconds: Of all campaigns together, shared evenly.
        seed: Of every campaign.
        executions_max: Of each campaign.
    """
    share = seconds / len(targets)
    return [
        Campaign(target, seed=seed).run(seconds=share, executions_max=executions_max)
        for target in targets
    ]


def format_report(report: Report) -> str:
    """A line of the table, and a paragraph for each finding."""
    rate = report.executions / report.seconds if report.seconds else 0.0
    lines = [
        (
            f"{report.target:<12} {report.executions:>10} {rate:>9.0f} {report.refusals:>10}"
            f" {report.corpus_count:>7} {report.slowest_ms:>10.2f} {len(report.slowest):>10}"
            f" {len(report.findings):>9}"
        )
    ]
    for finding in report.findings:
        lines += [
            f"  {finding.kind}: {finding.detail}",
            (
                f"    again: --target {report.target} --seed {report.seed}"
                f" --executions {finding.execution}"
            ),
            f"    input: {_show(finding.data)}",
        ]
    return "\n".join(lines)


def format_heading() -> str:
    """What `format_report` writes below."""
    return (
        f"{'target':<12} {'executions':>10} {'exec/s':>9} {'refused':>10} {'corpus':>7}"
        f" {'slowest ms':>10} {'its bytes':>10} {'findings':>9}"
    )


def _show(data: bytes) -> str:
    if len(data) <= HEX_BYTES_MAX:
        return data.hex() or "(empty)"
    with tempfile.NamedTemporaryFile(prefix="fuzz-", suffix=".input", delete=False) as file:
        file.write(data)
    return f"@{file.name} ({len(data)} bytes)"


def _read_input(text: str) -> bytes:
    return Path(text[1:]).read_bytes() if text.startswith("@") else bytes.fromhex(text)


def _parse_arguments(arguments: Sequence[str] | None, names: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Fuzz the appliance's parsers.")
    parser.add_argument("--seconds", type=float, default=30.0, help="of all targets together")
    parser.add_argument("--each", action="store_true", help="--seconds are of each target")
    parser.add_argument("--target", action="append", choices=names, help="may be given again")
    parser.add_argument("--seed", type=int, help="default: a new one each time")
    parser.add_argument("--executions", type=int, help="at most so many for each target")
    parser.add_argument("--input", help="one input for one target: hexadecimal digits or @file")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    targets = list_targets()
    options = _parse_arguments(arguments, [target.name for target in targets])
    if options.target:
        targets = [target for target in targets if target.name in options.target]
    if options.input is not None:
        print(targets[0].run(_read_input(options.input))())
        return 0
    seed = options.seed if options.seed is not None else SystemRandom().randrange(2**32)
    print(f"seed {seed}, machine {measure_machine():.2f} times the reference")
    print(format_heading(), flush=True)
    count = 0
    for target in targets:
        seconds = options.seconds / (1 if options.each else len(targets))
        for report in run_all(
            [target], seconds=seconds, seed=seed, executions_max=options.executions
        ):
            print(format_report(report), flush=True)
            count += len(report.findings)
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
