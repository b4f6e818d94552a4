"""Records that are dead letters sent again: their letters, in the data transaction.

Runs after the letters of the same poll were inserted, so that a database that reads
the log anew finds the letter of a record that it read a moment before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from ..schemas.redrive import Redrive
from ..schemas.version import VERSION
from .dead_letters import DeadLetter, clean_text, insert_dead_letters
from .items import LogRecord
from .redrive_rules import Attempt, HeldLetter, Step, next_step, split_redriven, status_after

__all__ = ["settle_redriven", "split_redriven"]

# A letter whose own record is not read yet (mended into another key, it is in another
# partition): made first, so that its record then only counts an attempt.
_INSERT_EARLY = text(
    """
    INSERT INTO oddslog_dead_letters
        (status, reason, message, kind, event_id, value, log_id, log_partition, log_offset, item,
         attempts, appended_at, oddslog_version)
    SELECT 'dead', :reason, 'sent again before its own record was read here', :kind, :event_id,
           :value, g.log_id, CAST(:partition AS int), CAST(:offset AS bigint), CAST(:item AS int),
           0, :appended_at, :version
    FROM oddslog_logs AS g
    LEFT JOIN oddslog_ledger AS l ON l.log_id = g.log_id AND l.partition = :partition
    WHERE g.log_id = :log_id AND g.cluster_id = :cluster_id AND g.topic = :topic
      AND :offset >= coalesce(CAST(:applied AS bigint), l.next_offset, 0)
    ON CONFLICT (log_id, log_partition, log_offset, item) DO NOTHING
    """
)
# The topic may have been made anew under its name: the time tells.
_LOCK = text(
    """
    SELECT d.id, d.log_id, d.status, d.redrives_seen
    FROM oddslog_dead_letters AS d JOIN oddslog_logs AS g ON g.log_id = d.log_id
    WHERE g.cluster_id = :cluster_id AND g.topic = :topic AND d.log_partition = :partition
      AND d.log_offset = :offset AND d.item = :item
      AND d.appended_at IS NOT DISTINCT FROM CAST(:appended_at AS timestamptz)
    ORDER BY d.id LIMIT 1 FOR UPDATE OF d
    """
)
_SEEN = """
    redrives_seen = :count, redrive_log_id = :log_id, redrive_partition = :redrive_partition,
    redrive_offset = :redrive_offset, handled_by = :by, handled_at = :at, handled_why = :why,
    original_value = coalesce(d.original_value, nullif(d.value, CAST(:value AS bytea))),
    value = :value, kind = coalesce(:kind, d.kind), event_id = coalesce(:event_id, d.event_id),
    attempts = d.attempts + 1, last_seen_at = now()
"""
_MARK = text(
    f"UPDATE oddslog_dead_letters AS d SET status = :status, {_SEEN} WHERE id = :id"  # noqa: S608
)
_REFUSE = text(
    "UPDATE oddslog_dead_letters AS d SET status = :status, reason = :reason,"  # noqa: S608
    " sqlstate = :sqlstate, constraint_name = :constraint_name, field = :field,"
    f" parent_id = :parent_id, message = :message, {_SEEN} WHERE id = :id"
)
_COUNT = text(
    "UPDATE oddslog_dead_letters SET attempts = attempts + 1, last_seen_at = now() WHERE id = :id"
)


async def settle_redriven(
    connection: AsyncConnection,
    log_id: int,
    attempts: Sequence[Attempt],
    ends: Mapping[int, int],
) -> list[DeadLetter]:
    """Mark the letters of what was written, and put new failures into the others.

    Args:
        connection: in the data transaction, with the poll's other letters inserted.
        log_id: of the log that the records were read from.
        attempts: the records, in log order.
        ends: up to where the partitions of this poll are written by its end.

    Returns:
        What became a letter of its own, inserted.
    """
    own: list[DeadLetter] = []
    for attempt in attempts:
        redrive = attempt.redrive
        held = await _held(connection, log_id, attempt, ends.get(redrive.partition))
        step = next_step(held, attempt)
        await _insert_parts(connection, log_id, held, attempt)
        if step is Step.OWN and attempt.failure is not None:
            letter = replace(attempt.failure, redrives=redrive.count)
            await insert_dead_letters(connection, log_id, [letter])
            own.append(letter)
        elif held is not None:
            await _apply(connection, log_id, step, held, attempt)
    return own


async def _held(
    connection: AsyncConnection, log_id: int, attempt: Attempt, applied: int | None
) -> HeldLetter | None:
    """The letter, locked; made here where its own record comes later."""
    named = _name(attempt.redrive)
    row = (await connection.execute(_LOCK, named)).one_or_none()
    if row is None:
        await _insert_early(connection, log_id, attempt, applied)
        row = (await connection.execute(_LOCK, named)).one_or_none()
    if row is None:
        return None
    return HeldLetter(row.id, row.log_id, row.status, row.redrives_seen)


async def _insert_early(
    connection: AsyncConnection, log_id: int, attempt: Attempt, applied: int | None
) -> None:
    await connection.execute(
        _INSERT_EARLY,
        {
            **_name(attempt.redrive),
            "log_id": log_id,
            "applied": applied,
            "reason": clean_text(attempt.redrive.reason),
            "version": VERSION,
            **_content(attempt),
        },
    )


async def _insert_parts(
    connection: AsyncConnection, log_id: int, held: HeldLetter | None, attempt: Attempt
) -> None:
    """The parts of a whole record have the numbers that they would have had in it."""
    redrive = attempt.redrive
    if not attempt.letters:
        return
    source = log_id if held is None else held.log_id
    record: LogRecord = attempt.record
    if held is not None:
        record = replace(
            record,
            partition=redrive.partition,
            offset=redrive.offset,
            appended_at=redrive.appended_at,
        )
    letters = [replace(one, record=record, redrives=redrive.count) for one in attempt.letters]
    await insert_dead_letters(connection, source, letters)


async def _apply(
    connection: AsyncConnection, log_id: int, step: Step, held: HeldLetter, attempt: Attempt
) -> None:
    if step is Step.COUNT:
        await connection.execute(_COUNT, {"id": held.id})
        return
    redrive, record, failure = attempt.redrive, attempt.record, attempt.failure
    values: dict[str, Any] = {
        "id": held.id,
        "status": status_after(held, attempt),
        "count": max(held.redrives, redrive.count),
        "log_id": log_id,
        "redrive_partition": record.partition,
        "redrive_offset": record.offset,
        "by": clean_text(redrive.by),
        "at": redrive.at,
        "why": clean_text(redrive.why),
        **_content(attempt),
    }
    if failure is None:
        await connection.execute(_MARK, values)
        return
    values |= {
        "reason": failure.reason,
        "sqlstate": failure.sqlstate,
        "constraint_name": clean_text(failure.constraint_name),
        "field": clean_text(failure.field),
        "parent_id": failure.parent_id,
        "message": clean_text(failure.message),
    }
    await connection.execute(_REFUSE, values)


def _name(redrive: Redrive) -> dict[str, Any]:
    """By what any database that reads the log knows the letter."""
    return {
        "cluster_id": clean_text(redrive.cluster_id),
        "topic": clean_text(redrive.topic),
        "partition": redrive.partition,
        "offset": redrive.offset,
        "item": redrive.item,
        "appended_at": redrive.appended_at,
    }


def _content(attempt: Attempt) -> dict[str, Any]:
    fragment = attempt.record.fragment
    return {
        "value": attempt.record.value,
        "kind": None if fragment is None else fragment.kind.value,
        "event_id": None if fragment is None else fragment.event_id,
    }
