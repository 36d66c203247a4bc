"""What the command line does when there is no server, and the ways out of `main`."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from appliance.__main__ import run
from appliance.cli.output import format_share, to_printable
from appliance.cli.parameters import parse_expiry
from appliance.clock import FakeClock

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli_harness import Shell

VOLUME = '[[volume]]\npath = "/v"\ntier = "ssd"\n'


def test_a_server_that_is_not_running_is_named_with_what_to_do(shell: Shell) -> None:
    path = shell.directory / "admin.sock"

    errors = shell.refuse("tenant", "list", "--socket", str(path), status=1)

    assert errors == (
        f"Error: no server answers on {path} (No such file or directory); "
        "start one with `thermocline serve`\n"
    )


def test_a_dead_socket_is_no_server(shell: Shell) -> None:
    path = shell.directory / "dead.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    errors = shell.refuse("tenant", "list", "--socket", str(path), status=1)

    assert "(Connection refused)" in errors


def test_a_server_that_hangs_up_leaves_the_outcome_unknown(shell: Shell) -> None:
    path = shell.directory / "short.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(2)

        def hang_up() -> None:
            for _ in range(2):  # one who knocks, one who asks
                connection, _ = listener.accept()
                connection.recv(1)
                connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        errors = shell.refuse("tenant", "create", "demo", "--socket", str(path), status=1)
        thread.join()

    assert "whether it was done is not known" in errors


def test_without_a_settings_file_the_places_are_named(shell: Shell) -> None:
    errors = shell.refuse("tenant", "list", status=2)

    assert "no settings file (thermocline.toml, var/thermocline.toml, " in errors


def test_a_sound_settings_file_is_ok(shell: Shell) -> None:
    (shell.directory / "thermocline.toml").write_text(VOLUME)

    assert shell.do("config", "check").output == "thermocline.toml: ok\n"
    assert shell.do("config", "check", "--json").decode() == {
        "ok": True,
        "file": "thermocline.toml",
    }


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("[s3]\nlisten = 5\n", "wrong.toml:2: s3.listen: "),
        ("[s3]\n\nlisen = 'x'\n", "wrong.toml:3: s3.lisen: no such setting; did you mean"),
        ("[s3\n", "wrong.toml:1: "),
        ("[s3]\nlisten = '0.0.0.0:9000'\n" + VOLUME, "wrong.toml:2: s3.listen: 0.0.0.0:9000"),
        ("", "wrong.toml: volume: at least one"),
    ],
)
def test_a_wrong_settings_file_is_named_with_line_and_key(
    shell: Shell, text: str, where: str
) -> None:
    (shell.directory / "wrong.toml").write_text(text)

    errors = shell.refuse("config", "check", "--config", "wrong.toml", status=2)

    assert where in errors


def test_a_wrong_variable_is_named(shell: Shell) -> None:
    (shell.directory / "thermocline.toml").write_text(VOLUME)
    shell.set_environment(THERMOCLINE_CATALOG_READERS="many")

    errors = shell.refuse("config", "check", status=2)

    assert "THERMOCLINE_CATALOG_READERS" in errors


def test_the_settings_file_may_be_named_by_the_environment(shell: Shell) -> None:
    (shell.directory / "mine.toml").write_text(VOLUME)
    shell.set_environment(THERMOCLINE_CONFIG="mine.toml")

    assert shell.do("config", "check").output == "mine.toml: ok\n"


def test_serve_refuses_wrong_settings_as_a_usage_error(shell: Shell) -> None:
    (shell.directory / "thermocline.toml").write_text("[s3]\nlisten = 5\n")

    assert "s3.listen" in shell.refuse("serve", status=2)


def test_optimised_python_is_refused() -> None:
    assert run(["version"], is_checked=False) == 2


@pytest.mark.slow
def test_python_minus_o_does_not_run(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-O", "-m", "appliance", "version"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )

    assert (done.returncode, done.stdout) == (2, "")
    assert "does not run with python -O" in done.stderr


def test_a_fault_of_ours_is_one_line_and_exit_70(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> str:
        raise RuntimeError("unforeseen")

    monkeypatch.setattr("appliance.cli.config_cmd.find_version", fail)

    errors = shell.refuse("version", status=70)
    traced = shell.refuse("--debug", "version", status=70)

    assert errors == (
        "Internal error: RuntimeError: unforeseen (--debug before the command shows more)\n"
    )
    assert "Traceback" in traced


def test_an_interrupt_is_no_fault(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("appliance.cli.config_cmd.find_version", interrupt)

    assert "Aborted" in shell.refuse("version", status=1)


def test_no_arguments_show_the_help(shell: Shell) -> None:
    outcome = shell.run()

    assert outcome.status == 2
    assert "Usage: thermocline" in outcome.output + outcome.errors


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("30d", "2026-12-18T11:06:40Z"),
        ("90s", "2026-11-18T11:08:10Z"),
        ("2027-01-31", "2027-01-31T00:00:00Z"),
        ("2027-01-31T12:00:00+02:00", "2027-01-31T10:00:00Z"),
    ],
)
def test_an_expiry_is_a_duration_or_a_date(text: str, moment: str) -> None:
    assert parse_expiry(text, FakeClock()) == moment


def test_a_share_is_rounded_down() -> None:
    assert [format_share(used, 3) for used in (0, 1, 2, 3, 6)] == [
        "0%",
        "33%",
        "66%",
        "100%",
        "200%",
    ]


def test_control_characters_are_written_out() -> None:
    assert to_printable("a\tb\n\x9b\u202e€") == "a\\tb\\n\\x9b\\u202e€"
