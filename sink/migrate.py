"""Migrations: run, look at, and check them. Alembic does the work."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from typing import Any

import structlog
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, event, inspect, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ..schemas.errors import ConfigurationError
from .classify import sqlstate_of
from .errors import NotMigratedError, TableInUseError
from .tables import PARENT_TABLES, make_metadata

__all__ = ["VERSION_TABLE", "check_migrated", "current_revision", "head_revision", "migrate"]

log = structlog.get_logger("oddslog.sink")

# Not Alembic's default name: the scraper may have migrations of its own beside ours.
VERSION_TABLE = "oddslog_alembic_version"

# Two members of a deployment may start their migration at once; any number will do.
_ADVISORY_LOCK = 0x6F646473

# In a database that is in use: for each lock, and between attempts.
_LOCK_SECONDS = 5
_PAUSE_SECONDS = 5.0
_ATTEMPTS = 6
# No lock in time; a deadlock, which the sinks may find as well as we.
_IN_USE_STATES = frozenset({"55P03", "40P01"})

_LIFT_TIMEOUTS = text(
    "SELECT set_config(name, '0', true) FROM pg_settings"
    " WHERE name IN ('statement_timeout', 'lock_timeout', 'transaction_timeout')"
)
_SET_LOCK_TIMEOUT = text("SELECT set_config('lock_timeout', :seconds, true)")
_HAS_SCHEMA = text("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = :schema)")


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

    With `dry_run` the same statements run and are rolled back. Where tables are there
    already, each lock is waited for a few seconds only, and everything is rolled back
    and tried again some seconds later, for about a minute in all: behind a backup or a
    long query the sinks go on in between. The wait for another migration has no end.

    Returns:
        The statements that changed something, in order.

    Raises:
        ConfigurationError: tables are there that no migration of ours made.
        TableInUseError: another session held a table all the time; nothing was changed.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return await _attempt(engine, schema, dry_run=dry_run)
        except DBAPIError as error:
            if sqlstate_of(error) not in _IN_USE_STATES:
                raise
            tables = _tables_of(error)
            if attempt == _ATTEMPTS:
                raise TableInUseError(_in_use(tables, schema)) from error
        log.warning("migration_waits", tables=tables, attempt=attempt, attempts=_ATTEMPTS)
        # Without any lock: who was kept waiting by ours goes on in between.
        await asyncio.sleep(_PAUSE_SECONDS)
    raise AssertionError("no attempt was made")


async def _attempt(engine: AsyncEngine, schema: str, *, dry_run: bool) -> list[str]:
    statements: list[str] = []
    async with engine.connect() as connection, connection.begin() as transaction:
        # DDL on a large table, and the wait for another who runs it, may take longer
        # than anything that the sink does.
        await connection.execute(_LIFT_TIMEOUTS)
        await connection.execute(
            text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _ADVISORY_LOCK}
        )
        # Not IF NOT EXISTS: that asks for the right to make schemas where one is there.
        if not (await connection.execute(_HAS_SCHEMA, {"schema": schema})).scalar_one():
            await connection.execute(text(f'CREATE SCHEMA "{schema}"'))
        await connection.run_sync(_refuse_foreign_tables)
        if await connection.run_sync(_current) is not None:
            # Whoever comes after a lock that DDL waits for waits too, readers and sinks.
            await connection.execute(_SET_LOCK_TIMEOUT, {"seconds": f"{_LOCK_SECONDS}s"})
        with _recorded(engine, statements):
            await connection.run_sync(_upgrade)
        if dry_run:
            await transaction.rollback()
    return statements


def _tables_of(error: DBAPIError) -> list[str]:
    """Our tables that the statement names which did not get its lock."""
    words = set(re.findall(r"\w+", error.statement or ""))
    return sorted(words & set(make_metadata(PARENT_TABLES).tables))


def _in_use(tables: list[str], schema: str) -> str:
    named = " or ".join(f"{schema}.{table}" for table in tables) or "a table"
    return (
        f"{named} is in use by another session (a backup, a long query), and was not free for"
        f" {_LOCK_SECONDS} s in {_ATTEMPTS} attempts; nothing was changed. Wait for its end (see"
        " pg_stat_activity by xact_start), then run this again"
    )


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
    if _current(connection) is not None:
        return
    inspector = inspect(connection)
    for table in make_metadata().tables:
        if inspector.has_table(table):
            raise ConfigurationError(
                f"table {table} is there and was not made by oddslog: this version migrates"
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
