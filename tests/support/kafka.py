"""Kafka as tests use it: records by hand, transactions, topics cut short or made anew."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, RecordsToDelete

from oddslog.schemas import KafkaConnection
from oddslog.sink.topics import create_topic, describe_topic
from tests.support.waiting import until

__all__ = [
    "add_partitions",
    "committed_offsets",
    "delete_records",
    "make_anew",
    "produce",
    "produce_in_transaction",
    "records_of",
]


@asynccontextmanager
async def _admin(kafka: KafkaConnection) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(**kafka.client_options())
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def produce(
    kafka: KafkaConnection,
    topic: str,
    values: Sequence[bytes | None],
    *,
    partition: int = 0,
    key: bytes | None = b"key",
    headers: Sequence[tuple[str, bytes]] = (),
) -> None:
    """Append records to one partition and wait until they are acknowledged."""
    producer = AIOKafkaProducer(**kafka.client_options(), acks="all", max_request_size=10**7)
    await producer.start()
    try:
        sent = [
            await producer.send(topic, value, key=key, partition=partition, headers=list(headers))
            for value in values
        ]
        for one in sent:
            await one
    finally:
        await producer.stop()


async def records_of(kafka: KafkaConnection, topic: str) -> list[Any]:
    """Every record up to the topic's end of now, partition by partition."""
    described = await describe_topic(kafka, topic)
    assert described is not None, topic
    partitions = [TopicPartition(topic, number) for number in range(described.partitions)]
    consumer = AIOKafkaConsumer(**kafka.client_options(), auto_offset_reset="earliest")
    await consumer.start()
    try:
        ends = await consumer.end_offsets(partitions)
        consumer.assign(partitions)
        found: dict[TopicPartition, list[Any]] = {partition: [] for partition in partitions}
        while any([await consumer.position(part) < ends[part] for part in partitions]):
            for part, records in (await consumer.getmany(timeout_ms=100)).items():
                found[part] += records
    finally:
        await consumer.stop()
    return [record for records in found.values() for record in records]


async def produce_in_transaction(
    kafka: KafkaConnection,
    topic: str,
    transactions: Sequence[tuple[Sequence[bytes], bool]],
    *,
    partition: int = 0,
) -> None:
    """Append transactions to one partition, each committed or aborted."""
    producer = AIOKafkaProducer(**kafka.client_options(), transactional_id=f"tx-{topic}")
    await producer.start()
    try:
        for values, commit in transactions:
            await producer.begin_transaction()
            for value in values:
                await producer.send_and_wait(topic, value, key=b"key", partition=partition)
            await (producer.commit_transaction() if commit else producer.abort_transaction())
    finally:
        await producer.stop()


async def delete_records(kafka: KafkaConnection, topic: str, before: dict[int, int]) -> None:
    """Let the partitions begin at these offsets, as retention does."""
    async with _admin(kafka) as client:
        await client.delete_records(
            {TopicPartition(topic, p): RecordsToDelete(offset) for p, offset in before.items()}
        )


async def add_partitions(kafka: KafkaConnection, topic: str, total: int) -> None:
    """Grow the topic to so many partitions."""
    async with _admin(kafka) as client:
        await client.create_partitions({topic: NewPartitions(total)})
    await until(lambda: _has_partitions(kafka, topic, total), "the new partitions")


async def _has_partitions(kafka: KafkaConnection, topic: str, total: int) -> bool:
    described = await describe_topic(kafka, topic)
    return described is not None and described.partitions == total


async def make_anew(kafka: KafkaConnection, topic: str, *, partitions: int = 3) -> None:
    """Delete the topic and make an empty one of its name."""
    async with _admin(kafka) as client:
        await client.delete_topics([topic])

    async def gone() -> bool:
        return await describe_topic(kafka, topic) is None

    await until(gone, "the topic's end")
    await create_topic(kafka, topic, partitions=partitions)
    await until(lambda: _has_partitions(kafka, topic, partitions), "the new topic")


async def committed_offsets(
    kafka: KafkaConnection, topic: str, group: str, partitions: int = 3
) -> list[int | None]:
    """The group's offsets by partition."""
    async with _admin(kafka) as client:
        found = await client.list_consumer_group_offsets(group)
    offsets = {tp.partition: meta.offset for tp, meta in found.items() if tp.topic == topic}
    return [offsets.get(partition) for partition in range(partitions)]


async def set_committed(
    kafka: KafkaConnection, topic: str, group: str, offsets: dict[int, int]
) -> None:
    """Set the group's offsets, as a tool does; the group must be empty."""
    consumer = AIOKafkaConsumer(**kafka.client_options(), group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        wanted = {TopicPartition(topic, p): offset for p, offset in offsets.items()}
        consumer.assign(list(wanted))
        await consumer.commit(wanted)
    finally:
        await consumer.stop()
