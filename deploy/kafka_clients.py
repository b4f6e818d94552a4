"""Kafka clients for the commands that only look: opened, and closed within seconds.

None of them joins a group. The topic must have been described by the admin client
before the reading one is asked about it, or the broker is asked to make it.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError, KafkaError

from ..ingest.producer import close_client
from ..schemas.connection import KafkaConnection
from ..schemas.kafka_access import access_denied, unreachable, why_unreachable
from ..sink.topics import await_controller

__all__ = ["admin_client", "first_records", "of_coordinator", "one_line", "reading_client"]

T = TypeVar("T")

_REQUEST_TIMEOUT_MS = 10_000
_RETRY_SECONDS = 0.2
_STOP_SECONDS = 2.0
_POLL_MS = 200
# One record a partition is wanted; a larger one comes whole all the same.
_PARTITION_BYTES = 16 * 1024


@asynccontextmanager
async def admin_client(connection: KafkaConnection) -> AsyncIterator[Any]:
    """An admin client whose cluster has a controller."""
    client = AIOKafkaAdminClient(
        **connection.client_options(),
        client_id="oddslog-admin",
        request_timeout_ms=_REQUEST_TIMEOUT_MS,
    )
    try:
        await client.start()
        await await_controller(client)
        yield client
    finally:
        await close_client(client._client)  # noqa: SLF001 - its own close has no deadline


@asynccontextmanager
async def reading_client(connection: KafkaConnection) -> AsyncIterator[Any]:
    """A consumer without a group, for offsets and single records."""
    consumer = AIOKafkaConsumer(
        **connection.client_options(),
        client_id="oddslog-admin",
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level="read_committed",
        request_timeout_ms=_REQUEST_TIMEOUT_MS,
        max_partition_fetch_bytes=_PARTITION_BYTES,
    )
    try:
        await consumer.start()
        yield consumer
    finally:
        # In an outage stop() hangs, or raises CancelledError and leaves the client open.
        stopping = asyncio.ensure_future(consumer.stop())
        await asyncio.wait({stopping}, timeout=_STOP_SECONDS)
        if not stopping.done():
            stopping.cancel()
            await asyncio.wait({stopping}, timeout=_STOP_SECONDS)
        if stopping.cancelled() or stopping.exception() is not None:
            await close_client(consumer._client)  # noqa: SLF001


async def of_coordinator(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask again while the coordinator is being found; a new cluster has none at first.

    Has no deadline of its own.
    """
    while True:
        try:
            return await ask()
        except KafkaError as error:
            if not error.retriable:
                raise
        await asyncio.sleep(_RETRY_SECONDS)


async def first_records(
    consumer: Any, topic: str, offsets: Mapping[int, int], ends: Mapping[int, int], seconds: float
) -> dict[int, ConsumerRecord | None]:
    """The first record at or behind an offset, of each partition that answers in time.

    Args:
        consumer: a reading client; what it was assigned before is no more.
        topic: that was described before.
        offsets: where to look.
        ends: where the partitions end; None where nothing but a hole is up to there.
        seconds: how long to wait, all in all.

    Raises:
        KafkaError: an offset is not in the log, or the broker's refusal.
    """
    wanted = {TopicPartition(topic, number): offset for number, offset in offsets.items()}
    found: dict[int, ConsumerRecord | None] = {}
    if not wanted:
        return found
    consumer.assign(list(wanted))
    for partition, offset in wanted.items():
        consumer.seek(partition, offset)
    deadline = asyncio.get_running_loop().time() + seconds
    while len(found) < len(wanted) and asyncio.get_running_loop().time() < deadline:
        # Never cancelled from here: it ends by its own time-out.
        polled = await consumer.getmany(timeout_ms=_POLL_MS)
        for partition, records in polled.items():
            if records:
                found.setdefault(partition.partition, records[0])
        for partition in wanted:
            number = partition.partition
            if number not in found and await consumer.position(partition) >= ends[number]:
                found[number] = None
        done = [partition for partition in wanted if partition.partition in found]
        consumer.pause(*done)
    consumer.unsubscribe()
    return found


@asynccontextmanager
async def one_line(connection: KafkaConnection) -> AsyncIterator[None]:
    """Kafka's failures as one line.

    Raises:
        UnreachableError: for most of them, and for a deadline that has passed.
        ConfigurationError: it refuses us, or we do not trust it.
    """
    try:
        yield
    except KafkaConnectionError as error:
        raise await why_unreachable(connection) from error
    except (KafkaError, TimeoutError, OSError) as error:
        reason = "no answer in time" if isinstance(error, TimeoutError) else type(error).__name__
        raise access_denied(error, connection) or unreachable(connection, reason) from error
