"""Kafka, asked for all that the sink needs of it. Nothing is changed."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from aiokafka import TopicPartition
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from ...schemas.connection import KafkaConnection
from ...sink.items import record_crc32
from ...sink.positions import LastApplied, LogRange
from ...sink.topics import TopicDescription, describe_with
from ..kafka_clients import admin_client, first_records, of_coordinator, one_line, reading_client
from ..log_look import GroupState, read_group

__all__ = [
    "KafkaFacts",
    "LetterTopicFacts",
    "PartitionFacts",
    "RecordFacts",
    "ask_kafka",
    "ask_records",
]

_SECONDS = 20.0
_READ_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class PartitionFacts:
    """Who has a partition; `leader` is -1 where nobody leads it."""

    number: int
    leader: int
    replicas: int
    in_sync: int


@dataclass(frozen=True)
class KafkaFacts:
    """What the cluster said.

    Attributes:
        cluster_id: the cluster's.
        brokers: how many there are.
        versions: the versions (lowest, highest) of each request that a broker speaks.
        broker_configs: of one broker; empty where they may not be read.
        group: the group's state.
        topic: None where it is not there; then what follows is empty.
        letters: of the dead-letter topic, where one is set.
    """

    cluster_id: str
    brokers: int
    versions: Mapping[int, tuple[int, int]]
    broker_configs: Mapping[str, str]
    group: GroupState
    topic: TopicDescription | None
    partitions: Sequence[PartitionFacts] = ()
    ranges: Mapping[int, LogRange] = field(default_factory=dict)
    committed: Mapping[int, int | None] = field(default_factory=dict)
    letters: "LetterTopicFacts | None" = None


@dataclass(frozen=True)
class LetterTopicFacts:
    """The dead-letter topic; `described` is None where it is not there."""

    topic: str
    described: TopicDescription | None
    partitions: Sequence[PartitionFacts] = ()


@dataclass(frozen=True)
class RecordFacts:
    """Records that were read, by partition.

    Attributes:
        last: what is now where the ledger's last applied record was.
        newest_at: when the newest record was appended.
        read_at: when it was read here.
    """

    last: Mapping[int, LastApplied] = field(default_factory=dict)
    newest_at: Mapping[int, datetime] = field(default_factory=dict)
    read_at: datetime | None = None


async def ask_kafka(
    connection: KafkaConnection, topic: str, group: str, letter_topic: str | None = None
) -> KafkaFacts:
    """Ask once, for at most 20 s.

    Raises:
        UnreachableError: no broker answers, or not in time.
        ConfigurationError: the topic may not be described.
    """
    async with (
        one_line(connection),
        asyncio.timeout(_SECONDS),
        admin_client(connection) as admin,
    ):
        cluster = await admin.describe_cluster()
        described = await describe_with(admin, topic)
        state = await read_group(admin, topic, group)
        node_id = cluster["brokers"][0]["node_id"]
        facts = KafkaFacts(
            cluster["cluster_id"],
            len(cluster["brokers"]),
            _versions(admin),
            await _broker_configs(admin, node_id),
            state,
            described,
            letters=await _letter_topic(admin, letter_topic),
        )
        if described is None:
            return facts
        names = [TopicPartition(topic, p) for p in range(described.partitions)]
        held = await of_coordinator(
            lambda: admin.list_consumer_group_offsets(group, partitions=names)
        )
        partitions = await _partitions(admin, topic)
        async with reading_client(connection) as consumer:
            starts = await consumer.beginning_offsets(names)
            ends = await consumer.end_offsets(names)
    offsets = {tp.partition: meta.offset for tp, meta in held.items() if meta.offset >= 0}
    return replace(
        facts,
        partitions=partitions,
        ranges={tp.partition: LogRange(starts[tp], ends[tp]) for tp in names},
        committed={tp.partition: offsets.get(tp.partition) for tp in names},
    )


async def ask_records(
    connection: KafkaConnection,
    topic: str,
    ranges: Mapping[int, LogRange],
    last: Mapping[int, LastApplied],
) -> RecordFacts:
    """Read the records that the ledger remembers, and the newest ones; one each a partition.

    The topic must have been described. Takes at most some 10 s; what was not had by
    then is left out.

    Raises:
        UnreachableError: no broker answers.
    """
    ends = {number: held.end for number, held in ranges.items()}
    remembered = {
        number: applied.offset
        for number, applied in last.items()
        if number in ranges and ranges[number].start <= applied.offset < ends[number]
    }
    newest = {number: held.end - 1 for number, held in ranges.items() if held.end > held.start}
    async with (
        one_line(connection),
        asyncio.timeout(_SECONDS),
        reading_client(connection) as consumer,
    ):
        applied = await first_records(consumer, topic, remembered, ends, _READ_SECONDS)
        ending = await first_records(consumer, topic, newest, ends, _READ_SECONDS)
    return RecordFacts(
        {
            number: LastApplied(record.offset, record_crc32(record.key, record.value))
            for number, record in applied.items()
            if record is not None
        },
        {
            number: datetime.fromtimestamp(record.timestamp / 1000, UTC)
            for number, record in ending.items()
            if record is not None and record.timestamp >= 0
        },
        datetime.now(UTC),
    )


async def _broker_configs(admin: Any, node_id: int) -> dict[str, str]:
    resource = ConfigResource(ConfigResourceType.BROKER, str(node_id))
    configs: dict[str, str] = {}
    for answer in await admin.describe_configs([resource]):
        for code, _message, _type, _name, entries in answer.resources:
            if code == 0:
                configs |= {entry[0]: entry[1] for entry in entries if entry[1] is not None}
    return configs


async def _letter_topic(admin: Any, topic: str | None) -> LetterTopicFacts | None:
    if topic is None:
        return None
    described = await describe_with(admin, topic)
    partitions = [] if described is None else await _partitions(admin, topic)
    return LetterTopicFacts(topic, described, partitions)


async def _partitions(admin: Any, topic: str) -> list[PartitionFacts]:
    """Of a topic that was described."""
    (found,) = await admin.describe_topics([topic])
    return sorted(map(_partition, found["partitions"]), key=lambda one: one.number)


def _partition(described: Mapping[str, Any]) -> PartitionFacts:
    return PartitionFacts(
        described["partition"],
        described["leader"],
        len(described["replicas"]),
        len(described["isr"]),
    )


def _versions(admin: Any) -> dict[int, tuple[int, int]]:
    """What all brokers speak that this client is connected to; there is no public name."""
    spoken: dict[int, tuple[int, int]] = {}
    for versions in _of_connections(admin):
        for key, (lowest, highest) in versions.items():
            low, high = spoken.get(key, (lowest, highest))
            spoken[key] = (max(low, lowest), min(high, highest))
    return spoken


def _of_connections(admin: Any) -> Iterator[Mapping[int, tuple[int, int]]]:
    for connection in admin._client._conns.values():  # noqa: SLF001
        yield connection._versions  # noqa: SLF001
