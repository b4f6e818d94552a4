"""Alembic's environment: the connection is always handed in (see migrate.py)."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=context.config.attributes.get("metadata"),
    version_table=context.config.attributes["version_table"],
    transaction_per_migration=False,
)
context.run_migrations()
