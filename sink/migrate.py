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

__all__ = [
    "VERSION_TABLE",
    "check_migrated",
    "current_revision",
    "fits",
    "head_revision",
    "migrate",
]

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
# The oldest revision whose code may use the tables: told by the newest migration.
_READ_OLDEST_CODE = text("SELECT value FROM oddslog_meta WHERE name = 'oldest_code'")
_NOTE_OLDEST_CODE = text(
    "INSERT INTO oddslog_meta (name, value) VALUES ('oldest_code', to_jsonb(CAST(:oldest AS text)))"
    " ON CONFLICT (name) DO UPDATE SET value = EXCLUDED.value, updated_at = now()"
)
_HAS_SCHEMA = text("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = :schema)")


def head_revision() -> str:
    """The newest revision of this version."""
    head = _scripts().get_current_head()
    if head is None:
        raise ConfigurationError("the migrations are not installed; install oddslog anew")
    return head


async def current_revision(connection: AsyncConnection) -> str | None:
    """The revision of a database; None where no migration ever ran."""
    return await connection.run_sync(_current)


async def fits(connection: AsyncConnection, revision: str | None) -> bool:
    """Whether this version may use tables of that revision.

    Its own, or those of a newer version that say so: then members of both are at work
    while they are replaced one by one. Needs the right to read `oddslog_meta`.
    """
    if revision is None or revision == head_revision():
        return revision is not None
    known = _known_revisions()
    # A newer one is not known here; the oldest that goes with it is, if it is not newer.
    return revision not in known and await _oldest_code(connection) in known


async def check_migrated(connection: AsyncConnection) -> None:
    """Make sure that this version may use the tables (see `fits`).

    Raises:
        NotMigratedError: they are not there, older, or too new.
    """
    revision, head = await current_revision(connection), head_revision()
    if revision is None:
        raise NotMigratedError("the database is not migrated; run: oddslog migrate")
    if revision in _known_revisions() and revision != head:
        raise NotMigratedError(
            f"the database is at revision {revision}, this version needs {head}; run:"
            " oddslog migrate"
        )
    if not await fits(connection, revision):
        raise NotMigratedError(
            f"the database is at revision {revision}, too new for this version, which needs"
            f" {head}; install the version of oddslog that migrated it"
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
        The statements that changed something, in order; none where a newer version
        migrated the database, to tables that this one may use.

    Raises:
        NotMigratedError: a newer version migrated the database, to tables that this one
            may not use.
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
        revision = await connection.run_sync(_current)
        if revision is not None and revision not in _known_revisions():
            await check_migrated(connection)
            return []
        if revision is not None:
            # Whoever comes after a lock that DDL waits for waits too, readers and sinks.
            await connection.execute(_SET_LOCK_TIMEOUT, {"seconds": f"{_LOCK_SECONDS}s"})
        with _recorded(engine, statements):
            await connection.run_sync(_upgrade)
            await _note_oldest_code(connection)
        if dry_run:
            await transaction.rollback()
    return statements


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


def _known_revisions() -> set[str]:
    return {script.revision for script in _scripts().walk_revisions()}


async def _oldest_code(connection: AsyncConnection) -> str | None:
    oldest: str | None = (await connection.execute(_READ_OLDEST_CODE)).scalar_one_or_none()
    return oldest


async def _note_oldest_code(connection: AsyncConnection) -> None:
    oldest: str = _scripts().get_revision(head_revision()).module.oldest_code
    if await _oldest_code(connection) != oldest:
        await connection.execute(_NOTE_OLDEST_CODE, {"oldest": oldest})


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
