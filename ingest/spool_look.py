"""Looking at a spool from outside: nothing is changed, and a queue may be using it.

Everything here blocks on the disk: for commands, not for event loops.
"""

import base64
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..schemas.codec import decode
from ..schemas.errors import ConfigurationError, DecodeError
from . import spool_sql as sql
from .spool_files import SpoolFiles, SpoolLock
from .spool_rows import Bounds, RejectedRow, SpooledRow, header_pairs, row_problem

__all__ = ["SpoolCheck", "SpoolStatus", "check_spool", "export_lines", "look_at_spool"]


@dataclass(frozen=True, slots=True)
class SpoolStatus:
    """A spool at a glance.

    Attributes:
        in_use: whether a queue or a command has it; None where that was not asked.
        fragments: that wait to be sent.
        bytes: of those.
        oldest_at: when the first of them came.
        rejected: rows that will never be sent.
        rejected_bytes: of those.
        reasons: why, with how many of each.
        file_bytes: what the folder takes on the disk.
        damaged_files: what was put aside because it could not be read whole.
    """

    in_use: bool | None
    fragments: int
    bytes: int
    oldest_at: datetime | None
    rejected: int
    rejected_bytes: int
    reasons: dict[str, int]
    file_bytes: int
    damaged_files: list[str]


@dataclass(frozen=True, slots=True)
class SpoolCheck:
    """What a check found.

    Attributes:
        fragments: that were checked.
        snapshots: in those that are whole.
        problems: one line each; empty where all is well.
    """

    fragments: int
    snapshots: int
    problems: list[str]


def look_at_spool(directory: Path, *, ask_lock: bool = True) -> SpoolStatus:
    """Count what is inside.

    Args:
        directory: the spool's.
        ask_lock: say whether it is in use, which holds its lock for an instant.

    Raises:
        ConfigurationError: there is no spool, or it cannot be read.
    """
    files = SpoolFiles(directory)
    with _opened(files) as connection:
        fragments, size_bytes = connection.execute(sql.COUNTS).fetchone()
        rejected, rejected_bytes = connection.execute(sql.REJECTED_COUNTS).fetchone()
        oldest = connection.execute(sql.OLDEST).fetchone()
        reasons: dict[str, int] = {}
        for row in _rejected(connection):
            reasons[row.reason] = reasons.get(row.reason, 0) + 1
    return SpoolStatus(
        in_use=SpoolLock(files).taken() if ask_lock else None,
        fragments=fragments,
        bytes=size_bytes,
        oldest_at=None if oldest is None else _moment(oldest[0]),
        rejected=rejected,
        rejected_bytes=rejected_bytes,
        reasons=reasons,
        file_bytes=sum(path.stat().st_size for path in directory.iterdir() if path.is_file()),
        damaged_files=[path.name for path in files.damaged()],
    )


def check_spool(directory: Path) -> SpoolCheck:
    """Check the file, the CRC-32 of every fragment, and that each can be decoded.

    Raises:
        ConfigurationError: there is no spool, or it cannot be read at all.
    """
    with _opened(SpoolFiles(directory)) as connection:
        # One transaction: a queue that drains meanwhile changes nothing here.
        connection.execute("BEGIN")
        problems = [
            f"the file: {line}"
            for (line,) in connection.execute("PRAGMA integrity_check")
            if line != "ok"
        ]
        fragments = snapshots = 0
        try:
            for row in _fragments(connection):
                fragments += 1
                problem, count = _checked(row)
                snapshots += count
                if problem is not None:
                    problems.append(f"the fragment at place {row.seq} {problem}")
            problems += _missing(connection, fragments)
        except sqlite3.Error as error:
            problems.append(f"the file cannot be read behind {fragments} fragments: {error}")
    return SpoolCheck(fragments, snapshots, problems)


def export_lines(directory: Path, *, everything: bool) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rejected rows, and with `everything` the waiting ones behind them, for JSON lines.

    Yields:
        The id of a rejected row (0 for waiting ones), and its fields; the value and
        the key are in base64.

    Raises:
        ConfigurationError: there is no spool, or it cannot be read.
    """
    with _opened(SpoolFiles(directory)) as connection:
        connection.execute("BEGIN")
        for row in _rejected(connection):
            about = {"reason": row.reason, "rejected_at": _text(row.rejected_at)}
            yield row.id, {"state": "rejected", **_fields(row), **about}
        if everything:
            for waiting in _fragments(connection):
                yield 0, {"state": "waiting", **_fields(waiting)}


@contextmanager
def _opened(files: SpoolFiles) -> Iterator[sqlite3.Connection]:
    if not files.database.exists():
        raise ConfigurationError(f"there is no spool in {files.directory}")
    try:
        with closing(sql.connect_read_only(files.database)) as connection:
            yield connection
    except (sqlite3.Error, UnicodeDecodeError) as error:
        hint = "; a queue that opens it salvages what can be read"
        name = getattr(error, "sqlite_errorname", "damaged")
        raise ConfigurationError(
            f"the spool in {files.directory} cannot be read ({name}): {error}"
            f"{hint if not isinstance(error, sqlite3.Error) or sql.is_corrupt(error) else ''}"
        ) from error


def _fragments(connection: sqlite3.Connection) -> Iterator[SpooledRow]:
    for values in connection.execute(sql.READ_AFTER, (0,)):
        yield SpooledRow(*values)


def _rejected(connection: sqlite3.Connection) -> Iterator[RejectedRow]:
    for values in connection.execute(sql.READ_ALL_REJECTED):
        yield RejectedRow(*values)


def _checked(row: SpooledRow) -> tuple[str | None, int]:
    """What is wrong with a row, and how many snapshots it has where nothing is."""
    problem = row_problem(row)
    if problem is not None:
        return problem, 0
    try:
        return None, len(decode(row.value).snapshots)
    except DecodeError as error:
        return str(error), 0


def _missing(connection: sqlite3.Connection, fragments: int) -> list[str]:
    bounds = Bounds(*connection.execute(sql.BOUNDS).fetchone())
    if fragments == bounds.fragments:
        return []
    return [f"{bounds.fragments} fragments should be inside, and {fragments} are"]


def _fields(row: SpooledRow | RejectedRow) -> dict[str, Any]:
    return {
        "place": row.seq,
        "batch_id": row.batch_id,
        "kind": row.kind,
        "event_id": row.event_id,
        "key": _base64(row.key),
        "headers": _headers(row.headers),
        "spooled_at": _text(row.spooled_at),
        "value": _base64(row.value),
    }


def _headers(text: str | None) -> dict[str, str] | str | None:
    """By name; as it is where it is damaged."""
    if text is None:
        return None
    try:
        return {name: value.decode("latin-1") for name, value in header_pairs(text)}
    except (ValueError, TypeError, AttributeError):
        return text


def _base64(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def _text(microseconds: int | None) -> str | None:
    moment = None if microseconds is None else _moment(microseconds)
    return None if moment is None else moment.isoformat()


def _moment(microseconds: int) -> datetime | None:
    """None where damage has made a time of it that there is not."""
    try:
        return datetime.fromtimestamp(microseconds / 1_000_000, UTC)
    except (ValueError, OverflowError, OSError):
        return None
