"""A device opened for reading alone: nothing is written, not even to find out what it can do."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from hal.errors import DeviceError, FormatUnknown, PageCorrupt
from hal.file_device import FileDevice
from hal.records import SegmentId, VolumeId
from hal.segment import SegmentHeader, format_segment_name
from hal.segment_file import load_segment_header, write_segment_header
from hal.superblock import SUPERBLOCK_NAME
from hal.volume import SEGMENT_BYTES_MIN, Volume
from hal.volume_format import find_damaged_copies, load_superblock, mend_superblock
from tests.contract.device import aligned

if TYPE_CHECKING:
    from pathlib import Path

BLOCK = 4096


async def open_device(path: Path, *, read_only: bool) -> FileDevice:
    return await FileDevice.open(path, io_slots=1, allow_buffered=True, read_only=read_only)


@pytest.fixture
async def volume_path(tmp_path: Path) -> Path:
    """A formatted volume, closed."""
    path = tmp_path / "volume"
    path.mkdir()
    device = await open_device(path, read_only=False)
    await Volume.format(
        device,
        volume_id=VolumeId(1),
        volume_uuid=uuid.UUID(int=2),
        appliance_uuid=uuid.UUID(int=3),
        tier="ssd",
        segment_bytes=SEGMENT_BYTES_MIN,
        created_us=1,
    )
    await device.aclose()
    return path


def look(path: Path) -> dict[str, tuple[bytes, int]]:
    """What lies in a directory, and when each file was written."""
    return {item.name: (item.read_bytes(), item.stat().st_mtime_ns) for item in path.iterdir()}


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(bytes(data))


async def test_it_is_read_and_nothing_else(volume_path: Path) -> None:
    before = look(volume_path)

    device = await open_device(volume_path, read_only=True)
    superblock = await load_superblock(device)
    with pytest.raises(DeviceError):
        await device.write(SUPERBLOCK_NAME, 0, aligned(bytes(BLOCK)))
    await device.aclose()

    assert superblock.volume_uuid == uuid.UUID(int=2)
    assert look(volume_path) == before


async def test_an_empty_directory_is_told_by_its_missing_superblock(tmp_path: Path) -> None:
    device = await open_device(tmp_path, read_only=True)

    with pytest.raises(FormatUnknown, match="no volume"):
        await load_superblock(device)

    assert look(tmp_path) == {}


@pytest.mark.parametrize("index", [0, 1])
async def test_a_damaged_copy_is_mended_from_the_intact_one(volume_path: Path, index: int) -> None:
    before = (volume_path / SUPERBLOCK_NAME).read_bytes()
    flip(volume_path / SUPERBLOCK_NAME, index * BLOCK + 50)
    device = await open_device(volume_path, read_only=False)

    found = await find_damaged_copies(device)
    await mend_superblock(device)
    left = await find_damaged_copies(device)
    await device.aclose()

    assert (found, left) == ((index,), ())
    assert (volume_path / SUPERBLOCK_NAME).read_bytes() == before


async def test_two_damaged_copies_are_not_guessed_at(volume_path: Path) -> None:
    for index in (0, 1):
        flip(volume_path / SUPERBLOCK_NAME, index * BLOCK + 50)
    device = await open_device(volume_path, read_only=False)

    with pytest.raises(FormatUnknown, match="no intact copy"):
        await mend_superblock(device)

    await device.aclose()


async def test_a_segments_first_block_is_written_and_read_back(volume_path: Path) -> None:
    header = SegmentHeader(
        segment_id=SegmentId(1 << 24),
        segment_uuid=uuid.UUID(int=9),
        volume_uuid=uuid.UUID(int=2),
        boot_epoch=1,
        created_us=5,
    )
    name = format_segment_name(header.segment_id, header.segment_uuid)
    (volume_path / name).write_bytes(bytes(2 * BLOCK))
    device = await open_device(volume_path, read_only=False)

    await write_segment_header(device, header)
    found = await load_segment_header(device, name)
    flip(volume_path / name, 20)
    await device.aclose()
    device = await open_device(volume_path, read_only=True)
    with pytest.raises(PageCorrupt):
        await load_segment_header(device, name)
    await device.aclose()

    assert found == header
