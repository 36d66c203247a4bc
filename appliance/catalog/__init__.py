"""The catalog: the only SQL of the appliance, on SQLite or PostgreSQL."""
