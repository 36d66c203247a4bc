"""Every command and exit code is documented, and nothing that does not exist."""

from __future__ import annotations

import re
from pathlib import Path

import click

from appliance.cli.errors import ExitCode
from appliance.cli.main import COMMANDS, root

TEXT = (Path(__file__).parents[2] / "docs" / "COMMANDS.md").read_text(encoding="utf-8")
COMMANDS_SECTION = TEXT.split("## Commands\n")[1].split("\n- ")[0]
CODES_SECTION = TEXT.split("## Exit codes\n")[1].split("\n## ")[0]


def list_commands() -> set[str]:
    context = click.Context(root)
    found: set[str] = set()
    for noun in COMMANDS:
        command = root.get_command(context, noun)
        if isinstance(command, click.Group):
            found |= {f"{noun} {verb}" for verb in command.list_commands(context)}
        else:
            found.add(noun)
    return found


def test_the_commands_of_the_documentation_are_those_that_exist() -> None:
    cells = [line.split("|")[1] for line in COMMANDS_SECTION.splitlines() if "`" in line]

    assert set(re.findall(r"`([a-z ]+)`", " ".join(cells))) == list_commands()


def test_the_exit_codes_of_the_documentation_are_those_that_exist() -> None:
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", CODES_SECTION, re.MULTILINE)}

    assert documented == {int(code) for code in ExitCode}
