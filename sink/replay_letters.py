"""The dead letters of records that a replay comes to again: known ones, and written at last."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from .dead_letters import DeadLetter
from .items import WHOLE_RECORD, Items, LogRecord, SnapshotItem
from .write import Written

__all__ = ["known_sources", "settle_written", "written_sources"]

# A letter by its place in a log: partition, offset, item.
Source = tuple[int | None, int | None, int]

# Letters of these sources that are there already: this time only counts an attempt.
_KNOWN = text(
    "SELECT d.log_partition, d.log_offset, d.item FROM oddslog_dead_letters AS d"
    " JOIN unnest(CAST(:partitions AS int[]), CAST(:offsets AS bigint[]), CAST(:items AS int[]))"
    " AS u(partition, log_offset, item)"
    " ON d.log_partition = u.partition AND d.log_offset = u.log_offset AND d.item = u.item"
    # Without headers: made of a record that was sent again, before its own was read.
    " WHERE d.log_id = :log_id AND d.headers IS NOT NULL"
)
# The sweeper locks letters before snapshots, and a replay has its snapshots by now: what
# another session holds is left to it.
_SETTLE = text(
    "WITH free AS (SELECT d.id FROM oddslog_dead_letters AS d"
    " JOIN unnest(CAST(:partitions AS int[]), CAST(:offsets AS bigint[]), CAST(:items AS int[]))"
    " AS u(partition, log_offset, item)"
    " ON d.log_partition = u.partition AND d.log_offset = u.log_offset AND d.item = u.item"
    " WHERE d.log_id = :log_id AND d.status IN ('dead', 'waiting')"
    " ORDER BY d.id FOR UPDATE OF d SKIP LOCKED)"
    " UPDATE oddslog_dead_letters AS d"
    " SET status = 'written', attempts = attempts + 1, last_seen_at = now()"
    " FROM free WHERE d.id = free.id"
)


@dataclass(frozen=True, slots=True)
class _Sources:
    """Parameters of the statements above."""

    log_id: int
    sources: Sequence[Source]

    def parameters(self) -> dict[str, object]:
        return {
            "log_id": self.log_id,
            "partitions": [partition for partition, _, _ in self.sources],
            "offsets": [offset for _, offset, _ in self.sources],
            "items": [item for _, _, item in self.sources],
        }


async def known_sources(
    connection: AsyncConnection, log_id: int, letters: Sequence[DeadLetter]
) -> set[Source]:
    """Those of the letters' sources of which there is a letter already."""
    if not letters:
        return set()
    sources = _Sources(log_id, [_source(letter.record, letter.item) for letter in letters])
    found = await connection.execute(_KNOWN, sources.parameters())
    return {(row.log_partition, row.log_offset, row.item) for row in found}


def written_sources(
    whole: Sequence[LogRecord], items: Items, written: Written, letters: Sequence[DeadLetter]
) -> list[Source]:
    """Of which writes and records there need be no letter any more.

    Args:
        whole: the records of which everything was asked for.
        items: what was written of all.
        written: what came of it.
        letters: what could not be written, whole records too.
    """
    refused = {(id(letter.record), letter.item) for letter in letters}
    pending = {(item.kind, item.key) for item in written.pending}
    done = {(id(one.record), one.item): one.record for one in _there(written)}
    done |= {
        (id(one.record), one.item): one.record
        for one in items.confirmations
        if (one.kind, one.key) not in pending
    }
    in_trouble = {record for record, _ in refused}
    sources = [
        _source(record, item) for (key, item), record in done.items() if (key, item) not in refused
    ]
    sources += [
        _source(record, WHOLE_RECORD)
        for record in whole
        if record.error is None and id(record) not in in_trouble
    ]
    return sources


async def settle_written(
    connection: AsyncConnection, log_id: int, sources: Sequence[Source]
) -> int:
    """Mark the letters of these sources as written; how many were dead or waiting."""
    if not sources:
        return 0
    settled = await connection.execute(_SETTLE, _Sources(log_id, sources).parameters())
    return settled.rowcount


def _there(written: Written) -> Iterator[SnapshotItem]:
    yield from written.inserted
    yield from written.duplicates


def _source(record: LogRecord, item: int) -> Source:
    return record.partition, record.offset, item
