"""The key file: where the key that wraps the data key lives, and how it is changed safely.

One line, `thermocline-key-1 <base64 of 32 bytes>`, in a regular file of mode 0600 (or 0400, as
systemd's credentials have it) that belongs to the user the server runs as. Anything else is
refused. A key file appears under its name complete and durable, or not at all.

A change of keys must survive a crash at each step, so there are two files for a while:

1. `begin_rotation` writes `<file>.new`;
2. the caller commits the data key wrapped by the new key (`SecretBox.rewrap`), one transaction;
3. `finish_rotation` renames `<file>.new` over `<file>`.

`load_keys` gives both keys while both files exist, so the catalog opens whichever it was sealed
with, and the next start calls `finish_rotation` or `cancel_rotation` after what it finds there.
"""

from __future__ import annotations

import base64
import binascii
import os
import stat
from typing import TYPE_CHECKING

from appliance.secrets import KEY_BYTES, KeyFileWrong
from hal import posix
from hal.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = [
    "begin_rotation",
    "cancel_rotation",
    "create_key_file",
    "finish_rotation",
    "load_key",
    "load_keys",
]

_MAGIC = "thermocline-key-1"
_MODES = frozenset({0o600, 0o400})
FILE_BYTES_MAX = 256


def create_key_file(path: Path, *, random_bytes: Callable[[int], bytes] = os.urandom) -> bytes:
    """Write a new random key to `path`, which must not exist; returns the key.

    Durability:
        The file and its name are on stable storage: nothing may be sealed under a key that a power
        cut could take away.

    Raises:
        KeyFileWrong: It exists already, or cannot be written.
    """
    key = random_bytes(KEY_BYTES)
    text = f"{_MAGIC} {base64.b64encode(key).decode('ascii')}\n"
    part = path.with_name(path.name + ".part")
    try:
        part.unlink(missing_ok=True)  # of a start that was cut off right here
        part.touch(mode=0o600, exist_ok=False)
        with part.open("w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            posix.flush_file(file.fileno(), part)
        path.hardlink_to(part)  # unlike a rename, it never replaces a key that is there
        part.unlink()
        posix.flush_directory(path.parent)
    except OSError as error:
        raise KeyFileWrong(str(path), f"cannot be made: {error.strerror}") from error
    except DeviceError as error:
        raise KeyFileWrong(str(path), f"cannot be made: {error.reason}") from error
    assert load_key(path) == key
    return key


def load_key(path: Path) -> bytes:
    """The key in the file.

    Raises:
        KeyFileWrong: Missing, readable by others, another user's, or not a key file.
    """
    try:
        with path.open("rb") as file:
            # Of the open file, so that it cannot be exchanged between check and read.
            facts = os.fstat(file.fileno())
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise KeyFileWrong(str(path), f"cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(facts.st_mode):
        raise KeyFileWrong(str(path), "is not a regular file")
    mode = stat.S_IMODE(facts.st_mode)
    if mode not in _MODES:
        raise KeyFileWrong(str(path), f"has mode {mode:04o}, must have 0600")
    if facts.st_uid != os.geteuid():
        raise KeyFileWrong(
            str(path), f"belongs to user {facts.st_uid}, the server is user {os.geteuid()}"
        )
    return _parse(path, content)


def _parse(path: Path, content: bytes) -> bytes:
    magic, _, text = content.partition(b" ")
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except binascii.Error as error:
        raise KeyFileWrong(str(path), "is not a key file") from error
    if magic != _MAGIC.encode("ascii") or len(key) != KEY_BYTES:
        raise KeyFileWrong(str(path), "is not a key file")
    if len(set(key)) < KEY_BYTES // 4:
        # Random bytes never look so; zeroes or a pattern do.
        raise KeyFileWrong(str(path), "holds no random key")
    return key


def load_keys(path: Path) -> tuple[bytes, ...]:
    """The key, and behind it that of a change in progress.

    Raises:
        KeyFileWrong: See `load_key`, for either file.
    """
    staged = _staged(path)
    if staged.exists():
        return load_key(path), load_key(staged)
    return (load_key(path),)


def begin_rotation(path: Path, *, random_bytes: Callable[[int], bytes] = os.urandom) -> bytes:
    """Write a new key beside the one in force; returns it.

    Raises:
        KeyFileWrong: A change is in progress already, or the file cannot be written.
    """
    load_key(path)
    return create_key_file(_staged(path), random_bytes=random_bytes)


def finish_rotation(path: Path) -> None:
    """Put the new key in force, after the catalog was committed under it.

    Durability: The exchange is on stable storage.

    Raises:
        KeyFileWrong: There is none, or it cannot be renamed.
    """
    try:
        _staged(path).replace(path)
        posix.flush_directory(path.parent)
    except OSError as error:
        raise KeyFileWrong(str(path), f"cannot be exchanged: {error.strerror}") from error
    except DeviceError as error:
        raise KeyFileWrong(str(path), f"cannot be exchanged: {error.reason}") from error


def cancel_rotation(path: Path) -> None:
    """Remove a new key that the catalog was never committed under; none is no error.

    Raises:
        KeyFileWrong: It cannot be removed.
    """
    try:
        _staged(path).unlink(missing_ok=True)
        posix.flush_directory(path.parent)
    except OSError as error:
        raise KeyFileWrong(str(path), f"cannot be removed: {error.strerror}") from error
    except DeviceError as error:
        raise KeyFileWrong(str(path), f"cannot be removed: {error.reason}") from error


def _staged(path: Path) -> Path:
    return path.with_name(path.name + ".new")
