"""A verification on real servers: clean where everything is explained."""

from collections import Counter
from datetime import timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from oddslog.schemas import KafkaConnection
from oddslog.schemas.wire import Kind
from oddslog.sink.verify_findings import Explained
from tests.fixtures.sinks import RunSink
from tests.support.batches import NOON
from tests.support.fragments import confirming, good, ids
from tests.support.kafka import delete_records, produce
from tests.support.polls import one
from tests.support.running import running
from tests.support.verifying import change, contents, fill_messy, verified
from tests.support.waiting import until


@pytest.fixture
async def messy(
    kafka: KafkaConnection, topic: str, parents_engine: AsyncEngine, run_sink: RunSink
) -> AsyncEngine:
    """A database with everything that is no difference."""
    await fill_messy(kafka, topic, parents_engine, run_sink)
    return parents_engine


async def test_what_is_explained_is_no_difference(
    kafka: KafkaConnection, topic: str, messy: AsyncEngine
) -> None:
    """All of it is counted apart; several times in a row, and quickly, the same."""
    before = await contents(messy)
    for options in ({}, {"quick": True}, {"raw_response": False}, {"repair": True}):
        found = (await verified(messy, kafka, topic, **options)).findings
        assert found.equal, found.differences
        assert (found.records, found.snapshots, found.confirmations) == (34, 22, 9)
        assert found.explained == {
            Explained.DEAD_LETTERS: 7,
            Explained.PENDING: 2,
            Explained.DUPLICATES: 2,
            Explained.PLAIN_IDS: 4,
            Explained.ACCEPTED_GAPS: 2,
            Explained.BEFORE_LOG: 2,
            Explained.WITHOUT_LOG: 1,
        }
        assert found.letters == Counter(dead=5, waiting=1, written=1)
    assert await contents(messy) == before


async def test_what_retention_took_is_not_in_the_log(
    kafka: KafkaConnection, topic: str, messy: AsyncEngine
) -> None:
    """Rows stay that nothing can be compared with; they are counted."""
    await delete_records(kafka, topic, {0: 10, 1: 3})
    found = (await verified(messy, kafka, topic)).findings
    assert found.equal, found.differences
    assert found.explained[Explained.NOT_IN_LOG] == 7


async def test_a_refilled_database_is_equal(
    kafka: KafkaConnection, topic: str, messy: AsyncEngine, run_sink: RunSink
) -> None:
    """Rows, ledger and letters gone, and filled from the log again."""
    for table in ("odds_snapshots", "competitor_odds_snapshots", "oddslog_dead_letters"):
        await change(messy, f"TRUNCATE {table}")
    for table in ("market_odds", "competitor_market_odds", "oddslog_pending_confirmations"):
        await change(messy, f"TRUNCATE {table}")
    await change(messy, "DELETE FROM oddslog_ledger WHERE partition < 2")
    await change(messy, "UPDATE oddslog_ledger SET next_offset = 2, last_offset = NULL")
    await run_sink(messy)
    found = (await verified(messy, kafka, topic)).findings
    assert found.equal, found.differences
    assert found.explained[Explained.WITHOUT_LOG] == 0


async def test_an_adopted_log_and_its_older_generation(
    kafka: KafkaConnection, topic: str, messy: AsyncEngine
) -> None:
    """What an older generation wrote is in this one too, or is counted apart."""
    await change(
        messy,
        "INSERT INTO oddslog_logs (cluster_id, topic, generation, partition_count)"
        " SELECT cluster_id, topic, 2, partition_count FROM oddslog_logs",
    )
    await change(messy, "UPDATE oddslog_ledger SET log_id = 2 WHERE partition = 0")
    await change(messy, "UPDATE oddslog_dead_letters SET log_id = 2 WHERE log_partition = 0")
    found = (await verified(messy, kafka, topic)).findings
    assert found.equal, found.differences
    assert found.explained[Explained.OTHER_GENERATIONS] == 16


async def test_rows_outside_of_the_ledger_are_compared_too(
    kafka: KafkaConnection, topic: str, engine: AsyncEngine, run_sink: RunSink
) -> None:
    """A replay may have written them; what is there must be as its record says."""
    later = NOON + timedelta(hours=2)
    values = [*(good(n) for n in range(1, 7)), confirming(NOON, event_id=2, at=later)]
    await produce(kafka, topic, values)
    await run_sink()
    await change(
        engine,
        "UPDATE oddslog_ledger SET next_offset = 3, start_offset = 2, last_offset = NULL"
        " WHERE partition = 0",
    )
    found = (await verified(engine, kafka, topic)).findings
    assert found.equal, found.differences
    assert found.snapshots == 1
    assert found.explained[Explained.OUTSIDE_LEDGER] == 5
    await change(engine, "DELETE FROM odds_snapshots WHERE event_id = 6")
    await change(engine, "DELETE FROM market_odds WHERE snapshot_id = 6")
    assert (await verified(engine, kafka, topic)).findings.equal
    await change(engine, "UPDATE odds_snapshots SET scrape_run_id = 5 WHERE event_id = 5")
    await change(engine, "UPDATE odds_snapshots SET log_offset = 5 WHERE event_id = 1")
    found = (await verified(engine, kafka, topic)).findings
    assert {(d.found.value, d.offset, d.field) for d in found.differences} == {
        ("different", 4, "scrape_run_id"),
        ("different", 0, "log_offset"),
    }


async def test_beside_a_sink_that_writes(
    kafka: KafkaConnection, topic: str, engine: AsyncEngine
) -> None:
    """Each verification is of one moment, whatever comes meanwhile."""
    async with running(kafka, topic, engine, poll_records=3) as sink:
        await sink.until_placed(3)
        for turn in range(6):
            values = [
                value
                for n in range(40)
                for value in (
                    good(n + 1, NOON + timedelta(seconds=turn)),
                    confirming(
                        NOON + timedelta(seconds=turn),
                        event_id=n + 1,
                        at=NOON + timedelta(minutes=turn + 1),
                    ),
                )
            ]
            await produce(kafka, topic, values, partition=turn % 3)
            found = (await verified(engine, kafka, topic)).findings
            assert found.equal, found.differences

        async def all_there() -> bool:
            return (await verified(engine, kafka, topic)).findings.snapshots == 240

        await until(all_there, "all snapshots to be verified")


async def test_plain_ids_explain_later_confirmations(
    kafka: KafkaConnection, topic: str, engine: AsyncEngine, run_sink: RunSink
) -> None:
    """What they must have confirmed is asked for where it is sure."""
    await run_sink()
    await produce(kafka, topic, [good(1), good(1, kind=Kind.COMPETITOR)])
    await run_sink()
    await produce(kafka, topic, [ids(1), ids(1, kind=Kind.COMPETITOR), ids(2, 3)])
    await run_sink()
    found = (await verified(engine, kafka, topic)).findings
    assert (found.equal, found.explained[Explained.PLAIN_IDS]) == (True, 4)
    await change(engine, "UPDATE odds_snapshots SET last_confirmed_at = captured_at")
    found = (await verified(engine, kafka, topic, repair=True)).findings
    ((line,),) = [[d.what for d in found.differences]]
    assert line.endswith("by plain id 1")
    assert (await verified(engine, kafka, topic)).findings.equal
    confirmed = "SELECT last_confirmed_at - captured_at FROM odds_snapshots"
    assert await one(engine, confirmed) == timedelta(minutes=1)
