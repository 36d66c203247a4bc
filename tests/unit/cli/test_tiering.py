"""`policy check` and `tier simulate` through the shell."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest

from tests.unit.tiers.policies import FULL
from tools.synthetic_traces import iter_cdn, iter_drift

if TYPE_CHECKING:
    from tests.cli_harness import Shell

SVG = "{http://www.w3.org/2000/svg}"


def write_trace(shell: Shell, requests: int = 1500) -> str:
    lines = [f"{time:.0f} {page} {size}\n" for time, page, size in iter_cdn(1, requests)]
    (shell.directory / "cdn.txt").write_text("".join(lines))
    return "cdn.txt"


def test_a_policy_without_a_fault_is_ok(shell: Shell) -> None:
    (shell.directory / "p.toml").write_text(FULL)

    assert shell.do("policy", "check", "p.toml").output == "p.toml: ok, 6 rules\n"
    checked = shell.do("policy", "check", "p.toml", "--json").decode()
    assert checked == {"ok": True, "file": "p.toml", "rules": 6, "warnings": []}


def test_faults_are_named_with_line_and_column_and_end_with_2(shell: Shell) -> None:
    (shell.directory / "p.toml").write_text(
        FULL.replace("hysteresis", "histeresis").replace("low = 0.75", "low = 0.9")
    )

    errors = shell.refuse("policy", "check", "p.toml", status=2)

    assert "p.toml:60:34: rule[4].threshold.low: 0.9 is not below high (0.85)\n" in errors
    assert "rule[5].histeresis: unknown key; did you mean hysteresis?\n" in errors


def test_warnings_do_not_fail_the_check(shell: Shell) -> None:
    (shell.directory / "p.toml").write_text(FULL.replace('pin_limit = "200GiB"\n', ""))

    printed = shell.do("policy", "check", "p.toml").output

    assert "warning: p.toml:36:1: rule[1]: a pin without pin_limit may fill ssd" in printed
    assert printed.endswith("p.toml: ok, 6 rules\n")


def test_pins_are_checked_against_the_sizes_that_are_given(shell: Shell) -> None:
    (shell.directory / "p.toml").write_text(FULL)
    sizes = ("--tier", "ssd=100GiB", "--tier", "hdd=1TiB")

    assert "more than 80% of its 100GiB" in shell.refuse(
        "policy", "check", "p.toml", *sizes, status=2
    )
    assert "write a tier as" in shell.refuse("policy", "check", "p.toml", "--tier", "a", status=2)


def test_a_simulation_prints_a_line_a_policy(shell: Shell) -> None:
    printed = shell.do(
        "tier", "simulate", "--trace", write_trace(shell), "--format", "time-id-size"
    ).output

    heads = [line.split()[0] for line in printed.splitlines()[5:]]
    assert heads == ["POLICY", "default", "LRU", "LFU", "S3-FIFO", "MIN"]
    assert "accesses   1500 reads, 0 writes, 0 ignored" in printed


def test_a_simulation_as_json_and_as_a_plot(shell: Shell) -> None:
    (shell.directory / "p.toml").write_text("version = 1\n")
    options = ("--policy", "p.toml", "--ssd", "1MiB", "--plot", "out.svg", "--json")
    document = shell.do(
        *("tier", "simulate", "--trace", write_trace(shell), "--format", "time-id-size"), *options
    ).decode()

    assert document["ssd_bytes"] == 1 << 20
    runs = document["runs"]
    assert isinstance(runs, list)
    assert [run["name"] for run in runs] == ["policy", "LRU", "LFU", "S3-FIFO", "MIN"]
    assert all(0 <= run["hit_ratio"] <= 1 for run in runs)
    drawing = ET.parse(shell.directory / "out.svg").getroot()
    assert len(drawing.findall(f"{SVG}polyline")) == 5
    names = " ".join(text.text or "" for text in drawing.iter(f"{SVG}text"))
    assert "S3-FIFO" in names
    assert "p.toml policy" in names


def test_min_is_beaten_by_nobody_where_sizes_are_equal(shell: Shell) -> None:
    lines = [f"{time:.0f} {page} 4096\n" for time, page, _ in iter_drift(1, 3000)]
    (shell.directory / "t").write_text("".join(lines))
    document = shell.do(
        "tier", "simulate", "--trace", "t", "--format", "time-id-size", "--json"
    ).decode()

    runs = document["runs"]
    assert isinstance(runs, list)
    hits = {run["name"]: run["hit_ratio"] for run in runs}
    assert max(hits, key=hits.__getitem__) == "MIN"


@pytest.mark.parametrize(
    ("options", "status", "why"),
    [
        (["--format", "lirs"], 2, "unknown format 'lirs'; known: own, oracleGeneral, csv"),
        (["--format", "swim"], 1, "more than 1% of the lines are broken, the first is line 1"),
        (["--format", "time-id-size", "--ssd", "0%"], 2, "a fast tier without room"),
        (["--format", "time-id-size", "--ssd", "10G"], 2, "unknown unit"),
        (["--format", "time-id-size", "--span", "soon"], 2, "write a duration as"),
        (["--format", "time-id-size", "--page-size", "1"], 2, "a page has at least 4096 bytes"),
        (["--format", "time-id-size", "--plot", "no/dir.svg"], 1, "no/dir.svg: No such file"),
    ],
)
def test_a_wrong_simulation_says_why(
    shell: Shell, options: list[str], status: int, why: str
) -> None:
    call = ["tier", "simulate", "--trace", write_trace(shell, 200), *options]

    assert why in shell.refuse(*call, status=status)


def test_a_policy_that_promotes_nothing_cannot_be_simulated(shell: Shell) -> None:
    (shell.directory / "p.toml").write_text(
        'version = 1\n[[rule]]\nid = "default"\nmanaged = true\n'
    )
    call = ("--trace", write_trace(shell, 100), "--format", "time-id-size", "--policy", "p.toml")

    assert "must promote into ssd" in shell.refuse("tier", "simulate", *call, status=2)


def test_a_simulation_counts_writes_and_broken_lines(shell: Shell) -> None:
    lines = [
        f"{time:.0f},{page},4096,{'put' if page % 5 == 0 else 'get'}\n"
        for time, page, _ in iter_drift(2, 800)
    ]
    (shell.directory / "t.csv").write_text("".join(lines) + "torn,line\n")
    outcome = shell.run("tier", "simulate", "--trace", "t.csv", "--format", "csv")

    assert outcome.status == 0
    assert "1 lines could not be read, the first is line 801" in outcome.errors
    assert " writes" in outcome.output
