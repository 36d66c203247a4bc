"""Which volumes of the settings are which of the catalog."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from appliance.catalog.records import VolumeRow, VolumeState
from appliance.settings import VolumeSettings
from appliance.storage import VolumeMismatch, match_volumes
from hal.records import VolumeId

if TYPE_CHECKING:
    from pathlib import Path


def row(path: Path, number: int, state: VolumeState = VolumeState.ACTIVE) -> VolumeRow:
    return VolumeRow(
        volume_id=VolumeId(number),
        uuid=str(uuid.UUID(int=number)),
        tier="ssd",
        path=str(path),
        created_us=1,
        state=state,
    )


def settings(path: Path) -> VolumeSettings:
    return VolumeSettings(path=path, tier="ssd")


def test_a_removed_volume_is_missed_by_nobody(tmp_path: Path) -> None:
    stays, gone = tmp_path / "a", tmp_path / "b"
    rows = [row(stays, 1, VolumeState.DRAINING), row(gone, 2, VolumeState.REMOVED)]

    [(_, matched)] = match_volumes([settings(stays)], rows)

    assert matched.volume_id == 1


def test_a_removed_volume_in_the_settings_is_refused_with_the_way_out(tmp_path: Path) -> None:
    stays, gone = tmp_path / "a", tmp_path / "b"
    rows = [row(stays, 1), row(gone, 2, VolumeState.REMOVED)]

    with pytest.raises(VolumeMismatch, match=r"was emptied and removed .* take its \[\[volume\]\]"):
        match_volumes([settings(stays), settings(gone)], rows)


def test_a_drained_volume_still_belongs_to_the_settings(tmp_path: Path) -> None:
    rows = [row(tmp_path / "a", 1), row(tmp_path / "b", 2, VolumeState.DRAINING)]

    with pytest.raises(VolumeMismatch, match="belongs to this appliance but is not in the"):
        match_volumes([settings(tmp_path / "a")], rows)
