"""A replay over a letter and the records sent again for it: the last word is the later record's."""

from dataclasses import replace

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from oddslog.schemas import KafkaConnection
from oddslog.schemas.redrive import Redrive, redrive_headers
from oddslog.sink.topics import describe_topic
from tests.support.batches import NOON
from tests.support.fragments import confirming, holding, record, with_market
from tests.support.kafka import produce
from tests.support.polls import letters, one, rows
from tests.support.replays import replay_into
from tests.support.running import running
from tests.support.waiting import until

WIDE = holding(with_market(record(), 1, betpawa_market_id="x" * 51))
STILL_WIDE = holding(with_market(record(content_hash=9), 1, betpawa_market_id="y" * 60))
STATES = "SELECT status, log_offset FROM oddslog_dead_letters ORDER BY log_offset"
SEEN = "SELECT bool_and(redrives_seen = 1) FROM oddslog_dead_letters"
COUNT = "SELECT count(*) FROM oddslog_dead_letters"


async def _is(engine: AsyncEngine, count: int) -> bool:
    return bool(await one(engine, COUNT) == count)


async def _first_letter(kafka: KafkaConnection, topic: str, engine: AsyncEngine) -> Redrive:
    """What names the letter of the topic's first record, once it is there."""
    described = await describe_topic(kafka, topic)
    assert described is not None
    await until(lambda: _is(engine, 1), "the letter")
    (letter,) = await letters(engine)
    return Redrive(described.cluster_id, topic, 0, 0, 0, letter.appended_at)


@pytest.mark.parametrize("poll_records", [500, 1])
async def test_what_was_sent_again_and_failed_keeps_a_letter(
    kafka: KafkaConnection, topic: str, engine: AsyncEngine, poll_records: int
) -> None:
    """Also where the first record, refused at its time, is written now: however polls fall."""
    async with running(kafka, topic, engine) as sink:
        await produce(kafka, topic, [WIDE])
        redrive = await _first_letter(kafka, topic, engine)
        await produce(kafka, topic, [STILL_WIDE], headers=redrive_headers(redrive))
        await until(lambda: one(engine, SEEN), "the record that was sent again")
        await sink.stop()
    async with engine.begin() as connection:
        wider = "ALTER TABLE market_odds ALTER COLUMN betpawa_market_id TYPE varchar(55)"
        await connection.exec_driver_sql(wider)
    await replay_into(engine, kafka, topic, poll_records=poll_records)
    assert [tuple(row) for row in await rows(engine, STATES)] == [("written", 0), ("dead", 1)]


async def test_a_confirmation_that_was_sent_again_and_refused_is_not_written(
    kafka: KafkaConnection, topic: str, engine: AsyncEngine
) -> None:
    """It has a letter of its own, and a replay that is refused again leaves it dead."""
    bad = confirming(NOON, event_id=2**31 + 5)
    async with running(kafka, topic, engine) as sink:
        await produce(kafka, topic, [bad])
        redrive = await _first_letter(kafka, topic, engine)
        await produce(kafka, topic, [confirming(NOON)], headers=redrive_headers(redrive))
        await until(lambda: one(engine, SEEN), "the record that was sent again")
        again = redrive_headers(replace(redrive, count=2))
        await produce(kafka, topic, [bad], headers=again)
        await until(lambda: _is(engine, 2), "the letter of its own")
        await sink.stop()
    before = [tuple(row) for row in await rows(engine, STATES)]
    assert ("dead", 2) in before
    replayed = await replay_into(engine, kafka, topic)
    assert [tuple(row) for row in await rows(engine, STATES)] == before
    assert replayed.counts.settled_letters == 0
