"""What the commands about policies and tiers print, against their files in `tests/golden/cli`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.catalog import schema
from hal.records import VolumeId
from tests.admin_harness import AdminServer
from tests.cli_harness import Shell
from tests.golden.test_cli_output import compare
from tests.tiering_fixtures import DRAINING, make_filled_template
from tests.unit.tiers.policies import FULL
from tiers.records import PageId
from tools.synthetic_traces import iter_cdn

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def shell(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Shell:
    """A shell in a directory of its own."""
    return Shell(capsys, monkeypatch, tmp_path)


def test_the_faults_of_a_policy(shell: Shell) -> None:
    broken = (
        FULL.replace("hysteresis", "histeresis")
        .replace("low = 0.75", "low = 0.9")
        .replace('weight = "-heat"', 'weight = "heat"')
        .replace('"2TiB"', '"2T"')
        .replace('tz = "Europe/Berlin"', 'tz = "Europe/Berlni"')
    )
    (shell.directory / "policy.toml").write_text(broken)

    compare("policy-check-faults", shell.refuse("policy", "check", "policy.toml", status=2))


def test_a_simulation(shell: Shell) -> None:
    lines = [f"{time:.0f} {page} {size}\n" for time, page, size in iter_cdn(1, 2000)]
    (shell.directory / "cdn.txt").write_text("".join(lines))

    printed = shell.do("tier", "simulate", "--trace", "cdn.txt", "--format", "time-id-size").output

    compare("tier-simulate", printed)


@pytest.fixture(scope="session")
def filled_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog with objects: to copy, not to open."""
    directory = tmp_path_factory.mktemp("golden-filled")
    schema.upgrade(f"sqlite:///{directory}/template.db")
    return make_filled_template(directory / "template.db", directory)


@pytest.fixture
def served(filled_template: Path, tmp_path: Path, shell: Shell) -> Iterator[AdminServer]:
    """A server with objects on its fast tier, one of them warm, and a volume that is emptied."""
    with AdminServer(filled_template, tmp_path) as server:
        shell.set_environment(THERMOCLINE_SOCKET=str(server.socket))
        server.tiering.priorities[PageId((1 << 32) + 6)] = 4.5
        server.add_volume(tier="hdd", path="/srv/hdd two", free_bytes=1 << 40)
        server.tiering.left_pages[VolumeId(3)] = 1200
        shell.do("volume", "drain", "3")
        (shell.directory / "policy.toml").write_text(DRAINING)
        yield server


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tier-plan", "tier plan"),
        ("tier-plan-diff", "tier plan --policy policy.toml --diff"),
        ("tier-status", "tier status"),
        ("tier-pause", "tier pause"),
        ("tier-explain", "tier explain acme/b/logs/03"),
        ("tier-explain-cold", "tier explain acme/b/logs/11 --page 1"),
        ("volume-drain", "volume drain 3"),
    ],
)
@pytest.mark.parametrize("form", ["table", "json"])
def test_what_a_command_about_tiers_shows(
    served: AdminServer, shell: Shell, name: str, words: str, form: str
) -> None:
    assert served.tiering.submitted == {}
    options = ["--json"] if form == "json" else []

    printed = shell.do(*words.split(), *options).output

    compare(f"{name}.{form}", printed)
