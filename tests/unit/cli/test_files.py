"""The commands that work on files, through the shell: init, catalog restore, serve."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance.clock import FakeClock

if TYPE_CHECKING:
    from tests.cli_harness import Shell

PLACES = ["--data", "data", "--volume", "ssd=ssd", "--volume", "hdd=hdd"]


def start_process(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a command as a process of its own: a server sets up logging for the whole process."""
    return subprocess.run(
        [sys.executable, "-m", "appliance", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )


def initialise(shell: Shell, *options: str) -> dict[str, object]:
    return shell.do("init", *PLACES, "--allow-buffered", "--json", *options).decode()


def test_init_says_where_everything_is_and_how_to_start(shell: Shell) -> None:
    printed = shell.do("init", *PLACES, "--allow-buffered", "--segment-bytes", "16MiB").output

    config = shell.directory / "data" / "thermocline.toml"
    assert f"settings   {config}\n" in printed
    assert "16MiB" in printed
    assert printed.endswith(f"Start with: thermocline serve --config {config}\n")


def test_init_twice_is_refused_by_the_state(shell: Shell) -> None:
    initialise(shell)

    assert "initialised already" in shell.refuse("init", *PLACES, status=1)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["init"], "Missing option"),
        (["init", "--data", "data"], "Missing option '--volume'"),
        (["init", "--data", "data", "--volume", "ssd"], "write a volume as ssd=DIR"),
        (["init", "--data", "data", "--volume", "tape=dir"], "'tape' is no tier"),
        (["init", *PLACES, "--segment-bytes", "big"], "write a size as"),
        (["init", *PLACES, "--s3-listen", "nowhere"], "write an address as host:port"),
        (["init", *PLACES, "--s3-listen", "0.0.0.0:9000"], "plain HTTP"),
        (["init", *PLACES, "--catalog-url", "mysql://x"], "must begin with"),
    ],
)
def test_a_wrong_init_is_a_usage_error_and_leaves_nothing(
    shell: Shell, arguments: list[str], why: str
) -> None:
    assert why in shell.refuse(*arguments, status=2)
    assert list(shell.directory.iterdir()) == []


def test_init_on_a_directory_in_use_is_refused_by_the_state(shell: Shell) -> None:
    (shell.directory / "ssd").mkdir()
    (shell.directory / "ssd" / "mine.txt").write_text("")

    errors = shell.refuse("init", *PLACES, "--allow-buffered", status=1)

    assert "mine.txt" in errors
    assert sorted(path.name for path in shell.directory.iterdir()) == ["ssd"]


def test_restore_asks_and_then_needs_a_backup(shell: Shell, tmp_path: Path) -> None:
    config = str(initialise(shell)["config"])
    junk = tmp_path / "junk"
    junk.write_text("junk")

    unasked = shell.refuse("catalog", "restore", str(junk), "--config", config, status=2)
    refused = shell.refuse("catalog", "restore", str(junk), "--yes", "--config", config, status=1)
    missing = shell.refuse("catalog", "restore", "none", "--yes", "--config", config, status=2)

    assert "repeat it with --yes" in unasked
    assert "is not a backup of a catalog" in refused
    assert "does not exist" in missing


def test_restore_puts_a_copy_in_force(shell: Shell) -> None:
    made = initialise(shell)
    data = shell.directory / "data"
    copy = shell.directory / "copy.db"
    copy.write_bytes((data / "catalog.db").read_bytes())

    done = shell.do(
        "catalog", "restore", "copy.db", "--yes", "--json", "--config", str(made["config"])
    ).decode()

    assert done["appliance"] == made["appliance"]
    assert str(done["replaced"]).startswith(str(data / "catalog.db.replaced-"))


@pytest.mark.slow
def test_serve_refuses_to_start_without_its_key_file(shell: Shell) -> None:
    config = str(initialise(shell)["config"])
    (shell.directory / "data" / "master.key").unlink()

    done = start_process("serve", "--config", config)

    assert (done.returncode, done.stdout) == (1, "")
    assert "master.key" in done.stderr.splitlines()[-1]


@pytest.mark.slow
def test_serve_refuses_to_start_without_an_appliance(shell: Shell) -> None:
    (shell.directory / "thermocline.toml").write_text(
        '[appliance]\ndata = "data"\n[[volume]]\npath = "/v"\ntier = "ssd"\n'
    )

    done = start_process("serve", "--config", "thermocline.toml")

    assert (done.returncode, done.stdout) == (1, "")
    assert "catalog.db does not exist" in done.stderr.splitlines()[-1]


def test_copies_are_listed_and_restored_by_name(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = str(initialise(shell)["config"])
    none = shell.do("catalog", "copies", "--config", config).output
    folder = shell.directory / "hdd" / "catalog-copies"
    folder.mkdir()
    for hour in ("14", "13"):
        copy = folder / f"catalog-20261118T{hour}0000Z.db"
        copy.write_bytes((shell.directory / "data" / "catalog.db").read_bytes())
    (folder / "notes.txt").write_text("mine")
    monkeypatch.setattr("appliance.cli.catalog_cmd.SystemClock", lambda: FakeClock(1795014000.0))

    listed = shell.do("catalog", "copies", "--config", config).output
    names = [line.split()[0] for line in listed.splitlines()]
    restored = shell.do("catalog", "restore", names[2], "--yes", "--config", config).output
    unknown = shell.refuse(
        "catalog", "restore", "catalog-20200101T000000Z.db", "--yes", "--config", config, status=2
    )

    assert none.startswith("no copies")
    assert names == ["NAME", "catalog-20261118T140000Z.db", "catalog-20261118T130000Z.db"]
    assert "2026-11-18T14:00:00Z" in listed
    assert f"{folder / names[2]} was made" in restored
    assert "`thermocline catalog copies` lists those" in unknown
