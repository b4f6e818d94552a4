"""Sending fragments to a topic, in order, until all are acknowledged.

One publisher is shared by a queue's sender and the spool's drainer: one at a time
sends, by the same producer.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

from ..schemas.connection import KafkaConnection
from ..schemas.errors import DeliveryError, OddslogError, UnreachableError
from ..schemas.kafka_access import access_denied
from ..schemas.kill_points import reached
from .fragments import Fragment
from .pacing import Pacer
from .producer import Generation, ProducerSettings
from .registry_frames import RegistryFrames, plain_frame
from .say import say
from .topic_check import ASSUMED_MAX_MESSAGE_BYTES, TopicFacts, record_limit, topic_facts

__all__ = ["Parcel", "Publisher", "unacknowledged"]

START_SECONDS = 10.0
_TOPIC_PATIENCE_SECONDS = 3.0  # brokers learn a little late of a topic just made
STOP_SECONDS = 6.0
# Between two looks for brokers that refuse connections, within one attempt.
RECONNECT_SECONDS = 0.5
# What may be on its way unacknowledged: enough that the next part of it is encoded and
# compressed while the brokers write this one.
WINDOW_BYTES = 2 * 1024 * 1024
# At most so much is compressed in one go, and kept once more while it is.
MAX_BATCH_BYTES = 1024 * 1024


class Parcel(Protocol):
    """Fragments that are sent together."""

    @property
    def fragments(self) -> Sequence[Fragment]:
        """All of them, in order; those that are acknowledged are not sent again."""
        ...

    async def fit(self, limit_bytes: int) -> None:
        """Told before anything is sent what the topic takes; may change `fragments`."""
        ...


class Publisher:
    """Writes fragments into a topic, acknowledged by `min.insync.replicas` brokers.

    What a generation of the producer does not acknowledge is sent again by the next
    one: a record may so be twice in the topic, never not at all once `publish` has
    returned.

    Args:
        connection: to the brokers.
        topic: must exist; it is never created.
        linger_ms: how long records wait to share a request.
        client_id: seen in the brokers' logs and quotas.
        rotate_records: a producer is replaced after so many records.

    Attributes:
        generations: how many producers there have been.
        away: whether `start` found no brokers, and nothing was sent since.
    """

    def __init__(
        self,
        connection: KafkaConnection,
        topic: str,
        *,
        linger_ms: int,
        client_id: str,
        rotate_records: int,
    ) -> None:
        self.generations = 0
        self.away = False
        self._connection = connection
        self._topic = topic
        self._linger_ms = linger_ms
        self._client_id = client_id
        self._rotate_records = rotate_records
        # Written under the lock, by whoever holds it.
        self._lock = asyncio.Lock()
        self._facts: TopicFacts | None = None  # the last known; None: never seen
        self._facts_current = False  # whether the topic need not be looked at
        self._generation: Generation | None = None
        # Ended producers on their way out; `stop` waits for them.
        self._endings: set[asyncio.Task[None]] = set()
        registry = connection.registry()
        self._frames = None if registry is None else RegistryFrames(registry, topic)

    @property
    def limit_bytes(self) -> int:
        """What one record's value may take, as far as the topic is known."""
        facts = self._facts
        return record_limit(ASSUMED_MAX_MESSAGE_BYTES if facts is None else facts.max_message_bytes)

    async def start(self) -> None:
        """Look at the topic and the schema registry, for at most some seconds. Sends nothing.

        Servers that are away are logged, not raised: both are looked at before the
        first record is sent.

        Raises:
            ConfigurationError: the topic is missing or compacted, the settings are
                wrong, or the registry refuses our schema.
        """
        try:
            async with self._lock, asyncio.timeout(START_SECONDS):
                await self._look_at_topic(_TOPIC_PATIENCE_SECONDS)
        except (UnreachableError, TimeoutError) as error:
            self.away = True
            reason = str(error) or f"no answer in {START_SECONDS:g} s"
            say("warning", "kafka_unreachable", topic=self._topic, reason=reason)
        try:
            if self._frames is not None:
                await self._frames.prepare()
        except UnreachableError as error:
            say("warning", "schema_registry_unreachable", topic=self._topic, reason=str(error))

    async def stop(self) -> None:
        """End the producer; bounded in time, and harmless a second time.

        What a `publish` has not returned for may or may not be in the topic.
        """
        generation, self._generation = self._generation, None
        self._facts_current = False
        if generation is not None:
            self._end(generation.end(graceful=True))
        if self._endings:
            await asyncio.wait(set(self._endings), timeout=STOP_SECONDS)

    async def publish(self, parcel: Parcel, deadline_seconds: float) -> None:
        """Send what is not acknowledged, in order, and wait until all of it is.

        Brokers that refuse connections are tried until the deadline. May be
        cancelled at any await; what was acknowledged until then stays so.

        Raises:
            UnreachableError: no broker answers, or no schema registry where one is needed.
            ConfigurationError: the topic is missing or compacted, or a right is; the
                registry refuses our schema.
            DeliveryError: not all was acknowledged in time, or the brokers refused
                one; the cause says why.
        """
        unreachable: UnreachableError | None = None
        try:
            async with asyncio.timeout(deadline_seconds):
                while True:
                    try:
                        await self._publish(parcel)
                    except UnreachableError as error:
                        unreachable = error
                    else:
                        return
                    await asyncio.sleep(RECONNECT_SECONDS)
                    unreachable = None  # from here on a time-out means something else
        except TimeoutError as error:
            if unreachable is not None:
                raise unreachable from error
            missing = len(unacknowledged(parcel.fragments))
            raise DeliveryError(
                f"{missing} of {len(parcel.fragments)} fragments were not acknowledged "
                f"in {deadline_seconds:g} s"
            ) from error
        except OddslogError:
            raise
        except Exception as error:
            denied = access_denied(error, self._connection)
            if denied is not None:
                raise denied from error
            raise DeliveryError(f"Kafka: {type(error).__name__}: {error}") from error

    async def _publish(self, parcel: Parcel) -> None:
        async with self._lock:
            if not self._facts_current:
                await self._look_at_topic()
            await parcel.fit(self.limit_bytes)
            fragments = unacknowledged(parcel.fragments)
            if self._frames is not None:
                await self._frames.prepare(fragments)
            framed = plain_frame if self._frames is None else self._frames.framed
            try:
                generation = await self._usable_generation()
                await _send_all(generation, fragments, framed)
            except BaseException:  # refused, timed out, cancelled: all end a generation
                self._abandon()
                raise
            self.away = False
            if generation.sent_records >= self._rotate_records:
                self._generation = None
                self._end(generation.end(graceful=True))

    async def _look_at_topic(self, patience_seconds: float = 0.0) -> None:
        facts = await topic_facts(
            self._connection, self._topic, self._client_id, patience_seconds=patience_seconds
        )
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
            self.generations += 1
            await self._generation.start()
        return self._generation

    def _new_generation(self) -> Generation:
        limit = self.limit_bytes
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


def unacknowledged(fragments: Sequence[Fragment]) -> list[Fragment]:
    """What must still be sent, in order."""
    return [part for part in fragments if not part.acknowledged]


async def _send_all(
    generation: Generation, fragments: list[Fragment], framed: Callable[[Fragment], Fragment]
) -> None:
    """Send in order and wait until all are acknowledged; raises the first failure."""
    window = _Window()
    pacer = Pacer()
    for fragment in fragments:
        await window.room_for(len(fragment.value))
        reached("ingest.before_send")
        window.add(fragment, await generation.send(framed(fragment)))
        reached("ingest.after_send")
        await pacer.pause()
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
