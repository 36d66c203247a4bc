"""Units: the appliance's identity, its settings and its counters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import bindparam, select

from appliance.catalog import tables
from appliance.catalog.dialects import advance_counter, store_setting_row

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = [
    "begin_epoch",
    "establish_appliance_uuid",
    "find_setting",
    "last_epoch",
    "store_setting",
    "was_closed_cleanly",
]

_APPLIANCE_UUID = "appliance_uuid"
_BOOT_EPOCH = "boot_epoch"
_CLEAN_SHUTDOWN = "clean_shutdown"  # written by `appliance.catalog.engine`
# BodyId is `epoch << 32 | n` in a signed 64-bit column.
_EPOCH_MAX = 2**31 - 1

_FIND = select(tables.settings.c.value).where(tables.settings.c.name == bindparam("setting"))

_FIND_COUNTER = select(tables.counters.c.value).where(
    tables.counters.c.name == bindparam("counter")
)


def find_setting(connection: Connection, *, name: str) -> str | None:
    """The value of a setting, or None where it was never stored."""
    value: str | None = connection.execute(_FIND, {"setting": name}).scalar()
    return value


def store_setting(connection: Connection, *, name: str, value: str) -> None:
    """Store a setting, in place of an earlier value."""
    store_setting_row(connection, name, value)


def was_closed_cleanly(connection: Connection) -> bool:
    """Whether the last server ended as it should; never so on PostgreSQL, where nobody can say."""
    return find_setting(connection, name=_CLEAN_SHUTDOWN) == "1"


def begin_epoch(connection: Connection) -> int:
    """The boot epoch of a server process that starts now: above all that were ever handed out."""
    epoch = advance_counter(connection, _BOOT_EPOCH)
    assert 0 < epoch <= _EPOCH_MAX
    return epoch


def last_epoch(connection: Connection) -> int:
    """The last boot epoch that was handed out, 0 where none was."""
    found = connection.execute(_FIND_COUNTER, {"counter": _BOOT_EPOCH}).scalar()
    return int(found or 0)


def establish_appliance_uuid(connection: Connection, *, candidate: str) -> str:
    """The appliance's UUID; `candidate` becomes it where none was chosen yet."""
    known = find_setting(connection, name=_APPLIANCE_UUID)
    if known is not None:
        return known
    store_setting_row(connection, _APPLIANCE_UUID, candidate)
    return candidate
