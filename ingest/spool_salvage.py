"""Salvage: what can still be read of a damaged spool, as a new database."""

import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..schemas.kill_points import reached
from . import spool_sql as sql
from .spool_files import SpoolFiles
from .spool_sql import connect

__all__ = ["salvage"]

# Where the bounds cannot be read: so many places without a row end the search.
_MISSES = 10_000
# More than this between the bounds is damage too: 10 GiB of 1 KB are so many.
_MOST_PLACES = 10_000_000
# Python fails to decode SQLite's messages about damaged names.
_ERRORS = (sqlite3.Error, UnicodeDecodeError)


def salvage(
    files: SpoolFiles, now_microseconds: int, why: str, given: tuple[int, int] = (0, 0)
) -> Path:
    """Copy what can be read into a new database and put the damaged one aside.

    Rows keep their places. A row of which the value cannot be read becomes a
    rejected one, with what can; one line among the rejected tells of the damage.
    Until the swap the database and its log are as they were, so this may be tried again.

    Args:
        files: of the damaged spool; closed.
        now_microseconds: since 1970.
        why: what is wrong with it.
        given: of a spool that was open, the place up to which all is acknowledged,
            and the last one given out: the copy goes on behind them, whatever the
            file says. Zeros where they are not known.

    Returns:
        Where the damaged database is now.

    Raises:
        sqlite3.Error: the copy could not be written.
        OSError: the files could not be renamed.
    """
    _remove_new(files)
    target = connect(files.new)
    try:
        target.execute("BEGIN")
        _copy(files, target, now_microseconds, why, given)
        reached("ingest.before_salvage_commit")
        target.execute("COMMIT")
        # The copy is one file when it is renamed: nothing left in a log beside it.
        target.execute("PRAGMA journal_mode = DELETE")
    except BaseException:
        target.close()
        _remove_new(files)
        raise
    target.close()
    reached("ingest.before_swap")
    aside = files.swap()
    reached("ingest.after_swap")
    return aside


def _remove_new(files: SpoolFiles) -> None:
    for ending in ("", "-wal", "-shm"):
        files.new.with_name(files.new.name + ending).unlink(missing_ok=True)


def _copy(
    files: SpoolFiles, target: sqlite3.Connection, now: int, why: str, given: tuple[int, int]
) -> None:
    # Read only: the last one to close it would write its log into it and remove that.
    uri = f"{files.database.absolute().as_uri()}?mode=ro"
    source = sqlite3.connect(uri, uri=True, isolation_level=None)
    # SQLite refuses a file that is shorter than its head says, unless it is told that
    # the one who reads knows what he does. Nothing is written.
    source.execute("PRAGMA writable_schema = ON")
    source.text_factory = lambda data: data.decode("utf-8", "replace")
    try:
        for values in _rejected(source, now):
            target.execute(sql.REJECT, values)
        first, last = _copy_fragments(source, target, now, given)
    finally:
        source.close()
    reason = f"the spool's file was damaged ({why}); what could be read was kept"
    target.execute(sql.REJECT, (sql.NO_PLACE, *[None] * 8, reason, now))
    target.execute(sql.SET_BOUNDS, (first, last, *target.execute(sql.COUNTS).fetchone()))


def _copy_fragments(
    source: sqlite3.Connection, target: sqlite3.Connection, now: int, given: tuple[int, int]
) -> tuple[int, int]:
    """Place by place: one that cannot be reached hides none behind it."""
    acknowledged, last_given = given
    first, last = _range(source)
    if last_given:  # better known than from a damaged file
        first = acknowledged + 1
    seq, found, misses = first, first - 1, 0
    while seq <= last if last is not None else misses < _MISSES:
        misses += 1
        row, problem = _row(source, seq)
        if row is not None:
            found, misses = seq, 0
            if problem is None:
                target.execute(sql.INSERT, row)
            else:
                target.execute(sql.REJECT, (*row, problem, now))
        elif problem is not None and last is not None:
            target.execute(sql.REJECT, (seq, *[None] * 8, problem, now))
        seq += 1
    return first, max(found if last is None else last, last_given)


def _range(source: sqlite3.Connection) -> tuple[int, int | None]:
    """The places to look at: what the bounds say and what the table says, together."""
    first_said, last_said, *_ = _one(source, sql.BOUNDS) or (None, None)
    # One by one: the two ends of the table are in different pages.
    lowest, highest = (
        None if edge is None else edge[0]
        for edge in (_one(source, sql.LOWEST), _one(source, sql.HIGHEST))
    )
    first = min((at for at in (first_said, lowest) if isinstance(at, int)), default=1)
    last = max((at for at in (last_said, highest) if isinstance(at, int)), default=None)
    if last is None or last - first > _MOST_PLACES:
        return max(first, 1), None
    return max(first, 1), last


def _row(source: sqlite3.Connection, seq: int) -> tuple[tuple[Any, ...] | None, str | None]:
    """A row, whole or but for its value, and what is wrong with it."""
    try:
        row = source.execute(sql.READ_ONE, (seq,)).fetchone()
    except _ERRORS as error:
        problem = f"cannot be read: {error}"
    else:
        return (None, None) if row is None else (tuple(row), None)
    with suppress(*_ERRORS):
        row = source.execute(sql.READ_ONE_BUT_VALUE, (seq,)).fetchone()
        return None if row is None else tuple(row), problem
    return None, problem


def _rejected(source: sqlite3.Connection, now: int) -> Iterator[tuple[Any, ...]]:
    """The rejected rows; a line for one that cannot be read, which hides none behind it."""
    highest = _one(source, sql.HIGHEST_REJECTED)
    end = None if highest is None else highest[0] or 0
    if end is not None and end > _MOST_PLACES:
        end = None
    last = passed = 0  # places in a row that cannot be reached
    while last < end if end is not None else passed < _MISSES:
        row, problem = _next_rejected(source, last)
        if row is None and problem is None:
            break
        if row is None:
            last, passed = last + 1, passed + 1
            continue
        if passed:
            yield _unreached(last - passed + 1, last, now)
        last, passed = row[0], 0
        yield row[1:] if problem is None else (*row[1:], problem, now)
    if passed and (end is not None or last > passed):  # not where there is no table at all
        yield _unreached(last - passed + 1, last, now)


def _next_rejected(
    source: sqlite3.Connection, last: int
) -> tuple[tuple[Any, ...] | None, str | None]:
    """The next row, whole or but for its value and reason, and what is wrong with it."""
    try:
        row = source.execute(sql.READ_REJECTED, (last,)).fetchone()
    except _ERRORS as error:
        problem = f"was rejected, and its value and reason cannot be read: {error}"
    else:
        return (None, None) if row is None else (tuple(row), None)
    with suppress(*_ERRORS):
        row = source.execute(sql.READ_REJECTED_BUT_VALUE, (last,)).fetchone()
        return None if row is None else tuple(row), problem
    return None, problem


def _unreached(first: int, last: int, now: int) -> tuple[Any, ...]:
    reason = f"what was rejected with the numbers {first} to {last} cannot be read"
    return (sql.NO_PLACE, *[None] * 8, reason, now)


def _one(source: sqlite3.Connection, statement: str) -> Any:
    try:
        return source.execute(statement).fetchone()
    except _ERRORS:
        return None
