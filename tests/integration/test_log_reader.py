"""Reading spans of a log without a group, on real Kafka."""

from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import pairwise

import pytest

from oddslog.deploy.stack.probes import free_port
from oddslog.schemas import KafkaConnection
from oddslog.schemas.errors import UnreachableError
from oddslog.sink.errors import GapError
from oddslog.sink.items import PartitionPart
from oddslog.sink.log_reader import open_log_reader
from oddslog.sink.positions import LogRange
from tests.support.fragments import good
from tests.support.kafka import delete_records, produce, produce_in_transaction


async def read(
    kafka: KafkaConnection, topic: str, spans: Mapping[int, LogRange], max_records: int = 100
) -> list[PartitionPart]:
    """Every part of the spans, in the order of reading."""
    parts = []
    async with open_log_reader(kafka, topic) as reader:
        async for found in reader.read(spans, max_records=max_records, max_bytes=1 << 20):
            assert sum(len(part.records) for part in found) <= max_records
            parts += found
    return parts


def offsets(parts: list[PartitionPart], partition: int) -> list[int | None]:
    """The offsets that were read of a partition; its parts must follow one another."""
    own = [part for part in parts if part.partition == partition]
    assert all(one.end == other.start for one, other in pairwise(own))
    return [record.offset for part in own for record in part.records]


async def test_spans_are_read_exactly(kafka: KafkaConnection, topic: str) -> None:
    """Two partitions, each from its start to its end and not beyond, in small results."""
    for partition in (0, 1):
        await produce(kafka, topic, [good(n) for n in range(10)], partition=partition)
    parts = await read(kafka, topic, {0: LogRange(2, 9), 1: LogRange(0, 10)}, max_records=3)
    assert offsets(parts, 0) == [*range(2, 9)]
    assert offsets(parts, 1) == [*range(10)]
    assert all(r.fragment is not None for part in parts for r in part.records)
    assert max(part.end for part in parts if part.partition == 0) == 9


async def test_holes_end_a_span_too(kafka: KafkaConnection, topic: str) -> None:
    """A transaction's marks are offsets without records."""
    await produce_in_transaction(kafka, topic, [([good(1)], True), ([good(2)], False)])
    async with open_log_reader(kafka, topic) as reader:
        held = (await reader.ranges([0]))[0]
    assert held.end > 1
    parts = await read(kafka, topic, {0: held})
    assert (offsets(parts, 0), parts[-1].end) == ([0], held.end)


async def test_nothing_to_read(kafka: KafkaConnection, topic: str) -> None:
    """No spans, and empty ones, end at once."""
    assert await read(kafka, topic, {}) == []
    assert await read(kafka, topic, {0: LogRange(0, 0)}) == []


async def test_what_retention_took_is_a_gap(kafka: KafkaConnection, topic: str) -> None:
    """It is said, and never passed over."""
    await produce(kafka, topic, [good(n) for n in range(5)])
    await delete_records(kafka, topic, {0: 3})
    with pytest.raises(GapError, match="partition 0"):
        await read(kafka, topic, {0: LogRange(0, 5)})


async def test_offsets_by_time(kafka: KafkaConnection, topic: str) -> None:
    """The first record at or after a moment; None after the last."""
    await produce(kafka, topic, [good(1)])
    between = datetime.now(UTC)
    async with open_log_reader(kafka, topic) as reader:
        long_ago = await reader.offsets_at([0, 1], datetime(2020, 1, 1, tzinfo=UTC))
        later = await reader.offsets_at([0], between.replace(year=between.year + 1))
    assert (long_ago, later) == ({0: 0, 1: None}, {0: None})


async def test_no_broker_is_one_line() -> None:
    """And not aiokafka's traceback."""
    with pytest.raises(UnreachableError, match="does not answer"):
        async with open_log_reader(KafkaConnection(f"127.0.0.1:{free_port()}"), "none"):
            pass
