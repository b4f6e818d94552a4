"""The Kafka destination on a real broker: what is refused, and what is in the topic."""

import asyncio
import concurrent.futures.thread
import threading
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

import cramjam
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from structlog.testing import capture_logs

from oddslog.ingest import AsyncWriteQueue, KafkaDestination, RejectedPartsError
from oddslog.ingest.write_queue import Surroundings
from oddslog.schemas import KafkaConnection
from oddslog.schemas.codec import encode
from oddslog.schemas.errors import ConfigurationError, DeliveryError
from oddslog.schemas.stamp import Stamper
from oddslog.sink.topics import create_topic
from tests.integration.test_ingest_contract_kafka import event_ids, read_topic
from tests.unit.test_ingest_builders import NOON, batch, betpawa, small

MakeTopic = Callable[[dict[str, str]], Awaitable[str]]


async def no_pause(_: float) -> None:
    """Back-off is tested elsewhere."""


def queue_to(destination: KafkaDestination) -> AsyncWriteQueue:
    """A queue that does not pause between attempts."""
    surroundings = Surroundings(now=lambda: NOON, sleep=no_pause, stamper=Stamper())
    return AsyncWriteQueue(destination, surroundings=surroundings)


@pytest.fixture
def make_topic(kafka: KafkaConnection, new_name: str) -> MakeTopic:
    """Makes the test's topic with a configuration, or changes that."""

    async def make(configs: dict[str, str]) -> str:
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
        await admin.start()
        try:
            if new_name in await admin.list_topics():
                resource = ConfigResource(ConfigResourceType.TOPIC, new_name, configs)
                await admin.alter_configs([resource])
            else:
                made = await admin.create_topics([NewTopic(new_name, 3, 1, topic_configs=configs)])
                assert not made.topic_errors[0][1]
        finally:
            await admin.close()
        return new_name

    return make


async def test_every_acknowledged_fragment_is_in_the_topic_once(
    kafka: KafkaConnection, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the key, headers and checksum that tools and sink rely on; the loop compresses none."""
    compress = cramjam.zstd.compress
    threads: set[threading.Thread] = set()

    def noted(*args: Any, **options: Any) -> Any:
        threads.add(threading.current_thread())
        return compress(*args, **options)

    monkeypatch.setattr(cramjam.zstd, "compress", noted)
    async with queue_to(KafkaDestination(kafka, topic=topic)) as queue:
        receipts = [
            await queue.enqueue(
                batch(betpawa=[betpawa(event) for event in range(1, 31)], index=index)
            )
            for index in range(5)
        ]
        for receipt in receipts:
            await receipt
    assert threads
    assert threading.current_thread() not in threads
    records = await read_topic(kafka.bootstrap_servers, topic)
    assert event_ids(records) == sorted(list(range(1, 31)) * 5)
    for record in records:
        writes = record.writes
        assert record.key == f"betpawa:{writes.event_id}".encode()
        value = encode(writes)
        assert int(record.headers["oddslog-crc32"], 16) == zlib.crc32(value)
        assert record.headers["oddslog-batch"] == str(writes.batch_id).encode()
        number = f"{writes.fragment_index + 1}/{writes.fragment_count}"
        assert record.headers["oddslog-fragment"] == number.encode()


async def test_batches_are_delivered_where_no_thread_is_to_be_had(
    kafka: KafkaConnection, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop in a thread outlives the main one: executors refuse from then on."""
    async with queue_to(KafkaDestination(kafka, topic=topic)) as queue:
        await (await queue.enqueue(small(1)))
        monkeypatch.setattr(concurrent.futures.thread, "_shutdown", True)  # as the exit does
        await (await queue.enqueue(small(2)))
    assert event_ids(await read_topic(kafka.bootstrap_servers, topic)) == [2, 3]


async def test_a_record_above_the_limit_never_reaches_the_broker(
    kafka: KafkaConnection, make_topic: MakeTopic
) -> None:
    """It fails its receipt with event and size; its batch and later ones go on, one producer."""
    topic = await make_topic({"max.message.bytes": "200000"})
    destination = KafkaDestination(kafka, topic=topic)
    large = betpawa(2, raw={"text": "x" * 250_000})
    async with queue_to(destination) as queue:
        receipt = await queue.enqueue(batch(betpawa=[betpawa(1), large, betpawa(3)]))
        with pytest.raises(RejectedPartsError, match=r"event 2 .*134,464"):
            await receipt
        await (await queue.enqueue(small(3)))
        assert destination.generations == 1
    records = await read_topic(kafka.bootstrap_servers, topic)
    assert event_ids(records) == [1, 3, 4]


async def test_an_event_is_split_to_what_the_topic_takes(
    kafka: KafkaConnection, make_topic: MakeTopic
) -> None:
    """Records that do not compress, just below the limit, are all taken."""
    topic = await make_topic({"max.message.bytes": "200000"})
    snapshots = [betpawa(1, raw={"text": incompressible(60_000, seed)}) for seed in range(10)]
    async with queue_to(KafkaDestination(kafka, topic=topic)) as queue:
        await (await queue.enqueue(batch(betpawa=snapshots)))
    records = await read_topic(kafka.bootstrap_servers, topic)
    assert [len(record.writes.snapshots) for record in records] == [2, 2, 2, 2, 2]
    assert all(record.size_bytes <= 200_000 - 65_536 for record in records)


def incompressible(length: int, seed: int) -> str:
    """Text that zstd can do little about."""
    state, letters = seed + 1, []
    for _ in range(length):
        state = (state * 1103515245 + 12345) % 2**31
        letters.append(chr(33 + (state >> 16) % 90))
    return "".join(letters)


async def test_a_refused_record_costs_one_generation_and_nothing_else(
    kafka: KafkaConnection, make_topic: MakeTopic
) -> None:
    """The topic's limit was lowered behind our back: the broker refuses, which kills a producer.

    The next attempt looks at the topic, makes a new producer, and everything that
    can be stored is; later batches are not refused for ever.
    """
    topic = await make_topic({"max.message.bytes": "2000000"})
    destination = KafkaDestination(kafka, topic=topic)
    async with queue_to(destination) as queue:
        await (await queue.enqueue(batch(betpawa=[betpawa(event) for event in range(1, 9)])))
        await make_topic({"max.message.bytes": "200000"})
        events = [betpawa(event, raw={"t": incompressible(500_000, 1)}) for event in (11, 12, 13)]
        fine = [betpawa(event) for event in range(21, 31)]
        with capture_logs() as logs:
            receipt = await queue.enqueue(batch(betpawa=[*fine[:5], *events, *fine[5:]]))
            with pytest.raises(RejectedPartsError, match=r"event 11 .*event 12 .*event 13"):
                await receipt
            await (await queue.enqueue(small(39)))
        assert destination.generations == 2
    retries = [line for line in logs if line["event"] == "write_batch_retry"]
    assert ["MessageSizeTooLargeError" in line["reason"] for line in retries] == [True]
    stored = set(event_ids(await read_topic(kafka.bootstrap_servers, topic)))
    assert stored == {*range(1, 9), *range(21, 31), 40}


async def test_a_missing_topic_is_a_clear_error_at_start(
    kafka: KafkaConnection, new_name: str
) -> None:
    """That says what to do."""
    queue = queue_to(KafkaDestination(kafka, topic=new_name))
    with pytest.raises(ConfigurationError, match=r"does not exist.*oddslog topics --create"):
        await queue.start()
    await queue.stop()


async def test_a_topic_that_is_made_just_now_is_found(
    kafka: KafkaConnection, new_name: str
) -> None:
    """Brokers learn of a topic a little after its making: it is looked for again."""
    destination = KafkaDestination(kafka, topic=new_name)
    await asyncio.gather(destination.start(), create_topic(kafka, new_name, partitions=1))
    await destination.stop()


@pytest.mark.parametrize("policy", ["compact", "compact,delete"])
async def test_a_compacted_topic_is_refused(
    kafka: KafkaConnection, make_topic: MakeTopic, policy: str
) -> None:
    """It would throw snapshots away."""
    topic = await make_topic({"cleanup.policy": policy})
    with pytest.raises(ConfigurationError, match=r"cleanup\.policy"):
        await queue_to(KafkaDestination(kafka, topic=topic)).start()


async def test_an_address_that_is_none_is_a_clear_error() -> None:
    """Not an outage to be waited for."""
    with pytest.raises(ConfigurationError, match="bootstrap servers"):
        await KafkaDestination("localhost:abc").start()


async def test_a_topic_deleted_under_a_running_queue_fails_its_batches(
    kafka: KafkaConnection, topic: str
) -> None:
    """The reason says so, instead of a time-out that says nothing."""
    queue = AsyncWriteQueue(
        KafkaDestination(kafka, topic=topic),
        attempt_deadline_seconds=4.0,  # a busy machine's first batch, too, gets through
        surroundings=Surroundings(now=lambda: NOON, sleep=no_pause, stamper=Stamper()),
    )
    async with queue:
        await (await queue.enqueue(small()))
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
        await admin.start()
        await admin.delete_topics([topic])
        await admin.close()
        with pytest.raises(DeliveryError, match="does not exist"):
            await (await queue.enqueue(small()))


async def test_nothing_is_left_running_behind_a_stopped_queue(
    kafka: KafkaConnection, topic: str
) -> None:
    """No task of ours or of aiokafka's, and no thread."""
    before, threads = asyncio.all_tasks(), set(threading.enumerate())
    async with queue_to(KafkaDestination(kafka, topic=topic)) as queue:
        await (await queue.enqueue(small()))
    assert asyncio.all_tasks() == before
    for left in set(threading.enumerate()) - threads:
        if left.name.startswith("oddslog"):
            left.join(10)  # it has been told to end
            assert not left.is_alive()
