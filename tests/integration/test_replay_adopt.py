"""`--adopt`: an empty database is filled from the log, and a sink goes on from there."""

import asyncio
import signal

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from oddslog.schemas import KafkaConnection
from oddslog.schemas.errors import ConfigurationError
from oddslog.sink.replay_spans import SpanChoice
from tests.fixtures.sinks import RunSink
from tests.integration.test_replay import replay
from tests.support.command import Command
from tests.support.conservation import assert_conserved, feed_events
from tests.support.fragments import good, ids
from tests.support.kafka import delete_records, produce
from tests.support.messy import feed_messy
from tests.support.polls import one, rows
from tests.support.replays import replay_into
from tests.support.tables import content, ledger


async def test_a_sink_goes_on_behind_it(
    command: Command,
    run_sink: RunSink,
    kafka: KafkaConnection,
    topic: str,
    engine: AsyncEngine,
    empty_engine: AsyncEngine,
    empty_url: str,
) -> None:
    """Tables and ledger are those of the sink; what comes then is written once."""
    await feed_messy(kafka, topic)
    await run_sink()
    result = await replay(command.but(POLL_RECORDS="5"), "--adopt", "--database", empty_url)
    assert (result.json["adopted"], result.json["unstable_ids"]) == (True, 9)
    assert await content(empty_engine) == await content(engine)
    assert await ledger(empty_engine) == await ledger(engine)
    await feed_events(kafka, topic, range(100, 110))
    await run_sink()
    totals = await run_sink(empty_engine)
    assert (totals.records, totals.duplicates) == (20, 0)
    assert await content(empty_engine) == await content(engine)
    assert await ledger(empty_engine) == await ledger(engine)


async def test_plain_ids_are_trusted_from_the_adoption_on(
    run_sink: RunSink, kafka: KafkaConnection, topic: str, engine: AsyncEngine
) -> None:
    """Those of records behind the replay's end, which the old database gave out, are not."""
    await produce(kafka, topic, [good(1), ids(1)])
    await replay_into(engine, kafka, topic, choice=SpanChoice(to_offset=1), adopt=True)
    assert await one(engine, "SELECT sum(next_offset) FROM oddslog_ledger") == 1
    totals = await run_sink()
    assert (totals.records, totals.unstable_ids) == (1, 1)
    await produce(kafka, topic, [ids(1)])
    totals = await run_sink()
    assert (totals.confirmations, totals.unstable_ids) == (1, 0)


async def test_an_empty_log_is_adopted(
    run_sink: RunSink, kafka: KafkaConnection, topic: str, engine: AsyncEngine
) -> None:
    """There is nothing to write, and the sink begins at 0."""
    assert (await replay_into(engine, kafka, topic, adopt=True)).finished
    assert [row[1] for row in await ledger(engine)] == [0, 0, 0]
    fed = await feed_events(kafka, topic, range(5))
    await run_sink()
    await assert_conserved(engine, fed)


async def test_killed_before_the_ledger_is_set(
    command: Command,
    run_sink: RunSink,
    kafka: KafkaConnection,
    topic: str,
    engine: AsyncEngine,
    empty_engine: AsyncEngine,
    empty_url: str,
) -> None:
    """It can go on, and so could a sink from the log's start: nothing is there twice."""
    fed = await feed_events(kafka, topic, range(60))
    for url in (command.settings["DATABASE_URL"], empty_url):
        into = command.but(POLL_RECORDS="30", DATABASE_URL=url)
        # The fourth transaction is the last: 120 records in polls of 30 and less.
        killed = await asyncio.to_thread(
            into.but(KILL_POINT="replay.before_commit:3"), "replay", "--adopt"
        )
        assert killed.code == -signal.SIGKILL, killed
    assert await ledger(engine) == []
    again = await asyncio.to_thread(command, "replay", "--adopt")
    assert again.code == 2
    assert "to go on with the one that was interrupted: oddslog replay --resume" in again.error
    resumed = await replay(command, "--resume", "latest")
    assert resumed.json["adopted"] is True
    await assert_conserved(engine, fed)
    await run_sink(empty_engine)
    assert await content(empty_engine) == await content(engine)


async def test_a_sink_that_came_first_keeps_its_ledger(
    command: Command, run_sink: RunSink, kafka: KafkaConnection, topic: str, engine: AsyncEngine
) -> None:
    """Between two parts of an adopting replay; all is written, and exit code 4 says it."""
    fed = await feed_events(kafka, topic, range(30))
    into = command.but(POLL_RECORDS="20")
    await asyncio.to_thread(into.but(KILL_POINT="replay.after_commit:1"), "replay", "--adopt")
    await run_sink()
    before = await ledger(engine)
    result = await asyncio.to_thread(into, "replay", "--resume", "latest")
    assert result.code == 4, result
    assert "the ledger is left to it" in result.err
    assert await ledger(engine) == before
    assert await one(engine, "SELECT count(*) FROM odds_snapshots") == 30
    assert len(fed[0].changed_betpawa) == 30


async def test_refused_where_it_could_not_be_complete(
    kafka: KafkaConnection, topic: str, run_sink: RunSink, engine: AsyncEngine
) -> None:
    """And nothing was done."""
    await feed_events(kafka, topic, range(20))
    for choice, says in (
        (SpanChoice((1,)), "partition 0 is left out"),
        (SpanChoice(from_offset=2), "takes the log from its start"),
    ):
        with pytest.raises(ConfigurationError, match=says):
            await replay_into(engine, kafka, topic, choice=choice, adopt=True)
    await delete_records(kafka, topic, {1: 4})
    with pytest.raises(ConfigurationError, match="add --accept-gap"):
        await replay_into(engine, kafka, topic, adopt=True)
    assert await one(engine, "SELECT count(*) FROM oddslog_logs") == 0
    assert await one(engine, "SELECT count(*) FROM oddslog_meta WHERE name LIKE 'replay:%'") == 0
    await replay_into(engine, kafka, topic, adopt=True, accept_gap=True)
    gaps = await rows(engine, "SELECT accepted_gaps FROM oddslog_ledger ORDER BY partition")
    assert [row.accepted_gaps for row in gaps] == [[], [{"from": 0, "to": 4}], []]
    assert (await run_sink()).records == 0
    with pytest.raises(ConfigurationError, match="--adopt is for an empty database"):
        await replay_into(engine, kafka, topic, adopt=True)
