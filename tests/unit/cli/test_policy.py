"""The policy in force, through the shell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.tiers.policies import FULL

if TYPE_CHECKING:
    from tests.admin_harness import AdminServer
    from tests.cli_harness import Shell

pytestmark = pytest.mark.usefixtures("server")

A, B = 'version = 1\n[heat]\nhalf_life = "1d"', 'version = 1\n[heat]\nhalf_life = "2d"\n'
NARROW = (
    'version = 1\n[[rule]]\nid = "mine"\nfrom_pool = "hdd"\nto_pool = "ssd"\nhysteresis = 0.5\n'
)


def write(shell: Shell, text: str, name: str = "p.toml") -> str:
    (shell.directory / name).write_text(text, newline="")
    return name


def test_the_text_comes_back_as_it_was_given(shell: Shell) -> None:
    text = A.replace("\n", "\r\n") + "  # Kälte, and no end of line"
    done = shell.do("policy", "apply", write(shell, text), "--note", "cooler")

    assert done.output == "p.toml: in force as revision 1\n"
    assert shell.do("policy", "show").output == text
    assert shell.do("policy", "show", "--json").decode()["source"] == text
    assert "policy     revision 1\n" in shell.do("status").output


def test_the_faults_are_those_of_the_check(shell: Shell) -> None:
    file = write(shell, FULL.replace("hysteresis", "histeresis").replace("0.75", "0.9"))

    for text in (None, "version = ", "\ufeffversion = 1"):
        if text is not None:
            write(shell, text)
        checked = shell.refuse("policy", "check", file, status=2)
        applied = shell.refuse("policy", "apply", file, status=2)
        assert applied.splitlines()[-1:] == checked.splitlines()[-1:]
        assert [line for line in applied.splitlines() if "p.toml:" in line] == [
            line for line in checked.splitlines() if "p.toml:" in line
        ]
    (shell.directory / file).write_bytes(b"version = 1\n\xff")
    assert "p.toml:2:1: not UTF-8" in shell.refuse("policy", "apply", file, status=2)


def test_warnings_are_printed_and_nothing_is_applied_in_a_dry_run(shell: Shell) -> None:
    file = write(shell, FULL.replace('pin_limit = "200GiB"\n', ""))

    printed = shell.do("policy", "apply", file, "--dry-run").output

    assert "warning: p.toml:36:1: rule[1]: a pin without pin_limit may fill ssd" in printed
    assert printed.endswith("p.toml: ok, not applied\n")
    assert "default policy" in shell.do("policy", "show").output


def test_an_equal_file_says_so(shell: Shell) -> None:
    shell.do("policy", "apply", write(shell, A))

    again = shell.do("policy", "apply", "p.toml").output

    assert again == "p.toml: equals revision 1, which is in force\n"


def test_history_and_the_way_back(shell: Shell) -> None:
    shell.do("policy", "apply", write(shell, A), "--note", "first")
    shell.do("policy", "apply", write(shell, B), "--note", "second")

    assert "repeat it with --yes" in shell.refuse("policy", "rollback", status=2)
    assert shell.do("policy", "rollback", "--yes").output == "revision 1 is in force again\n"
    rows = [line.split() for line in shell.do("policy", "history").output.splitlines()]
    assert [(row[0], row[-1]) for row in rows[1:]] == [("2", "second"), ("1", "first")]
    assert [row[1] == "yes" for row in rows[1:]] == [False, True]
    assert "no revision before" in shell.refuse("policy", "rollback", "--yes", status=1)
    shell.do("policy", "rollback", "2", "--yes")
    assert shell.do("policy", "show").output == B
    assert shell.do("policy", "show", "--revision", "1").output == A
    assert "RevisionActive" in shell.refuse("policy", "rollback", "2", "--yes", status=1)


def test_an_overlay_is_applied_and_holds_the_policy(shell: Shell) -> None:
    shell.do("tenant", "create", "acme")
    shell.do("policy", "apply", write(shell, NARROW, "o.toml"), "--tenant", "acme")
    shy = (
        '[[rule]]\nid = "up"\nfrom_pool = "hdd"\nto_pool = "ssd"\nhysteresis = 0.6\n'
        '[[rule]]\nid = "default"\nmanaged = true\n'
    )

    refused = shell.refuse("policy", "apply", write(shell, f"version = 1\n{shy}"), status=1)

    assert "the overlay of tenant acme (revision 1) does not fit it" in refused
    assert shell.do("policy", "show", "--tenant", "acme").output == NARROW
    assert " yes " in shell.do("policy", "history", "--tenant", "acme").output
    wide = NARROW.replace("0.5", "0.1")
    refused = shell.refuse(
        "policy", "apply", write(shell, wide, "o.toml"), "--tenant", "acme", status=2
    )
    assert "o.toml:6:14: rule[1].hysteresis: an overlay may only narrow" in refused


def test_a_note_is_one_line(shell: Shell, server: AdminServer) -> None:
    assert server.scrub.orders == []
    for note in ("a\nb", "a" * 201):
        file = write(shell, A)
        assert "one line" in shell.refuse("policy", "apply", file, "--note", note, status=2)
