"""Help and tables of the command line against their files in `tests/golden/cli`.

Scripts and habits rest on them: a change of a file belongs in the changelog. `GOLDEN_WRITE=1`
writes the files anew.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from appliance.catalog import schema
from appliance.cli.main import COMMANDS, root
from tests.admin_harness import AdminServer
from tests.cli_harness import Shell

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).parent / "cli"


def compare(name: str, found: str) -> None:
    """The text must be what the file of that name holds."""
    path = FOLDER / f"{name}.txt"
    if os.environ.get("GOLDEN_WRITE") == "1":
        path.write_text(found, encoding="utf-8")
    assert found == path.read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def catalog_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty SQLite catalog: to copy, not to open."""
    path = tmp_path_factory.mktemp("golden-catalog") / "template.db"
    schema.upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture
def shell(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Shell:
    """A shell in a directory without a settings file."""
    return Shell(capsys, monkeypatch, tmp_path)


@pytest.fixture
def filled(catalog_template: Path, tmp_path: Path, shell: Shell) -> Iterator[Shell]:
    """A shell on a server with two tenants, users, keys, buckets and a policy."""
    with AdminServer(catalog_template, tmp_path) as server:
        shell.set_environment(THERMOCLINE_SOCKET=str(server.socket))
        shell.do("tenant", "create", "demo", "--quota-bytes", "1TiB", "--quota-objects", "1000000")
        shell.do("tenant", "create", "a-tenant-with-quite-a-long-name", "--quota-buckets", "none")
        shell.do("tenant", "suspend", "a-tenant-with-quite-a-long-name")
        shell.do("user", "create", "--tenant", "demo", "bob@home")
        shell.do("bucket", "create", "demo/backups", "--quota-bytes", "30GiB")
        shell.do("bucket", "create", "demo/photos.2026", "--quota-objects", "5")
        shell.do("key", "create", "--tenant", "demo")
        shell.do(
            *("key", "create", "--tenant", "demo", "--user", "bob@home", "--role", "ro"),
            *("--bucket", "backups", "--prefix", "laptop/", "--expires", "2030-01-31"),
        )
        for days in (2, 3):
            text = f'version = 1\n\n[heat]\nhalf_life = "{days}d"\n'
            (tmp_path / "policy.toml").write_text(text)
            shell.do("policy", "apply", "policy.toml", "--note", f"cool in {days} days")
        shell.do("policy", "rollback", "--yes")
        yield shell


def list_commands() -> list[str]:
    """Every command, as its words."""
    context = click.Context(root)
    found = [""]
    for noun in sorted(COMMANDS):
        command = root.get_command(context, noun)
        found.append(noun)
        if isinstance(command, click.Group):
            found += [f"{noun} {verb}" for verb in command.list_commands(context)]
    return found


@pytest.mark.parametrize("words", list_commands())
def test_the_help_of_each_command(shell: Shell, words: str) -> None:
    printed = shell.do(*words.split(), "--help").output

    compare(f"help-{words.replace(' ', '-') or 'thermocline'}", printed)


@pytest.mark.parametrize(
    "words",
    [
        "tenant list",
        "tenant show demo",
        "user list --tenant demo",
        "key list",
        "bucket list --tenant demo",
        "bucket show demo/backups",
        "quota show demo",
        "quota show demo/photos.2026",
        "usage show",
        "usage show --tenant demo",
        "volume list",
        "scrub status",
        "scrub pause",
        "policy show",
        "policy history",
        "status",
        "audit list",
        "catalog check",
    ],
)
@pytest.mark.parametrize("form", ["table", "json"])
def test_what_a_command_shows(
    filled: Shell, monkeypatch: pytest.MonkeyPatch, words: str, form: str
) -> None:
    monkeypatch.setattr("appliance.admin.status.find_version", lambda: "1.2.3")
    options = ["--json"] if form == "json" else []

    printed = filled.do(*words.split(), *options).output

    name = words.replace(" --tenant", "").replace("/", "-").replace(" ", "-")
    compare(f"{name}.{form}", printed)


def test_what_key_create_and_rotate_show(filled: Shell) -> None:
    created = filled.do("key", "create", "--tenant", "demo", "--role", "wo").output
    rotated = filled.do("key", "rotate", created.split()[3]).output

    compare("key-create-and-rotate", created + rotated)
