"""Kafka for the commands: what a log holds, how far its group is, dropping a topic.

Nothing here joins a group or makes a topic: the topic is described by the admin
client before any other request, because aiokafka's others would create it.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from aiokafka import TopicPartition

from ..schemas.connection import KafkaConnection
from ..schemas.errors import ConfigurationError
from ..sink.positions import LogRange
from ..sink.topics import TopicDescription, describe_topic, topic_problems
from .kafka_clients import admin_client, of_coordinator, one_line, reading_client

__all__ = ["LogState", "drop_topic", "group_members", "read_log", "require_topic", "usable_topic"]

_DEADLINE_SECONDS = 20.0


@dataclass(frozen=True)
class LogState:
    """A log as Kafka has it.

    Attributes:
        topic: how it is made.
        ranges: what each partition holds.
        committed: the group's offsets; None where it has none.
    """

    topic: TopicDescription
    ranges: Mapping[int, LogRange]
    committed: Mapping[int, int | None]


async def require_topic(connection: KafkaConnection, topic: str) -> TopicDescription:
    """The topic.

    Raises:
        UnreachableError: no broker answers.
        ConfigurationError: it is not there.
    """
    described = await describe_topic(connection, topic)
    if described is None:
        raise ConfigurationError(
            f"topic {topic} is not there; make it with: oddslog topics --create"
            " (or name another: --topic or ODDSLOG_TOPIC)"
        )
    return described


async def usable_topic(connection: KafkaConnection, topic: str) -> TopicDescription:
    """The topic, if it can be a log.

    Raises:
        UnreachableError: no broker answers.
        ConfigurationError: it is not there, or cannot be a log.
    """
    described = await require_topic(connection, topic)
    for problem in topic_problems(described):
        raise ConfigurationError(problem)
    return described


async def read_log(connection: KafkaConnection, topic: str, group: str) -> LogState:
    """What the log holds, and how far the group says it is.

    Raises:
        UnreachableError: no broker answers, or not in 20 s.
        ConfigurationError: the topic is not there.
    """
    described = await require_topic(connection, topic)
    async with one_line(connection):
        async with asyncio.timeout(_DEADLINE_SECONDS):
            partitions = [TopicPartition(topic, p) for p in range(described.partitions)]
            async with reading_client(connection) as consumer:
                starts = await consumer.beginning_offsets(partitions)
                ends = await consumer.end_offsets(partitions)
            async with admin_client(connection) as admin:
                held = await of_coordinator(
                    lambda: admin.list_consumer_group_offsets(group, partitions=partitions)
                )
    committed = {tp.partition: offset.offset for tp, offset in held.items() if offset.offset >= 0}
    return LogState(
        described,
        {tp.partition: LogRange(starts[tp], ends[tp]) for tp in partitions},
        {tp.partition: committed.get(tp.partition) for tp in partitions},
    )


async def group_members(connection: KafkaConnection, group: str) -> int:
    """How many members the group has now.

    Raises:
        UnreachableError: no broker answers, or not in 20 s.
    """
    async with (
        one_line(connection),
        asyncio.timeout(_DEADLINE_SECONDS),
        admin_client(connection) as admin,
    ):
        answers = await of_coordinator(lambda: admin.describe_consumer_groups([group]))
    return sum(len(described[5]) for answer in answers for described in answer.groups)


async def drop_topic(connection: KafkaConnection, topic: str) -> None:
    """Delete a topic; fine where it is not there.

    Raises:
        UnreachableError: no broker answers, or not in 20 s.
    """
    async with (
        one_line(connection),
        asyncio.timeout(_DEADLINE_SECONDS),
        admin_client(connection) as admin,
    ):
        await admin.delete_topics([topic])
