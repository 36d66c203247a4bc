"""Alembic's environment: migrations run on the connection `appliance.catalog.schema` made.

There is no alembic.ini and no offline mode: a catalog is upgraded by the program that will use it.
"""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from appliance.catalog.tables import metadata

connection = context.config.attributes["connection"]
assert isinstance(connection, Connection)

# SQLite can roll back DDL; Alembic assumes that its driver cannot. Ours begins transactions itself.
context.configure(connection=connection, target_metadata=metadata, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
