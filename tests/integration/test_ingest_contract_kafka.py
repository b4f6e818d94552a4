"""The contract of destinations, held by Kafka; and what the tests beside it read with."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from oddslog.ingest import Destination, KafkaDestination
from oddslog.schemas import KafkaConnection
from oddslog.schemas.codec import EventWrites, decode, snapshot_from_record
from oddslog.schemas.records import CompetitorSnapshotKey, SnapshotKey
from oddslog.schemas.wire import Kind
from tests.support.waiting import BUDGET_SECONDS
from tests.unit.test_ingest_contract import DestinationContract


@dataclass(frozen=True)
class Stored:
    """One record of the topic."""

    key: bytes
    headers: dict[str, bytes]
    writes: EventWrites
    size_bytes: int
    value: bytes


async def read_topic(bootstrap_servers: str, topic: str) -> list[Stored]:
    """Every record up to the topic's end of now, partition by partition."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        numbers = await consumer._client._wait_on_metadata(topic)
        partitions = [TopicPartition(topic, number) for number in sorted(numbers)]
        ends = await consumer.end_offsets(partitions)
        consumer.assign(partitions)
        found: dict[TopicPartition, list[Stored]] = {partition: [] for partition in partitions}
        while any([await consumer.position(part) < ends[part] for part in partitions]):
            for part, records in (await consumer.getmany(timeout_ms=100)).items():
                found[part] += [_stored(record) for record in records]
    finally:
        await consumer.stop()
    return [record for records in found.values() for record in records]


def _stored(record: Any) -> Stored:
    value = record.value
    return Stored(record.key, dict(record.headers), decode(value), len(value), value)


def event_ids(records: list[Stored]) -> list[int]:
    """The events of all snapshots in the records, in order of their numbers."""
    return sorted(
        record.writes.event_id
        for record in records
        for _ in record.writes.snapshots
        if record.writes.event_id is not None
    )


class OpenedKafka:
    """A destination on a topic of its own."""

    def __init__(self, kafka: KafkaConnection, topic: str, **options: Any) -> None:
        self._kafka_destination = KafkaDestination(kafka, topic=topic, **options)
        self.destination: Destination = self._kafka_destination
        self._servers = kafka.bootstrap_servers
        self._topic = topic

    async def stored(self) -> tuple[list[Any], list[Any], list[tuple[str, int]]]:
        snapshots: list[Any] = []
        keys: list[Any] = []
        ids: list[tuple[str, int]] = []
        await self._kafka_destination.settle(BUDGET_SECONDS)  # what was spooled first
        records = await read_topic(self._servers, self._topic)
        # Partitions have no order among them; a batch's fragments do.
        for record in sorted(records, key=lambda found: found.writes.fragment_index):
            writes = record.writes
            for snapshot in writes.snapshots:
                assert writes.event_id is not None
                snapshots.append(snapshot_from_record(writes.kind, writes.event_id, snapshot))
            keys += [_key(writes, member) for member in writes.confirmations]
            ids += [(writes.kind.value, member) for member in writes.unchanged_ids]
        return snapshots, keys, ids


def _key(writes: EventWrites, confirmation: Any) -> Any:
    assert writes.event_id is not None
    moment = confirmation["captured_at"]
    if writes.kind is Kind.COMPETITOR:
        return CompetitorSnapshotKey(writes.event_id, moment)
    return SnapshotKey(writes.event_id, confirmation["bookmaker_id"], moment)


class TestKafkaDestination(DestinationContract):
    """The contract, on a real broker."""

    @pytest.fixture
    async def opened(self, kafka: KafkaConnection, topic: str) -> AsyncIterator[OpenedKafka]:
        opened = OpenedKafka(kafka, topic)
        await opened.destination.start()
        yield opened
        await opened.destination.stop()


class TestKafkaDestinationWithSpool(DestinationContract):
    """The contract where every batch goes through the spool."""

    @pytest.fixture
    async def opened(
        self, kafka: KafkaConnection, topic: str, tmp_path: Path
    ) -> AsyncIterator[OpenedKafka]:
        opened = OpenedKafka(kafka, topic, spool_dir=tmp_path, durability="spool")
        await opened.destination.start()
        yield opened
        await opened.destination.stop()
