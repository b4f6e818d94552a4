"""Ways in which records were once lost or mixed up; each stays mended."""

import time
from datetime import UTC, datetime

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from oddslog.deploy.compare import compare
from oddslog.schemas import KafkaConnection
from oddslog.sink.errors import WrongLogError
from oddslog.sink.placing import PlacingOptions
from tests.fixtures.sinks import Feed, RunSink
from tests.integration.test_sink_positions import events, execute, ledger
from tests.support.batches import NOON, batch, key_of, snapshot
from tests.support.fragments import good, holding, record
from tests.support.kafka import make_anew, produce
from tests.support.polls import one
from tests.support.running import running
from tests.support.threads import run_apart
from tests.support.waiting import until

WIPE = (
    "TRUNCATE odds_snapshots, market_odds, competitor_odds_snapshots, competitor_market_odds,"
    " oddslog_pending_confirmations"
)


async def test_a_topic_made_anew_while_the_sink_was_frozen(
    kafka: KafkaConnection, topic: str, engine: AsyncEngine
) -> None:
    """A stopped process (SIGSTOP, a paused machine) looks at its last record first."""

    async def replace_topic() -> None:
        await make_anew(kafka, topic)
        await produce(kafka, topic, [good(event) for event in range(10, 20)])

    await produce(kafka, topic, [good(1), good(2)])
    async with running(kafka, topic, engine) as sink:
        await sink.until_placed(3)
        await until(lambda: sink.sink.totals.records == 2, "both records to be written")
        # This thread waits for the other one, so the sink's loop stands still.
        before = time.monotonic()
        run_apart(replace_topic())
        time.sleep(max(0.0, before + 3.0 - time.monotonic()))  # noqa: ASYNC251 - the freeze
        with pytest.raises(WrongLogError, match="partition 0"):
            await sink.task
    assert (await ledger(engine), await events(engine)) == ([2, 0, 0], [1, 2])


async def test_an_idle_database_that_went_back_is_refilled(
    feed: Feed, kafka: KafkaConnection, topic: str, engine: AsyncEngine
) -> None:
    """Without a record to write, and in every partition."""
    batches = [batch([snapshot(event) for event in range(1, 20)])]
    await feed(batches)
    async with running(kafka, topic, engine) as sink:
        await sink.until_placed(3)
        await until(lambda: sink.sink.totals.snapshots == 19, "all to be written")
        await execute(engine, WIPE)
        await execute(engine, "DELETE FROM oddslog_ledger")
        await until(lambda: sink.sink.totals.snapshots == 38, "all to be written again")
        await sink.stop()
    result = await compare(engine, batches)
    assert result.equal, result.first_difference


async def test_an_explicit_start_is_for_the_first_time_only(
    kafka: KafkaConnection, topic: str, run_sink: RunSink, engine: AsyncEngine
) -> None:
    """A service keeps its options; a database that lost its ledger is refilled all the same."""
    latest = PlacingOptions(start="latest")
    await run_sink(placing=latest)
    await produce(kafka, topic, [good(1), good(2)])
    await run_sink(placing=latest)
    assert await events(engine) == [1, 2]
    await execute(engine, WIPE)
    await execute(engine, "DELETE FROM oddslog_ledger")
    await execute(engine, "DELETE FROM oddslog_logs")
    await run_sink(placing=latest)
    assert await events(engine) == [1, 2]


@pytest.mark.parametrize("moment", [datetime.min, datetime.max])  # noqa: DTZ901 - made aware below
async def test_a_time_at_infinity_is_one_dead_letter(
    moment: datetime,
    kafka: KafkaConnection,
    topic: str,
    run_sink: RunSink,
    engine: AsyncEngine,
) -> None:
    """The driver takes these two for infinity; the sink stopped for ever."""
    extreme = record(snapshot(2)) | {"captured_at": moment.replace(tzinfo=UTC)}
    await produce(kafka, topic, [good(1), holding(extreme, event_id=2), good(3)])
    await run_sink()
    assert await events(engine) == [1, 3]
    field = await one(engine, "SELECT field FROM oddslog_dead_letters")
    assert field == "captured_at"


async def test_pending_confirmations_do_not_expire_during_a_backlog(
    feed: Feed, run_sink: RunSink, engine: AsyncEngine
) -> None:
    """However old: the snapshot may be in what is not read yet."""
    first = snapshot(1, NOON)
    await feed([batch(unchanged_betpawa=[key_of(first)])])
    await run_sink()
    await execute(
        engine, "UPDATE oddslog_pending_confirmations SET created_at = now() - interval '90 days'"
    )
    await feed([batch([first])])
    await run_sink(retention_seconds=60.0)
    result = await compare(engine, [batch(unchanged_betpawa=[key_of(first)]), batch([first])])
    assert result.equal, result.first_difference
    assert await one(engine, "SELECT count(*) FROM oddslog_dead_letters") == 0
