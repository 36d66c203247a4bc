"""The only system calls on data: open, transfer in full, sync, preallocate, punch, ask.

Everything here blocks and belongs in a thread. `OSError` ends here: each function names the error
of `hal.errors` that it raises. Interrupted calls (`EINTR`) are repeated by the interpreter (PEP
475), short transfers are continued here until nothing moves any more.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import stat
import struct
from typing import TYPE_CHECKING

from hal.errors import DeviceError, DeviceFailed, DeviceFull, MediumError
from hal.records import Capacity, FileMap

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = [
    "close_descriptor",
    "create_file",
    "flush_data",
    "flush_directory",
    "flush_file",
    "list_regular_files",
    "map_file",
    "measure_capacity",
    "open_file",
    "preallocate",
    "punch",
    "read_full",
    "remove_file",
    "truncate",
    "write_full",
]

_FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT})
_FALLOC_FL_KEEP_SIZE = 0x01  # linux/falloc.h
_FALLOC_FL_PUNCH_HOLE = 0x02
_FILE_MODE = 0o600  # tenants' bytes: nobody but the server reads them
_STAT_BLOCK_BYTES = 512  # stat(2): the unit of st_blocks, whatever the file system's is
_FS_IOC_FIEMAP = 0xC020660B  # linux/fs.h; the structures are linux/fiemap.h's
_FIEMAP_HEAD = struct.Struct("=QQIIII")  # start, length, flags, mapped, room for, reserved
_FIEMAP_EXTENT = struct.Struct("=QQQ16xI12x")  # logical, physical, length, flags
_FIEMAP_EXTENT_LAST = 0x1
_FIEMAP_EXTENTS = 1024  # asked for at once: 56 KiB
# What a file system answers that knows no such question, such as tmpfs.
_NO_FIEMAP_ERRNOS = frozenset({errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL})

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
_libc.fallocate.restype = ctypes.c_int


def open_file(path: Path, *, direct: bool, read_only: bool = False) -> int:
    """A descriptor of an existing regular file.

    Args:
        path: The file; a symbolic link is refused.
        direct: Open with `O_DIRECT`.
        read_only: For reading alone, as on a file system mounted so; else for writing as well.

    Raises:
        DeviceError: The file could not be opened; `__cause__` has the errno.
    """
    return _open(path, direct=direct, flags=os.O_RDONLY if read_only else os.O_RDWR)


def create_file(path: Path, *, direct: bool) -> int:
    """A descriptor of a new, empty file.

    Raises:
        DeviceFull: No room for the name.
        DeviceError: The name exists, or the file could not be made.
    """
    return _open(path, direct=direct, flags=os.O_RDWR | os.O_CREAT | os.O_EXCL)


def _open(path: Path, *, direct: bool, flags: int) -> int:
    flags |= os.O_CLOEXEC | os.O_NOFOLLOW
    if direct:
        flags |= os.O_DIRECT
    try:
        return os.open(path, flags, _FILE_MODE)
    except OSError as error:
        if error.errno in _FULL_ERRNOS:
            raise DeviceFull(str(path.parent), f"cannot open {path.name}: {error}") from error
        raise DeviceError(str(path.parent), f"cannot open {path.name}: {error}") from error


def close_descriptor(descriptor: int, path: Path) -> None:
    """Close a descriptor.

    Raises:
        DeviceFailed: The close reported that earlier writes were lost.
    """
    try:
        os.close(descriptor)
    except OSError as error:
        raise DeviceFailed(str(path.parent), f"closing {path.name} failed: {error}") from error


def read_full(descriptor: int, offset: int, target: memoryview, path: Path) -> None:
    """Fill `target` from `offset`.

    Raises:
        MediumError: The system refused, or the file ends inside the range.
    """
    done = 0
    length = len(target)
    while done < length:
        try:
            count = os.preadv(descriptor, [target[done:]], offset + done)
        except OSError as error:
            raise _medium_error(path, offset + done, length - done, error, "read") from error
        if count == 0:
            raise MediumError(
                str(path.parent),
                file_name=path.name,
                offset=offset,
                length_bytes=length,
                errno=None,
                reason=f"read ended after {done} bytes",
            )
        done += count


def write_full(descriptor: int, offset: int, source: memoryview, path: Path) -> None:
    """Write all of `source` at `offset`.

    A short write is continued; under direct I/O it is a multiple of the alignment, and where it is
    not, the next call is refused and becomes a `MediumError`.

    Raises:
        DeviceFull: The file system has no room.
        MediumError: The system refused, or accepted nothing.
    """
    done = 0
    length = len(source)
    while done < length:
        try:
            count = os.pwritev(descriptor, [source[done:]], offset + done)
        except OSError as error:
            if error.errno in _FULL_ERRNOS:
                raise DeviceFull(str(path.parent), f"writing {path.name}: {error}") from error
            raise _medium_error(path, offset + done, length - done, error, "write") from error
        if count == 0:
            raise MediumError(
                str(path.parent),
                file_name=path.name,
                offset=offset,
                length_bytes=length,
                errno=None,
                reason=f"write ended after {done} bytes",
            )
        done += count


def flush_data(descriptor: int, path: Path) -> None:
    """Make the file's written bytes durable, and what is needed to find them (`fdatasync`).

    Raises:
        DeviceFailed: It failed; the caller must never take a later success as one for these bytes.
    """
    try:
        os.fdatasync(descriptor)
    except OSError as error:
        raise DeviceFailed(str(path.parent), f"fdatasync of {path.name}: {error}") from error


def flush_file(descriptor: int, path: Path) -> None:
    """Make the file's bytes and all its metadata durable (`fsync`).

    Raises:
        DeviceFull: A delayed allocation found no room; for a file without data of anyone's.
        DeviceFailed: It failed.
    """
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno in _FULL_ERRNOS:
            raise DeviceFull(str(path.parent), f"fsync of {path.name}: {error}") from error
        raise DeviceFailed(str(path.parent), f"fsync of {path.name}: {error}") from error


def flush_directory(path: Path) -> None:
    """Make creations and removals in the directory durable.

    Raises:
        DeviceFailed: The sync failed.
        DeviceError: The directory cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise DeviceError(str(path), f"cannot open the directory: {error}") from error
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise DeviceFailed(str(path), f"fsync of the directory: {error}") from error
    finally:
        os.close(descriptor)


def preallocate(descriptor: int, size_bytes: int, path: Path) -> None:
    """Give the file `size_bytes` of reserved room that reads as zeros.

    Where the file system cannot preallocate (some network file systems), the file is extended
    without reserved room: a later write may then meet `DeviceFull`.

    Raises:
        DeviceFull: There is not enough room.
        DeviceError: Anything else.
    """
    number = _fallocate(descriptor, 0, 0, size_bytes)
    if number == 0:
        return
    if number == errno.EOPNOTSUPP:
        truncate(descriptor, size_bytes, path)
        return
    reason = f"cannot preallocate {size_bytes} bytes for {path.name}: {os.strerror(number)}"
    # EFBIG: the file system's bound on one file, which a smaller segment may still keep.
    if number in _FULL_ERRNOS or number == errno.EFBIG:
        raise DeviceFull(str(path.parent), reason)
    raise DeviceError(str(path.parent), reason)


def punch(descriptor: int, offset: int, length_bytes: int, path: Path) -> None:
    """Deallocate a range; it reads as zeros and the file's size stays.

    Raises:
        MediumError: The system refused.
    """
    mode = _FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE
    number = _fallocate(descriptor, mode, offset, length_bytes)
    if number != 0:
        error = OSError(number, os.strerror(number))
        raise _medium_error(path, offset, length_bytes, error, "punch") from error


def _fallocate(descriptor: int, mode: int, offset: int, length_bytes: int) -> int:
    """0, or the error number. Interrupted calls are repeated here: ctypes does not."""
    while True:
        if _libc.fallocate(descriptor, mode, offset, length_bytes) == 0:
            return 0
        number = ctypes.get_errno()
        if number != errno.EINTR:
            return number


def truncate(descriptor: int, size_bytes: int, path: Path) -> None:
    """Set the file's size.

    Raises:
        DeviceFull: The file system's bound or room is exceeded.
        DeviceError: Anything else.
    """
    try:
        os.ftruncate(descriptor, size_bytes)
    except OSError as error:
        if error.errno in _FULL_ERRNOS or error.errno == errno.EFBIG:
            raise DeviceFull(str(path.parent), f"truncate of {path.name}: {error}") from error
        raise DeviceError(str(path.parent), f"truncate of {path.name}: {error}") from error


def remove_file(path: Path) -> None:
    """Remove a name.

    Raises:
        DeviceError: There is no such file, or it cannot be removed.
    """
    try:
        path.unlink()
    except OSError as error:
        raise DeviceError(str(path.parent), f"cannot remove {path.name}: {error}") from error


def list_regular_files(path: Path) -> dict[str, int]:
    """Names of the directory's regular files with their sizes in bytes.

    Raises:
        DeviceError: The directory cannot be read.
    """
    sizes: dict[str, int] = {}
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                try:
                    facts = entry.stat(follow_symlinks=False)
                except FileNotFoundError:  # removed by another worker since the scan began
                    continue
                if stat.S_ISREG(facts.st_mode):
                    sizes[entry.name] = facts.st_size
    except OSError as error:
        raise DeviceError(str(path), f"cannot list: {error}") from error
    return sizes


def map_file(path: Path) -> FileMap:
    """Which parts of a file have blocks.

    Source: Documentation/filesystems/fiemap.rst of the kernel. Where the file system has no such
    map, lseek(2) with SEEK_DATA tells, which calls preallocated blocks without data a hole.

    Raises:
        DeviceError: The file cannot be opened, or its map not be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            facts = os.fstat(descriptor)
            try:
                found = list(_iter_extents(descriptor, facts.st_size))
            except OSError as error:
                if error.errno not in _NO_FIEMAP_ERRNOS:
                    raise
                found = list(_iter_data(descriptor, facts.st_size))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise DeviceError(str(path.parent), f"cannot map {path.name}: {error}") from error
    return FileMap(
        size_bytes=facts.st_size,
        taken_bytes=facts.st_blocks * _STAT_BLOCK_BYTES,
        ranges=_join(found, facts.st_size),
    )


def _iter_extents(descriptor: int, size_bytes: int) -> Iterator[tuple[int, int]]:
    """First byte and end of every extent that the file system names, ascending."""
    first = 0
    answer = bytearray(_FIEMAP_HEAD.size + _FIEMAP_EXTENTS * _FIEMAP_EXTENT.size)
    while first < size_bytes:
        _FIEMAP_HEAD.pack_into(answer, 0, first, size_bytes - first, 0, 0, _FIEMAP_EXTENTS, 0)
        fcntl.ioctl(descriptor, _FS_IOC_FIEMAP, answer, True)
        mapped = _FIEMAP_HEAD.unpack_from(answer)[3]
        for number in range(mapped):
            logical, _, length, flags = _FIEMAP_EXTENT.unpack_from(
                answer, _FIEMAP_HEAD.size + number * _FIEMAP_EXTENT.size
            )
            yield logical, logical + length
            first = logical + length
            if flags & _FIEMAP_EXTENT_LAST:
                return
        if not mapped:
            return


def _iter_data(descriptor: int, size_bytes: int) -> Iterator[tuple[int, int]]:
    end = 0
    while end < size_bytes:
        try:
            first = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole from here on
                return
            raise
        end = os.lseek(descriptor, first, os.SEEK_HOLE)
        yield first, end


def _join(found: list[tuple[int, int]], size_bytes: int) -> tuple[tuple[int, int], ...]:
    """The ranges within the size, those that touch as one."""
    joined: list[tuple[int, int]] = []
    for first, end in found:
        bounded = min(end, size_bytes)
        if bounded <= first:
            continue
        if joined and joined[-1][1] >= first:
            joined[-1] = (joined[-1][0], bounded)
        else:
            joined.append((first, bounded))
    return tuple(joined)


def measure_capacity(path: Path) -> Capacity:
    """Room on the file system under a path; `free_bytes` is what an ordinary user may still take.

    Raises:
        DeviceError: The file system did not answer.
    """
    try:
        facts = os.statvfs(path)
    except OSError as error:
        raise DeviceError(str(path), f"cannot measure capacity: {error}") from error
    return Capacity(
        total_bytes=facts.f_blocks * facts.f_frsize,
        free_bytes=facts.f_bavail * facts.f_frsize,
    )


def _medium_error(
    path: Path, offset: int, length_bytes: int, error: OSError, verb: str
) -> MediumError:
    return MediumError(
        str(path.parent),
        file_name=path.name,
        offset=offset,
        length_bytes=length_bytes,
        errno=error.errno,
        reason=f"{verb} failed: {error.strerror}",
    )
