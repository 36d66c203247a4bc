"""Alembic migrations of the catalog, run by `appliance.catalog.schema`."""
