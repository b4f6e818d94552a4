"""PostgreSQL, asked for all that the sink needs of it. Nothing is changed."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from ...schemas.errors import UnreachableError
from ...schemas.wire import Kind
from ...sink.database import read_limits
from ...sink.database_url import masked_url
from ...sink.ledger import read_rows
from ...sink.migrate import VERSION_TABLE, current_revision, fits, head_revision
from ...sink.positions import LedgerRow
from ...sink.tables import PARENT_TABLES, make_metadata
from ..database import asking, open_engine
from ..queries import KnownLog, known_logs
from ..settings import Settings, variable

__all__ = ["RIGHTS", "DatabaseFacts", "SequenceFacts", "ask_database"]

_SECONDS = 20.0
RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE")
_SETTINGS = (
    "fsync",
    "full_page_writes",
    "transaction_read_only",
    "max_connections",
    "superuser_reserved_connections",
    "reserved_connections",
)
# Each name in the words of `current_setting`; what a version does not have is null.
_READ_SETTINGS = text(
    "SELECT " + ", ".join(f"current_setting('{name}', true) AS {name}" for name in _SETTINGS)
)
_SERVER = text(
    "SELECT current_setting('server_version_num')::int AS version_number,"
    " current_setting('server_version') AS version, pg_is_in_recovery() AS in_recovery,"
    " current_user AS role, r.rolsuper AS superuser, r.rolconnlimit AS role_limit,"
    " (SELECT count(*) FROM pg_stat_activity WHERE usesysid = r.oid) AS role_used,"
    " d.datconnlimit AS database_limit, s.numbackends AS database_used,"
    # Of every user, which pg_stat_activity shows only to a superuser in full.
    " (SELECT sum(numbackends) FROM pg_stat_database) AS used"
    " FROM pg_roles AS r, pg_database AS d JOIN pg_stat_database AS s ON s.datid = d.oid"
    " WHERE r.rolname = current_user AND d.datname = current_database()"
)
_CLOCK = text("SELECT clock_timestamp()")
_SCHEMA = text(
    "SELECT has_schema_privilege(oid, 'USAGE') AS usage FROM pg_namespace WHERE nspname = :schema"
)
_TABLES = text(
    "SELECT t.name, has_table_privilege(c.oid, 'SELECT') AS select,"
    " has_table_privilege(c.oid, 'INSERT') AS insert,"
    " has_table_privilege(c.oid, 'UPDATE') AS update,"
    " has_table_privilege(c.oid, 'DELETE') AS delete"
    " FROM unnest(CAST(:names AS text[])) AS t(name)"
    " JOIN pg_namespace AS n ON n.nspname = :schema"
    " JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = t.name"
    " AND c.relkind IN ('r', 'p', 'v', 'f')"
)
_SEQUENCES = text(
    "SELECT t.relname AS table_name, a.attname AS column_name, s.relname AS name,"
    " d.deptype = 'i' AS identity, has_sequence_privilege(s.oid, 'USAGE') AS usage,"
    " has_sequence_privilege(s.oid, 'SELECT') AS readable, q.last_value, q.start_value"
    " FROM pg_depend AS d"
    " JOIN pg_class AS s ON s.oid = d.objid AND s.relkind = 'S'"
    " JOIN pg_class AS t ON t.oid = d.refobjid"
    " JOIN pg_namespace AS n ON n.oid = s.relnamespace AND n.nspname = :schema"
    " JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid"
    " JOIN pg_sequences AS q ON q.schemaname = n.nspname AND q.sequencename = s.relname"
    " WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass"
    " AND d.deptype IN ('a', 'i') AND t.relname = ANY(CAST(:names AS text[]))"
    " ORDER BY t.relname, a.attname"
)


# Only a sink of their own topic lets them expire.
_OVERDUE = text(
    "SELECT g.topic, count(*) AS letters FROM oddslog_dead_letters AS d"
    " JOIN oddslog_logs AS g ON g.log_id = d.log_id"
    " WHERE d.status = 'waiting' AND g.topic <> :topic"
    " AND d.first_seen_at < now() - make_interval(secs => :seconds)"
    " GROUP BY g.topic ORDER BY g.topic"
)


@dataclass(frozen=True, slots=True)
class SequenceFacts:
    """A sequence that gives ids to a table.

    Attributes:
        next_value: that it gives next; None where it may not be read.
        max_id: the highest in the table; None where it is empty or may not be read.
        usable: whether ids can be drawn.
    """

    name: str
    table: str
    column: str
    next_value: int | None
    max_id: int | None
    usable: bool


@dataclass(frozen=True)
class DatabaseFacts:
    """What PostgreSQL said.

    Attributes:
        place: the URL without password.
        clock_ahead_seconds: how far its clock is ahead of ours.
        clock_unsure_seconds: how far that may be wrong: the time the question took.
        settings: by name, as PostgreSQL says them.
        connections_free: how many more this role can have in this database.
        schema_usage: None where the schema is not there.
        revision: None where nothing was migrated, or it may not be read.
        fits: whether this version may use tables of that revision.
        rights: of each table that is there.
        missing: tables of ours that are not.
        parents: which of the scraper's tables are there.
        parent_keys: the table that a column refers to, of both kinds of snapshots.
        logs: known to the database, with their ledger rows.
        ledger: the rows by log id.
        overdue: how many letters of another topic than the configured one wait, by topic,
            that came longer ago than a letter has to wait.
    """

    place: str
    version_number: int
    version: str
    role: str
    superuser: bool
    in_recovery: bool
    clock_ahead_seconds: float
    clock_unsure_seconds: float
    settings: Mapping[str, str | None]
    connections_free: int
    schema: str
    schema_usage: bool | None
    head: str
    revision: str | None = None
    fits: bool = False
    rights: Mapping[str, frozenset[str]] = field(default_factory=dict)
    missing: frozenset[str] = frozenset()
    sequences: Sequence[SequenceFacts] = ()
    parents: frozenset[str] = frozenset()
    parent_keys: Mapping[str, str] = field(default_factory=dict)
    logs: Sequence[KnownLog] = ()
    ledger: Mapping[int, Mapping[int, LedgerRow]] = field(default_factory=dict)
    overdue: Mapping[str, int] = field(default_factory=dict)

    @property
    def migrated(self) -> bool:
        """Whether the tables are those of this version."""
        return self.fits and not self.missing


async def ask_database(settings: Settings) -> DatabaseFacts:
    """Ask once, for at most 20 s.

    Raises:
        UnreachableError: PostgreSQL does not answer, or not in time.
        ConfigurationError: it refuses the user, or has no such database.
    """
    url = settings.require_database_url()
    try:
        async with open_engine(settings, "doctor") as engine:
            with asking(engine):
                async with asyncio.timeout(_SECONDS), engine.connect() as connection:
                    # Each statement by itself: one that is refused spoils no other.
                    await connection.execution_options(isolation_level="AUTOCOMMIT")
                    return await _ask(connection, settings, masked_url(url))
    except TimeoutError as error:
        raise UnreachableError(
            f"PostgreSQL at {masked_url(url)} does not answer (no answer in time): start it, or"
            f" mend {variable('database_url')}"
        ) from error


async def _ask(connection: AsyncConnection, settings: Settings, place: str) -> DatabaseFacts:
    schema = settings.database_schema
    clock = await _clock(connection)
    server = (await connection.execute(_SERVER)).one()
    found = (await connection.execute(_READ_SETTINGS)).one()
    configured = {name: getattr(found, name) for name in _SETTINGS}
    usage = (await connection.execute(_SCHEMA, {"schema": schema})).scalar_one_or_none()
    about: dict[str, Any] = {}
    if usage:
        about = await _tables(connection, schema)
    if "SELECT" in about.get("rights", {}).get("oddslog_dead_letters", ()) and about.get("logs"):
        about["overdue"] = await _overdue(connection, settings)
    return DatabaseFacts(
        place,
        server.version_number,
        server.version,
        server.role,
        server.superuser,
        server.in_recovery,
        *clock,
        configured,
        _free(server, configured),
        schema,
        usage,
        head_revision(),
        **about,
    )


async def _overdue(connection: AsyncConnection, settings: Settings) -> dict[str, int]:
    names = {"topic": settings.topic, "seconds": settings.parent_wait_seconds}
    return {row.topic: row.letters for row in await connection.execute(_OVERDUE, names)}


async def _clock(connection: AsyncConnection) -> tuple[float, float]:
    """How far the server's clock is ahead, by half of the time that the question took."""
    await connection.execute(_CLOCK)  # the first one prepares the statement
    before = datetime.now(UTC)
    theirs = (await connection.execute(_CLOCK)).scalar_one()
    after = datetime.now(UTC)
    half = (after - before) / 2
    return (theirs - (before + half)).total_seconds(), half.total_seconds()


def _free(server: Any, configured: Mapping[str, str | None]) -> int:
    reserved = 0
    if not server.superuser:
        reserved += int(configured["superuser_reserved_connections"] or 0)
        reserved += int(configured["reserved_connections"] or 0)
    free = [int(configured["max_connections"] or 0) - reserved - int(server.used)]
    if server.role_limit >= 0 and not server.superuser:
        free.append(server.role_limit - server.role_used)
    if server.database_limit >= 0 and not server.superuser:
        free.append(server.database_limit - server.database_used)
    return min(free)


async def _tables(connection: AsyncConnection, schema: str) -> dict[str, Any]:
    own = [*make_metadata().tables, VERSION_TABLE]
    names = {"schema": schema, "names": [*own, *PARENT_TABLES]}
    rows = (await connection.execute(_TABLES, names)).all()
    rights = {
        row.name: frozenset(right for right in RIGHTS if getattr(row, right.lower()))
        for row in rows
    }
    revision = None
    if "SELECT" in rights.get(VERSION_TABLE, ()):
        revision = await current_revision(connection)
    fitting = revision == head_revision()
    if not fitting and "SELECT" in rights.get("oddslog_meta", ()):
        fitting = await fits(connection, revision)
    about: dict[str, Any] = {
        "revision": revision,
        "fits": fitting,
        "rights": rights,
        "missing": frozenset(set(own) - set(rights)),
        "parents": frozenset(set(PARENT_TABLES) & set(rights)),
        "sequences": await _sequences(connection, schema, own, rights),
    }
    if fitting and set(own) <= set(rights):
        limits = await read_limits(connection)
        about["parent_keys"] = {**limits[Kind.BETPAWA].parents, **limits[Kind.COMPETITOR].parents}
        if all("SELECT" in rights.get(f"oddslog_{name}", ()) for name in ("logs", "ledger")):
            about["logs"] = await known_logs(connection)
            about["ledger"] = {
                log.log_id: await read_rows(connection, log.log_id) for log in about["logs"]
            }
    return about


async def _sequences(
    connection: AsyncConnection, schema: str, tables: Sequence[str], rights: Mapping[str, Any]
) -> list[SequenceFacts]:
    names = {"schema": schema, "names": list(tables)}
    found = []
    for row in (await connection.execute(_SEQUENCES, names)).all():
        max_id = None
        if "SELECT" in rights[row.table_name]:
            highest = text(f'SELECT max("{row.column_name}") FROM "{row.table_name}"')  # noqa: S608
            max_id = (await connection.execute(highest)).scalar_one()
        found.append(
            SequenceFacts(
                row.name,
                row.table_name,
                row.column_name,
                await _next_value(connection, row),
                max_id,
                row.usage or row.identity,  # an identity's needs no right of its own
            )
        )
    return found


async def _next_value(connection: AsyncConnection, row: Any) -> int | None:
    if row.readable:
        read = text(f'SELECT last_value, is_called FROM "{row.name}"')  # noqa: S608
        state = (await connection.execute(read)).one()
        return int(state.last_value) + (1 if state.is_called else 0)
    if not row.usage:
        return None
    return int(row.start_value if row.last_value is None else row.last_value + 1)
