"""Replay: a log into a database once more, by the command, on real servers."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from oddslog.deploy.compare import compare
from oddslog.deploy.stack import Servers
from oddslog.ingest.feeds import SimulateSettings, simulate
from oddslog.schemas import KafkaConnection, WriteBatch
from oddslog.schemas.redrive import Redrive, redrive_headers
from oddslog.schemas.wire import Kind
from oddslog.sink.database import make_engine
from oddslog.sink.replay_progress import KindCounts
from oddslog.sink.topics import describe_topic
from tests.fixtures.servers import create_database, drop_database
from tests.fixtures.sinks import Feed, RunSink
from tests.support.command import Command, Result
from tests.support.conservation import feed_events
from tests.support.fragments import good, holding, record, with_market
from tests.support.kafka import produce
from tests.support.messy import RECORDS, add_parents, feed_messy
from tests.support.polls import letters, one
from tests.support.replays import replay_into
from tests.support.running import running
from tests.support.tables import content, ledger
from tests.support.waiting import until


async def replay(command: Command, *arguments: str) -> Result:
    """Run it to its end, beside the test's own tasks."""
    return (await asyncio.to_thread(command, "replay", "--json", *arguments)).ok()


def two_cycles() -> list[WriteBatch]:
    """Sixty events, scraped twice: the second time mostly confirmations."""
    settings = SimulateSettings(
        events=60,
        cycles=2,
        changed_share=0.4,
        batch_events=20,
        raw_response_bytes=200,
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    batches = list(simulate(settings))
    return [replace(one, scrape_run_id=7, batch_count=len(batches)) for one in batches]


async def test_an_empty_database_is_restored(
    command: Command,
    feed: Feed,
    run_sink: RunSink,
    kafka: KafkaConnection,
    topic: str,
    engine: AsyncEngine,
    empty_engine: AsyncEngine,
    empty_url: str,
) -> None:
    """Table by table equal to the one that the sink filled; the second time nothing changes."""
    fed = two_cycles()
    await feed(fed)
    await feed_messy(kafka, topic)
    await run_sink()
    first = await replay(command, "--from-offset", "0", "--database", empty_url)
    original = await content(engine)
    restored = await content(empty_engine)
    for table, rows in original.items():
        assert rows, table
        assert restored[table] == rows, table
    assert await ledger(empty_engine) == []
    assert await one(empty_engine, "SELECT count(*) FROM oddslog_meta WHERE name ~ '^replay:'") == 0
    again = await replay(command, "--database", empty_url)
    assert await content(empty_engine) == original
    for table, came_to in again.json["tables"].items():
        assert came_to["inserted"] == 0, table
        there = came_to["already_there"]
        assert there == sum(first.json["tables"][table][n] for n in ("inserted", "already_there"))
    assert again.json["known_letters"] == sum(first.json["dead_letters"].values())


@pytest.fixture
async def messy_engine(
    servers: Servers, template_with_parents: str, new_name: str
) -> AsyncIterator[AsyncEngine]:
    """A database with parents, on which the messy log comes to everything there is."""
    name = f"{new_name}_messy"
    engine = make_engine(await create_database(servers, name, template_with_parents))
    await add_parents(engine)
    yield engine
    await engine.dispose()
    await drop_database(servers, name)


async def test_a_dry_run_says_what_the_real_run_does(
    kafka: KafkaConnection, topic: str, messy_engine: AsyncEngine
) -> None:
    """Whatever the size of polls: what an earlier one would have written counts."""
    await feed_messy(kafka, topic)
    untouched = await content(messy_engine)
    tried = [
        (await replay_into(messy_engine, kafka, topic, dry_run=True, poll_records=size)).counts
        for size in (2, 500)
    ]
    assert await content(messy_engine) == untouched
    assert await one(messy_engine, "SELECT count(*) FROM oddslog_logs") == 0
    done = (await replay_into(messy_engine, kafka, topic, poll_records=3)).counts
    assert tried == [done, done]
    assert done.records == RECORDS
    assert done.kinds[Kind.BETPAWA] == KindCounts(15, 3, 3, 30, 6)
    assert done.kinds[Kind.COMPETITOR] == KindCounts(3, 3, 3, 6, 6)
    assert done.dead_letters == {
        "undecodable": 3,
        "poison": 3,
        "missing_parent": 3,
        "conflict": 6,
    }
    assert (done.confirmations, done.waiting_keys) == (15, 3)
    assert (done.unstable_ids, done.confirmed_ids) == (9, 0)
    # And of what is there now, again.
    tried_again = (await replay_into(messy_engine, kafka, topic, dry_run=True)).counts
    assert tried_again == (await replay_into(messy_engine, kafka, topic)).counts
    assert tried_again.kinds[Kind.BETPAWA].inserted == 0
    assert tried_again.known_letters == 15


async def test_the_command_says_what_a_dry_run_would_do(
    command: Command, kafka: KafkaConnection, topic: str, engine: AsyncEngine
) -> None:
    """By table, for people and for machines; with every choice there is."""
    await produce(kafka, topic, [good(1), good(1), good(2), b"broken"])
    choices = (
        "--partition 0 --to-offset 3 --from-time 2020-01-01T00:00Z --captured-from 2020-01-01T00Z"
        " --captured-to 2040-01-01T00:00+01:00 --event betpawa:1 --event competitor:2 --dry-run"
    )
    result = await replay(command, *choices.split())
    assert result.json["tables"]["odds_snapshots"] == {
        "inserted": 1,
        "already_there": 1,
        "conflicts": 0,
    }
    assert result.json["tables"]["market_odds"] == {"inserted": 2, "already_there": 2}
    assert (result.json["records"], result.json["filtered"]) == (3, 1)
    assert (result.json["dry_run"], result.json["replay_id"]) == (True, None)
    assert "would insert" in result.err
    assert await one(engine, "SELECT count(*) FROM odds_snapshots") == 0


async def test_beside_a_running_sink(
    command: Command, kafka: KafkaConnection, topic: str, engine: AsyncEngine
) -> None:
    """Both write the same records at once; each row is there once, and the sink goes on."""
    fed = await feed_events(kafka, topic, range(1, 200))
    small = command.but(POLL_RECORDS="20")
    async with running(kafka, topic, engine, poll_records=20) as run:
        replays = [asyncio.create_task(replay(small)) for _ in range(2)]
        await asyncio.gather(*replays)
        more = await feed_events(kafka, topic, range(200, 220))
        total = 2 * 219
        await until(
            lambda: one(engine, "SELECT sum(next_offset) = :n FROM oddslog_ledger", n=total),
            "the sink to go on",
        )
        assert not run.task.done()
    result = await compare(engine, [*fed, *more])
    assert result.equal, result.first_difference
    assert await one(engine, "SELECT count(*) FROM oddslog_dead_letters") == 0


async def test_the_ledger_does_not_move(
    run_sink: RunSink, kafka: KafkaConnection, topic: str, engine: AsyncEngine
) -> None:
    """Neither by a real run nor by a dry one."""
    await feed_events(kafka, topic, range(1, 10))
    await run_sink()
    before = await ledger(engine)
    await replay_into(engine, kafka, topic)
    await replay_into(engine, kafka, topic, dry_run=True)
    assert await ledger(engine) == before


async def test_what_was_sent_again(
    kafka: KafkaConnection,
    topic: str,
    run_sink: RunSink,
    engine: AsyncEngine,
    empty_engine: AsyncEngine,
) -> None:
    """A redriven record marks its letter in a replayed database too, and is counted by itself."""
    wide = with_market(record(), betpawa_market_name="x" * 300)
    await produce(kafka, topic, [holding(wide), holding(wide, event_id=2), good(3)])
    await run_sink()
    described = await describe_topic(kafka, topic)
    assert described is not None
    for number, value in enumerate([good(1), holding(wide, event_id=2)]):
        letter = (await letters(engine))[number]
        redrive = Redrive(described.cluster_id, topic, 0, number, 0, letter.appended_at)
        await produce(kafka, topic, [value], headers=redrive_headers(redrive))
    await run_sink()
    states = [(letter.status, letter.redrives_seen) for letter in await letters(engine)]
    assert states == [("redriven", 1), ("dead", 1)]
    tried = await replay_into(empty_engine, kafka, topic, dry_run=True, poll_records=1)
    done = await replay_into(empty_engine, kafka, topic, poll_records=2)
    assert tried.counts == done.counts
    assert done.counts.dead_letters == {"poison": 3}
    assert await content(empty_engine) == await content(engine)
    again = await replay_into(empty_engine, kafka, topic)
    assert again.counts.kinds[Kind.BETPAWA].inserted == 0
    assert await content(empty_engine) == await content(engine)


async def test_letters_that_were_accepted_stop_no_replay_and_are_settled_when_written(
    command: Command,
    kafka: KafkaConnection,
    topic: str,
    run_sink: RunSink,
    engine: AsyncEngine,
    empty_url: str,
) -> None:
    """Known poison was judged before; where it is new, one line says what to do and how to go on.

    When the table is mended, a replay writes them, and they are dead no more.
    """
    wide = with_market(record(), betpawa_market_name="x" * 300)
    await produce(kafka, topic, [good(1), *(holding(wide, event_id=n) for n in range(2, 152))])
    await produce(kafka, topic, [b"broken"], partition=1)
    await run_sink(accept_poison=("poison",))
    again = (await replay_into(engine, kafka, topic)).counts
    assert (again.dead_letters["poison"], again.known_letters) == (150, 151)
    assert again.settled_letters == 0

    stopped = await asyncio.to_thread(command, "replay", "--database", empty_url)
    assert stopped.code == 4
    *_, last = stopped.err.splitlines()
    assert last.startswith("oddslog: 151 of the last 152 snapshots and records")
    assert "the same with --accept-poison poison/markets.betpawa_market_name. What is" in last
    assert ": oddslog replay --resume" in last
    assert "Interrupted" not in stopped.err

    async with engine.begin() as connection:
        await connection.exec_driver_sql(
            "ALTER TABLE market_odds ALTER betpawa_market_name TYPE varchar(300)"
        )
    tried = (await replay_into(engine, kafka, topic, dry_run=True)).counts
    assert {letter.status for letter in await letters(engine)} == {"dead"}
    done = (await replay_into(engine, kafka, topic)).counts
    assert tried == done
    assert (done.kinds[Kind.BETPAWA].inserted, done.settled_letters) == (150, 150)
    left = {letter.reason: letter.status for letter in await letters(engine)}
    assert left == {"poison": "written", "undecodable": "dead"}
    assert (await replay_into(engine, kafka, topic)).counts.settled_letters == 0
