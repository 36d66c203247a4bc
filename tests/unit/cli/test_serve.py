"""How `thermocline serve` ends: a start that is refused, and a server that fails while it works."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.__main__ import run
from appliance.catalog.errors import CatalogUnavailable
from appliance.cli import serve_cmd

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.settings import Settings
    from appliance.worker_place import WorkerPlace

VOLUME = '[[volume]]\npath = "/v"\ntier = "ssd"\n'


@pytest.mark.parametrize(("is_ready", "status"), [(False, 1), (True, 70)])
def test_a_failed_commit_ends_a_working_server_with_70_and_a_start_with_1(
    is_ready: bool,
    status: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def fail(
        _settings: Settings, *, on_ready: Callable[[str], None], place: WorkerPlace | None
    ) -> None:
        assert place is None
        if is_ready:
            on_ready("ready s3=http://127.0.0.1:9000")
        raise ExceptionGroup("nursery", [CatalogUnavailable("COMMIT failed: disk I/O error")])

    monkeypatch.setattr(serve_cmd, "run_server", fail)
    config = tmp_path / "thermocline.toml"
    config.write_text(VOLUME)

    assert run(["serve", "--config", str(config)]) == status

    assert capsys.readouterr().err == "Error: COMMIT failed: disk I/O error\n"
