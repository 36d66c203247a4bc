"""Says at the end of a run how much the seeds did: figures that the durability issue asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

__all__ = ["pytest_terminal_summary"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    passed = terminalreporter.getreports("passed")
    noted = [(dict(report.user_properties), report.duration) for report in passed]
    runs = [(notes, seconds) for notes, seconds in noted if "crash_points" in notes]
    found = [notes["found_by_seed"] for notes, _ in noted if "found_by_seed" in notes]
    if runs:
        totals = {name: sum(int(str(notes[name])) for notes, _ in runs) for name in runs[0][0]}
        seconds = sum(seconds for _, seconds in runs)
        terminalreporter.write_line(
            f"simulation: {totals['seeds']:,} seeds, {totals['crash_points']:,} crash points, "
            f"{totals['requests']:,} requests in {seconds:.0f} s"
        )
    played = [notes for notes, _ in noted if "model_runs" in notes]
    if played:
        runs_played, steps = (
            sum(int(str(notes[name])) for notes in played) for name in ("model_runs", "model_steps")
        )
        terminalreporter.write_line(
            f"reference model: {runs_played:,} runs, {steps:,} steps, 0 divergences"
        )
    if found:
        terminalreporter.write_line(
            f"sabotage: {len(found)} broken rules found, the last of them by seed {max(found)}"
        )
