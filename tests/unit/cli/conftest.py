"""A shell, a server to talk to, and an appliance made by `init`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.catalog import schema
from tests.admin_harness import AdminServer
from tests.cli_harness import Shell

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__: list[str] = []


@pytest.fixture(scope="session")
def catalog_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty SQLite catalog: to copy, not to open."""
    path = tmp_path_factory.mktemp("cli-catalog") / "template.db"
    schema.upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture
def shell(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Shell:
    """A shell in an empty directory, with no server."""
    directory = tmp_path / "work"
    directory.mkdir()
    return Shell(capsys, monkeypatch, directory)


@pytest.fixture
def server(catalog_template: Path, tmp_path: Path, shell: Shell) -> Iterator[AdminServer]:
    """A server that the shell finds by THERMOCLINE_SOCKET."""
    with AdminServer(catalog_template, tmp_path) as running:
        shell.set_environment(THERMOCLINE_SOCKET=str(running.socket))
        yield running
