"""Would a dead letter be written now? The real write path says so, and is rolled back.

And for letters that came from no log (`handle_write_batch`), which nobody would read
from a topic: the same, committed, together with what it makes of the letter.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ..schemas.wire import Kind
from . import sql
from .checks import ColumnLimits
from .dead_letters import DeadLetter, clean_text, letter_for_record
from .items import Items, LogRecord, decode_record, items_of
from .write import write_items

__all__ = ["record_to_try", "rehearse", "write_directly"]

_LOCK = text(
    "SELECT id FROM oddslog_dead_letters WHERE id = :id AND log_id IS NULL"
    " AND status = ANY(CAST(:statuses AS text[])) FOR UPDATE"
)
_MARK = text(
    """
    UPDATE oddslog_dead_letters AS d
    SET status = 'redriven', attempts = d.attempts + 1, last_seen_at = now(),
        redrives_sent = d.redrives_sent + 1, redrives_seen = d.redrives_sent + 1,
        original_value = coalesce(d.original_value, nullif(d.value, CAST(:value AS bytea))),
        value = :value, handled_by = :by, handled_at = :at, handled_why = :why
    WHERE d.id = :id
    """
)


def record_to_try(value: bytes | None) -> LogRecord:
    """A value as the record that a redrive would make of it."""
    record = LogRecord(None, None, None, value, (), None)
    decode_record(record)
    return record


async def rehearse(
    engine: AsyncEngine,
    log_id: int | None,
    records: Sequence[LogRecord],
    limits: Mapping[Kind, ColumnLimits],
) -> list[DeadLetter | None]:
    """What would become of each record now: None, or the first letter it would make.

    All in one transaction that is rolled back, in order: of two that exclude each other
    the second is refused. A confirmation that would only wait for its snapshot is
    refused too. Plain ids are not tried: no redriven one is trusted.

    Raises:
        Whatever PostgreSQL, the driver or the network raises (see `classify`).
    """
    refused: dict[int, DeadLetter] = {}
    for record in records:
        if record.error is not None:
            refused.setdefault(id(record), letter_for_record(record))
    async with engine.connect() as connection:
        # Rolled back where the connection goes back to its pool.
        await connection.execute(sql.SET_CONSTRAINTS_IMMEDIATE)
        for letter in await _try(connection, log_id, records, limits):
            refused.setdefault(id(letter.record), letter)
    return [refused.get(id(record)) for record in records]


async def _try(
    connection: AsyncConnection,
    log_id: int | None,
    records: Sequence[LogRecord],
    limits: Mapping[Kind, ColumnLimits],
) -> list[DeadLetter]:
    items = items_of(records)
    written = await write_items(connection, log_id, Items(snapshots=items.snapshots), limits)
    letters = list(written.letters)
    # One by one: the write path counts what is pending, and does not say which.
    for confirmation in items.confirmations:
        one = await write_items(connection, log_id, Items(confirmations=[confirmation]), limits)
        letters += one.letters
        if one.kinds[confirmation.kind].pending:
            letters.append(
                DeadLetter(
                    confirmation.record,
                    confirmation.item,
                    "waiting",
                    "unknown_snapshot",
                    "the snapshot that it confirms is not in the database",
                    None,
                    confirmation.kind,
                    confirmation.key.event_id,
                )
            )
    return letters


async def write_directly(
    engine: AsyncEngine,
    letter_id: int,
    record: LogRecord,
    limits: Mapping[Kind, ColumnLimits],
    *,
    statuses: Sequence[str],
    by: str,
    at: datetime,
    why: str | None,
    store_raw: bool = True,
) -> DeadLetter | None:
    """Write a letter that came from no log and mark it `redriven`, in one transaction.

    Returns:
        None where it is written, or is no such letter any more; else why it cannot be,
        and nothing was changed.

    Raises:
        Whatever PostgreSQL, the driver or the network raises (see `classify`).
    """
    if record.error is not None:
        return letter_for_record(record)
    async with engine.connect() as connection:
        await connection.execute(sql.SET_CONSTRAINTS_IMMEDIATE)
        locked = await connection.execute(_LOCK, {"id": letter_id, "statuses": list(statuses)})
        if locked.one_or_none() is None:
            return None
        items = items_of([record])
        items.ids.clear()
        written = await write_items(connection, None, items, limits, store_raw=store_raw)
        if written.letters:
            return written.letters[0]  # and all of it is rolled back
        marked: dict[str, Any] = {"id": letter_id, "value": record.value, "at": at}
        await connection.execute(_MARK, marked | {"by": clean_text(by), "why": clean_text(why)})
        await connection.commit()
    return None
