"""The sweep: pending confirmations whose snapshot has come, or never will."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ..schemas.kill_points import reached
from ..schemas.wire import Kind
from . import sql
from .database import LockWaits
from .dead_letters import DeadLetter, insert_dead_letters, letter_for_item
from .items import ConfirmationItem, Key, LogRecord

__all__ = ["Swept", "sweep_pending"]

# Pending ones older than the log's retention: no record can bring their snapshot. Also
# those of this log's earlier generations, and those that came from no log.
_TAKE_EXPIRED = text(
    "DELETE FROM oddslog_pending_confirmations"
    " WHERE created_at < now() - make_interval(secs => :seconds)"
    " AND (log_id IS NULL OR log_id IN (SELECT g.log_id FROM oddslog_logs AS g"
    " JOIN oddslog_logs AS own ON own.topic = g.topic AND own.log_id = :log_id"
    " WHERE g.log_id <= own.log_id))"
    " RETURNING kind, event_id, bookmaker_id, captured_at, confirmed_at, log_id,"
    " log_partition, log_offset, item"
)


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep came to."""

    applied: int
    expired: int


async def sweep_pending(
    engine: AsyncEngine,
    log_id: int,
    retention_seconds: float | None,
    *,
    waits: LockWaits | None = None,
) -> Swept:
    """Apply what has its snapshot by now; make dead letters of what is too old.

    Args:
        engine: of the database.
        log_id: whose pending confirmations may expire.
        retention_seconds: of the log; None where it keeps records for ever.
        waits: is told which session may wait for another's locks.
    """
    async with engine.connect() as connection:
        async with connection.begin():
            async with (waits or LockWaits()).around(connection):
                swept = await _sweep(connection, log_id, retention_seconds)
            reached("sink.before_pending_commit")
        reached("sink.after_pending_commit")
    return swept


async def _sweep(
    connection: AsyncConnection, log_id: int, retention_seconds: float | None
) -> Swept:
    applied = 0
    for kind in Kind:
        moved = await connection.execute(
            sql.snapshot_statements(kind).sweep_pending, {"kind": kind.value}
        )
        applied += moved.rowcount
    expired: Sequence[Any] = ()
    if retention_seconds is not None:
        expired = await _expire(connection, log_id, retention_seconds)
    return Swept(applied, len(expired))


async def _expire(connection: AsyncConnection, log_id: int, seconds: float) -> Sequence[Any]:
    rows = (await connection.execute(_TAKE_EXPIRED, {"log_id": log_id, "seconds": seconds})).all()
    letters: dict[int | None, list[DeadLetter]] = {}
    for row in rows:
        letter = letter_for_item(
            _item(row), "unknown_snapshot", "its snapshot did not come within the log's retention"
        )
        letters.setdefault(row.log_id, []).append(letter)
    for source, of_one_log in letters.items():
        await insert_dead_letters(connection, source, of_one_log)
    return rows


def _item(row: Any) -> ConfirmationItem:
    record = LogRecord(row.log_partition, row.log_offset, None, None, (), None)
    key = Key(row.event_id, row.bookmaker_id, row.captured_at)
    return ConfirmationItem(Kind(row.kind), key, row.confirmed_at, record, row.item)
