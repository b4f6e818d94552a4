"""The queue with a spool behind its Kafka destination, on a double of the brokers.

tests/integration/test_ingest_spool*.py holds the same against real ones.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka.errors import MessageSizeTooLargeError
from structlog.testing import capture_logs

from oddslog.ingest import AsyncWriteQueue, KafkaDestination, RejectedPartsError, SpoolFullError
from oddslog.ingest.destination import SPOOL_STATS
from oddslog.ingest.fragments import Fragment
from oddslog.ingest.spool import DEFAULT_SPOOL_BYTES
from oddslog.ingest.spool_errors import SpoolError
from oddslog.ingest.spool_store import SpoolStore
from oddslog.ingest.topic_check import TopicFacts
from oddslog.ingest.write_queue import Surroundings
from oddslog.schemas import kill_points
from oddslog.schemas.errors import ConfigurationError, DeliveryError
from oddslog.schemas.stamp import Stamper
from tests.support.spools import open_store, peek, reasons
from tests.unit.test_ingest_builders import NOON, batch, betpawa, broken_betpawa, small, until
from tests.unit.test_ingest_kafka_delivery import Broker
from tests.unit.test_ingest_kafka_delivery import broker as broker  # noqa: PLC0414 - a fixture


async def no_sleep(_: float) -> None:
    """A back-off that takes no time."""
    await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking for brokers, and the drainer's back-off, take no time worth it."""
    monkeypatch.setattr("oddslog.ingest.publisher.RECONNECT_SECONDS", 0.0)
    monkeypatch.setattr("oddslog.ingest.spool_drain.BACKOFF_BASE_SECONDS", 0.001)
    monkeypatch.setattr("oddslog.ingest.spool_drain.BACKOFF_CAP_SECONDS", 0.005)
    monkeypatch.setattr("oddslog.ingest.spool_drain.DEADLINE_SECONDS", 0.05)


@asynccontextmanager
async def running(
    directory: Path, *, options: dict[str, Any] | None = None, **more: Any
) -> AsyncIterator[AsyncWriteQueue]:
    """A queue with a spool; attempts are short."""
    destination = KafkaDestination("localhost:9092", spool_dir=directory, **(options or {}))
    queue = AsyncWriteQueue(
        destination,
        surroundings=Surroundings(now=lambda: NOON, sleep=no_sleep, stamper=Stamper()),
        **{"attempt_deadline_seconds": 0.05, **more},
    )
    async with queue:
        yield queue


def inside(directory: Path) -> list[int | None]:
    """The events in a closed spool, in order."""
    with open_store(directory) as store:
        return [fragment.event_id for fragment in peek(store)]


def first_seen(sent: Sequence[Sequence[int | None]]) -> list[int | None]:
    """Events in the order in which they were first sent."""
    return list(dict.fromkeys(event for generation in sent for event in generation))


async def test_after_the_last_attempt_the_spool_takes_what_is_not_acknowledged(
    broker: Broker, tmp_path: Path
) -> None:
    """The receipt resolves; what the brokers have is not spooled."""
    broker.answer = lambda _number, event: event in (2, 3) or None
    with capture_logs() as logs:
        async with running(tmp_path) as queue:
            receipt = await queue.enqueue(batch(betpawa=[betpawa(n) for n in range(1, 6)]))
            await receipt
            stats = queue.stats()
            assert (stats["spooled"], stats["written"], stats["failed"]) == (1, 0, 0)
            assert (stats["spool_fragments"], stats["retries"]) == (3, 2)
            assert stats["spool_bytes"] > 300
            assert "3 fragments" in repr(queue)
    assert inside(tmp_path) == [1, 4, 5]
    (line,) = (line for line in logs if line["event"] == "write_batch_spooled")
    assert line["attempts"] == 3


async def test_while_it_is_not_empty_everything_goes_behind_it_in_order(
    broker: Broker, tmp_path: Path
) -> None:
    """At once and without attempts; when the brokers are back it drains, then direct again."""
    broker.answer = lambda _number, _event: None
    async with running(tmp_path) as queue:
        for index in range(6):
            await (await queue.enqueue(small(index)))
        assert (queue.stats()["retries"], queue.stats()["spooled"]) == (2, 6)
        broker.answer = lambda _number, _event: True
        await until(lambda: queue.stats()["spool_fragments"] == 0)
        await (await queue.enqueue(small(6)))
        assert (queue.stats()["written"], queue.stats()["spool_bytes"]) == (1, 0)
    assert first_seen(broker.sent) == [1, 2, 3, 4, 5, 6, 7]
    assert broker.sent[-1][-7:] == [1, 2, 3, 4, 5, 6, 7]
    assert inside(tmp_path) == []


async def test_brokers_known_to_be_away_cost_no_attempts(broker: Broker, tmp_path: Path) -> None:
    """The look at the start has said so; drained when they come."""
    broker.away = True
    async with running(tmp_path) as queue:
        for index in range(3):
            await (await queue.enqueue(small(index)))
        assert (queue.stats()["retries"], queue.stats()["spooled"]) == (0, 3)
        broker.away = False
        await until(lambda: queue.stats()["spool_fragments"] == 0)
        await (await queue.enqueue(small(3)))
        assert queue.stats()["written"] == 1
    assert first_seen(broker.sent) == [1, 2, 3, 4]


async def test_what_an_earlier_process_left_goes_first(broker: Broker, tmp_path: Path) -> None:
    """Before new batches, in order."""
    broker.answer = lambda _number, _event: None
    async with running(tmp_path) as queue:
        for index in range(3):
            await (await queue.enqueue(small(index)))
    broker.sent.clear()
    broker.futures.clear()
    broker.answer = lambda _number, _event: True
    async with running(tmp_path) as queue:
        await (await queue.enqueue(small(9)))
    assert first_seen(broker.sent) == [1, 2, 3, 10]
    assert inside(tmp_path) == []


async def test_durability_spool_resolves_at_once(broker: Broker, tmp_path: Path) -> None:
    """No broker has answered yet; then the drainer does the rest."""
    broker.answer = lambda _number, _event: None
    async with running(tmp_path, options={"durability": "spool"}) as queue:
        for index in range(4):
            await (await queue.enqueue(small(index)))
        assert (queue.stats()["spooled"], queue.stats()["retries"]) == (4, 0)
        broker.answer = lambda _number, _event: True
        await until(lambda: queue.stats()["spool_fragments"] == 0)
        await (await queue.enqueue(small(4)))
        assert queue.stats()["written"] == 0
    assert first_seen(broker.sent) == [1, 2, 3, 4, 5]
    assert inside(tmp_path) == []  # a stop waits for a drain that goes well


def test_durability_spool_needs_a_folder() -> None:
    """And there is no third way."""
    with pytest.raises(ConfigurationError, match="spool_dir"):
        KafkaDestination("localhost:9092", durability="spool")
    with pytest.raises(ConfigurationError, match="ack or spool"):
        KafkaDestination("localhost:9092", durability="maybe")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="spool_bytes"):
        KafkaDestination("localhost:9092", spool_dir="x", spool_bytes=0)


async def test_a_full_spool_fails_the_batch_with_all_that_names_it(
    broker: Broker, tmp_path: Path
) -> None:
    """As without a spool; what is inside stays, and goes out when the brokers are back."""
    broker.answer = lambda _number, _event: None
    with capture_logs() as logs:
        async with running(tmp_path, options={"spool_bytes": 2000}) as queue:
            await (await queue.enqueue(small(0)))
            receipt = await queue.enqueue(batch(betpawa=[betpawa(77, markets=30)], index=5))
            with pytest.raises(DeliveryError, match="the spool did not take it") as caught:
                await receipt
            assert isinstance(caught.value.__cause__, SpoolFullError)
            await (await queue.enqueue(small(1)))  # a small one still fits
            broker.answer = lambda _number, _event: True
            await until(lambda: queue.stats()["spool_fragments"] == 0)
            await (await queue.enqueue(receipt.batch))
    (failed,) = (line for line in logs if line["event"] == "write_batch_failed")
    assert (failed["event_ids"], failed["batch_index"]) == ([77], 5)
    assert "is full" in failed["reason"]
    assert first_seen(broker.sent) == [1, 2, 77]


async def test_a_full_spool_is_waited_for_while_it_drains(broker: Broker, tmp_path: Path) -> None:
    """Back-pressure, not failure: within the attempt's deadline."""
    broker.answer = lambda _number, _event: None
    options = {"spool_bytes": 1900}  # either alone, not both
    async with running(tmp_path, options=options, attempt_deadline_seconds=0.5) as queue:
        await (await queue.enqueue(small(0)))
        receipt = await queue.enqueue(batch(betpawa=[betpawa(77, markets=10)]))
        await until(lambda: bool(queue._pipeline and queue._pipeline._attempting))
        assert not receipt.done()
        broker.answer = lambda _number, _event: True
        await receipt
        assert queue.stats()["failed"] == 0
    assert first_seen(broker.sent) == [1, 77]


async def test_a_spool_that_fails_is_passed_by_where_the_order_allows(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With nothing unsent inside, the brokers may have the batch directly."""

    def fail(*_: object) -> None:
        raise SpoolError("the disk is gone")

    async with running(tmp_path, options={"durability": "spool"}) as queue:
        monkeypatch.setattr(SpoolStore, "append", fail)
        await (await queue.enqueue(small(0)))
        assert (queue.stats()["written"], queue.stats()["spooled"]) == (1, 0)


@pytest.mark.parametrize("away", [True, False])
async def test_stop_in_an_outage_puts_the_memory_queue_into_the_spool(
    broker: Broker, tmp_path: Path, away: bool
) -> None:
    """Also what was not encoded yet; every receipt resolves, in a part of the deadline."""
    loop = asyncio.get_running_loop()
    broker.answer = lambda _number, _event: None
    more: dict[str, Any] = {"attempt_deadline_seconds": 60, "stop_deadline_seconds": 4.0}
    async with running(tmp_path, **more) as queue:
        broker.away = away
        receipts = [await queue.enqueue(small(index)) for index in range(20)]
        await until(lambda: bool(away or broker.sent))
        began = loop.time()
    assert loop.time() - began < 4.0 + 3.0 + 1.0  # the deadline, the settling, a slow machine
    for receipt in receipts:
        await receipt
    assert inside(tmp_path) == list(range(1, 21))


async def test_stop_during_a_pause_between_attempts_cuts_it_off(
    broker: Broker, tmp_path: Path
) -> None:
    """A pause of seconds would take them from the spool."""
    broker.answer = lambda _number, _event: None
    pausing = asyncio.Event()

    async def sleep(_: float) -> None:
        pausing.set()
        await asyncio.Event().wait()

    queue = AsyncWriteQueue(
        KafkaDestination("localhost:9092", spool_dir=tmp_path),
        surroundings=Surroundings(now=lambda: NOON, sleep=sleep, stamper=Stamper()),
        attempt_deadline_seconds=0.01,
    )
    async with queue:
        receipt = await queue.enqueue(small(0))
        await pausing.wait()
    await receipt
    assert inside(tmp_path) == [1]


async def test_what_can_never_be_sent_is_told_after_the_rest_is_spooled(
    broker: Broker, tmp_path: Path
) -> None:
    """As when the brokers take the rest."""
    broker.away = True
    async with running(tmp_path) as queue:
        receipt = await queue.enqueue(batch(betpawa=[betpawa(1), broken_betpawa(2)]))
        with pytest.raises(RejectedPartsError, match="betpawa event 2"):
            await receipt
    assert inside(tmp_path) == [1]


async def test_a_fragment_beyond_the_topics_limit_is_rejected_and_the_rest_goes_on(
    broker: Broker, tmp_path: Path
) -> None:
    """The limit was lowered meanwhile."""
    broker.away = True
    async with running(tmp_path) as queue:
        events = [betpawa(1), betpawa(2, markets=400), betpawa(3)]
        await (await queue.enqueue(batch(betpawa=events)))
        broker.facts = TopicFacts(3, 1, 20_000, 1)
        broker.away = False
        await until(lambda: queue.stats()["spool_fragments"] == 0)
        assert queue.stats()["spool_rejected"] == 1
        assert queue.stats()["spool_max_bytes"] == DEFAULT_SPOOL_BYTES
        assert "1 rejected" in repr(queue)
        await (await queue.enqueue(small(3)))
    assert first_seen(broker.sent) == [1, 3, 4]
    (reason,) = reasons(tmp_path)
    assert "and the topic's limit is" in reason


async def test_what_the_brokers_call_too_large_is_found_one_by_one(
    broker: Broker, tmp_path: Path
) -> None:
    """They do not say which one it was."""
    broker.away = True
    broker.answer = lambda _number, event: MessageSizeTooLargeError() if event == 3 else True
    async with running(tmp_path) as queue:
        await (await queue.enqueue(batch(betpawa=[betpawa(n) for n in range(1, 6)])))
        broker.away = False
        await until(lambda: queue.stats()["spool_fragments"] == 0)
        assert queue.stats()["spool_rejected"] == 1
    assert reasons(tmp_path) == ["the brokers refuse it as too large"]
    assert set(first_seen(broker.sent)) == {1, 2, 3, 4, 5}


async def test_the_loop_goes_on_while_the_disk_is_slow(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attempt that runs out of time meanwhile does not put the batch in twice."""
    go_on, waiting = threading.Event(), threading.Event()
    append = SpoolStore.append

    def slow(store: SpoolStore, fragments: Sequence[Fragment]) -> None:
        waiting.set()
        assert go_on.wait(20)
        append(store, fragments)

    broker.away = True
    monkeypatch.setattr(SpoolStore, "append", slow)
    monkeypatch.setattr("oddslog.ingest.pipeline.ATTEMPT_GRACE_SECONDS", 0.0)
    async with running(tmp_path) as queue:
        receipt = await queue.enqueue(small(0))
        await until(lambda: waiting.is_set() and queue.stats()["retries"] == 2)
        assert not receipt.done()
        go_on.set()
        await receipt
    assert inside(tmp_path) == [1]


async def test_a_spool_in_use_is_said_at_the_start(broker: Broker, tmp_path: Path) -> None:
    """In one line; the queue can be started when it is free."""
    queue = AsyncWriteQueue(KafkaDestination("localhost:9092", spool_dir=tmp_path))
    with open_store(tmp_path), pytest.raises(ConfigurationError, match="in use"):
        await queue.start()
    async with queue:
        await (await queue.enqueue(small(0)))
    assert broker.sent == [[1]]


async def test_a_topic_that_is_missing_lets_go_of_the_spool(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the next start would find it in use."""

    async def missing(*_: object, **__: object) -> TopicFacts:
        raise ConfigurationError("topic is not there")

    queue = AsyncWriteQueue(KafkaDestination("localhost:9092", spool_dir=tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr("oddslog.ingest.publisher.topic_facts", missing)
        with pytest.raises(ConfigurationError, match="not there"):
            await queue.start()
    async with queue:
        await (await queue.enqueue(small(0)))


async def test_kill_points_are_before_and_after_each_step(broker: Broker, tmp_path: Path) -> None:
    """Where the fault tests look."""
    seen: list[str] = []
    kill_points.arm(seen.append)
    try:
        async with running(tmp_path, options={"durability": "spool"}) as queue:
            await (await queue.enqueue(small(0)))
            await until(lambda: seen[-1] == "ingest.after_spool_delete")
    finally:
        kill_points.arm(None)
    assert seen == [
        "ingest.before_spool_mark",
        "ingest.after_spool_mark",
        "ingest.before_spool",
        "ingest.after_spool",
        "ingest.before_send",
        "ingest.after_send",
        "ingest.before_spool_delete",
        "ingest.after_spool_delete",
    ]


async def test_stats_without_a_spool_are_zeros(broker: Broker) -> None:
    """A dashboard need not ask."""
    async with AsyncWriteQueue(KafkaDestination("localhost:9092")) as queue:
        await (await queue.enqueue(small(0)))
        found = {name: value for name, value in queue.stats().items() if "spool" in name}
    assert found == {"spooled": 0} | dict.fromkeys(SPOOL_STATS, 0)
    assert broker.sent == [[1]]
