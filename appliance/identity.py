"""What makes an appliance the one it is: its UUID and its wrapped data key, kept in the catalog.

`init` establishes both; every start loads them and refuses to go on with another key file.
"""

from __future__ import annotations

import base64
import binascii
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.catalog.errors import CatalogDamaged
from appliance.catalog.settings import establish_appliance_uuid, find_setting, store_setting

if TYPE_CHECKING:
    from appliance.catalog.unit import Connection

__all__ = ["Identity", "establish_identity", "load_identity", "store_data_key"]

DATA_KEY_SETTING = "data_key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """An appliance's UUID and its data key, wrapped by the key file's key."""

    appliance_uuid: uuid.UUID
    wrapped_data_key: bytes


def establish_identity(
    connection: Connection, *, candidate: uuid.UUID, wrapped_data_key: bytes
) -> Identity:
    """Give a new catalog its identity; a unit of `init`."""
    known = establish_appliance_uuid(connection, candidate=str(candidate))
    store_data_key(connection, wrapped_data_key)
    return Identity(appliance_uuid=uuid.UUID(known), wrapped_data_key=wrapped_data_key)


def store_data_key(connection: Connection, wrapped_data_key: bytes) -> None:
    """Keep the data key as wrapped now: at `init`, and when the key file's key changes."""
    text = base64.b64encode(wrapped_data_key).decode("ascii")
    store_setting(connection, name=DATA_KEY_SETTING, value=text)


def load_identity(connection: Connection) -> Identity:
    """The identity of an initialised catalog.

    Raises:
        CatalogDamaged: The catalog was never initialised, or its identity cannot be read.
    """
    found = find_setting(connection, name="appliance_uuid")
    wrapped = find_setting(connection, name=DATA_KEY_SETTING)
    if found is None or wrapped is None:
        raise CatalogDamaged("the catalog belongs to no appliance: `thermocline init` makes one")
    try:
        return Identity(
            appliance_uuid=uuid.UUID(found),
            wrapped_data_key=base64.b64decode(wrapped, validate=True),
        )
    except (ValueError, binascii.Error) as error:
        raise CatalogDamaged("the catalog's identity cannot be read") from error
