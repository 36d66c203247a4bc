"""Plans, the state of tiering, explanations and drains, through the shell."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from hal.records import VolumeId
from tests.admin_harness import AdminServer
from tests.tiering_fixtures import DRAINING, OBJECTS, PAGES_EACH, make_filled_template

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cli_harness import Shell

PAGES = OBJECTS * PAGES_EACH


@pytest.fixture(scope="session")
def filled_template(catalog_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog with objects: to copy, not to open."""
    return make_filled_template(catalog_template, tmp_path_factory.mktemp("cli-filled"))


@pytest.fixture
def server(filled_template: Path, tmp_path: Path, shell: Shell) -> Iterator[AdminServer]:
    """A server with objects on its fast tier."""
    with AdminServer(filled_template, tmp_path) as running:
        shell.set_environment(THERMOCLINE_SOCKET=str(running.socket))
        yield running


def write(shell: Shell, text: str = DRAINING, name: str = "p.toml") -> str:
    (shell.directory / name).write_text(text)
    return name


def test_a_plan_is_shown_and_carried_out(shell: Shell, server: AdminServer) -> None:
    file = write(shell)
    shell.do("policy", "apply", file)

    printed = shell.do("tier", "plan").output
    found = re.search(r"thermocline tier apply (\S+)`", printed)
    assert found is not None
    applied = shell.do("tier", "apply", found[1], "--wait").output

    assert f"{PAGES} of {PAGES} pages" in applied
    assert list(server.tiering.submitted) == [found[1]]
    refused = shell.refuse("tier", "apply", found[1], status=1)
    assert "make a new one with `tier plan` (NoSuchPlan)" in refused


def test_a_plan_by_a_file_says_what_to_do_before(shell: Shell, server: AdminServer) -> None:
    assert server.tiering.submitted == {}
    printed = shell.do("tier", "plan", "--policy", write(shell), "--diff").output

    assert "p.toml, not in force" in printed
    assert "AFTER-IN-FORCE" in printed
    assert "Put p.toml in force with `thermocline policy apply`" in printed


def test_nothing_to_move_is_said(shell: Shell, server: AdminServer) -> None:
    assert server.tiering.submitted == {}
    assert shell.do("tier", "plan").output.endswith("Nothing would be moved.\n")


def test_a_stale_plan_is_refused_with_the_reason(shell: Shell, server: AdminServer) -> None:
    plan = shell.do("tier", "plan", "--policy", write(shell), "--json").decode()["plan"]
    assert isinstance(plan, dict)

    refused = shell.refuse("tier", "apply", plan["plan_id"], status=1)

    assert "put that policy in force with `policy apply` first" in refused
    assert server.tiering.submitted == {}


def test_an_unknown_policy_file_and_a_lone_diff_are_wrong_calls(
    shell: Shell, server: AdminServer
) -> None:
    assert server.tiering.submitted == {}
    assert "does not exist" in shell.refuse("tier", "plan", "--policy", "no.toml", status=2)
    assert "--diff compares" in shell.refuse("tier", "plan", "--diff", status=2)
    file = write(shell, "version = 1\n[heat]\nhalf_lif = 1\n")
    assert "p.toml:3:1: heat.half_lif" in shell.refuse("tier", "plan", "--policy", file, status=2)


def test_moves_are_paused(shell: Shell, server: AdminServer) -> None:
    assert shell.do("tier", "pause").output.startswith("state      paused\n")
    assert server.tiering.is_paused
    write(shell)
    plan = shell.do("tier", "plan", "--policy", "p.toml", "--json").decode()["plan"]
    assert isinstance(plan, dict)
    assert "tier resume" in shell.refuse("tier", "apply", plan["plan_id"], status=1)
    assert shell.do("tier", "resume").output.startswith("state      running\n")


def test_trouble_is_shown(shell: Shell, server: AdminServer) -> None:
    server.tiering.has_trouble = True

    printed = shell.do("tier", "status").output

    assert "failure    the catalog is busy" in printed
    assert "hysteresis x 2" in printed
    assert "volume 2" in printed


def test_watching_ends_where_the_server_does(
    shell: Shell, server: AdminServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[float] = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("appliance.cli.tiering_cmd.time.sleep", sleep)
    outcome = shell.run("tier", "status", "--watch", "--interval", "5", "--json")

    assert looks == [5.0, 5.0, 5.0]
    lines = outcome.output.splitlines()
    assert len(lines) == 3
    assert all(line.startswith('{"state":"running"') for line in lines)
    assert server.tiering.is_paused is False


def test_a_page_is_explained(shell: Shell, server: AdminServer) -> None:
    assert server.tiering.submitted == {}
    printed = shell.do("tier", "explain", "acme/b/logs/03", "--page", "1").output

    assert "object      acme/b/logs/03\n" in printed
    assert "page        1 of 2" in printed
    assert "next        stays: ssd is 95.0% full" in printed
    for name, text in (
        ("acme/b/nothing", "no such object of acme/b (NoSuchPage)"),
        ("acme/c/x", "no bucket acme/c (NoSuchBucket)"),
        ("nobody/b/x", "(NoSuchTenant)"),
    ):
        assert text in shell.refuse("tier", "explain", name, status=1)
    assert "the object has 2" in shell.refuse(
        "tier", "explain", "acme/b/logs/03", "--page", "2", status=1
    )
    assert "write an object as TENANT/BUCKET/KEY" in shell.refuse(
        "tier", "explain", "acme/b", status=2
    )
    missing = shell.refuse("tier", "explain", "acme/b/logs/03", "--version", "abc", status=1)
    assert "no such version" in missing


def test_a_key_with_dots_and_slashes_is_explained(shell: Shell, server: AdminServer) -> None:
    assert server.tiering.submitted == {}
    for key in ("..", "a/../b", "%2e", "ö/ü"):
        refused = shell.refuse("tier", "explain", f"acme/b/{key}", status=1)
        assert "no such object of acme/b (NoSuchPage)" in refused


def test_drains_that_cannot_end_are_refused(shell: Shell, server: AdminServer) -> None:
    assert "the last one of tier ssd" in shell.refuse("volume", "drain", "1", status=1)
    assert "there are 1, 2 (NoSuchVolume)" in shell.refuse("volume", "drain", "7", status=1)
    assert "is not drained" in shell.refuse("volume", "drain", "1", "--cancel", status=1)
    assert "--cancel has nothing" in shell.refuse(
        "volume", "drain", "1", "--cancel", "--wait", status=2
    )
    assert "drain it first" in shell.refuse("volume", "remove", "1", "--yes", status=1)
    assert "repeat it with --yes" in shell.refuse("volume", "remove", "1", status=2)
    assert server.tiering.draining == set()


def test_a_volume_is_emptied_and_removed(
    shell: Shell, server: AdminServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.add_volume(tier="hdd", path="/srv/hdd two", free_bytes=1 << 40)
    server.tiering.left_pages[VolumeId(3)] = 5
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        server.tiering.left_pages[VolumeId(3)] = 0
        server.drains.bare.add(3)

    monkeypatch.setattr("appliance.cli.volume_cmd.time.sleep", sleep)
    assert "empty" in shell.do("volume", "drain", "3", "--wait").output
    assert waits == [1.0]
    printed = shell.do("volume", "remove", "3", "--yes").output

    assert printed.startswith("volume 3 is removed; take the [[volume]] section of /srv/hdd two")
    assert shell.do("volume", "list").output.count("\n") == 4


def test_a_drain_that_does_not_go_on_ends_the_wait(shell: Shell, server: AdminServer) -> None:
    server.add_volume(tier="hdd", path="/srv/hdd two", free_bytes=1 << 40)
    server.tiering.left_pages[VolumeId(3)] = 5
    server.tiering.drain_failure = "3 pages are damaged"

    outcome = shell.run("volume", "drain", "3", "--wait")

    assert outcome.status == 1
    assert "volume 3 is not empty: 3 pages are damaged" in outcome.errors
    assert shell.do("volume", "drain", "3", "--cancel").output == (
        "volume 3 takes new pages again\n"
    )
