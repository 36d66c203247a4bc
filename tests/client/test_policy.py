"""A policy outlives the server that took it, and a rebuild of the catalog that it is kept in."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.client.server import ServerProcess, run_command, running

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.client, pytest.mark.slow]

POLICY = 'version = 1\n\n[heat]\nhalf_life = "3d"\n'
SETTINGS = {"THERMOCLINE_SCRUB_ENABLED": "false", "THERMOCLINE_MEMORY_BUFFER_BYTES": "64MiB"}


def status_of(server: ServerProcess) -> tuple[object, object]:
    found = server.command_json("status")
    assert isinstance(found, dict)
    return found["policy_revision"], found["policy_failures"]


def test_a_policy_is_in_force_after_a_restart_and_a_rebuild(tmp_path: Path) -> None:
    made = ServerProcess(tmp_path, settings=SETTINGS, init_options=["--segment-bytes", "16MiB"])
    file = tmp_path / "policy.toml"
    file.write_text(POLICY)
    with running(made) as server:
        assert status_of(server) == (None, [])
        server.command_json("policy", "apply", str(file))
        server.kill()
        server.start()
        assert status_of(server) == (1, [])
        server.stop()
        rebuild = ("fsck", "--rebuild-catalog", "--yes", "--config", str(server.config_path))
        assert "policy            1 revisions taken over" in run_command(
            rebuild, server.environment
        )
        server.start()
        assert status_of(server) == (1, [])
        assert server.command("policy", "show") == POLICY


def test_a_policy_of_another_program_is_told_and_the_default_is_in_force(tmp_path: Path) -> None:
    made = ServerProcess(tmp_path, settings=SETTINGS, init_options=["--segment-bytes", "16MiB"])
    file = tmp_path / "policy.toml"
    file.write_text(POLICY)
    with running(made) as server:
        server.command_json("policy", "apply", str(file))
        server.stop()
        with closing(sqlite3.connect(server.data_path / "catalog.db")) as catalog, catalog:
            catalog.execute("UPDATE policy_revisions SET source = source || 'more = 1'")
        server.start()
        revision, failures = status_of(server)

    assert revision is None
    assert isinstance(failures, list)
    assert "the default policy is in force instead" in failures[0]
    assert "policy_not_in_force" in server.log_text()
