"""SIGKILL of a sink at every named point: each snapshot exactly once afterwards."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from aiokafka import AIOKafkaProducer
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from oddslog.deploy.compare import compare
from oddslog.deploy.stack import Servers
from oddslog.ingest.feeds import SimulateSettings, simulate
from oddslog.schemas import KafkaConnection, WriteBatch
from oddslog.sink.runs import read_runs
from tests.fixtures.sinks import Feed
from tests.support.batches import NOON, batch, market, snapshot
from tests.support.sink_process import BUDGET_SECONDS, SinkProcess

KILL_POINTS = (
    "sink.before_copy",  # the transaction is open, snapshots are inserted
    "sink.in_copy",  # ... and all market rows are on their way
    "sink.rows_written",  # the transaction is open, all rows are written
    "sink.before_commit",  # the ledger is moved, not committed
    "sink.after_commit",  # committed, and nobody knows yet
    "sink.before_offsets",
    "sink.after_offsets",
)
UNDECODABLE = (b"", b"no frame", b"\xc3\x01" + b"\x00" * 8, b"\xc3\x01" + b"\xff" * 60)


@dataclass
class Backlog:
    """What was fed: good batches, and how many dead letters of each reason must come."""

    good: list[WriteBatch]
    letters: dict[str, int]


@pytest.fixture
def backlog() -> Backlog:
    """Three cycles of 40 events, with poisoned snapshots among them."""
    settings = SimulateSettings(
        events=40,
        cycles=3,
        changed_share=0.4,
        batch_events=10,
        raw_response_bytes=200,
        first_run_id=1,
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    return Backlog(list(simulate(settings)), {"poison": 9, "undecodable": len(UNDECODABLE)})


@pytest.fixture
async def start_sink(
    servers: Servers, database_url: str, topic: str
) -> AsyncIterator[Callable[..., SinkProcess]]:
    """Start members of the test's group; all are ended with the test."""
    started: list[SinkProcess] = []

    def start(kill_point: str = "") -> SinkProcess:
        environment = {
            "ODDSLOG_BOOTSTRAP_SERVERS": servers.bootstrap_servers,
            "ODDSLOG_DATABASE_URL": database_url,
            "ODDSLOG_TOPIC": topic,
            "ODDSLOG_GROUP": topic,
            "ODDSLOG_POLL_RECORDS": "15",
            "ODDSLOG_SESSION_TIMEOUT_SECONDS": "2",
            "ODDSLOG_KILL_POINT": kill_point,
        }
        started.append(SinkProcess(environment))
        return started[-1]

    yield start
    for process in started:
        process.end()


async def feed_all(feed: Feed, backlog: Backlog, kafka: KafkaConnection, topic: str) -> None:
    """The good batches, with poison in between and undecodable records behind."""
    poisoned = [
        batch([snapshot(900 + number, NOON, markets=(market(1, betpawa_market_name="x" * 300),))])
        for number in range(9)
    ]
    middle = len(backlog.good) // 2
    await feed([*backlog.good[:middle], *poisoned, *backlog.good[middle:]])
    producer = AIOKafkaProducer(**kafka.client_options())
    await producer.start()
    try:
        for number, value in enumerate(UNDECODABLE):
            await producer.send_and_wait(topic, value, key=str(number).encode())
    finally:
        await producer.stop()


async def written_records(engine: AsyncEngine) -> int:
    """How far the ledger is, over all partitions."""
    async with engine.connect() as connection:
        rows = await connection.execute(text("SELECT sum(next_offset) FROM oddslog_ledger"))
        return int(rows.scalar_one() or 0)


async def wait_written(engine: AsyncEngine, records: int) -> None:
    """Wait until the ledger has so many records behind it."""
    async with asyncio.timeout(BUDGET_SECONDS):
        while await written_records(engine) < records:
            await asyncio.sleep(0.05)


async def check_conserved(engine: AsyncEngine, backlog: Backlog) -> None:
    """Each good snapshot exactly once and equal, each bad record one dead letter, runs whole."""
    result = await compare(engine, backlog.good)
    assert result.equal, result.first_difference
    async with engine.connect() as connection:
        letters = await connection.execute(
            text("SELECT reason, count(*) AS letters FROM oddslog_dead_letters GROUP BY reason")
        )
        assert {row.reason: row.letters for row in letters} == backlog.letters
        totals = (
            await connection.execute(
                text(
                    "SELECT sum(snapshots_total) AS snapshots, sum(dead_letters_total) AS letters"
                    " FROM oddslog_ledger"
                )
            )
        ).one()
        runs = await read_runs(connection)
    assert sorted(run.run_id for run in runs) == [1, 2, 3]
    for run in runs:
        assert (run.complete, run.batches_arrived, run.dead_letters) == (True, 4, 0)
    assert sum(run.fragments_arrived for run in runs) == record_count(Backlog(backlog.good, {}))
    assert totals.snapshots == result.snapshots
    assert totals.letters == sum(backlog.letters.values())


def record_count(backlog: Backlog) -> int:
    """How many records the backlog comes to: one an event, kind and batch."""
    records = sum(backlog.letters.values())
    for one in backlog.good:
        betpawa = {s.event_id for s in one.changed_betpawa} | {
            k.event_id for k in one.unchanged_betpawa
        }
        competitors = {s.competitor_event_id for s in one.changed_competitor} | {
            k.competitor_event_id for k in one.unchanged_competitor
        }
        records += len(betpawa) + len(competitors)
    return records


async def stop_all(*members: SinkProcess) -> None:
    """Stop the members as an orchestrator does; each ends well."""
    for member in members:
        await asyncio.to_thread(member.wait_placed)
    assert [await asyncio.to_thread(member.stop) for member in members] == [0] * len(members)


@pytest.mark.parametrize("kill_point", KILL_POINTS)
async def test_killed_at_a_named_point(
    kill_point: str,
    start_sink: Callable[..., SinkProcess],
    feed: Feed,
    backlog: Backlog,
    kafka: KafkaConnection,
    topic: str,
    engine: AsyncEngine,
) -> None:
    """Two members, one dies at the point in its second poll and is started again."""
    victim, other = start_sink(f"{kill_point}:2"), start_sink()
    for member in (victim, other):
        await asyncio.to_thread(member.wait_placed)
    await feed_all(feed, backlog, kafka, topic)
    await asyncio.to_thread(victim.wait_killed)
    again = start_sink()
    await wait_written(engine, record_count(backlog))
    await stop_all(other, again)
    await check_conserved(engine, backlog)


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.faults)])
async def test_killed_at_random(
    seed: int,
    start_sink: Callable[..., SinkProcess],
    feed: Feed,
    backlog: Backlog,
    kafka: KafkaConnection,
    topic: str,
    engine: AsyncEngine,
) -> None:
    """Two members, either is killed whenever the ledger passes a random mark."""
    chance = random.Random(seed)  # noqa: S311 - a seeded test
    members = [start_sink(), start_sink()]
    total = record_count(backlog)
    feeding = asyncio.create_task(feed_all(feed, backlog, kafka, topic))
    for mark in sorted(chance.sample(range(1, total), 4)):
        await wait_written(engine, mark)
        victim = chance.randrange(2)
        await asyncio.to_thread(members[victim].kill)
        members[victim] = start_sink()
    await feeding
    await wait_written(engine, total)
    await stop_all(*members)
    await check_conserved(engine, backlog)
