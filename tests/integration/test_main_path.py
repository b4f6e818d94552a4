"""One batch goes through real Kafka into real PostgreSQL."""

from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from oddslog.deploy.compare import compare
from oddslog.schemas import CompetitorSnapshotKey
from tests.fixtures.sinks import Feed, RunSink
from tests.support.batches import NOON, batch, competitor, key_of, market, snapshot


async def test_every_snapshot_arrives_once_and_equal(
    feed: Feed, run_sink: RunSink, engine: AsyncEngine
) -> None:
    """What was fed is in the tables, field by field, and nothing else is."""
    batches = [
        batch([snapshot(event) for event in range(1, 30)], [competitor(e) for e in range(1, 20)])
    ]
    await feed(batches)
    totals = await run_sink()
    result = await compare(engine, batches)
    assert result.equal, result.first_difference
    assert (totals.snapshots, totals.markets) == (48, 96)


async def test_compare_sees_what_it_should(
    feed: Feed, run_sink: RunSink, engine: AsyncEngine
) -> None:
    """The oracle of the other tests can fail: missing, different, unexpected, orphaned."""
    batches = [batch([snapshot(event) for event in range(1, 6)])]
    await feed(batches)
    await run_sink()
    async with engine.begin() as connection:
        await connection.execute(text("DELETE FROM odds_snapshots WHERE event_id = 1"))
        await connection.execute(
            text(
                "UPDATE market_odds SET line = 9 WHERE id = (SELECT min(id) FROM market_odds"
                " WHERE snapshot_id = (SELECT id FROM odds_snapshots WHERE event_id = 2))"
            )
        )
        await connection.execute(text("UPDATE odds_snapshots SET event_id = 77 WHERE event_id = 3"))
        await connection.execute(
            text(
                "UPDATE odds_snapshots SET last_confirmed_at = last_confirmed_at"
                " + interval '1 s' WHERE event_id = 4"
            )
        )
    result = await compare(engine, batches)
    # Event 1: missing, its two markets orphaned. Event 3: missing, and 77 unexpected.
    # Events 2 and 4 are there, and different: missing as fed, unexpected as they are.
    assert (result.missing, result.different, result.unexpected) == (4, 2, 5)


async def test_confirmations_by_key_raise_to_the_maximum(
    feed: Feed, run_sink: RunSink, engine: AsyncEngine
) -> None:
    """A confirmation is a maximum, also when an older one comes later."""
    first, other = snapshot(1), competitor(7)
    key = key_of(first)
    competitor_key = CompetitorSnapshotKey(7, NOON)
    late, early = NOON + timedelta(hours=2), NOON + timedelta(hours=1)
    batches = [
        batch([first], [other]),
        batch(unchanged_betpawa=(key,), confirmed_at=late),
        batch(unchanged_betpawa=(key,), unchanged_competitor=(competitor_key,), confirmed_at=early),
    ]
    await feed(batches)
    await run_sink()
    result = await compare(engine, batches)
    assert result.equal, result.first_difference
    async with engine.connect() as connection:
        confirmed = await connection.execute(text("SELECT last_confirmed_at FROM odds_snapshots"))
        assert confirmed.scalar_one() == late


async def test_confirmation_before_its_snapshot_waits_for_it(
    feed: Feed, run_sink: RunSink, engine: AsyncEngine
) -> None:
    """Order is an optimisation: a confirmation that comes first is kept as pending."""
    first = snapshot(1)
    confirming = batch(unchanged_betpawa=(key_of(first),))
    await feed([confirming])
    await run_sink()
    async with engine.connect() as connection:
        pending = text("SELECT count(*) FROM oddslog_pending_confirmations")
        assert (await connection.execute(pending)).scalar_one() == 1
    await feed([batch([first])])
    await run_sink()
    result = await compare(engine, [confirming, batch([first])])
    assert result.equal, result.first_difference
    async with engine.connect() as connection:
        assert (await connection.execute(pending)).scalar_one() == 0


async def test_second_run_of_the_sink_writes_nothing_again(
    feed: Feed, run_sink: RunSink, engine: AsyncEngine
) -> None:
    """The last applied record is checked and dropped; the next ones are written."""
    one, two = batch([snapshot(1)]), batch([snapshot(1, NOON + timedelta(seconds=1))])
    await feed([one])
    await run_sink()
    await feed([two])
    totals = await run_sink()
    assert (totals.records, totals.snapshots, totals.duplicates) == (1, 1, 0)
    result = await compare(engine, [one, two])
    assert result.equal, result.first_difference


async def test_resent_records_are_duplicates_and_other_content_is_a_conflict(
    feed: Feed, run_sink: RunSink, engine: AsyncEngine
) -> None:
    """Same key and content: counted. Same key, other content: first stays, other kept."""
    first = batch([snapshot(1)])
    await feed([first, first])
    totals = await run_sink()
    assert (totals.snapshots, totals.duplicates) == (1, 1)
    await feed([batch([snapshot(1, markets=(market(9),))])])
    totals = await run_sink()
    assert (totals.snapshots, totals.conflicts, totals.dead_letters) == (0, 1, 1)
    result = await compare(engine, [first])
    assert result.equal, result.first_difference
    async with engine.connect() as connection:
        letter = (await connection.execute(text("SELECT * FROM oddslog_dead_letters"))).one()
    assert (letter.status, letter.reason, letter.event_id) == ("dead", "conflict", 1)
