"""Dead letters go to the dead-letter topic, at least once, and the data waits for none of it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from oddslog.deploy.letter_topic import SendingLetters, open_letter_topic
from oddslog.deploy.looking import read_overview
from oddslog.deploy.settings import Settings
from oddslog.deploy.status_view import view_of
from oddslog.schemas import KafkaConnection
from oddslog.schemas.codec import crc32_text, decode
from oddslog.schemas.errors import UnreachableError
from oddslog.schemas.wire import HEADER_CRC32
from oddslog.sink import Sink, SinkOptions, SinkSource, open_sink
from oddslog.sink import outbox as outbox_module
from oddslog.sink.health import unreadiness
from oddslog.sink.letter_records import LetterRecord
from oddslog.sink.metrics import exposition
from oddslog.sink.outbox import publish_page
from oddslog.sink.topics import create_topic
from tests.support.batches import snapshot
from tests.support.fragments import good, holding, record, with_market
from tests.support.kafka import produce, records_of
from tests.support.polls import letters, one, rows
from tests.support.running import Running
from tests.support.waiting import until

POISON = holding(with_market(record(snapshot(2)), 1, outcomes="["), event_id=2)
UNMARKED = "SELECT count(*) FROM oddslog_dead_letters WHERE published_at IS NULL"


@pytest.fixture
def settings(kafka: KafkaConnection, topic: str, engine: AsyncEngine) -> Settings:
    """Of the test's topic and database, with a dead-letter topic that is not made yet."""
    return Settings.model_validate(
        {
            "bootstrap_servers": kafka.bootstrap_servers,
            "topic": topic,
            "group": topic,
            "database_url": SecretStr(engine.url.render_as_string(hide_password=False)),
            "dead_letter_topic": f"{topic}.dead",
        }
    )


@pytest.fixture
async def sending(settings: Settings) -> AsyncIterator[SendingLetters]:
    """The dead-letter topic of the settings."""
    async with open_letter_topic(settings) as topic:
        assert topic is not None
        yield topic


async def opened(
    kafka: KafkaConnection, topic: str, engine: AsyncEngine, letter_topic: Any, **options: Any
) -> Sink:
    """A sink of the test's topic that copies its dead letters."""
    source = SinkSource(kafka, topic, topic, session_timeout_seconds=6.0)
    return await open_sink(engine, source, SinkOptions(**options), letter_topic)


async def test_each_dead_letter_goes_to_the_topic_once_with_its_reason(
    kafka: KafkaConnection, topic: str, engine: AsyncEngine, sending: SendingLetters
) -> None:
    """An isolated snapshot and a whole record; a second run has nothing left to send."""
    await create_topic(kafka, f"{topic}.dead", partitions=1)
    await produce(kafka, topic, [good(1), POISON, b"no fragment"], headers=[("app", b"scraper")])
    before = datetime.now(UTC)
    sink = await opened(kafka, topic, engine, sending, until_caught_up=True)
    totals = await sink.run()
    assert (totals.snapshots, totals.dead_letters, totals.published) == (1, 2, 2)

    undecodable, poison = await records_of(kafka, f"{topic}.dead")  # in the letters' order
    held = {letter.log_offset: letter for letter in await letters(engine)}
    said = {name: value.decode() for name, value in poison.headers}
    appended = datetime.fromisoformat(said.pop("oddslog-dlq-timestamp"))
    assert abs((appended - before).total_seconds()) < 600
    assert held[1].message in said.pop("oddslog-dlq-message")
    assert said.pop("oddslog-dlq-cluster")
    assert said == {
        "app": "scraper",
        HEADER_CRC32: crc32_text(poison.value).decode(),
        "oddslog-dlq-id": str(held[1].id),
        "oddslog-dlq-reason": "poison",
        "oddslog-dlq-sqlstate": "22P02",
        "oddslog-dlq-field": "markets[1].outcomes",
        "oddslog-dlq-topic": topic,
        "oddslog-dlq-partition": "0",
        "oddslog-dlq-offset": "1",
        "oddslog-dlq-item": "0",
    }
    assert poison.value == held[1].value
    assert decode(poison.value).event_id == 2
    assert (undecodable.value, undecodable.key) == (b"no fragment", b"key")
    assert dict(undecodable.headers)["oddslog-dlq-item"] == b"-1"

    again = await (await opened(kafka, topic, engine, sending, until_caught_up=True)).run()
    assert again.published == 0
    assert len(await records_of(kafka, f"{topic}.dead")) == 2


async def test_what_waits_or_is_settled_does_not_go_and_what_dies_later_does(
    kafka: KafkaConnection, topic: str, parents_engine: AsyncEngine, sending: SendingLetters
) -> None:
    """A snapshot whose event is late is no dead letter, until it has waited too long."""
    await create_topic(kafka, f"{topic}.dead", partitions=1)
    await produce(kafka, topic, [good(1), good(2)])
    await (await opened(kafka, topic, parents_engine, sending, until_caught_up=True)).run()
    assert await records_of(kafka, f"{topic}.dead") == []
    async with parents_engine.begin() as connection:
        await connection.execute(
            text("UPDATE oddslog_dead_letters SET status = 'discarded' WHERE log_offset = 0")
        )
    # The letter dies in the last sweep of the run, and is sent behind it.
    options = {"until_caught_up": True, "parent_wait_seconds": 0.0}
    await (await opened(kafka, topic, parents_engine, sending, **options)).run()
    (sent,) = await records_of(kafka, f"{topic}.dead")
    assert dict(sent.headers)["oddslog-dlq-offset"] == b"1"
    assert dict(sent.headers)["oddslog-dlq-reason"] == b"missing_parent"


async def test_a_topic_that_is_missing_holds_nothing_up(
    kafka: KafkaConnection,
    topic: str,
    engine: AsyncEngine,
    settings: Settings,
    sending: SendingLetters,
) -> None:
    """The data is written; status, metrics and the trouble tell; made at last, all is sent."""
    run = Running(await opened(kafka, topic, engine, sending))
    try:
        await run.until_placed(3)
        await produce(kafka, topic, [POISON, good(1)])
        await until(lambda: "letters" in run.sink.standing().troubles, "the trouble")
        assert await one(engine, "SELECT count(*) FROM odds_snapshots") == 1
        overview = await read_overview(settings, rates=False)
        assert overview.as_json()["unpublished_letters"] == 1
        shown = [line.plain for line in view_of(overview).foot]
        assert any(f"1 letters for {topic}.dead, first" in line for line in shown), shown
        # However long: a copy takes no member out of service.
        standing, now = run.sink.standing(), 10.0**9
        assert unreadiness(standing, run.sink.watcher.database, now)[1:] == []
        exposed = exposition(run.sink, "")[0].decode()
        assert 'oddslog_sink_retries_total{error="ConfigurationError",place="letters"' in exposed
        await create_topic(kafka, f"{topic}.dead", partitions=1)
        await until(lambda: run.sink.totals.published == 1, "the letter to be sent")
        await until(lambda: "letters" not in run.sink.standing().troubles, "the trouble's end")
    finally:
        await run.stop()
    assert await one(engine, UNMARKED) == 0


class Counting:
    """A topic that acknowledges so many of what it is given, then fails."""

    def __init__(self, acknowledged: int) -> None:
        self.acknowledged = acknowledged
        self.sent: list[list[int]] = []

    async def send(self, records: Sequence[LetterRecord]) -> None:
        """See `LetterTopic`."""
        self.sent.append([each.id for each in records])
        for each in records[: self.acknowledged]:
            each.acknowledged = True
        if self.acknowledged < len(records):
            raise UnreachableError("the broker is gone")


async def test_only_what_is_acknowledged_is_marked(
    kafka: KafkaConnection, topic: str, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest is sent again; pages are bounded; a row in use is left and waited for by nobody."""
    await produce(kafka, topic, [b"broken %d" % number for number in range(5)])
    await (await opened(kafka, topic, engine, None, until_caught_up=True)).run()
    a, b, c, d, e = [letter.id for letter in await letters(engine)]
    failing = Counting(2)
    with pytest.raises(UnreachableError):
        await publish_page(engine, failing)
    assert await one(engine, UNMARKED) == 3

    monkeypatch.setattr(outbox_module, "_PAGE_LETTERS", 2)
    well = Counting(10)
    async with engine.begin() as other:
        await other.execute(
            text("SELECT id FROM oddslog_dead_letters WHERE id = :id FOR UPDATE"), {"id": c}
        )
        async with asyncio.timeout(20):
            assert await publish_page(engine, well) == 0
    assert [row.id for row in await rows(engine, UNMARKED.replace("count(*)", "id"))] == [c, e]
    assert await publish_page(engine, well) == 2
    assert failing.sent == [[a, b, c, d, e]]
    assert well.sent == [[c, d], [c, e]]

    # One member has the turn: another sends nothing meanwhile.
    await produce(kafka, topic, [b"broken 5"])
    await (await opened(kafka, topic, engine, None, until_caught_up=True)).run()

    class Nested(Counting):
        async def send(self, records: Sequence[LetterRecord]) -> None:
            assert await publish_page(engine, Counting(10)) == 0
            await super().send(records)

    assert await publish_page(engine, Nested(10)) == 1
