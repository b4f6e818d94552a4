"""The sweep of waiting letters: snapshots whose parent has come by now, or never will.

The same write path as a poll's, in pages, each in one transaction that also says in
the letters what came of them. One member of the group sweeps at a time.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ..schemas.codec import decode
from ..schemas.errors import DecodeError
from ..schemas.kill_points import reached
from ..schemas.wire import Kind
from . import sql
from .checks import ColumnLimits
from .database import LockWaits
from .dead_letters import (
    DEAD,
    UNDECODABLE,
    WAITING,
    WRITTEN,
    DeadLetter,
    clean_text,
    decode_headers,
)
from .items import Items, LogRecord, items_of
from .write import Written, write_items

__all__ = ["Expiry", "SweptLetters", "sweep_waiting"]

_PAGE_LETTERS = 200
_PAGE_BYTES = 16 * 1024 * 1024
_MOST_PAGES = 50
# Those that do not name their parent (only a key knew it) are tried themselves, so
# that the write path finds out: few at a time, the longest untried first.
_TRIED_LETTERS = 20

# Any number will do: one sweep a database and schema.
_TRY_LOCK = text("SELECT pg_try_advisory_xact_lock(1868850295, hashtext(current_schema()))")
# The page by number and by bytes; at least one.
_PAGE = """
    SELECT id FROM (
        SELECT id, sum(bytes) OVER (ORDER BY {order}) - bytes AS bytes_before FROM (
            SELECT d.id, d.last_seen_at, coalesce(octet_length(d.value), 0) AS bytes
            FROM oddslog_dead_letters AS d
            WHERE d.status = 'waiting' AND ({condition})
            ORDER BY {order} LIMIT :letters
        ) AS found
    ) AS page WHERE bytes_before < :bytes
"""
# Rows that an operator's command has locked are left to it. What was mended came from
# the record that it was sent again as.
_TAKE = text(
    "SELECT id, kind, record_key, value, headers, item, appended_at,"
    " CASE WHEN mended THEN redrive_log_id ELSE log_id END AS log_id,"
    " CASE WHEN mended THEN redrive_partition ELSE log_partition END AS log_partition,"
    " CASE WHEN mended THEN redrive_offset ELSE log_offset END AS log_offset"
    " FROM oddslog_dead_letters, LATERAL (SELECT original_value IS NOT NULL"
    " AND redrive_log_id IS NOT NULL AS mended) AS m"
    " WHERE id = ANY(CAST(:ids AS bigint[])) AND status = 'waiting'"
    " ORDER BY id FOR UPDATE OF oddslog_dead_letters SKIP LOCKED"
)
_SETTLE = text(
    """
    UPDATE oddslog_dead_letters AS d
    SET status = u.status, reason = coalesce(u.reason, d.reason),
        sqlstate = CASE WHEN u.reason IS NULL THEN d.sqlstate ELSE u.sqlstate END,
        constraint_name = CASE WHEN u.reason IS NULL THEN d.constraint_name
                               ELSE u.constraint_name END,
        field = CASE WHEN u.reason IS NULL THEN d.field ELSE u.field END,
        parent_id = CASE WHEN u.reason IS NULL THEN d.parent_id ELSE u.parent_id END,
        message = coalesce(u.message, d.message),
        attempts = d.attempts + 1, last_seen_at = clock_timestamp()
    FROM unnest(
        CAST(:ids AS bigint[]), CAST(:statuses AS text[]), CAST(:reasons AS text[]),
        CAST(:sqlstates AS text[]), CAST(:constraint_names AS text[]), CAST(:fields AS text[]),
        CAST(:parent_ids AS bigint[]), CAST(:messages AS text[])
    ) AS u(id, status, reason, sqlstate, constraint_name, field, parent_id, message)
    WHERE d.id = u.id
    """
)
# Those of the log that was seen caught up, of its earlier generations, and those that came
# from no log; the parents of another log's letters may be in what is still to be read.
_EXPIRE = (
    "UPDATE oddslog_dead_letters AS d SET status = 'dead', last_seen_at = clock_timestamp()"
    " WHERE d.status = 'waiting' AND d.first_seen_at < CAST(:before AS timestamptz)"
    " AND (d.log_id IS NULL OR d.log_id IN (SELECT g.log_id FROM oddslog_logs AS g"
    " JOIN oddslog_logs AS own ON own.topic = g.topic AND own.log_id = :log_id"
    " WHERE g.log_id <= own.log_id))"
    " AND NOT coalesce({ready}, false)"
)


@dataclass(frozen=True, slots=True)
class Expiry:
    """What has waited long enough: letters of a log, first seen before a moment.

    `before` is of the database's clock, and fixed when the log was seen caught up: a
    sweep that takes minutes makes nothing older.
    """

    log_id: int
    before: datetime


@dataclass(slots=True)
class SweptLetters:
    """What a sweep came to: `refused` are dead now for another reason, `expired` for this one.

    `elsewhere`: another session holds the sweep's lock.
    """

    written: int = 0
    refused: int = 0
    expired: int = 0
    elsewhere: bool = False


async def sweep_waiting(
    engine: AsyncEngine,
    limits: Mapping[Kind, ColumnLimits],
    expiry: Expiry | None,
    *,
    store_raw: bool = True,
    stopping: Callable[[], bool] = lambda: False,
    divisor: int = 1,
    waits: LockWaits | None = None,
) -> SweptLetters:
    """Write what has its parent by now, and end the waiting of what is too old.

    Returns at once where another member sweeps. Each page is committed by itself.

    Args:
        engine: of the database.
        limits: what the tables can hold, and which parents they have.
        expiry: what has waited for its parent long enough; None: nothing expires now.
        store_raw: whether raw responses go into their rows.
        stopping: asked between pages.
        divisor: how much smaller than usual a page is.
        waits: is told which session may wait for another's locks.

    Raises:
        Whatever PostgreSQL, the driver or the network raises (see `classify`).
    """
    swept = SweptLetters()
    ready = _condition(limits)
    writing = _Writing(engine, limits, store_raw, divisor, waits or LockWaits())
    for page in range(_MOST_PAGES):
        if stopping():
            return swept
        if not await _sweep_page(writing, _ready_page(ready), swept):
            break
        if page == _MOST_PAGES - 1:
            return swept  # there is more: nothing expires before it was tried
    await _sweep_page(writing, _untold_page(limits), swept)
    if expiry is not None and not swept.elsewhere:
        swept.expired = await _expire(engine, ready, expiry)
    return swept


def _condition(limits: Mapping[Kind, ColumnLimits]) -> str:
    """Of letter `d`: the parent that it waits for is there."""
    return " OR ".join(
        [
            f"d.kind = '{kind.value}' AND d.field = '{column}'"
            f" AND EXISTS (SELECT FROM {parent} AS p WHERE p.id = d.parent_id)"
            for kind in Kind
            for column, parent in limits[kind].parents.items()
        ]
        or ["false"]
    )


def _ready_page(ready: str) -> tuple[TextClause, int]:
    return text(_PAGE.format(condition=ready, order="id")), _PAGE_LETTERS


def _untold_page(limits: Mapping[Kind, ColumnLimits]) -> tuple[TextClause, int]:
    """Those whose parent cannot be looked up: not told, or its key is no longer there."""
    told = " OR ".join(
        [
            f"d.kind = '{kind.value}' AND d.field = '{column}'"
            for kind in Kind
            for column in limits[kind].parents
        ]
        or ["false"]
    )
    untold = f"d.parent_id IS NULL OR NOT coalesce({told}, false)"
    return text(_PAGE.format(condition=untold, order="last_seen_at, id")), _TRIED_LETTERS


async def _expire(engine: AsyncEngine, ready: str, expiry: Expiry) -> int:
    async with engine.connect() as connection:
        async with connection.begin():
            if not (await connection.execute(_TRY_LOCK)).scalar_one():
                return 0
            # A parent that came a moment ago counts.
            expired = await connection.execute(
                text(_EXPIRE.format(ready=ready)),
                {"log_id": expiry.log_id, "before": expiry.before},
            )
            reached("sink.before_expiry_commit")
        reached("sink.after_expiry_commit")
    return expired.rowcount


@dataclass(frozen=True, slots=True)
class _Writing:
    """How the pages of one sweep are written."""

    engine: AsyncEngine
    limits: Mapping[Kind, ColumnLimits]
    store_raw: bool
    divisor: int
    waits: LockWaits

    def most(self, letters: int) -> dict[str, int]:
        """What a page may hold, which at its full size has so many letters."""
        return {
            "letters": max(1, letters // self.divisor),
            "bytes": max(1, _PAGE_BYTES // self.divisor),
        }


async def _sweep_page(writing: _Writing, page: tuple[TextClause, int], swept: SweptLetters) -> bool:
    """Write one page in one transaction; whether there was any."""
    async with writing.engine.connect() as connection:
        async with connection.begin():
            async with writing.waits.around(connection):
                counted = await _write_page(connection, writing, page)
            reached("sink.before_letters_commit")
        reached("sink.after_letters_commit")
    if counted is None:
        swept.elsewhere = True
        return False
    swept.written += counted.written
    swept.refused += counted.refused
    return counted.taken > 0


async def _write_page(
    connection: AsyncConnection, writing: _Writing, page: tuple[TextClause, int]
) -> "_Counted | None":
    """Write one page; None where another session holds the sweep's lock."""
    statement, letters = page
    if not (await connection.execute(_TRY_LOCK)).scalar_one():
        return None
    await connection.execute(sql.SET_CONSTRAINTS_IMMEDIATE)
    found = await connection.execute(statement, writing.most(letters))
    rows = (await connection.execute(_TAKE, {"ids": [row.id for row in found]})).all()
    by_log: dict[int | None, list[Any]] = {}
    for row in rows:
        by_log.setdefault(row.log_id, []).append(row)
    counted = _Counted(len(rows))
    for log_id, of_one_log in by_log.items():
        await _write(connection, log_id, of_one_log, writing.limits, counted, writing.store_raw)
    return counted


@dataclass(slots=True)
class _Counted:
    """What one page came to."""

    taken: int
    written: int = 0
    refused: int = 0


async def _write(
    connection: AsyncConnection,
    log_id: int | None,
    rows: Sequence[Any],
    limits: Mapping[Kind, ColumnLimits],
    counted: _Counted,
    store_raw: bool,
) -> None:
    """Write the letters of one log and settle them."""
    records = {row.id: _record(row) for row in rows}
    items = Items()
    for row in rows:
        for snapshot in items_of([records[row.id]]).snapshots:
            snapshot.item = row.item  # its number in the record that it came from
            items.snapshots.append(snapshot)
    written = await write_items(connection, log_id, items, limits, store_raw=store_raw)
    outcomes = _outcomes(records, written)
    counted.written += sum(1 for status, _ in outcomes.values() if status == WRITTEN)
    counted.refused += sum(1 for status, _ in outcomes.values() if status == DEAD)
    reasons = [letter for _, letter in outcomes.values()]
    await connection.execute(
        _SETTLE,
        {
            "ids": list(outcomes),
            "statuses": [status for status, _ in outcomes.values()],
            "reasons": [None if why is None else why.reason for why in reasons],
            "sqlstates": [None if why is None else why.sqlstate for why in reasons],
            "constraint_names": [
                None if why is None else clean_text(why.constraint_name) for why in reasons
            ],
            "fields": [None if why is None else clean_text(why.field) for why in reasons],
            "parent_ids": [None if why is None else why.parent_id for why in reasons],
            "messages": [None if why is None else clean_text(why.message) for why in reasons],
        },
    )


def _outcomes(
    records: Mapping[int, LogRecord], written: Written
) -> dict[int, tuple[str, DeadLetter | None]]:
    """Each letter's status now, with its new reason where it has one."""
    done = {id(snapshot.record) for snapshot in (*written.inserted, *written.duplicates)}
    refused = {id(letter.record): letter for letter in written.letters}
    outcomes: dict[int, tuple[str, DeadLetter | None]] = {}
    for number, record in records.items():
        if id(record) in done:
            outcomes[number] = (WRITTEN, None)
        elif letter := refused.get(id(record)):
            outcomes[number] = (letter.status, letter)
        elif record.error is not None:
            outcomes[number] = (DEAD, _undecodable(record))
        else:  # not a snapshot: nothing of the sink writes such
            outcomes[number] = (WAITING, None)
    return outcomes


def _undecodable(record: LogRecord) -> DeadLetter:
    message = f"the letter's own value {record.error}"
    return DeadLetter(record, 0, DEAD, UNDECODABLE, message, record.value)


def _record(row: Any) -> LogRecord:
    """The letter as the record that it came from, with what it holds."""
    made = LogRecord(
        row.log_partition,
        row.log_offset,
        row.record_key,
        row.value,
        decode_headers(row.headers),
        row.appended_at,
    )
    try:
        # The headers are the whole record's: its checksum is not this value's.
        made.fragment = decode(row.value or b"")
    except DecodeError as error:
        made.error = str(error)
    return made
