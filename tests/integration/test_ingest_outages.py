"""The publisher when its broker hangs, dies, is away, or comes late.

The broker is this module's own, so that it can be stopped.
"""

import asyncio
import gc
import os
import signal
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from structlog.testing import capture_logs

from oddslog.deploy.stack import LocalStack
from oddslog.ingest import AsyncWriteQueue, KafkaDestination
from oddslog.ingest.fragments import Fragment
from oddslog.ingest.producer import REQUEST_TIMEOUT_MS, Generation, ProducerSettings
from oddslog.ingest.write_queue import Surroundings
from oddslog.schemas import KafkaConnection
from oddslog.schemas.errors import ConfigurationError, DeliveryError, UnreachableError
from oddslog.schemas.stamp import Stamper
from oddslog.schemas.wire import Kind
from oddslog.sink.topics import create_topic
from tests.integration.test_ingest_contract_kafka import event_ids, read_topic
from tests.unit.test_ingest_builders import NOON, batch, betpawa, small

DEADLINE_SECONDS = 1.0
# Longer than a broker's start after a crash, on a busy machine.
OUTAGE_SECONDS = 150.0
# Far above what an end takes, far below the time-out of a request to a broker that hangs.
BOUND_SECONDS = REQUEST_TIMEOUT_MS / 1000 / 3


class Broker:
    """A broker that is ours to stop."""

    def __init__(self, directory: Path) -> None:
        # Hostile on purpose: a topic that is only asked about would be there.
        properties = {"auto.create.topics.enable": "true"}
        self._stack = LocalStack(directory, kafka_properties=properties)
        self.start()

    @property
    def servers(self) -> str:
        return f"127.0.0.1:{self._stack._kafka.state.port}"

    def start(self) -> None:
        self._stack.start_kafka()

    def kill(self) -> None:
        self._stack.stop_kafka(signal.SIGKILL)

    def freeze(self) -> None:
        """Connections stay, nothing is answered: a black hole."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        process = self._stack._kafka.state.process
        if process is not None:
            os.kill(process.pid, number)

    def destroy(self) -> None:
        self.thaw()
        self._stack.destroy()


@pytest.fixture(scope="module")
def own_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One broker for all tests here; each start takes seconds."""
    made = Broker(tmp_path_factory.mktemp("broker"))
    yield made
    made.destroy()


@pytest.fixture
def broker(own_broker: Broker) -> Iterator[Broker]:
    """The broker, up before and after."""
    yield own_broker
    own_broker.thaw()
    own_broker.start()


@pytest.fixture
async def topic(broker: Broker) -> str:
    """A topic of its own for each test."""
    name = f"t{uuid.uuid4().hex[:12]}"
    await create_topic(KafkaConnection(broker.servers), name, partitions=3)
    return name


class FailedAttempts:
    """The queue's pause between attempts: takes no time, and signals each failure."""

    def __init__(self) -> None:
        self._count = 0
        self._changed = asyncio.Condition()

    async def __call__(self, _: float) -> None:
        async with self._changed:
            self._count += 1
            self._changed.notify_all()

    @property
    def count(self) -> int:
        """How many attempts have failed."""
        return self._count

    async def wait_for(self, count: int) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._count >= count)


@asynccontextmanager
async def running(
    broker: Broker, topic: str, **options: Any
) -> AsyncIterator[tuple[AsyncWriteQueue, FailedAttempts]]:
    """A queue of many short attempts; afterwards nothing of it may be left."""
    heard: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context))
    before = asyncio.all_tasks()
    failures = FailedAttempts()
    queue = AsyncWriteQueue(
        KafkaDestination(broker.servers, topic=topic),
        surroundings=Surroundings(now=lambda: NOON, sleep=failures, stamper=Stamper()),
        **{"attempts": 1000, "attempt_deadline_seconds": DEADLINE_SECONDS, **options},
    )
    async with queue:
        yield queue, failures
    assert asyncio.all_tasks() == before
    del queue
    gc.collect()
    assert heard == []  # no exception that was never retrieved, no client left open


async def test_a_broker_that_hangs_longer_than_an_attempt_loses_nothing(
    broker: Broker, topic: str
) -> None:
    """SIGSTOP in mid-stream; attempts are abandoned; the batch and later ones arrive."""
    async with running(broker, topic) as (queue, failures):
        await (await queue.enqueue(batch(betpawa=[betpawa(event) for event in range(1, 11)])))
        smooth = failures.count == 0  # on a busy machine a first attempt may be too slow
        broker.freeze()
        receipts = [
            await queue.enqueue(batch(betpawa=[betpawa(event) for event in range(11, 41)])),
            await queue.enqueue(small(40)),
        ]
        await failures.wait_for(2)
        assert not any(receipt.done() for receipt in receipts)
        broker.thaw()
        for receipt in receipts:
            await receipt
    stored = event_ids(await read_topic(broker.servers, topic))
    assert set(stored) == set(range(1, 42))
    if smooth:  # only an abandoned generation can have written a record twice
        assert [event for event in stored if event <= 10] == list(range(1, 11))


async def test_a_broker_that_is_killed_and_comes_back_loses_nothing(
    broker: Broker, topic: str
) -> None:
    """SIGKILL while batches flow; everything acknowledged before and after is there."""
    async with running(broker, topic) as (queue, failures):
        receipts = [
            await queue.enqueue(batch(betpawa=[betpawa(10 * index + n) for n in range(10)]))
            for index in range(10)
        ]
        await receipts[2]
        await asyncio.to_thread(broker.kill)
        receipts += [
            await queue.enqueue(batch(betpawa=[betpawa(10 * index + n) for n in range(10)]))
            for index in range(10, 15)
        ]
        await failures.wait_for(2)
        await asyncio.to_thread(broker.start)
        for receipt in receipts:
            await receipt
    assert set(event_ids(await read_topic(broker.servers, topic))) == set(range(150))


async def test_outages_shorter_than_an_attempt_write_nothing_twice(
    broker: Broker, topic: str
) -> None:
    """One generation: the producer's own retries are idempotent."""
    destination = KafkaDestination(broker.servers, topic=topic)
    async with AsyncWriteQueue(destination, attempt_deadline_seconds=OUTAGE_SECONDS) as queue:
        await (await queue.enqueue(small(0)))
        await asyncio.to_thread(broker.kill)
        receipt = await queue.enqueue(batch(betpawa=[betpawa(event) for event in range(2, 41)]))
        await asyncio.to_thread(broker.start)
        await receipt
        assert destination.generations == 1
    assert event_ids(await read_topic(broker.servers, topic)) == list(range(1, 41))


async def test_a_queue_can_be_started_while_the_broker_is_away(broker: Broker, topic: str) -> None:
    """Enqueue does not wait for it, and the batch arrives when it is back."""
    await asyncio.to_thread(broker.kill)
    with capture_logs() as logs:
        async with running(broker, topic) as (queue, failures):
            receipt = await queue.enqueue(small(6))
            await failures.wait_for(1)
            await asyncio.to_thread(broker.start)
            await receipt
    assert "kafka_unreachable" in [line["event"] for line in logs]
    # Once at least: an attempt that was given up while the broker came up is sent again.
    assert set(event_ids(await read_topic(broker.servers, topic))) == {7}


@pytest.mark.parametrize("away", ["freeze", "kill"])
async def test_stop_is_bounded_with_the_broker_away(broker: Broker, topic: str, away: str) -> None:
    """What was not acknowledged is named, and nothing is left behind."""
    loop = asyncio.get_running_loop()
    receipts = []
    with capture_logs() as logs:
        async with running(broker, topic, stop_deadline_seconds=1.5) as (queue, failures):
            await (await queue.enqueue(small(0)))
            await asyncio.to_thread(getattr(broker, away))
            receipts = [
                await queue.enqueue(batch(betpawa=[betpawa(event), betpawa(event + 50)]))
                for event in range(2, 7)
            ]
            await failures.wait_for(1)
            began = loop.time()
        assert loop.time() - began < BOUND_SECONDS
    for receipt in receipts:
        with pytest.raises(DeliveryError, match="stopped"):
            await receipt
    named = [line["event_ids"] for line in logs if line["event"] == "write_batch_failed"]
    assert named == [[event, event + 50] for event in range(2, 7)]


async def test_a_missing_topic_is_not_created(broker: Broker) -> None:
    """Not even by a broker that creates whatever it is asked about."""
    with pytest.raises(ConfigurationError, match="does not exist"):
        await KafkaDestination(broker.servers, topic="never-made").start()
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.servers)
    await admin.start()
    try:
        assert "never-made" not in await admin.list_topics()
    finally:
        await admin.close()


def settings(servers: str, topic: str, state: str) -> ProducerSettings:
    """Of a generation on the broker."""
    linger_ms = 60_000 if state == "lingering" else 5
    return ProducerSettings(KafkaConnection(servers), topic, "test", linger_ms, 10**6, 10**6)


def record(number: int) -> Fragment:
    """A record that says little."""
    return Fragment(Kind.BETPAWA, number, b"k%d" % number, b"v" * 1000, [])


@pytest.mark.parametrize(
    "state",
    ["new", "refused", "hanging start", "idle", "lingering", "frozen", "killed", "dead sender"],
)
async def test_a_generation_can_be_ended_in_every_state(
    broker: Broker, topic: str, state: str
) -> None:
    """Within seconds, without leaving a task, a warning or a waiter behind."""
    heard: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context))
    before = asyncio.all_tasks()
    servers = "127.0.0.1:1" if state == "refused" else broker.servers
    generations = [Generation(settings(servers, topic, state)) for _ in range(2)]
    futures = await bring_to(generations, state, broker)
    for generation, graceful in zip(generations, [True, False], strict=True):
        async with asyncio.timeout(BOUND_SECONDS):
            await generation.end(graceful=graceful)
    for future in futures:
        await future  # its outcome, as the destination would look at it
    del generation, generations, futures
    await asyncio.sleep(0)
    gc.collect()
    assert asyncio.all_tasks() == before
    # aiokafka's own callback breaks when its sender dies without transactions.
    assert [context for context in heard if "_fail_all" not in context["message"]] == []


async def bring_to(generations: list[Generation], state: str, broker: Broker) -> list[Any]:
    """Bring generations into a state; returns what waits for what is on its way."""
    if state == "hanging start":
        broker.freeze()
    for generation in [] if state == "new" else generations:
        if state in ("refused", "hanging start"):
            with pytest.raises((UnreachableError, TimeoutError)):
                await asyncio.wait_for(generation.start(), 0.2)
        else:
            await generation.start()
            if state != "lingering":
                await (await generation.send(record(0)))
    if state not in ("lingering", "frozen", "killed", "dead sender"):
        return []
    if state == "frozen":
        broker.freeze()
    elif state == "killed":
        await asyncio.to_thread(broker.kill)
    for generation in generations if state == "dead sender" else []:
        generation._producer._sender._message_accumulator.drain_by_nodes = None
    waiting = [
        outcome(await generation.send(record(number)))
        for number in range(20)
        for generation in generations
    ]
    if state == "dead sender":
        await asyncio.gather(*waiting)
        assert not any(generation.usable for generation in generations)
    return waiting


def outcome(future: "asyncio.Future[Any]") -> "asyncio.Task[Any]":
    """Waits until a delivery is known to be or not to be."""

    async def known() -> bool:
        await asyncio.wait([future])
        return future.cancelled() or future.exception() is None

    return asyncio.create_task(known())
