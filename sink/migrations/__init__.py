"""Alembic's migrations of the tables; run them with `oddslog migrate`."""
