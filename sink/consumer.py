"""The consumer: aiokafka behind the few calls that the sink makes.

Every trap that this module steps round is known from runs: no deserializers (one
that raises loses records of other partitions), `getmany` is never cancelled (the
poll counter would leak), `commit` and `stop` get deadlines (they have none),
offsets are only ever committed explicitly.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import (
    CommitFailedError,
    IllegalStateError,
    KafkaConnectionError,
    KafkaError,
    OffsetOutOfRangeError,
)

from ..schemas.connection import KafkaConnection
from ..schemas.errors import ProtectionError, UnreachableError
from ..schemas.kafka_access import access_denied, why_unreachable
from .positions import LogRange
from .registry import registry_schemas

__all__ = [
    "REBALANCE_TIMEOUT_SECONDS",
    "LogConsumer",
    "LogReadError",
    "OutOfRangeError",
    "RebalanceListener",
    "RegistryAwayError",
]

log = structlog.get_logger("oddslog.sink")

# Longer than a transaction normally takes: the time the group waits for us.
REBALANCE_TIMEOUT_SECONDS = 60.0
_SESSION_TIMEOUT_SECONDS = 45
_COMMIT_DEADLINE_SECONDS = 5.0
_STOP_DEADLINE_SECONDS = 10.0
_START_DEADLINE_SECONDS = 180.0  # a member that leaves slowly holds the group for 60
_OFFSETS_DEADLINE_SECONDS = 20.0


class LogReadError(Exception):
    """Kafka did not answer a read, or not in time; `retriable` as aiokafka says."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(type(error).__name__)
        self.retriable = isinstance(error, TimeoutError) or bool(getattr(error, "retriable", False))


class RegistryAwayError(LogReadError):
    """The schema registry does not say what records are; they are read again."""

    def __init__(self, error: UnreachableError) -> None:
        Exception.__init__(self, str(error))
        self.retriable = True


class OutOfRangeError(Exception):
    """Partitions whose position the log no longer (or not yet) holds."""

    def __init__(self, partitions: Sequence[int]) -> None:
        super().__init__(partitions)
        self.partitions = partitions


class RebalanceListener(Protocol):
    """What the sink does at a rebalance; both are awaited by the group's protocol."""

    async def revoked(self, partitions: Iterable[int]) -> None:
        """Stop writing from these partitions, within the rebalance time-out."""

    def assigned(self, partitions: Iterable[int]) -> None:
        """Take these partitions; must not wait for anything."""


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is untyped here
    def __init__(self, listener: RebalanceListener) -> None:
        self._listener = listener

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        await self._listener.revoked([tp.partition for tp in revoked])

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._listener.assigned([tp.partition for tp in assigned])


class LogConsumer:
    """A member of the sink's group, reading one topic by partition number."""

    def __init__(
        self,
        connection: KafkaConnection,
        topic: str,
        group: str,
        *,
        fetch_bytes: int,
        group_instance_id: str | None = None,
        session_timeout_seconds: float = _SESSION_TIMEOUT_SECONDS,
        rebalance_timeout_seconds: float = REBALANCE_TIMEOUT_SECONDS,
    ) -> None:
        self._topic = topic
        self._connection = connection
        self._schemas = registry_schemas(connection)
        self._connections: set[Any] = set()
        session_ms = int(session_timeout_seconds * 1000)
        self._consumer = AIOKafkaConsumer(
            **connection.client_options(),
            # What tools show of a member.
            client_id=group_instance_id or "oddslog-sink",
            group_id=group,
            group_instance_id=group_instance_id,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            session_timeout_ms=session_ms,
            heartbeat_interval_ms=max(100, min(5000, session_ms // 4)),
            rebalance_timeout_ms=int(rebalance_timeout_seconds * 1000),
            request_timeout_ms=int((rebalance_timeout_seconds + 30) * 1000),
            max_poll_interval_ms=300_000,
            max_partition_fetch_bytes=max(1024 * 1024, fetch_bytes // 4),
            fetch_max_bytes=fetch_bytes,
            metadata_max_age_ms=60_000,
        )

    async def start(self, listener: RebalanceListener) -> None:
        """Join the group; returns with the first assignment, or fails after three minutes.

        Raises:
            UnreachableError: no broker answers.
            ConfigurationError: the cluster refuses us, or we do not trust it.
        """
        self._consumer.subscribe([self._topic], listener=_Listener(listener))
        starting = asyncio.create_task(self._consumer.start(), name="oddslog-consumer-start")
        # aiokafka waits for the first assignment without a deadline of its own.
        try:
            await _settle(starting, _START_DEADLINE_SECONDS)
        finally:
            starting.cancel()  # where we are cancelled ourselves
        try:
            await starting
        except KafkaConnectionError as error:
            raise await why_unreachable(self._connection) from error
        except KafkaError as error:
            denied = access_denied(error, self._connection)
            if denied is None:
                raise
            raise denied from error
        except asyncio.CancelledError:
            if not starting.cancelled():
                raise
            raise UnreachableError("Kafka's group coordinator gave no assignment") from None

    async def stop(self) -> None:
        """Leave the group. Takes at most about 10 s, also in an outage."""
        stopping = asyncio.create_task(self._consumer.stop(), name="oddslog-consumer-stop")
        await _settle(stopping, _STOP_DEADLINE_SECONDS)
        # stop() may raise CancelledError in an outage and leave the client open.
        if stopping.cancelled() or (stopping.done() and stopping.exception() is not None):
            closing = asyncio.create_task(self._consumer._client.close())  # noqa: SLF001
            await _settle(closing, _STOP_DEADLINE_SECONDS)

    async def poll(self, *, max_records: int, timeout_ms: int) -> dict[int, list[ConsumerRecord]]:
        """Records by partition. Must not be cancelled; waits for a rebalance to end.

        What the schema registry says of them is known then, where there is one.

        Raises:
            OutOfRangeError: for the partitions to be placed anew.
            LogReadError: after which every partition is to be placed anew.
            ProtectionError: a record that the client cannot parse.
            ConfigurationError: the schema registry refuses us.
        """
        try:
            polled = await self._consumer.getmany(timeout_ms=timeout_ms, max_records=max_records)
        except OffsetOutOfRangeError as error:
            raise OutOfRangeError([tp.partition for tp in error.args[0]]) from error
        except KafkaError as error:
            raise LogReadError(error) from error
        except Exception as error:
            # Seen with a header's name that is not UTF-8: the client cannot parse the
            # record, and would raise again at each poll.
            raise ProtectionError(
                f"topic {self._topic}: a record behind the ledger cannot be parsed by the Kafka"
                f" client ({type(error).__name__}); see where with: oddslog status"
            ) from error
        if self._schemas is not None:
            try:
                await self._schemas.learn(one.value for part in polled.values() for one in part)
            except UnreachableError as error:
                raise RegistryAwayError(error) from error
        return {tp.partition: records for tp, records in polled.items()}

    @property
    def known_schemas(self) -> Mapping[int, bytes | str] | None:
        """The schema registry's ids in what was polled; None where there is no registry."""
        return None if self._schemas is None else self._schemas.known

    def lost_connection(self) -> bool:
        """Whether a connection to a broker has ended since the last call."""
        now = set(self._consumer._client._conns.values())  # noqa: SLF001 - no public sign of it
        lost = any(held not in now or not held.connected() for held in self._connections)
        self._connections = {held for held in now if held.connected()}
        return lost

    async def position(self, partition: int) -> int | None:
        """The next offset that a poll would return; None where it is not ours now."""
        try:
            return int(await self._consumer.position(self._tp(partition)))
        except IllegalStateError:
            return None

    def seek(self, partition: int, offset: int) -> None:
        """Read on from an offset."""
        self._consumer.seek(self._tp(partition), offset)

    def pause(self, partitions: Iterable[int]) -> None:
        """Fetch nothing more of these; what was fetched is dropped at the next poll."""
        self._consumer.pause(*map(self._tp, partitions))

    def resume(self, partitions: Iterable[int]) -> None:
        """Fetch these again."""
        self._consumer.resume(*map(self._tp, partitions))

    async def partition_count(self) -> int:
        """How many partitions the topic has now; 0 where it is gone.

        Raises:
            LogReadError: no answer in 20 s.
        """
        try:
            async with asyncio.timeout(_OFFSETS_DEADLINE_SECONDS):
                # What the client knows by itself is up to a minute old.
                known = await self._consumer._client.force_metadata_update()  # noqa: SLF001
        except (KafkaError, TimeoutError) as error:
            raise LogReadError(error) from error
        if not known:
            raise LogReadError(TimeoutError())
        return len(self._consumer.partitions_for_topic(self._topic) or ())

    async def ranges(self, partitions: Iterable[int]) -> dict[int, LogRange]:
        """What the log holds of each partition now.

        Raises:
            LogReadError: no answer in 20 s, or the broker's refusal.
        """
        wanted = [self._tp(p) for p in partitions]
        if not wanted:
            return {}
        try:
            async with asyncio.timeout(_OFFSETS_DEADLINE_SECONDS):
                starts = await self._consumer.beginning_offsets(wanted)
                ends = await self._consumer.end_offsets(wanted)
        except (KafkaError, TimeoutError) as error:
            raise LogReadError(error) from error
        return {tp.partition: LogRange(starts[tp], ends[tp]) for tp in wanted}

    async def committed(self, partitions: Iterable[int]) -> dict[int, int | None]:
        """The group's offsets.

        Raises:
            LogReadError: no answer in 20 s, or the broker's refusal.
        """
        try:
            async with asyncio.timeout(_OFFSETS_DEADLINE_SECONDS):
                return {p: await self._consumer.committed(self._tp(p)) for p in partitions}
        except (KafkaError, TimeoutError) as error:
            raise LogReadError(error) from error

    async def commit(self, offsets: Mapping[int, int]) -> bool:
        """Tell the group where the tables end; False where that did not work.

        Never an error: the ledger has the positions, and the next commit says
        the same and more.
        """
        if not offsets:
            return True
        try:
            async with asyncio.timeout(_COMMIT_DEADLINE_SECONDS):
                await self._consumer.commit({self._tp(p): o for p, o in offsets.items()})
        except (CommitFailedError, IllegalStateError, KafkaError, TimeoutError) as error:
            log.info("offset_commit_failed", reason=type(error).__name__)
            return False
        return True

    def _tp(self, partition: int) -> TopicPartition:
        return TopicPartition(self._topic, partition)


async def _settle(task: "asyncio.Task[Any]", deadline_seconds: float) -> None:
    """Wait for a task up to the deadline, then cancel it and wait a moment more."""
    await asyncio.wait({task}, timeout=deadline_seconds)
    if not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=1.0)
