"""The outbox: dead letters that go to the dead-letter topic, after their transaction.

The table is the outbox, `published_at` its mark. In this order:

1. one transaction takes the turn: one member of the group publishes at a time
2. a page of letters that are dead and not marked is sent, and acknowledged
3. those are marked; commit

Dying or failing anywhere before 3 sends the page again: each dead letter is in the topic
at least once. No row is locked while Kafka is waited for, and marking waits for nobody,
so the data never waits for the copy.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ..schemas.errors import OddslogError
from ..schemas.kill_points import reached
from .classify import ErrorClass, classify
from .dead_letters import decode_headers
from .letter_records import LetterFacts, LetterRecord, as_record
from .together import every
from .totals import SinkTotals
from .trouble import back_off, fatal

__all__ = ["LetterTopic", "Outbox", "publish_page"]

log = structlog.get_logger("oddslog.sink")

_EVERY_SECONDS = 5.0
# Of a page: most of it is the wait for Kafka (see `LetterTopic.send`).
_PAGE_SECONDS = 45.0
# The last sweep may make dead letters of waiting ones; a stop leaves 20 s for all.
_SETTLED_SECONDS = 10.0
_PAGE_LETTERS = 200
_PAGE_BYTES = 4 * 1024 * 1024
_MOST_PAGES = 50

# Any number will do: one publisher a database and schema.
_TRY_TURN = text("SELECT pg_try_advisory_xact_lock(1868850296, hashtext(current_schema()))")
# Bounded in bytes too; at least one. Those that wait may yet be written; those that were
# redriven or discarded meanwhile are settled.
_PAGE = text(
    """
    SELECT p.*, g.cluster_id, g.topic FROM (
        SELECT d.*, sum(coalesce(octet_length(d.value), 0)) OVER (ORDER BY d.id)
               - coalesce(octet_length(d.value), 0) AS bytes_before
        FROM (
            SELECT id, reason, sqlstate, constraint_name, field, message, record_key, value,
                   headers, log_id, log_partition, log_offset, item, appended_at
            FROM oddslog_dead_letters WHERE status = 'dead' AND published_at IS NULL
            ORDER BY id LIMIT :letters
        ) AS d
    ) AS p LEFT JOIN oddslog_logs AS g ON g.log_id = p.log_id
    WHERE p.bytes_before < :bytes ORDER BY p.id
    """
)
# Rows that another session has locked are left: they are sent once more.
_MARK = text(
    "UPDATE oddslog_dead_letters AS d SET published_at = clock_timestamp()"
    " FROM (SELECT id FROM oddslog_dead_letters WHERE id = ANY(CAST(:ids AS bigint[]))"
    " ORDER BY id FOR UPDATE SKIP LOCKED) AS free WHERE d.id = free.id"
)


class LetterTopic(Protocol):
    """Where the letters go."""

    async def send(self, records: Sequence[LetterRecord]) -> None:
        """Send them all; sets `acknowledged` on each that the brokers hold. Up to 10 s.

        Raises:
            OddslogError: not all were acknowledged.
        """
        ...


class Outbox:
    """Publishes the dead letters of one database, for as long as it runs.

    Set `settled` when the last dead letter before a stop is committed.
    """

    def __init__(self, engine: AsyncEngine, topic: LetterTopic, totals: SinkTotals) -> None:
        self._engine = engine
        self._topic = topic
        self._totals = totals
        self._failures = 0
        self.settled = asyncio.Event()

    async def run(self, stopping: asyncio.Event) -> None:
        """Publish until stopped, and once more what the sink has left until then.

        Whatever Kafka does is tried again for ever: a copy stops nothing.

        Raises:
            What waiting does not mend in the database.
        """

        async def one_round() -> None:
            await self._round(stopping)

        await every(stopping, _EVERY_SECONDS, one_round)
        if self._failures:
            return  # it would hold up the end: the next start goes on
        try:
            async with asyncio.timeout(_SETTLED_SECONDS):
                await self.settled.wait()
        except TimeoutError:
            return
        await self._round(stopping)

    async def _round(self, stopping: asyncio.Event) -> None:
        try:
            sent = await self._publish(stopping)
        except Exception as error:
            if not isinstance(error, OddslogError) and (
                classify(error) is not ErrorClass.TRANSIENT
            ):
                raise fatal(error) from error
            self._totals.retried("letters", error)
            self._failures += 1
            await back_off(stopping, self._failures, error, "letters")
            return
        self._failures = 0
        self._totals.observed.succeeded("letters")
        if sent:
            log.info("dead_letters_published", count=sent)

    async def _publish(self, stopping: asyncio.Event) -> int:
        """Page by page, one alone at the end; returns how many letters were sent and marked."""
        sent = 0
        for _ in range(_MOST_PAGES):
            async with asyncio.timeout(_PAGE_SECONDS):
                marked = await publish_page(self._engine, self._topic)
            sent += marked
            self._totals.published += marked
            if not marked or stopping.is_set():
                break
        return sent


async def publish_page(engine: AsyncEngine, topic: LetterTopic) -> int:
    """Send what is dead and not marked; returns how many are marked now.

    Zero where there is none, where another session has them, or another member the turn.

    Raises:
        OddslogError: of the topic; what it has acknowledged is marked.
        Whatever PostgreSQL, the driver or the network raises (see `classify`).
    """
    failure: OddslogError | None = None
    async with engine.connect() as connection:
        async with connection.begin():
            # Step 1.
            if not (await connection.execute(_TRY_TURN)).scalar_one():
                return 0
            bounds = {"letters": _PAGE_LETTERS, "bytes": _PAGE_BYTES}
            records = [_record(row) for row in await connection.execute(_PAGE, bounds)]
            if not records:
                return 0
            # Step 2.
            try:
                await topic.send(records)
            except OddslogError as error:
                failure = error
            # Step 3.
            marked = await _mark(connection, records)
            reached("sink.before_published_commit")
        reached("sink.after_published_commit")
    if failure is not None:
        raise failure
    # With some of them left, the next page would send just those again at once.
    return marked if marked == len(records) else 0


async def _mark(connection: AsyncConnection, records: Sequence[LetterRecord]) -> int:
    ids = [record.id for record in records if record.acknowledged]
    return (await connection.execute(_MARK, {"ids": ids})).rowcount if ids else 0


def _record(row: Any) -> LetterRecord:
    facts = LetterFacts(
        row.id,
        row.reason,
        row.sqlstate,
        row.constraint_name,
        row.field,
        row.message,
        row.cluster_id,
        row.topic,
        row.log_partition,
        row.log_offset,
        row.item,
        row.appended_at,
    )
    return as_record(facts, row.record_key, row.value, decode_headers(row.headers))
