"""What a path can do: is it a place for a volume, and what does direct I/O demand there.

The answer is found by trying: a scratch file is written and read back through `O_DIRECT`. Where
there is no room for one, a file that is there is read: a volume must open when its disk is full, or
nothing on it could be read and deleted. tmpfs is refused by its name, since it accepts `O_DIRECT`
and keeps nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from pathlib import Path

from hal import posix
from hal.buffers import AlignedBuffer
from hal.errors import DeviceError, DeviceFull, DeviceUnsuitable
from hal.filesystem import (
    DirectAlignment,
    filesystem_name,
    find_direct_alignment,
    find_rotational,
    is_memory_filesystem,
)
from hal.geometry import RECORD_ALIGNMENT_BYTES
from hal.records import DeviceFacts

__all__ = ["SCRATCH_PREFIX", "probe_directory"]

SCRATCH_PREFIX = ".probe-"
"""Begins the name of a scratch file; one left by a crash is nobody's data."""

_ALIGNMENT_ASSUMED = DirectAlignment(
    memory_bytes=RECORD_ALIGNMENT_BYTES, offset_bytes=RECORD_ALIGNMENT_BYTES
)
_PATTERN = bytes(range(256)) * (RECORD_ALIGNMENT_BYTES // 256)


def probe_directory(path: Path, *, allow_buffered: bool, read_only: bool = False) -> DeviceFacts:
    """What the directory's device can do. Blocking.

    Args:
        path: An existing directory; unless `read_only` it may be written to.
        allow_buffered: Accept a file system without direct I/O (and, for tests, one in memory).
        read_only: Find out by reading a file that is there; nothing is written.

    Raises:
        DeviceUnsuitable: Not a directory, not writable, in memory, without direct I/O, or with an
            alignment above 4,096.
    """
    try:
        return _probe(path, allow_buffered=allow_buffered, read_only=read_only)
    except OSError as error:
        raise DeviceUnsuitable(str(path), f"cannot be probed: {error}") from error


def _probe(path: Path, *, allow_buffered: bool, read_only: bool) -> DeviceFacts:
    if not path.is_dir():
        raise DeviceUnsuitable(str(path), "not a directory")
    in_memory = is_memory_filesystem(path)
    name = filesystem_name(path)
    if in_memory and not allow_buffered:
        raise DeviceUnsuitable(str(path), f"{name} keeps nothing over a restart")
    alignment = None if in_memory else _try_direct(path, read_only=read_only)
    if alignment is None and not allow_buffered:
        raise DeviceUnsuitable(str(path), f"{name} refuses direct I/O")
    demanded = alignment or _ALIGNMENT_ASSUMED
    if max(demanded.offset_bytes, demanded.memory_bytes) > RECORD_ALIGNMENT_BYTES:
        raise DeviceUnsuitable(
            str(path),
            f"{name} demands an alignment of {demanded.offset_bytes} bytes (memory"
            f" {demanded.memory_bytes}), a record's is {RECORD_ALIGNMENT_BYTES}",
        )
    return DeviceFacts(
        filesystem=name,
        memory_alignment_bytes=demanded.memory_bytes,
        offset_alignment_bytes=demanded.offset_bytes,
        direct_io=alignment is not None,
        rotational=find_rotational(path),
    )


def _try_direct(path: Path, *, read_only: bool) -> DirectAlignment | None:
    """The alignment that direct I/O demands here; None where it does not work."""
    if read_only:
        return _try_direct_read(path) if _find_block(path) else _ALIGNMENT_ASSUMED
    try:
        return _try_direct_scratch(path)
    except DeviceFull:
        return _try_direct_read(path)


def _try_direct_scratch(path: Path) -> DirectAlignment | None:
    """The same by a new file.

    Raises:
        DeviceFull: There is no room for one.
    """
    try:
        descriptor, scratch_name = tempfile.mkstemp(prefix=SCRATCH_PREFIX, dir=path)
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        raise DeviceFull(str(path), f"cannot make a scratch file: {error}") from error
    os.close(descriptor)
    scratch = Path(scratch_name)
    try:
        alignment = find_direct_alignment(scratch) or _ALIGNMENT_ASSUMED
        if alignment.offset_bytes > RECORD_ALIGNMENT_BYTES:
            return alignment  # refused by the caller, with the number
        return alignment if _has_direct_round_trip(scratch) else None
    finally:
        with contextlib.suppress(FileNotFoundError):
            scratch.unlink()


def _try_direct_read(path: Path) -> DirectAlignment | None:
    """The same by reading a file that is there, such as a volume's superblock."""
    found = _find_block(path)
    if found is None:
        raise DeviceUnsuitable(str(path), "has no room to try direct I/O")
    alignment = find_direct_alignment(path / found) or _ALIGNMENT_ASSUMED
    if alignment.offset_bytes > RECORD_ALIGNMENT_BYTES:
        return alignment
    try:
        descriptor = posix.open_file(path / found, direct=True, read_only=True)
    except DeviceError:
        return None
    try:
        with AlignedBuffer(RECORD_ALIGNMENT_BYTES) as buffer:
            posix.read_full(descriptor, 0, buffer.view, path / found)
    except DeviceError:
        return None
    finally:
        posix.close_descriptor(descriptor, path / found)
    return alignment


def _find_block(path: Path) -> str | None:
    """The name of a file that holds a whole block, None where there is none."""
    sizes = posix.list_regular_files(path)
    return min((name for name in sizes if sizes[name] >= RECORD_ALIGNMENT_BYTES), default=None)


def _has_direct_round_trip(scratch: Path) -> bool:
    try:
        descriptor = posix.open_file(scratch, direct=True)
    except DeviceError:  # EINVAL: no direct I/O on this file system
        return False
    try:
        with AlignedBuffer(2 * RECORD_ALIGNMENT_BYTES) as buffer:
            source = buffer.view[:RECORD_ALIGNMENT_BYTES]
            target = buffer.view[RECORD_ALIGNMENT_BYTES:]
            source[:] = _PATTERN
            posix.write_full(descriptor, 0, source, scratch)
            posix.read_full(descriptor, 0, target, scratch)
            return bytes(target) == _PATTERN
    except DeviceFull:
        raise
    except DeviceError:
        return False
    finally:
        posix.close_descriptor(descriptor, scratch)
