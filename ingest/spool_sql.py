"""SQLite for the spool: its tables, its statements, its errors told apart by code.

`locking_mode` stays normal: the lock file keeps other writers out, and a reader may
look while the queue runs.
"""

# ruff: noqa: S608 - put together from constants of this module alone

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ..schemas.errors import ConfigurationError
from .spool_errors import SpoolError, SpoolFullError

__all__ = [
    "BOUNDS",
    "COUNTS",
    "COUNTS_UP_TO",
    "DELETE_ONE",
    "DELETE_UP_TO",
    "EMPTY_REJECTED",
    "FORGET_EMPTIED",
    "HAS_REASON",
    "HIGHEST",
    "HIGHEST_REJECTED",
    "INSERT",
    "LOWEST",
    "NO_PLACE",
    "OLDEST",
    "READ_AFTER",
    "READ_ALL_REJECTED",
    "READ_ONE",
    "READ_ONE_BUT_VALUE",
    "READ_REJECTED",
    "READ_REJECTED_BUT_VALUE",
    "REJECT",
    "REJECTED_COUNTS",
    "REJECTED_SEQS",
    "REMOVE_REJECTED",
    "SET_BOUNDS",
    "DamagedError",
    "connect",
    "connect_read_only",
    "give_back",
    "is_corrupt",
    "make_tables",
    "spool_errors",
]

_FORMAT: Final = 1
_APPLICATION_ID: Final = 0x6F64646C  # "oddl"
# A fragment takes 50 to 100 KB: chains of 4 KB pages would be four times as long.
_PAGE_BYTES: Final = 16 * 1024
# Free pages of the file that are worth giving back to the system: 64 MiB.
_VACUUM_PAGES: Final = 4096

_COLUMNS = "seq, batch_id, kind, event_id, key, headers, spooled_at, crc32, value"
# The value comes last, so that the other columns are read without it. Places in the
# order have no holes but those of rejected rows: a row that vanished is noticed.
_TABLES = """
CREATE TABLE fragments (
    seq INTEGER PRIMARY KEY,
    batch_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    event_id INTEGER,
    key BLOB NOT NULL,
    headers TEXT NOT NULL,
    spooled_at INTEGER NOT NULL,
    crc32 INTEGER NOT NULL,
    value BLOB NOT NULL
) STRICT;
CREATE TABLE rejected (
    id INTEGER PRIMARY KEY,
    seq INTEGER NOT NULL,
    batch_id TEXT,
    kind TEXT,
    event_id INTEGER,
    key BLOB,
    headers TEXT,
    spooled_at INTEGER,
    crc32 INTEGER,
    value BLOB,
    reason TEXT NOT NULL,
    rejected_at INTEGER NOT NULL
) STRICT;
CREATE INDEX rejected_seq ON rejected (seq);
CREATE TABLE bounds (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    first_seq INTEGER NOT NULL,
    last_seq INTEGER NOT NULL,
    fragments INTEGER NOT NULL,
    bytes INTEGER NOT NULL
) STRICT;
INSERT INTO bounds VALUES (1, 1, 0, 0, 0);
"""

INSERT = f"INSERT INTO fragments ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
READ_AFTER = f"SELECT {_COLUMNS} FROM fragments WHERE seq > ? ORDER BY seq"
READ_ONE = f"SELECT {_COLUMNS} FROM fragments WHERE seq = ?"
READ_ONE_BUT_VALUE = (
    "SELECT seq, batch_id, kind, event_id, key, headers, spooled_at, crc32, NULL"
    " FROM fragments WHERE seq = ?"
)
DELETE_ONE = "DELETE FROM fragments WHERE seq = ?"
DELETE_UP_TO = "DELETE FROM fragments WHERE seq <= ?"
REJECT = (
    f"INSERT INTO rejected ({_COLUMNS}, reason, rejected_at)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
# The place of a line that is no fragment: none, or it would stand for one that is gone.
NO_PLACE: Final = 0
# A row that was removed, and whose place is still inside, has no reason any more.
READ_ALL_REJECTED = (
    f"SELECT id, {_COLUMNS}, reason, rejected_at FROM rejected WHERE reason <> '' ORDER BY id"
)
READ_REJECTED = (
    f"SELECT id, {_COLUMNS}, reason, rejected_at FROM rejected WHERE id > ? ORDER BY id LIMIT 1"
)
READ_REJECTED_BUT_VALUE = (
    "SELECT id, seq, batch_id, kind, event_id, key, headers, spooled_at, crc32, NULL"
    " FROM rejected WHERE id > ? ORDER BY id LIMIT 1"
)
HIGHEST_REJECTED = "SELECT max(id) FROM rejected"
REMOVE_REJECTED = "DELETE FROM rejected WHERE id <= ? AND seq < ?"
EMPTY_REJECTED = (
    "UPDATE rejected SET batch_id = NULL, kind = NULL, event_id = NULL, key = NULL,"
    " headers = NULL, spooled_at = NULL, crc32 = NULL, value = NULL, reason = '' WHERE id <= ?"
)
FORGET_EMPTIED = "DELETE FROM rejected WHERE seq <= ? AND reason = ''"
REJECTED_SEQS = "SELECT count(DISTINCT seq) FROM rejected WHERE seq BETWEEN ? AND ?"
HAS_REASON = "SELECT count(*) FROM rejected WHERE reason = ?"
LOWEST = "SELECT min(seq) FROM fragments"
HIGHEST = "SELECT max(seq) FROM fragments"
# The bounds of what is inside, committed with it; counting a full spool takes long.
BOUNDS = "SELECT first_seq, last_seq, fragments, bytes FROM bounds"
SET_BOUNDS = "UPDATE bounds SET first_seq = ?, last_seq = ?, fragments = ?, bytes = ?"
_SIZE = "coalesce(sum(length(key) + length(headers) + length(value)), 0)"
COUNTS = f"SELECT count(*), {_SIZE} FROM fragments"
COUNTS_UP_TO = f"{COUNTS} WHERE seq <= ?"
OLDEST = "SELECT spooled_at FROM fragments ORDER BY seq LIMIT 1"
REJECTED_COUNTS = (
    "SELECT count(*), coalesce(sum(coalesce(length(key), 0) + coalesce(length(headers), 0)"
    " + coalesce(length(value), 0)), 0) FROM rejected WHERE reason <> ''"
)


# Our statements are right for our tables: what SQLite finds wrong with them
# (SQLITE_ERROR), or a place taken twice, is damage too.
_DAMAGE: Final = (
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_TOOBIG,
)


class DamagedError(Exception):
    """SQLite found its file damaged; what can be read is to be salvaged."""


def connect(path: Path) -> sqlite3.Connection:
    """Open a spool's database to write, making it where it is missing.

    The connection belongs to the thread that calls. Transactions are begun by hand.

    Raises:
        sqlite3.Error: as `spool_errors` tells apart.
        DamagedError: its head forbids to write, and its file does not.
        ConfigurationError: the database is of another format.
    """
    connection = sqlite3.connect(path, isolation_level=None, timeout=5.0)
    connection.text_factory = _text
    try:
        connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        # macOS: an fsync alone leaves the bytes in the disk's own cache.
        connection.execute("PRAGMA fullfsync = ON")
        _check_format(connection, path, make=True)
        _check_writable(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def connect_read_only(path: Path) -> sqlite3.Connection:
    """Open a spool's database to look at it; it is not changed, whatever is found.

    Raises:
        sqlite3.Error: as `spool_errors` tells apart.
        ConfigurationError: the database is of another format.
    """
    uri = f"{path.absolute().as_uri()}?mode=ro"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=5.0)
    connection.text_factory = _text
    try:
        _check_format(connection, path, make=False)
    except BaseException:
        connection.close()
        raise
    return connection


def make_tables(connection: sqlite3.Connection) -> None:
    """Make the tables of an empty database."""
    connection.executescript(
        f"BEGIN; {_TABLES} PRAGMA application_id = {_APPLICATION_ID};"
        f" PRAGMA user_version = {_FORMAT}; COMMIT;"
    )


def give_back(connection: sqlite3.Connection) -> None:
    """Give the file's free pages back to the system, where they are worth it.

    Of an empty spool: a VACUUM copies what is left, which is next to nothing.
    (The pages of a large spool one by one, by auto_vacuum, would take minutes.)
    """
    if connection.execute("PRAGMA freelist_count").fetchone()[0] > _VACUUM_PAGES:
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def is_corrupt(error: sqlite3.Error) -> bool:
    """Whether SQLite says that its file is damaged."""
    return _code(error) in _DAMAGE


@contextmanager
def spool_errors(directory: Path) -> Iterator[None]:
    """SQLite's errors as ours, told apart by code.

    Raises:
        DamagedError: the file is damaged.
        SpoolFullError: the disk is full.
        SpoolError: anything else.
    """
    try:
        yield
    except UnicodeDecodeError as error:  # of a message about damaged names
        raise DamagedError("the names in it are damaged") from error
    except sqlite3.Error as error:
        if is_corrupt(error):
            raise DamagedError(str(error)) from error
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        if _code(error) == sqlite3.SQLITE_FULL:
            raise SpoolFullError(
                f"the disk of the spool in {directory} is full ({name}); make room on it:"
                " what is inside stays, and goes to Kafka as it can"
            ) from error
        raise SpoolError(f"the spool in {directory} cannot be used ({name}): {error}") from error


def _check_format(connection: sqlite3.Connection, path: Path, *, make: bool) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if make and not version and not tables:
        make_tables(connection)
    elif version != _FORMAT:
        raise ConfigurationError(
            f"{path} is a spool of format {version}, and this version of oddslog reads"
            f" format {_FORMAT}; drain it with the version that wrote it"
        )


def _check_writable(connection: sqlite3.Connection, path: Path) -> None:
    """A bit of the file's head can tell SQLite never to write; only a write shows it."""
    try:
        connection.execute("DELETE FROM fragments WHERE false")  # BEGIN IMMEDIATE would not
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_READONLY:
            raise
        if os.access(path, os.W_OK):  # else the first write tells, as ever
            raise DamagedError("its head says that it may only be read") from error


def _text(data: bytes) -> str:
    """Damaged text is no error of SQLite's: the row's CRC-32 tells."""
    return data.decode("utf-8", "replace")


def _code(error: sqlite3.Error) -> int:
    """The primary result code: the low byte of the extended one."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF
