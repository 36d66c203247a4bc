"""What both databases keep of the schema: migrations and metadata agree, both ways."""

from __future__ import annotations

import pytest

from appliance.catalog import schema
from appliance.catalog.connections import make_writer_engine, parse_url
from appliance.catalog.database_lock import hold_database
from appliance.catalog.engine import Catalog
from appliance.catalog.errors import SchemaMismatch
from tests.catalog_fixtures import FakeFlusher

__all__ = ["SchemaContract"]


class SchemaContract:
    """Subclasses provide the fixture `catalog_url`: a fresh, migrated catalog."""

    def test_migrations_make_the_tables_that_the_program_knows(self, catalog_url: str) -> None:
        url = parse_url(catalog_url)
        with hold_database(url):
            engine = make_writer_engine(url)
            with engine.connect() as connection:
                drift = schema.describe_drift(connection)
                revision = schema.current_revision(connection)
            engine.dispose()

        assert drift == []
        assert revision == schema.wanted_revision()

    def test_an_upgrade_of_what_is_up_to_date_changes_nothing(self, catalog_url: str) -> None:
        schema.upgrade(catalog_url)
        schema.upgrade(catalog_url)

    async def test_a_catalog_without_schema_is_refused(self, catalog_url: str) -> None:
        schema.downgrade(catalog_url, revision="base")

        with pytest.raises(SchemaMismatch) as caught:
            await Catalog.open(catalog_url, flusher=FakeFlusher())
        assert caught.value.found == "none"
        schema.upgrade(catalog_url)
        await (await Catalog.open(catalog_url, flusher=FakeFlusher())).aclose()
