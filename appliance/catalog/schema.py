"""The schema's revision: bringing a catalog up to the one this program needs, and checking it.

Migrations run in one transaction on both databases, so a crash leaves the old schema or the new
one. On SQLite they run alone: `upgrade` takes the same lock as a running server.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from appliance.catalog import tables
from appliance.catalog.connections import hold_database, make_writer_engine, parse_url
from appliance.catalog.errors import CatalogUnavailable, SchemaMismatch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

__all__ = [
    "check_schema",
    "current_revision",
    "describe_drift",
    "downgrade",
    "find_revision",
    "is_known",
    "keep_copy",
    "upgrade",
    "wanted_revision",
]

NO_SCHEMA = "none"


def upgrade(url: str, *, revision: str = "head") -> None:
    """Create the schema, or bring it up. Blocking; nothing else has the catalog open.

    Raises:
        CatalogBusy: A server has it open (SQLite).
    """
    with _alone(url) as connection:
        command.upgrade(_configuration(connection), revision)


def find_revision(url: str) -> str | None:
    """The revision of a catalog that no server has open; None for an empty database.

    Raises:
        CatalogBusy: A server has it open (SQLite).
        CatalogUnavailable: There is no such database.
    """
    with _alone(url) as connection:
        return current_revision(connection)


def keep_copy(url: str, target: Path) -> None:
    """Write a SQLite catalog that no server has open to a new file, mode 0600.

    Durability: the copy's bytes are flushed on return.

    Raises:
        CatalogBusy: A server has it open.
        CatalogUnavailable: The file exists, or cannot be written.
    """
    try:
        copy = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CatalogUnavailable(f"{target}: {error.strerror}") from error
    try:
        with _alone(url) as connection:
            raw = connection.connection.cursor()
            raw.execute("VACUUM INTO ?", (str(target),))
        os.fsync(copy)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    finally:
        os.close(copy)


def downgrade(url: str, *, revision: str) -> None:
    """Take the schema back to an earlier revision; `base` removes every table and all data."""
    with _alone(url) as connection:
        command.downgrade(_configuration(connection), revision)


def current_revision(connection: Connection) -> str | None:
    """The revision of the schema that is there, or None where there is none."""
    return MigrationContext.configure(connection).get_current_revision()


def wanted_revision() -> str:
    """The revision that this program was written for."""
    head = ScriptDirectory.from_config(_configuration(None)).get_current_head()
    assert head is not None
    return head


def is_known(revision: str) -> bool:
    """True for a revision that this program has a migration for."""
    scripts = ScriptDirectory.from_config(_configuration(None))
    return any(script.revision == revision for script in scripts.walk_revisions())


def check_schema(connection: Connection) -> None:
    """Compare the schema's revision with the one this program needs.

    Raises:
        SchemaMismatch: They differ, or there is no schema.
    """
    found, wanted = current_revision(connection), wanted_revision()
    if found != wanted:
        raise SchemaMismatch(found=found or NO_SCHEMA, wanted=wanted)


def describe_drift(connection: Connection) -> list[str]:
    """Where the database's tables differ from `tables.metadata`; empty in a sound release."""
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    return [repr(difference) for difference in compare_metadata(context, tables.metadata)]


@contextmanager
def _alone(url: str) -> Iterator[Connection]:
    parsed = parse_url(url)
    with hold_database(parsed):
        engine = make_writer_engine(parsed)
        try:
            with engine.connect() as connection:
                yield connection
        finally:
            engine.dispose()


def _configuration(connection: Connection | None) -> Config:
    # Found as a package, so that it works from a checkout and from an installed wheel alike.
    spec = find_spec("migrations")
    assert spec is not None
    assert spec.origin is not None
    config = Config()
    place = str(Path(spec.origin).parent)
    config.set_main_option("script_location", place.replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
