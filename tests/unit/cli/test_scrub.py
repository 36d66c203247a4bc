"""`thermocline scrub` against a server whose scrub does what the test says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.cli import scrub_cmd
from hal.records import VolumeId
from tiers.volume_scrub import ScrubState

if TYPE_CHECKING:
    import pytest

    from tests.admin_harness import AdminServer
    from tests.cli_harness import Shell


def test_waiting_for_a_sound_volume_ends_with_0(shell: Shell, server: AdminServer) -> None:
    done = shell.do("scrub", "start", "--wait", "--json").decode()

    assert server.scrub.orders == ["start"]
    assert done["objects"] == []


def test_waiting_for_a_damaged_volume_shows_it_and_ends_with_1(
    shell: Shell, server: AdminServer
) -> None:
    server.scrub.quarantined = 2

    ended = shell.run("scrub", "start", "--wait")

    assert ended.status == 1
    assert ended.output.startswith("VOLUME")
    assert "4 pages are damaged" in ended.errors


def test_waiting_ends_with_1_where_a_device_cannot_be_read(
    shell: Shell, server: AdminServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_seconds: float) -> None:
        server.scrub.failure = "disk on fire"
        server.scrub.states[VolumeId(1)] = ScrubState.FAILED

    monkeypatch.setattr("appliance.cli.scrub_cmd.time.sleep", fail)

    ended = shell.run("scrub", "start", "--resume", "--wait")

    assert ended.status == 1
    assert "volume 1 cannot be read: disk on fire" in ended.output
    assert "volume 1: disk on fire" in ended.errors


def test_waiting_goes_on_until_the_last_volume_is_done(
    shell: Shell, server: AdminServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            server.scrub.states[VolumeId(1)] = ScrubState.IDLE

    monkeypatch.setattr("appliance.cli.scrub_cmd.time.sleep", sleep)

    shell.do("scrub", "start", "--resume", "--wait")

    assert waits == [scrub_cmd.POLL_S] * 3


def test_a_pause_is_shown(shell: Shell, server: AdminServer) -> None:
    shown = shell.do("scrub", "pause").output

    assert server.scrub.orders == ["pause"]
    assert shown.count("paused") == 2
