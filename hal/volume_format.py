"""Writing and reading a volume's identity on a device.

The two copies are written and flushed one after the other: once the first flush has returned, one
copy is whole. A crash before that leaves a superblock file without an intact copy and nothing
beside it; such a device holds nothing and may be formatted again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from hal.buffers import AlignedBuffer
from hal.errors import FormatUnknown, VolumeForeign
from hal.probe import SCRATCH_PREFIX
from hal.superblock import (
    COPY_COUNT,
    SUPERBLOCK_BYTES,
    SUPERBLOCK_NAME,
    Superblock,
    copy_index,
    decode_superblock,
    encode_superblock,
    find_superblock,
)

if TYPE_CHECKING:
    from hal.device import Device

__all__ = [
    "find_damaged_copies",
    "load_superblock",
    "mend_superblock",
    "probe_device",
    "write_superblock",
]

_FILE_BYTES = COPY_COUNT * SUPERBLOCK_BYTES
_NAMED_MAX = 3  # foreign files named in a message


async def write_superblock(device: Device, superblock: Superblock) -> None:
    """Format an empty device.

    Durability: both copies and the name are durable on return.

    Raises:
        VolumeForeign: The device holds a volume already, or files of somebody else.
    """
    sizes = await device.list_files()
    foreign = sorted(
        name for name in sizes if name != SUPERBLOCK_NAME and not name.startswith(SCRATCH_PREFIX)
    )
    if foreign:
        found = f"{len(foreign)} files ({', '.join(foreign[:_NAMED_MAX])})"
        raise VolumeForeign(device.name, found=found, expected="an empty directory")
    with AlignedBuffer(_FILE_BYTES) as buffer:
        if SUPERBLOCK_NAME in sizes:
            await _refuse_formatted(device, buffer.view, sizes[SUPERBLOCK_NAME])
            await device.remove_file(SUPERBLOCK_NAME)
        await device.create_file(SUPERBLOCK_NAME, size_bytes=_FILE_BYTES)
        copy = buffer.view[:SUPERBLOCK_BYTES]
        copy[:] = encode_superblock(superblock)
        first = copy_index(superblock.sequence)
        for index in (first, 1 - first):
            await device.write(SUPERBLOCK_NAME, index * SUPERBLOCK_BYTES, copy)
            await device.flush(SUPERBLOCK_NAME)
    await device.flush_directory()


async def _refuse_formatted(device: Device, view: memoryview, size_bytes: int) -> None:
    """Raise unless the superblock, the only file there, is what a cut-short format leaves."""
    if size_bytes == 0:
        return  # a crash between making the file and giving it room
    if size_bytes == _FILE_BYTES:
        await device.read_into(SUPERBLOCK_NAME, 0, view)
        try:
            if find_superblock(view, where=device.name) is None:
                return
        except FormatUnknown as error:
            raise VolumeForeign(
                device.name, found=f"a volume of {error.found}", expected="an empty directory"
            ) from error
    raise VolumeForeign(device.name, found="a volume", expected="an empty directory")


async def load_superblock(device: Device) -> Superblock:
    """The identity of the volume on a device.

    Raises:
        FormatUnknown: None there, none intact, or of another version.
    """
    sizes = await device.list_files()
    where = f"{device.name}/{SUPERBLOCK_NAME}"
    if sizes.get(SUPERBLOCK_NAME) != _FILE_BYTES:
        found = "no volume" if SUPERBLOCK_NAME not in sizes else "a cut superblock"
        raise FormatUnknown(where, found=found, known="a formatted volume")
    with AlignedBuffer(_FILE_BYTES) as buffer:
        await device.read_into(SUPERBLOCK_NAME, 0, buffer.view)
        return decode_superblock(buffer.view, where=where)


async def probe_device(device: Device) -> None:
    """Return if the device gives its superblock out, whatever it says.

    Tells a bad sector from a device that is gone, without waiting for one that hangs.

    Cancellation: at once.

    Raises:
        MediumError: It gives nothing out.
    """
    buffer = AlignedBuffer(_FILE_BYTES)
    try:
        await device.read_into(SUPERBLOCK_NAME, 0, buffer.view, may_abandon=True)
    except trio.Cancelled:
        buffer.forfeit()  # the device may still be filling it
        raise
    except BaseException:
        buffer.release()
        raise
    buffer.release()


async def find_damaged_copies(device: Device) -> tuple[int, ...]:
    """Indexes of the superblock's copies that are not intact; one at most on a volume that opens.

    Raises:
        FormatUnknown: As `load_superblock`.
    """
    await load_superblock(device)
    with AlignedBuffer(_FILE_BYTES) as buffer:
        await device.read_into(SUPERBLOCK_NAME, 0, buffer.view)
        return _find_damaged(buffer.view, where=device.name)


async def mend_superblock(device: Device) -> None:
    """Write the intact copy over a damaged one; nothing happens where both are intact.

    Durability: durable on return. The intact copy is not touched.

    Raises:
        FormatUnknown: As `load_superblock`.
        HalError: The copy could not be written.
    """
    await load_superblock(device)
    with AlignedBuffer(_FILE_BYTES) as buffer:
        await device.read_into(SUPERBLOCK_NAME, 0, buffer.view)
        for index in _find_damaged(buffer.view, where=device.name):
            intact = buffer.view[(1 - index) * SUPERBLOCK_BYTES :][:SUPERBLOCK_BYTES]
            await device.write(SUPERBLOCK_NAME, index * SUPERBLOCK_BYTES, intact)
            await device.flush(SUPERBLOCK_NAME)


def _find_damaged(view: memoryview, *, where: str) -> tuple[int, ...]:
    blocks = [view[start : start + SUPERBLOCK_BYTES] for start in (0, SUPERBLOCK_BYTES)]
    # A block alone stands for a file whose other copy is missing.
    return tuple(
        index for index, block in enumerate(blocks) if find_superblock(block, where=where) is None
    )
