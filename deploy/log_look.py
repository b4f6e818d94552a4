"""Kafka's side of `status`: what the log holds, how far its group is, who is in it."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aiokafka import TopicPartition
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import KafkaError, for_code

from ..schemas.connection import KafkaConnection
from ..schemas.errors import ConfigurationError, UnreachableError
from ..sink.positions import LogRange
from ..sink.topics import describe_with
from .kafka import LogState
from .kafka_clients import admin_client, first_records, of_coordinator, one_line, reading_client

__all__ = ["GroupState", "LogLook", "LogView", "Member", "read_group"]

# Both servers are asked at once: this is how long one that hangs keeps the other waiting.
LOOK_SECONDS = 10.0
_OLDEST_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Member:
    """A member of the group, with the partitions of the topic that it has."""

    client_id: str
    host: str
    partitions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GroupState:
    """The group as its coordinator has it: `Stable`, `Empty`, `PreparingRebalance`, ...

    `error` is the coordinator's refusal, by its name.
    """

    state: str
    members: tuple[Member, ...]
    protocol_type: str = "consumer"
    error: str | None = None

    @property
    def words(self) -> str:
        """The state for people: Kafka calls a group that nobody ever joined `Dead`."""
        return "not there yet" if self.state == "Dead" else self.state


@dataclass(frozen=True)
class LogView:
    """What Kafka said, all of one look."""

    log: LogState
    group: GroupState


class LogLook:
    """Looks at one log and its group, with clients that stay open between looks.

    A look that fails closes them, and the next one opens new ones: aiokafka never
    finds its way back to a cluster whose addresses have changed.
    """

    def __init__(self, connection: KafkaConnection, topic: str, group: str) -> None:
        self._connection = connection
        self._topic = topic
        self._group = group
        self._open = AsyncExitStack()
        self._admin: Any = None
        self._consumer: Any = None

    async def read(self) -> LogView:
        """Look once.

        Raises:
            UnreachableError: no broker answers, or not in 10 s.
            ConfigurationError: the topic is not there.
        """
        try:
            async with one_line(self._connection):
                async with asyncio.timeout(LOOK_SECONDS):
                    return await self._read()
        except BaseException:
            await self.close()
            raise

    async def appended_at(self, view: LogView, offsets: Mapping[int, int]) -> dict[int, datetime]:
        """When the first record at or behind each offset was appended.

        Reads one record a partition, for at most 3 s; what was not had in time is left out.
        """
        ranges = view.log.ranges
        wanted = {
            number: max(offset, ranges[number].start)
            for number, offset in offsets.items()
            if number in ranges and offset < ranges[number].end
        }
        ends = {number: ranges[number].end for number in wanted}
        if not wanted or self._consumer is None:
            return {}
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                records = await first_records(
                    self._consumer, self._topic, wanted, ends, _OLDEST_SECONDS
                )
        except (KafkaError, TimeoutError):  # an age is not worth a failure
            await self.close()
            return {}
        return {
            number: datetime.fromtimestamp(record.timestamp / 1000, UTC)
            for number, record in records.items()
            if record is not None and record.timestamp >= 0
        }

    async def close(self) -> None:
        """Close the clients, within seconds."""
        opened, self._open = self._open, AsyncExitStack()
        self._admin = self._consumer = None
        await opened.aclose()

    async def _read(self) -> LogView:
        if self._consumer is None:
            self._admin = await self._open.enter_async_context(admin_client(self._connection))
        described = await describe_with(self._admin, self._topic)
        if described is None:
            raise ConfigurationError(
                f"topic {self._topic} is not there; make it with: oddslog topics --create"
                " (or name another: --topic or ODDSLOG_TOPIC)"
            )
        if self._consumer is None:
            self._consumer = await self._open.enter_async_context(reading_client(self._connection))
        partitions = [TopicPartition(self._topic, p) for p in range(described.partitions)]
        starts = await self._consumer.beginning_offsets(partitions)
        ends = await self._consumer.end_offsets(partitions)
        held = await of_coordinator(
            lambda: self._admin.list_consumer_group_offsets(self._group, partitions=partitions)
        )
        committed = {tp.partition: meta.offset for tp, meta in held.items() if meta.offset >= 0}
        state = LogState(
            described,
            {tp.partition: LogRange(starts[tp], ends[tp]) for tp in partitions},
            {tp.partition: committed.get(tp.partition) for tp in partitions},
        )
        return LogView(state, await read_group(self._admin, self._topic, self._group))


async def read_group(admin: Any, topic: str, group: str) -> GroupState:
    """The group's state and its members, by partition. Has no deadline of its own."""

    async def ask() -> GroupState:
        for answer in await admin.describe_consumer_groups([group]):
            for described in answer.groups:
                return _group(topic, *described)
        raise UnreachableError(f"Kafka says nothing of group {group}")

    return await of_coordinator(ask)


def _group(
    topic: str,
    code: int,
    _name: str,
    state: str,
    protocol_type: str,
    _protocol: str,
    members: Sequence[Any],
    *_: object,
) -> GroupState:
    if code:
        error = for_code(code)
        if error.retriable:
            raise error
        return GroupState(state, (), protocol_type, error.__name__)
    known = [_member(topic, *member[1:5]) for member in members]
    known.sort(key=lambda member: (member.partitions or (1 << 31,), member.client_id))
    return GroupState(state, tuple(known), protocol_type)


def _member(topic: str, client_id: str, host: str, _metadata: bytes, assigned: bytes) -> Member:
    partitions: list[int] = []
    if assigned:  # empty while the group rebalances
        for name, numbers in ConsumerProtocolMemberAssignment.decode(assigned).assignment:
            if name == topic:
                partitions += numbers
    return Member(client_id, host.lstrip("/"), tuple(sorted(partitions)))
