"""Migrations: run, look at, and check them. Alembic does the work."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, event, inspect, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ..schemas.errors import ConfigurationError
from .errors import NotMigratedError

__all__ = ["VERSION_TABLE", "check_migrated", "current_revision", "head_revision", "migrate"]

# Not Alembic's default name: the scraper may have migrations of its own beside ours.
VERSION_TABLE = "oddslog_alembic_version"

# Two members of a deployment may start their migration at once; any number will do.
_ADVISORY_LOCK = 0x6F646473


def head_revision() -> str:
    """The newest revision of this version."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    if head is None:
        raise ConfigurationError("the migrations are not installed; install oddslog anew")
    return head


async def current_revision(connection: AsyncConnection) -> str | None:
    """The revision of a database; None where no migration ever ran."""
    return await connection.run_sync(_current)


async def check_migrated(connection: AsyncConnection) -> None:
    """Make sure that the tables are those of this version.

    Raises:
        NotMigratedError: they are not.
    """
    revision, head = await current_revision(connection), head_revision()
    if revision is None:
        raise NotMigratedError("the database is not migrated; run: oddslog migrate")
    if revision != head:
        raise NotMigratedError(
            f"the database is at revision {revision}, this version needs {head}; run:"
            " oddslog migrate"
        )


async def migrate(
    engine: AsyncEngine, *, schema: str = "public", dry_run: bool = False
) -> list[str]:
    """Bring the database to the newest revision, in one transaction.

    With `dry_run` the same statements run and are rolled back.

    Returns:
        The statements that changed something, in order.

    Raises:
        ConfigurationError: tables are there that no migration of ours made.
    """
    statements: list[str] = []
    async with engine.connect() as connection, connection.begin() as transaction:
        # DDL on a large table may take longer than a statement of the sink.
        await connection.execute(text("SET LOCAL statement_timeout = 0"))
        await connection.execute(text(f'CREATE SCHEMA IF NOT EXISTS "{schema}"'))
        await connection.execute(
            text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _ADVISORY_LOCK}
        )
        await connection.run_sync(_refuse_foreign_tables)
        with _recorded(engine, statements):
            await connection.run_sync(_upgrade)
        if dry_run:
            await transaction.rollback()
    return statements


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(files(__package__).joinpath("migrations")))
    config.set_main_option("path_separator", "os")
    config.attributes["version_table"] = VERSION_TABLE
    return config


def _upgrade(connection: Connection) -> None:
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _current(connection: Connection) -> str | None:
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    return context.get_current_revision()


def _refuse_foreign_tables(connection: Connection) -> None:
    inspector = inspect(connection)
    if inspector.has_table("odds_snapshots") and not inspector.has_table(VERSION_TABLE):
        raise ConfigurationError(
            "table odds_snapshots is there and was not made by oddslog: this version migrates"
            " fresh databases only. Use another database or --schema"
        )


@contextmanager
def _recorded(engine: AsyncEngine, statements: list[str]) -> Iterator[None]:
    def record(_connection: object, _cursor: object, statement: str, *_: Any, **__: Any) -> None:
        if statement.lstrip().upper().startswith(("SELECT", "SHOW", "SAVEPOINT", "RELEASE")):
            return
        statements.append(statement.strip())

    event.listen(engine.sync_engine, "before_cursor_execute", record)
    try:
        yield
    finally:
        event.remove(engine.sync_engine, "before_cursor_execute", record)
