"""aiokafka's producer, one generation at a time.

An idempotent aiokafka producer that had one failed batch is refused by the broker
for that partition for ever (aiokafka #1017), and in an outage it neither fails nor
stops (#1101). So a producer is thrown away after any failure and a new one made.

aiokafka compresses what it sends in the event loop, 2 to 8 ms a MiB. Here a thread has
done it before: its compressor lets go of the interpreter's lock.

Ending one that hangs takes private names of aiokafka 0.14 (the version is pinned;
tests/integration/test_ingest_kafka.py ends one in each state).
"""

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError, MessageSizeTooLargeError

from ..schemas.connection import KafkaConnection
from ..schemas.kafka_access import why_unreachable
from .fragments import Fragment
from .say import say

__all__ = ["Generation", "ProducerSettings", "close_client", "refused_as_too_large"]

# A partition without leader for longer makes a gap in the sequence (guide 2.2b).
REQUEST_TIMEOUT_MS = 120_000
# The default of 100 ms writes 10 to 20 error lines a second in an outage.
RETRY_BACKOFF_MS = 250
METADATA_MAX_AGE_MS = 60_000
# Each wait on the way of ending a producer: with everything in order they take
# milliseconds; a broker that hangs must not hold up the end of the process.
GRACEFUL_END_SECONDS = 3.0
FORCED_END_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class ProducerSettings:
    """What a generation is made with.

    Attributes:
        connection: to the brokers.
        topic: where records go.
        client_id: seen in the brokers' logs and quotas.
        linger_ms: how long a batch of records waits for more.
        max_record_bytes: what one record may take, uncompressed, with its key.
        max_batch_bytes: what one batch of records may take, uncompressed.
    """

    connection: KafkaConnection
    topic: str
    client_id: str
    linger_ms: int
    max_record_bytes: int
    max_batch_bytes: int


class Generation:
    """One idempotent producer: start it, send from one task, end it once."""

    def __init__(self, settings: ProducerSettings) -> None:
        self.sent_records = 0
        self._topic = settings.topic
        self._connection = settings.connection
        self._producer = AIOKafkaProducer(
            **settings.connection.client_options(),
            client_id=settings.client_id,
            enable_idempotence=True,
            acks="all",
            compression_type="zstd",
            linger_ms=settings.linger_ms,
            max_request_size=settings.max_record_bytes,
            max_batch_size=settings.max_batch_bytes,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            retry_backoff_ms=RETRY_BACKOFF_MS,
            metadata_max_age_ms=METADATA_MAX_AGE_MS,
        )
        # Produce requests under way: aiokafka waits for them when its sender is
        # cancelled, which takes REQUEST_TIMEOUT_MS where a broker hangs.
        self._requests: set[asyncio.Task[Any]] = set()
        # Its own: the loop's threads may all be taken by the application.
        self._compressor = ThreadPoolExecutor(1, thread_name_prefix="oddslog-compress")
        self._track_requests()

    async def start(self) -> None:
        """Connect and get a producer id. Has no deadline of its own; cancel it.

        Must be followed by `end`, also when it raises.

        Raises:
            UnreachableError: no broker answers.
            ConfigurationError: the credentials are refused, or a certificate is not trusted.
        """
        try:
            await self._producer.start()
        except KafkaConnectionError as error:
            raise await why_unreachable(self._connection) from error

    @property
    def usable(self) -> bool:
        """False when aiokafka's own task has died: nothing would ever be sent."""
        task = self._producer._sender.sender_task  # noqa: SLF001 - see the module
        return task is not None and not task.done()

    async def send(self, fragment: Fragment) -> asyncio.Future[Any]:
        """Hand a record to the producer; waits for room, without a deadline.

        Cancelled before it returns, nothing is sent. The future it returns is
        done when the brokers have acknowledged or refused the record, and may
        stay undone for ever once the generation is ended.
        """
        future: asyncio.Future[Any] = await self._producer.send(
            self._topic, value=fragment.value, key=fragment.key, headers=fragment.headers
        )
        self.sent_records += 1
        return future

    async def end(self, *, graceful: bool) -> None:
        """Let go of connections and tasks within seconds; never raises.

        Args:
            graceful: all is acknowledged, so aiokafka's own way is tried first.
                Otherwise what is not acknowledged is given up at once.
        """
        try:
            await self._end(graceful=graceful)
        finally:
            self._compressor.shutdown(wait=False)

    async def _end(self, *, graceful: bool) -> None:
        producer = self._producer
        if graceful and await _bounded(producer.stop(), GRACEFUL_END_SECONDS):
            return
        # `_closed` also keeps aiokafka's finalizer from warning.
        producer._closed = True  # noqa: SLF001 - see the module
        await self._cancel_sender()
        await close_client(producer.client)
        self._release_futures()

    async def _cancel_sender(self) -> None:
        sender = self._producer._sender.sender_task  # noqa: SLF001 - see the module
        tasks = {*self._requests, *([] if sender is None else [sender])}
        for task in tasks:
            task.cancel()
        if not tasks:
            return
        _, pending = await asyncio.wait(tasks, timeout=FORCED_END_SECONDS)
        if pending:
            say("warning", "producer_task_left", tasks=len(pending))

    def _release_futures(self) -> None:
        """Fail what still waits on this producer, so that nothing does for ever."""
        accumulator = self._producer._message_accumulator  # noqa: SLF001 - see the module
        batches = [batch for queue in accumulator._batches.values() for batch in queue]  # noqa: SLF001
        batches += list(accumulator._pending_batches)  # noqa: SLF001
        accumulator.fail_all(KafkaConnectionError("the producer was ended"))
        for batch in batches:
            waiter = batch._drain_waiter  # noqa: SLF001
            if waiter.done() and not waiter.cancelled():
                waiter.exception()  # looked at, or asyncio complains

    def _track_requests(self) -> None:
        sender = self._producer._sender  # noqa: SLF001 - see the module
        send_request = sender._send_produce_req  # noqa: SLF001

        async def tracked(node_id: int, batches: Any) -> None:
            task = asyncio.current_task()
            assert task is not None  # noqa: S101 - aiokafka runs it as one
            self._requests.add(task)
            task.add_done_callback(self._requests.discard)
            # Nothing is added to them any more, and the bytes are kept: `send_request`
            # finds them, also when it sends them again.
            await self._compressed(list(batches.values()))
            await send_request(node_id, batches)

        sender._send_produce_req = tracked  # noqa: SLF001

    async def _compressed(self, batches: list[Any]) -> None:
        loop = asyncio.get_running_loop()
        try:
            compressing = loop.run_in_executor(self._compressor, _compress, batches)
        except RuntimeError:
            # No thread is to be had: the main thread has ended and our loop runs in
            # another, or the process may have no more. aiokafka compresses in the loop.
            return
        await compressing


def _compress(batches: list[Any]) -> None:
    for batch in batches:
        batch.get_data_buffer()


def refused_as_too_large(error: BaseException | None) -> bool:
    """Whether the brokers, or aiokafka for them, refused a record for its size."""
    return isinstance(error, MessageSizeTooLargeError)


async def close_client(client: Any) -> None:
    """Close an aiokafka client within seconds; never raises.

    Its own `close` waits until all is written to the sockets, which a broker that
    hangs never lets happen: the connections are cut then.
    """
    connections = list(client._conns.values())  # noqa: SLF001 - see the module
    transports = [
        connection._writer.transport  # noqa: SLF001
        for connection in connections
        if connection._writer is not None  # noqa: SLF001
    ]
    if not await _bounded(client.close(), FORCED_END_SECONDS):
        for transport in transports:
            transport.abort()
        await asyncio.sleep(0)  # abort() tells the protocols in the next turn


async def _bounded(work: Any, seconds: float) -> bool:
    """Run a coroutine; whether it ended well in time. It is cancelled otherwise."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task}, timeout=seconds)
    finally:
        if not task.done():
            task.cancel()
    if not task.done():
        await asyncio.wait({task}, timeout=FORCED_END_SECONDS)
    if not task.done() or task.cancelled():
        return False
    with contextlib.suppress(Exception):
        task.result()
        return True
    return False
