"""PostgreSQL: the engine, its sessions' time-outs, COPY, what the tables can hold."""

import itertools
import re
import socket
import struct
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from ..schemas.errors import ConfigurationError
from ..schemas.kill_points import reached
from ..schemas.wire import Kind
from . import sql
from .checks import ColumnLimits
from .database_url import driver_url
from .errors import CopyEncodeError, NotMigratedError
from .packed import COPY_END, COPY_START, PACKED_FIELDS

__all__ = [
    "PRE_COMMIT_STATEMENT_TIMEOUT_SECONDS",
    "TRANSACTION_TIMEOUT_SECONDS",
    "LockWaits",
    "copy_packed",
    "copy_rows",
    "make_engine",
    "read_limits",
    "savepoint",
    "takes_packed",
]

# A transaction of one poll takes a second; five minutes is far above what a slow
# disk makes of it, and below the age at which a forgotten lock becomes a problem.
TRANSACTION_TIMEOUT_SECONDS = 300
PRE_COMMIT_STATEMENT_TIMEOUT_SECONDS = 240
_LOCK_TIMEOUT_SECONDS = 30
_IDLE_IN_TRANSACTION_TIMEOUT_SECONDS = 60
_CONNECT_TIMEOUT_SECONDS = 10
_PARENT_COLUMNS = ("event_id", "bookmaker_id", "scrape_run_id", "competitor_event_id")
_HAS_TRANSACTION_TIMEOUT = 170000  # server_version_num: new in PostgreSQL 17


def make_engine(
    database_url: str, *, schema: str = "public", application_name: str = "oddslog"
) -> AsyncEngine:
    """An engine for the sink and the operator's commands. Does not connect.

    Sessions are READ COMMITTED, find the tables in `schema`, carry
    `application_name`, and have time-outs for locks, statements, idle
    transactions and (PostgreSQL 17) whole transactions.

    Raises:
        ConfigurationError: not a PostgreSQL URL, a TLS file that cannot be read, or a
            schema that is no name.
    """
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,62}", schema):
        raise ConfigurationError(f"database schema {schema!r} is not a plain name")
    url, tls = driver_url(database_url)
    engine = create_async_engine(
        url,
        isolation_level="READ COMMITTED",
        # The writer, positions, sweep, fence, watcher, letters; one spare for a slow close.
        pool_size=2,
        max_overflow=5,
        pool_pre_ping=True,
        connect_args={
            **tls,
            "timeout": _CONNECT_TIMEOUT_SECONDS,
            "server_settings": {
                "application_name": application_name,
                "search_path": schema,
                "timezone": "UTC",
                "lock_timeout": f"{_LOCK_TIMEOUT_SECONDS}s",
                "statement_timeout": f"{PRE_COMMIT_STATEMENT_TIMEOUT_SECONDS}s",
                "idle_in_transaction_session_timeout": f"{_IDLE_IN_TRANSACTION_TIMEOUT_SECONDS}s",
            },
        },
    )
    event.listen(engine.sync_engine, "connect", _keep_alive)
    event.listen(engine.sync_engine, "connect", _set_transaction_timeout)
    return engine


# A peer that has gone without a word is noticed after a minute: 30 s of silence and
# three unanswered probes, or what was sent and not acknowledged for as long.
_KEEPALIVE = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))
_USER_TIMEOUT_MS = 60_000


def _keep_alive(dbapi_connection: Any, _record: object) -> None:
    """Let the system watch the connection; not every system has every option."""
    raw = dbapi_connection.driver_connection._transport.get_extra_info("socket")  # noqa: SLF001
    if raw is None or raw.family not in (socket.AF_INET, socket.AF_INET6):
        return
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (*_KEEPALIVE, ("TCP_USER_TIMEOUT", _USER_TIMEOUT_MS)):
        if hasattr(socket, name):
            raw.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _set_transaction_timeout(dbapi_connection: Any, _record: object) -> None:
    version = dbapi_connection.driver_connection.get_server_version()
    if version.major * 10000 >= _HAS_TRANSACTION_TIMEOUT:
        cursor = dbapi_connection.cursor()
        cursor.execute(f"SET transaction_timeout = '{TRANSACTION_TIMEOUT_SECONDS}s'")
        cursor.close()
        dbapi_connection.commit()


async def _backend_pid(connection: AsyncConnection) -> int:
    """The id of the connection's process on the server."""
    raw = await connection.get_raw_connection()
    if raw.driver_connection is None:
        raise RuntimeError("the connection is closed")
    return int(raw.driver_connection.get_server_pid())


class LockWaits:
    """Which sessions of ours may wait for a zombie's locks; written by their transactions."""

    def __init__(self) -> None:
        self.pids: set[int] = set()

    @asynccontextmanager
    async def around(self, connection: AsyncConnection) -> AsyncIterator[None]:
        """Around a transaction: the ledger's rows, and unique keys that another has written."""
        pid = await _backend_pid(connection)
        self.pids.add(pid)
        try:
            yield
        finally:
            self.pids.discard(pid)


@asynccontextmanager
async def savepoint(connection: AsyncConnection) -> AsyncIterator[None]:
    """A savepoint around the block: released at its end, rolled back to on an error."""
    async with connection.begin_nested():
        yield


async def copy_rows(
    connection: AsyncConnection,
    table: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
) -> None:
    """COPY rows into a table, inside the connection's running transaction.

    Raises:
        CopyEncodeError: the driver could not encode a value.
        RuntimeError: no transaction is open; the rows would be committed at once.
    """
    driver = await _copying(connection)
    try:
        # The point comes when all rows are encoded and the server waits for the end.
        records = itertools.chain(rows, _in_copy())
        await driver.copy_records_to_table(table, records=records, columns=columns)
    except _ENCODE_ERRORS as error:
        raise CopyEncodeError(f"{table}: {type(error).__name__}: {error}") from error


async def copy_packed(
    connection: AsyncConnection, table: str, columns: Sequence[str], rows: Iterable[bytes]
) -> None:
    """COPY rows that are in PostgreSQL's binary form already; several may be in one piece.

    Raises:
        CopyEncodeError: a piece could not be made.
        RuntimeError: no transaction is open; the rows would be committed at once.
    """
    driver = await _copying(connection)
    try:
        await driver.copy_to_table(table, source=_pieces(rows), columns=columns, format="binary")
    except _ENCODE_ERRORS as error:
        raise CopyEncodeError(f"{table}: {type(error).__name__}: {error}") from error


async def takes_packed(connection: AsyncConnection, table: str, columns: Sequence[str]) -> bool:
    """Whether the columns of a market table are of the types that are packed.

    They are so until the end of the transaction: nobody may change them before. Takes
    a right to INSERT alone, as nothing is read.
    """
    driver = await _copying(connection)
    # The driver's own COPY asks in the same way; to parse it locks the table.
    asked = f"SELECT {', '.join(columns)} FROM {table} LIMIT 0"  # noqa: S608 - names of ours
    statement = await driver.prepare(asked)
    types = [attribute.type.name for attribute in statement.get_attributes()]
    return [_SAME_FORM.get(name, name) for name in types] == [_PACKED_TYPES[c] for c in columns]


# What has the same binary form.
_SAME_FORM = {"varchar": "text", "bpchar": "text"}
_PACKED_TYPES = {"snapshot_id": "int8", "captured_at": "timestamptz", **PACKED_FIELDS}
_ENCODE_ERRORS = (TypeError, ValueError, OverflowError, struct.error)
# A message of COPY. Of 64 KiB 5.3 µs a row, of 512 KiB 5.6: it matters little.
_PIECE_BYTES = 128 * 1024


async def _copying(connection: AsyncConnection) -> Any:
    raw = await connection.get_raw_connection()
    driver = raw.driver_connection
    if driver is None or not driver.is_in_transaction():
        raise RuntimeError("COPY outside a transaction would commit by itself")
    return driver


async def _pieces(rows: Iterable[bytes]) -> AsyncIterator[bytes]:
    """The rows in pieces of some size, between COPY's header and its end."""
    gathered, size = [COPY_START], 0
    for row in rows:
        gathered.append(row)
        size += len(row)
        if size >= _PIECE_BYTES:
            yield b"".join(gathered)
            gathered, size = [], 0
    gathered.append(COPY_END)
    yield b"".join(gathered)
    for _ in _in_copy():
        pass


def _in_copy() -> Iterator[Sequence[object]]:
    """No rows: a kill point in mid-COPY."""
    reached("sink.in_copy")
    yield from ()


async def read_limits(connection: AsyncConnection) -> dict[Kind, ColumnLimits]:
    """What the columns of the tables can hold, by reflection.

    Raises:
        NotMigratedError: a table is missing.
    """
    limits = {}
    for kind in Kind:
        statements = sql.snapshot_statements(kind)
        lengths = await _text_lengths(connection, statements.markets_table)
        parents = await _parents(connection, statements.snapshots_table)
        limits[kind] = ColumnLimits(lengths, parents)
    return limits


async def _text_lengths(connection: AsyncConnection, table: str) -> Mapping[str, int]:
    rows = await connection.execute(
        text(
            "SELECT attname, atttypmod - 4 AS length FROM pg_attribute"
            " WHERE attrelid = to_regclass(CAST(:table AS text)) AND attnum > 0"
            " AND NOT attisdropped"
        ),
        {"table": table},
    )
    columns = rows.all()
    if not columns:
        raise NotMigratedError(f"table {table} is not there; run: oddslog migrate")
    return {row.attname: row.length for row in columns if row.length > 0}


async def _parents(connection: AsyncConnection, table: str) -> Mapping[str, str]:
    rows = await connection.execute(
        text(
            "SELECT a.attname AS column, c.confrelid::regclass::text AS parent"
            " FROM pg_constraint AS c"
            " JOIN pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]"
            " WHERE c.conrelid = to_regclass(CAST(:table AS text)) AND c.contype = 'f'"
            " AND cardinality(c.conkey) = 1"
        ),
        {"table": table},
    )
    # Of other keys the sink would not know which value to look up.
    return {row.column: row.parent for row in rows if row.column in _PARENT_COLUMNS}
