"""The schema's revision: bringing a catalog up to the one this program needs, and checking it.

Migrations run in one transaction on both databases, so a crash leaves the old schema or the new
one. On SQLite they run alone: `upgrade` takes the same lock as a running server.

Alembic is imported where a schema is changed or described: it takes a fifth of a second to load,
and the start of a server only compares two revisions.
"""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import String, column, inspect, select, table

from appliance.catalog import tables
from appliance.catalog.connections import make_writer_engine, parse_url
from appliance.catalog.database_lock import hold_database
from appliance.catalog.errors import CatalogUnavailable, SchemaMismatch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from alembic.config import Config
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
_REVISION_TABLE = "alembic_version"  # Alembic's default, as is the column's name
_REVISION = select(column("version_num", String)).select_from(table(_REVISION_TABLE))
# The file of a migration begins with its revision; `tests/contract` compares with Alembic's word.
_MIGRATION = re.compile(r"(\d{4})_\w+\.py")


def upgrade(url: str, *, revision: str = "head") -> None:
    """Create the schema, or bring it up. Blocking; nothing else has the catalog open.

    Raises:
        CatalogBusy: A server has it open (SQLite).
    """
    from alembic import command  # noqa: PLC0415 - see the module

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
    from alembic import command  # noqa: PLC0415 - see the module

    with _alone(url) as connection:
        command.downgrade(_configuration(connection), revision)


def current_revision(connection: Connection) -> str | None:
    """The revision of the schema that is there, or None where there is none."""
    if not inspect(connection).has_table(_REVISION_TABLE):
        return None
    found = connection.execute(_REVISION).scalars().all()
    assert len(found) <= 1, f"a schema has one revision, not {found}"
    return str(found[0]) if found else None


def wanted_revision() -> str:
    """The revision that this program was written for."""
    return max(_list_revisions())


def is_known(revision: str) -> bool:
    """True for a revision that this program has a migration for."""
    return revision in _list_revisions()


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
    from alembic.autogenerate import compare_metadata  # noqa: PLC0415 - see the module
    from alembic.migration import MigrationContext  # noqa: PLC0415 - see the module

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


def _configuration(connection: Connection) -> Config:
    from alembic.config import Config  # noqa: PLC0415 - see the module

    config = Config()
    config.set_main_option("script_location", str(_find_migrations()).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


@cache
def _list_revisions() -> frozenset[str]:
    names = (path.name for path in (_find_migrations() / "versions").iterdir())
    found = frozenset(match[1] for name in names if (match := _MIGRATION.fullmatch(name)))
    assert found, "the program was installed without its migrations"
    return found


def _find_migrations() -> Path:
    # Found as a package, so that it works from a checkout and from an installed wheel alike.
    spec = find_spec("migrations")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent
