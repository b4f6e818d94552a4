"""Dead letters that were sent again, as a verification sees them."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from oddslog.schemas import KafkaConnection
from oddslog.schemas.redrive import Redrive, redrive_headers
from oddslog.sink.topics import describe_topic
from tests.fixtures.sinks import RunSink
from tests.support.batches import NOON, market, snapshot
from tests.support.fragments import confirming, good, holding, record
from tests.support.kafka import produce
from tests.support.polls import letters, one
from tests.support.verifying import LONG, add_parents, change, contents, verified
from tests.support.waiting import until


async def send_again(
    kafka: KafkaConnection, topic: str, engine: AsyncEngine, offset: int, value: bytes
) -> None:
    """Send a value for the letter of this offset, as `dlq redrive` does."""
    (letter,) = [
        one_letter for one_letter in await letters(engine) if one_letter.log_offset == offset
    ]
    described = await describe_topic(kafka, topic)
    assert described is not None
    named = Redrive(
        described.cluster_id,
        topic,
        letter.log_partition,
        offset,
        letter.item,
        letter.appended_at,
        letter.reason,
        letter.redrives_seen + 1,
    )
    await produce(kafka, topic, [value], partition=1, headers=redrive_headers(named))


async def states(engine: AsyncEngine) -> dict[int, str]:
    """The status of each letter by its offset; there are none but in partition 0."""
    found: list[Any] = list(await letters(engine))
    assert {letter.log_partition for letter in found} == {0}
    return {letter.log_offset: letter.status for letter in found}


async def test_letters_sent_again_are_no_difference(
    kafka: KafkaConnection, topic: str, parents_engine: AsyncEngine, run_sink: RunSink
) -> None:
    """Failed again, mended, mended into another event, and swept; their rows must be there."""
    engine = parents_engine
    await add_parents(engine)
    poison = holding(record(snapshot(1, markets=(market(1, betpawa_market_id=LONG),))))
    mended = holding(record(snapshot(1)))
    await produce(kafka, topic, [poison, good(100), good(2), confirming(NOON, event_id=1)])
    await run_sink(engine)
    await send_again(kafka, topic, engine, 0, poison)
    await send_again(kafka, topic, engine, 1, good(101))
    await run_sink(engine)
    await send_again(kafka, topic, engine, 0, mended)
    await run_sink(engine)
    assert await states(engine) == {0: "redriven", 1: "waiting"}
    found = (await verified(engine, kafka, topic)).findings
    assert found.equal, found.differences
    await change(engine, "INSERT INTO events (id) VALUES (101)")

    async def swept() -> bool:
        await run_sink(engine)
        return (await states(engine))[1] == "written"

    await until(swept, "the sweep of the mended letter")
    found = (await verified(engine, kafka, topic)).findings
    assert found.equal, found.differences
    assert await one(engine, "SELECT log_offset FROM odds_snapshots WHERE event_id = 101") == 1

    before = await contents(engine)
    for statement in (
        "DELETE FROM odds_snapshots WHERE event_id = 1",
        "UPDATE odds_snapshots SET raw_response = '{}' WHERE event_id = 1",
        "UPDATE market_odds SET line = 7 WHERE snapshot_id"
        " = (SELECT id FROM odds_snapshots WHERE event_id = 101)",
    ):
        await change(engine, statement)
        mending = {"repair": True, "delete_unexpected": True}
        found = (await verified(engine, kafka, topic, **mending)).findings
        assert not found.equal, statement
        found = (await verified(engine, kafka, topic)).findings
        assert found.equal, (statement, found.differences)
    assert [row[:7] for row in await contents(engine)] == [row[:7] for row in before]
