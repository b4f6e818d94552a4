"""A log without Kafka: polls of crafted records, written by the sink's transaction."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from oddslog.schemas.wire import Kind
from oddslog.sink.checks import ColumnLimits
from oddslog.sink.database import read_limits
from oddslog.sink.items import LogRecord, decode_record, record_crc32
from oddslog.sink.ledger import LogIdentity, add_rows, register_log
from oddslog.sink.positions import LastApplied
from oddslog.sink.transaction import PartitionPart, PollResult, write_poll

__all__ = ["PollWriter", "blocked", "letters", "one", "rows"]


class PollWriter:
    """Writes polls of one partition each, offsets counted up from 0."""

    def __init__(self, engine: AsyncEngine, log_id: int, limits: dict[Kind, ColumnLimits]) -> None:
        self.engine = engine
        self.log_id = log_id
        self.limits = limits
        self.next_offsets: dict[int, int] = {}

    @classmethod
    async def open(
        cls, engine: AsyncEngine, *, partitions: int = 2, ids_valid_from: int = 0
    ) -> "PollWriter":
        """Register a log and its ledger rows."""
        async with engine.begin() as connection:
            log_id = await register_log(connection, LogIdentity("cluster", "topic", partitions))
            await add_rows(
                connection,
                log_id,
                dict.fromkeys(range(partitions), (0, None)),
                dict.fromkeys(range(partitions), ids_valid_from),
                first_time=True,
            )
            limits = await read_limits(connection)
        return cls(engine, log_id, limits)

    async def write(self, *values: bytes | None, partition: int = 0, **options: Any) -> PollResult:
        """Write the values as the next records of a partition, in one poll."""
        result = await self.write_parts([self.part(*values, partition=partition)], **options)
        self.next_offsets.update(result.next_offsets)
        return result

    async def write_parts(self, parts: Sequence[PartitionPart], **options: Any) -> PollResult:
        """Write a poll as it is."""
        return await write_poll(self.engine, self.log_id, parts, self.limits, **options)

    def part(
        self,
        *values: bytes | None,
        partition: int = 0,
        start: int | None = None,
        headers: Sequence[tuple[str, Any]] = (),
        key: bytes | None = b"key",
    ) -> PartitionPart:
        """The values as records from an offset, by default the partition's next one."""
        if start is None:
            start = self.next_offsets.get(partition, 0)
        records = []
        for offset, value in enumerate(values, start):
            made = LogRecord(partition, offset, key, value, headers, datetime.now(UTC))
            decode_record(made)
            records.append(made)
        last = records[-1]
        return PartitionPart(
            partition,
            start,
            start + len(records),
            records,
            LastApplied(start + len(records) - 1, record_crc32(last.key, last.value)),
        )


async def rows(engine: AsyncEngine, query: str, **parameters: Any) -> Sequence[Any]:
    """The rows of a query."""
    async with engine.connect() as connection:
        return (await connection.execute(text(query), parameters)).all()


async def one(engine: AsyncEngine, query: str, **parameters: Any) -> Any:
    """The only value of a query's only row."""
    ((value,),) = await rows(engine, query, **parameters)
    return value


async def letters(engine: AsyncEngine) -> Sequence[Any]:
    """The dead letters in order of their source."""
    return await rows(
        engine, "SELECT * FROM oddslog_dead_letters ORDER BY log_partition, log_offset, item"
    )


async def blocked(engine: AsyncEngine, sessions: int = 1) -> bool:
    """Whether so many sessions of this database wait for a lock."""
    count = await one(
        engine,
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND wait_event_type = 'Lock'",
    )
    return bool(count >= sessions)
