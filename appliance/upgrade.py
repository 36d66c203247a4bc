"""Brings a catalog's schema up to this program's, while no server runs.

A server never does it by itself: whoever starts a newer program by mistake can still go back.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from appliance.catalog.connections import database_path, is_sqlite, parse_url
from appliance.catalog.errors import CatalogUnavailable, SchemaMismatch
from appliance.catalog.schema import (
    NO_SCHEMA,
    find_revision,
    is_known,
    keep_copy,
    upgrade,
    wanted_revision,
)

if TYPE_CHECKING:
    from appliance.clock import Clock
    from appliance.settings import Settings

__all__ = ["Upgraded", "upgrade_catalog"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Upgraded:
    """A schema's revision before and after.

    Attributes:
        kept: Where the catalog before it was copied to; None where nothing changed, and for
            PostgreSQL.
    """

    found: str
    wanted: str
    kept: str | None


def upgrade_catalog(settings: Settings, *, clock: Clock) -> Upgraded:
    """Migrate the catalog; nothing happens where its schema is this program's already. Blocking.

    Raises:
        CatalogBusy: A server is running.
        CatalogUnavailable: There is no catalog, or its copy cannot be written.
        SchemaMismatch: It is a newer program's.
    """
    url = parse_url(settings.catalog.url)
    if is_sqlite(url) and not database_path(url).exists():
        raise CatalogUnavailable(f"{database_path(url)} does not exist")
    found, wanted = find_revision(settings.catalog.url) or NO_SCHEMA, wanted_revision()
    if found != NO_SCHEMA and not is_known(found):
        raise SchemaMismatch(found=found, wanted=wanted)
    kept = None
    if found != wanted:
        if is_sqlite(url):
            stamp = datetime.fromtimestamp(clock.now(), UTC).strftime("%Y%m%dT%H%M%SZ")
            path = database_path(url)
            kept = path.with_name(f"{path.name}.schema-{found}-{stamp}")
            keep_copy(settings.catalog.url, kept)
        upgrade(settings.catalog.url)
    return Upgraded(found=found, wanted=wanted, kept=None if kept is None else str(kept))
