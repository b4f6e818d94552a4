"""The normal destination: a batch as fragments in a Kafka topic."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from ..schemas.connection import KafkaConnection
from ..schemas.errors import ConfigurationError, DeliveryError, OddslogError, UnreachableError
from ..schemas.kill_points import reached
from ..schemas.records import WriteBatch
from ..schemas.version import VERSION
from ..schemas.wire import DEFAULT_TOPIC, Kind
from .destination import Delivery, RejectedPartsError
from .fragments import EncodedBatch, Fragment, encode_batch
from .producer import Generation, ProducerSettings
from .say import say
from .topic_check import ASSUMED_MAX_MESSAGE_BYTES, TopicFacts, record_limit, topic_facts

__all__ = ["KafkaDestination"]

START_SECONDS = 10.0
STOP_SECONDS = 6.0
# Between two looks for brokers that refuse connections, within one attempt.
RECONNECT_SECONDS = 0.5
# Sequence numbers of a producer break after 2**31 records on one partition.
ROTATE_RECORDS = 2**30
# What may be on its way unacknowledged. aiokafka compresses one batch of every
# partition of a broker in one go, at 3 ms a MiB: this is what keeps it short.
WINDOW_BYTES = 1024 * 1024
MAX_BATCH_BYTES = 1024 * 1024


class KafkaDestination:
    """Writes batches into a topic, acknowledged by `min.insync.replicas` brokers.

    Used by one queue. What a generation of the producer does not acknowledge is
    sent again by the next one: a record may so be twice in the topic, never not
    at all once its batch's attempt has returned.

    Args:
        connection: or just the bootstrap servers, for plaintext.
        topic: must exist; it is never created.
        linger_ms: how long records wait to share a request.
        raw_response: False leaves raw responses out (`ODDSLOG_RAW_RESPONSE=none`).
        client_id: seen in the brokers' logs and quotas.
        rotate_records: a producer is replaced after so many records.
    """

    def __init__(
        self,
        connection: KafkaConnection | str,
        *,
        topic: str = DEFAULT_TOPIC,
        linger_ms: int = 5,
        raw_response: bool = True,
        client_id: str = "oddslog-ingest",
        rotate_records: int = ROTATE_RECORDS,
    ) -> None:
        if isinstance(connection, str):
            connection = KafkaConnection(bootstrap_servers=connection)
        if not topic:
            raise ConfigurationError("the topic's name is empty")
        self._connection = connection
        self._topic = topic
        self._linger_ms = linger_ms
        self._raw_response = raw_response
        self._client_id = client_id
        self._rotate_records = rotate_records
        self._producer_name = f"oddslog/{VERSION}"
        self._generations = 0
        # Written under the lock, by the attempt that holds it.
        self._lock = asyncio.Lock()
        self._facts: TopicFacts | None = None  # the last known; None: never seen
        self._facts_current = False  # whether the topic need not be looked at
        self._generation: Generation | None = None
        # Ended producers on their way out; `stop` waits for them.
        self._endings: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Look at the topic, for at most some seconds. Sends nothing.

        Brokers that are away are logged, not raised: batches wait in the queue,
        and the topic is looked at before the first one is sent.

        Raises:
            ConfigurationError: the topic is missing or compacted, or the settings
                are wrong.
        """
        try:
            async with self._lock, asyncio.timeout(START_SECONDS):
                await self._look_at_topic()
        except (UnreachableError, TimeoutError) as error:
            reason = str(error) or f"no answer in {START_SECONDS:g} s"
            say("warning", "kafka_unreachable", topic=self._topic, reason=reason)

    async def stop(self) -> None:
        """End the producer; bounded in time, and harmless a second time.

        What an attempt has not returned for may or may not be in the topic.
        """
        generation, self._generation = self._generation, None
        self._facts_current = False
        if generation is not None:
            self._end(generation.end(graceful=True))
        if self._endings:
            await asyncio.wait(set(self._endings), timeout=STOP_SECONDS)

    async def prepare(self, batch: WriteBatch) -> Delivery:
        """Encode a stamped batch; yields to the loop every few milliseconds."""
        limit = self._limit_bytes
        return KafkaDelivery(self, batch, await self._encoded(batch, limit), limit)

    def __repr__(self) -> str:
        return (
            f"<KafkaDestination topic {self._topic!r} at {self._connection.bootstrap_servers}, "
            f"{self._generations} producer generation(s)>"
        )

    @property
    def generations(self) -> int:
        """How many producers there have been; more than one tells of trouble."""
        return self._generations

    @property
    def _limit_bytes(self) -> int:
        facts = self._facts
        return record_limit(ASSUMED_MAX_MESSAGE_BYTES if facts is None else facts.max_message_bytes)

    async def _encoded(self, batch: WriteBatch, limit_bytes: int) -> EncodedBatch:
        encoded = await encode_batch(
            batch,
            limit_bytes=limit_bytes,
            raw_response=self._raw_response,
            producer_name=self._producer_name,
        )
        if encoded.replaced:
            say(
                "warning",
                "write_batch_characters_replaced",
                batch_index=batch.batch_index,
                characters=encoded.replaced,
            )
        return encoded

    async def _deliver(self, delivery: "KafkaDelivery") -> None:
        """Send what the brokers have not acknowledged, in order, with one producer."""
        async with self._lock:
            if not self._facts_current:
                await self._look_at_topic()
            await delivery.fit(self._limit_bytes)
            try:
                generation = await self._usable_generation()
                await _send_all(generation, delivery.unacknowledged())
            except BaseException:  # refused, timed out, cancelled: all end a generation
                self._abandon()
                raise
            if generation.sent_records >= self._rotate_records:
                self._generation = None
                self._end(generation.end(graceful=True))

    async def _look_at_topic(self) -> None:
        facts = await topic_facts(self._connection, self._topic, self._client_id)
        for problem in facts.warnings():
            say("warning", "topic_warning", topic=self._topic, problem=problem)
        self._facts = facts
        self._facts_current = True

    async def _usable_generation(self) -> Generation:
        if self._generation is not None and not self._generation.usable:
            self._abandon()
        if self._generation is None:
            # Kept before it is started: whatever happens there, it is ended.
            self._generation = self._new_generation()
            self._generations += 1
            await self._generation.start()
        return self._generation

    def _new_generation(self) -> Generation:
        limit = self._limit_bytes
        facts = self._facts
        return Generation(
            ProducerSettings(
                connection=self._connection,
                topic=self._topic,
                client_id=self._client_id,
                linger_ms=self._linger_ms,
                max_record_bytes=limit if facts is None else facts.max_message_bytes,
                max_batch_bytes=min(MAX_BATCH_BYTES, limit),
            )
        )

    def _abandon(self) -> None:
        """Give up the producer, without waiting; the topic is looked at anew."""
        generation, self._generation = self._generation, None
        self._facts_current = False
        if generation is not None:
            self._end(generation.end(graceful=False))

    def _end(self, ending: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(ending, name="oddslog-producer-end")
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)


class KafkaDelivery:
    """One batch on its way into the topic."""

    def __init__(
        self,
        destination: KafkaDestination,
        batch: WriteBatch,
        encoded: EncodedBatch,
        limit_bytes: int,
    ) -> None:
        self._destination = destination
        self._batch = batch
        self._encoded = encoded
        self._limit_bytes = limit_bytes

    async def attempt(self, deadline_seconds: float) -> None:
        """See `Delivery.attempt`. Brokers that refuse connections are tried until the deadline."""
        unreachable: UnreachableError | None = None
        try:
            async with asyncio.timeout(deadline_seconds):
                while True:
                    try:
                        await self._destination._deliver(self)  # noqa: SLF001 - one module, one thing
                        break
                    except UnreachableError as error:
                        unreachable = error
                    await asyncio.sleep(RECONNECT_SECONDS)
                    unreachable = None  # from here on a time-out means something else
        except TimeoutError as error:
            if unreachable is not None:
                raise unreachable from error
            missing = len(self.unacknowledged())
            raise DeliveryError(
                f"{missing} of {len(self._encoded.fragments)} fragments were not acknowledged "
                f"in {deadline_seconds:g} s"
            ) from error
        except OddslogError:
            raise
        except Exception as error:
            raise DeliveryError(f"Kafka: {type(error).__name__}: {error}") from error
        reached("ingest.after_ack")
        if self._encoded.rejected:
            raise RejectedPartsError(self._encoded.rejected)

    def describe(self) -> dict[str, object]:
        """See `Delivery.describe`."""
        missing = self.unacknowledged()
        return {
            "fragments": len(self._encoded.fragments),
            "unacknowledged": len(missing),
            "unacknowledged_event_ids": _event_ids(missing, Kind.BETPAWA),
            "unacknowledged_competitor_event_ids": _event_ids(missing, Kind.COMPETITOR),
            "rejected": [str(part) for part in self._encoded.rejected],
        }

    def unacknowledged(self) -> list[Fragment]:
        """What must still be sent, in order."""
        return [part for part in self._encoded.fragments if not part.acknowledged]

    async def fit(self, limit_bytes: int) -> None:
        """Split anew, and send all, where the topic takes less than was thought."""
        if limit_bytes < self._limit_bytes and any(
            len(part.value) > limit_bytes for part in self.unacknowledged()
        ):
            self._encoded = await self._destination._encoded(self._batch, limit_bytes)  # noqa: SLF001
        self._limit_bytes = limit_bytes


async def _send_all(generation: Generation, fragments: list[Fragment]) -> None:
    """Send in order and wait until all are acknowledged; raises the first failure."""
    window = _Window()
    for fragment in fragments:
        await window.room_for(len(fragment.value))
        reached("ingest.before_send")
        window.add(fragment, await generation.send(fragment))
    await window.empty()


class _Window:
    """Records on their way: bounded in bytes, watched for the first failure."""

    def __init__(self) -> None:
        self._bytes = 0
        self._sent: dict[asyncio.Future[Any], int] = {}

    def add(self, fragment: Fragment, future: asyncio.Future[Any]) -> None:
        future.add_done_callback(_noting(fragment))
        self._sent[future] = len(fragment.value)
        self._bytes += len(fragment.value)

    async def room_for(self, size_bytes: int) -> None:
        while self._sent and self._bytes + size_bytes > WINDOW_BYTES:
            await self._settle()

    async def empty(self) -> None:
        while self._sent:
            await self._settle()

    async def _settle(self) -> None:
        done, _ = await asyncio.wait(self._sent, return_when=asyncio.FIRST_COMPLETED)
        for future in done:
            self._bytes -= self._sent.pop(future)
        for future in done:
            future.result()


def _noting(fragment: Fragment) -> Callable[[asyncio.Future[Any]], None]:
    """Note an acknowledgement whenever it comes, also after the attempt has ended."""

    def note(future: asyncio.Future[Any]) -> None:
        if not future.cancelled() and future.exception() is None:
            fragment.acknowledged = True

    return note


def _event_ids(fragments: list[Fragment], kind: Kind) -> list[int]:
    return sorted(
        {part.event_id for part in fragments if part.kind is kind and part.event_id is not None}
    )
