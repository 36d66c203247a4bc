"""What can go wrong between the appliance and a device.

    HalError
      DeviceError(device)
        DeviceFailed          a failed flush or a dead device: the volume stops taking writes
        DeviceFull            no room; deletes and reads go on
        DeviceUnsuitable      tmpfs, no direct I/O, no such directory: refused at open
        MediumError           one range could not be read or written
      PageCorrupt             a record whose bytes are not those that were written
      FormatUnknown           a superblock or record of another format version, or none at all
      VolumeForeign           a well-formed volume that is not the one expected

`OSError` becomes one of these in `hal.posix` and nowhere else. Attributes carry the data; nobody
parses a message.
"""

from __future__ import annotations

__all__ = [
    "DeviceError",
    "DeviceFailed",
    "DeviceFull",
    "DeviceUnsuitable",
    "FormatUnknown",
    "HalError",
    "MediumError",
    "PageCorrupt",
    "VolumeForeign",
]


class HalError(Exception):
    """Base of every error that `hal` raises on purpose."""


class DeviceError(HalError):
    """An operation on a device failed; `device` is its path or name."""

    def __init__(self, device: str, reason: str) -> None:
        super().__init__(f"{device}: {reason}")
        self.device = device
        self.reason = reason


class DeviceFailed(DeviceError):
    """The device, or one file of it, can no longer be trusted with writes (a failed flush)."""


class DeviceFull(DeviceError):
    """The device has no room for what was asked; nothing was written."""


class DeviceUnsuitable(DeviceError):
    """The path cannot hold a volume: tmpfs, no direct I/O, not a directory."""


class MediumError(DeviceError):
    """A range of a file could not be read or written in full.

    Attributes:
        file_name: The file inside the device.
        offset: Where the range begins, in bytes.
        length_bytes: How long it is.
        errno: The system's error number, or None for a short transfer.
    """

    def __init__(
        self,
        device: str,
        *,
        file_name: str,
        offset: int,
        length_bytes: int,
        errno: int | None,
        reason: str,
    ) -> None:
        super().__init__(device, f"{file_name}[{offset}+{length_bytes}]: {reason}")
        self.file_name = file_name
        self.offset = offset
        self.length_bytes = length_bytes
        self.errno = errno


class PageCorrupt(HalError):
    """A record does not hold what was written there; its bytes must never be served.

    Attributes:
        where: The extent or file range, for the operator.
        reason: Which check failed, in words.
    """

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where}: {reason}")
        self.where = where
        self.reason = reason


class FormatUnknown(HalError):
    """The bytes at `where` carry no format of ours, or a version that this program cannot read."""

    def __init__(self, where: str, *, found: str, known: str) -> None:
        super().__init__(f"{where}: found {found}, know {known}")
        self.where = where
        self.found = found
        self.known = known


class VolumeForeign(HalError):
    """A volume that belongs to another appliance, or stands in another volume's place."""

    def __init__(self, where: str, *, found: str, expected: str) -> None:
        super().__init__(f"{where}: holds {found}, expected {expected}")
        self.where = where
        self.found = found
        self.expected = expected
