"""What a Kafka delivery sends, and sends again, and in which order.

The producer is a double of 30 lines here; tests/integration/test_ingest_kafka*.py
holds the same against a real broker.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from oddslog.ingest import KafkaDestination, RejectedPartsError
from oddslog.ingest.fragments import Fragment
from oddslog.ingest.producer import ProducerSettings
from oddslog.ingest.topic_check import TopicFacts, record_limit
from oddslog.schemas import kill_points
from oddslog.schemas.codec import decode
from oddslog.schemas.connection import KafkaConnection
from oddslog.schemas.errors import ConfigurationError, DeliveryError, UnreachableError
from tests.unit.test_ingest_builders import NOON, batch, betpawa, turns, until

TEN_EVENTS = batch(
    betpawa=[betpawa(event, captured_at=NOON) for event in range(1, 11)], confirmed_at=NOON
)


class Broker:
    """Makes generations, and remembers what each was given."""

    def __init__(self) -> None:
        self.settings: list[ProducerSettings] = []
        self.sent: list[list[int | None]] = []
        self.ended: list[bool] = []
        self.futures: list[dict[int | None, asyncio.Future[Any]]] = []
        self.facts = TopicFacts(3, 1, 1_000_000, 1)
        self.looks = 0
        self.away = False
        # What becomes of a record of an event, by generation: None waits for ever.
        self.answer: Callable[[int, int | None], Exception | bool | None] = lambda *_: True

    def generation(self, settings: ProducerSettings) -> "Generation":
        self.settings.append(settings)
        self.sent.append([])
        self.futures.append({})
        return Generation(self, len(self.sent) - 1)

    async def look(self, *_: object, **__: object) -> TopicFacts:
        self.looks += 1
        if self.away:
            raise UnreachableError("Kafka does not answer")
        return self.facts


class Generation:
    """One of its producers."""

    def __init__(self, broker: Broker, number: int) -> None:
        self._broker = broker
        self._number = number
        self.sent_records = 0
        self.usable = True

    async def start(self) -> None:
        if self._broker.away:
            raise UnreachableError("Kafka does not answer")

    async def send(self, fragment: Fragment) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._broker.sent[self._number].append(fragment.event_id)
        self._broker.futures[self._number][fragment.event_id] = future
        self.sent_records += 1
        answer = self._broker.answer(self._number, fragment.event_id)
        if isinstance(answer, Exception):
            future.set_exception(answer)
        elif answer:
            future.set_result(None)
        return future

    async def end(self, *, graceful: bool) -> None:
        self._broker.ended.append(graceful)


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    """In the place of aiokafka, for every destination of the test."""
    made = Broker()
    monkeypatch.setattr("oddslog.ingest.publisher.Generation", made.generation)
    monkeypatch.setattr("oddslog.ingest.publisher.topic_facts", made.look)
    return made


async def test_fragments_are_sent_once_and_in_order(broker: Broker) -> None:
    """By one producer, which stays for the next batch."""
    destination = KafkaDestination("localhost:9092")
    await destination.start()
    for _ in range(2):
        await (await destination.prepare(TEN_EVENTS)).attempt(5)
    assert broker.sent == [[*range(1, 11), *range(1, 11)]]
    assert (broker.looks, destination.generations) == (1, 1)
    await destination.stop()
    assert broker.ended == [True]


async def test_the_next_attempt_sends_only_what_is_not_acknowledged(broker: Broker) -> None:
    """With a new producer, in order; also what the old one was told after it was given up."""
    broker.answer = lambda number, event: number > 0 or (event in (2, 5) or None)
    destination = KafkaDestination("localhost:9092")
    delivery = await destination.prepare(TEN_EVENTS)
    with pytest.raises(DeliveryError, match=r"8 of 10 fragments were not acknowledged in 0\.05 s"):
        await delivery.attempt(0.05)
    assert delivery.describe()["unacknowledged_event_ids"] == [1, 3, 4, 6, 7, 8, 9, 10]
    broker.futures[0][9].set_result(None)
    await turns()
    await delivery.attempt(5)
    assert broker.sent[1] == [1, 3, 4, 6, 7, 8, 10]
    await destination.stop()
    assert broker.ended == [False, True]


async def test_a_refused_record_ends_the_generation_at_once(broker: Broker) -> None:
    """Nothing more is fed to it: aiokafka's would be refused for ever."""
    refusal = ValueError("OutOfOrderSequenceNumber")
    broker.answer = lambda number, event: refusal if (number, event) == (0, 3) else True
    destination = KafkaDestination("localhost:9092")
    delivery = await destination.prepare(TEN_EVENTS)
    with pytest.raises(DeliveryError, match="OutOfOrderSequenceNumber"):
        await delivery.attempt(5)
    await delivery.attempt(5)
    assert 3 in broker.sent[1]
    assert broker.sent[1] == sorted(broker.sent[1], key=lambda event: event or 0)
    assert broker.looks == 2
    await destination.stop()


async def test_a_cancelled_attempt_ends_the_generation(broker: Broker) -> None:
    """What it had not heard of is sent again by the next one."""
    broker.answer = lambda number, _: number > 0 or None
    destination = KafkaDestination("localhost:9092")
    delivery = await destination.prepare(TEN_EVENTS)
    attempt = asyncio.create_task(delivery.attempt(5))
    await until(lambda: bool(broker.sent) and len(broker.sent[0]) == 10)
    attempt.cancel()
    await asyncio.wait([attempt])
    assert attempt.cancelled()
    await delivery.attempt(5)
    assert broker.sent[1] == list(range(1, 11))
    await destination.stop()


async def test_what_is_on_its_way_is_bounded_in_bytes(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Aiokafka keeps it once more, and once compressed."""
    destination = KafkaDestination("localhost:9092")
    delivery = await destination.prepare(TEN_EVENTS)
    size = len(delivery.fragments[0].value)  # type: ignore[attr-defined]
    monkeypatch.setattr("oddslog.ingest.publisher.WINDOW_BYTES", 3 * size)
    broker.answer = lambda *_: None
    attempt = asyncio.create_task(delivery.attempt(5))
    await until(lambda: bool(broker.sent) and len(broker.sent[0]) == 3)
    for event in range(1, 11):
        await turns()
        assert max(broker.sent[0], key=lambda sent: sent or 0) == min(event + 2, 10)
        broker.futures[0][event].set_result(None)
    await attempt
    await destination.stop()


async def test_a_dead_sender_is_replaced_before_it_is_fed(broker: Broker) -> None:
    """Aiokafka #907: its task can die between two batches."""
    destination = KafkaDestination("localhost:9092")
    await (await destination.prepare(TEN_EVENTS)).attempt(5)
    assert destination._publisher._generation is not None
    destination._publisher._generation.usable = False  # type: ignore[misc]
    await (await destination.prepare(TEN_EVENTS)).attempt(5)
    assert [len(sent) for sent in broker.sent] == [10, 10]
    await destination.stop()


async def test_generations_are_rotated_before_sequence_numbers_wrap(broker: Broker) -> None:
    """Between batches, when all is acknowledged."""
    destination = KafkaDestination("localhost:9092", rotate_records=15)
    for _ in range(4):
        await (await destination.prepare(TEN_EVENTS)).attempt(5)
    assert [len(sent) for sent in broker.sent] == [20, 20]
    await destination.stop()
    assert broker.ended == [True, True]


async def test_brokers_that_are_away_at_start_are_no_failure(broker: Broker) -> None:
    """The topic is looked at before the first batch; an attempt says what is wrong."""
    broker.away = True
    destination = KafkaDestination("localhost:9092")
    with capture_logs() as logs:
        await destination.start()
    assert [line["event"] for line in logs] == ["kafka_unreachable"]
    delivery = await destination.prepare(TEN_EVENTS)
    with pytest.raises(UnreachableError):
        await delivery.attempt(0.01)
    broker.away = False
    await delivery.attempt(5)
    assert broker.sent == [list(range(1, 11))]
    await destination.stop()


async def test_an_attempt_uses_its_deadline_to_wait_for_the_brokers(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused connections come back at once; three of them are not an outage of half a minute."""
    monkeypatch.setattr("oddslog.ingest.publisher.RECONNECT_SECONDS", 0.0)
    broker.away = True
    destination = KafkaDestination("localhost:9092")
    attempt = asyncio.create_task((await destination.prepare(TEN_EVENTS)).attempt(20))
    await until(lambda: broker.looks > 5)
    assert not attempt.done()
    broker.away = False
    await attempt
    assert broker.sent == [list(range(1, 11))]
    await destination.stop()


async def test_a_topic_that_takes_less_than_thought_splits_the_batch_anew(broker: Broker) -> None:
    """It was prepared before the topic could be seen; nothing is sent that would be refused."""
    stamped = batch(
        betpawa=[
            betpawa(1, raw={"text": "x" * 20_000}, captured_at=NOON),
            betpawa(1, raw={"text": "y" * 20_000}, captured_at=NOON),
            betpawa(2, raw={"text": "z" * 90_000}, captured_at=NOON),
        ],
        confirmed_at=NOON,
    )
    broker.facts = TopicFacts(3, 1, 60_000, 1)
    destination = KafkaDestination("localhost:9092")
    delivery = await destination.prepare(stamped)
    with pytest.raises(RejectedPartsError, match="event 2"):
        await delivery.attempt(5)
    assert broker.sent == [[1, 1]]
    assert broker.settings[0].max_batch_bytes == record_limit(60_000) == 30_000
    assert broker.settings[0].max_record_bytes == 60_000
    await destination.stop()


async def test_replaced_characters_are_logged(broker: Broker) -> None:
    """NUL, which PostgreSQL cannot hold."""
    destination = KafkaDestination("localhost:9092")
    stamped = batch(betpawa=[betpawa(1, raw={"a": "\0"}, captured_at=NOON)], confirmed_at=NOON)
    with capture_logs() as logs:
        await destination.prepare(stamped)
    assert [(line["event"], line["characters"]) for line in logs] == [
        ("write_batch_characters_replaced", 1)
    ]
    assert not broker.sent


async def test_raw_responses_can_be_left_out(broker: Broker) -> None:
    """`ODDSLOG_RAW_RESPONSE=none`."""
    destination = KafkaDestination("localhost:9092", raw_response=False)
    stamped = batch(betpawa=[betpawa(1, raw={"a": 1}, captured_at=NOON)], confirmed_at=NOON)
    delivery = await destination.prepare(stamped)
    (fragment,) = delivery.fragments  # type: ignore[attr-defined]
    assert decode(fragment.value).snapshots[0]["raw_response"] is None
    assert not broker.sent


async def test_kill_points_are_where_the_fault_tests_look(broker: Broker) -> None:
    """Before and after each record, and after the last acknowledgement."""
    seen: list[str] = []
    kill_points.arm(seen.append)
    try:
        destination = KafkaDestination("localhost:9092")
        await (await destination.prepare(TEN_EVENTS)).attempt(5)
        await destination.stop()
    finally:
        kill_points.arm(None)
    assert seen == ["ingest.before_send", "ingest.after_send"] * 10 + ["ingest.after_ack"]
    assert len(broker.sent[0]) == 10


def test_a_topic_is_warned_about_where_one_broker_can_lose_a_record() -> None:
    """From three brokers on; or where it cannot be seen."""
    assert TopicFacts(12, 1, 10**7, 1).warnings() == []
    assert TopicFacts(12, 3, 10**7, 2).warnings() == []
    (problem,) = TopicFacts(12, 3, 10**7, 1).warnings()
    assert "min.insync.replicas is 1 on 3 brokers" in problem
    (problem,) = TopicFacts(12, 1, 10**7, 1, broker_time=False).warnings()
    assert "LogAppendTime" in problem
    (problem,) = TopicFacts(12, 3, 10**6, None).warnings()
    assert "DESCRIBE_CONFIGS" in problem


def test_the_repr_names_topic_and_place_and_no_secret() -> None:
    """It ends up in logs."""
    connection = KafkaConnection(
        "kafka:9092",
        security_protocol="SASL_SSL",
        sasl_username="u",
        sasl_password="secret-word",
    )
    text = repr(KafkaDestination(connection, topic="odds"))
    assert text == "<KafkaDestination topic 'odds' at kafka:9092, 0 producer generation(s)>"
    with pytest.raises(ConfigurationError, match="topic"):
        KafkaDestination(connection, topic="")
