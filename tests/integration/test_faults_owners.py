"""Two owners of one partition, and a zombie that holds the ledger's rows."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from oddslog.deploy.stack import Servers
from oddslog.schemas import KafkaConnection
from oddslog.sink import database as database_module
from oddslog.sink import service as service_module
from oddslog.sink import waiting as waiting_module
from oddslog.sink.database import LockWaits, make_engine
from oddslog.sink.fencing import Fence
from oddslog.sink.options import SinkOptions
from oddslog.sink.totals import SinkTotals
from tests.integration.test_sink_parents import make_parents
from tests.integration.test_sink_positions import execute
from tests.support.conservation import assert_conserved, feed_events, until_ledger
from tests.support.fragments import good
from tests.support.kafka import produce
from tests.support.polls import letters, one
from tests.support.running import running
from tests.support.sink_process import SinkProcess
from tests.support.waiting import until

REBALANCE_SECONDS = 2.0
# A session of the zombie's name that is in mid-COPY.
IN_COPY = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    " AND application_name = 'oddslog sink' AND query LIKE 'COPY %' AND state = 'active'"
    " AND wait_event_type = 'Client'"
)
OLD_AT_WORK = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    " AND application_name = 'oddslog sink' AND wait_event = 'PgSleep'"
    " AND xact_start < clock_timestamp() - interval '0.3 s'"
)
# Works until it is told that it is done.
WORK = (
    "DO 'BEGIN WHILE NOT EXISTS (SELECT FROM work_done) LOOP PERFORM pg_sleep(0.1); END LOOP; END'"
)
COUNT_LETTERS = "SELECT count(*) FROM oddslog_dead_letters"
COUNT_SNAPSHOTS = "SELECT count(*) FROM odds_snapshots"
LEDGER_KEEPERS = "SELECT * FROM oddslog_ledger FOR UPDATE"


@pytest.fixture
async def second_engine(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[AsyncEngine]:
    """An engine of a sink's name, which gives up a lock after a second."""
    monkeypatch.setattr(database_module, "_LOCK_TIMEOUT_SECONDS", 1)
    engine = make_engine(database_url, application_name="oddslog sink")
    yield engine
    await engine.dispose()


@pytest.fixture
async def start_sink(
    servers: Servers, database_url: str, topic: str
) -> AsyncIterator[Callable[..., SinkProcess]]:
    """Start a member of the test's group; ended with the test."""
    started: list[SinkProcess] = []

    def start(kill_point: str, url: str = database_url) -> SinkProcess:
        environment = {
            "ODDSLOG_BOOTSTRAP_SERVERS": servers.bootstrap_servers,
            "ODDSLOG_DATABASE_URL": url,
            "ODDSLOG_TOPIC": topic,
            "ODDSLOG_GROUP": topic,
            "ODDSLOG_POLL_RECORDS": "10",
            "ODDSLOG_SESSION_TIMEOUT_SECONDS": "2",
            "ODDSLOG_KILL_POINT": kill_point,
        }
        started.append(SinkProcess(environment))
        return started[-1]

    yield start
    for process in started:
        process.end()


async def test_a_zombie_in_mid_copy_is_fenced(
    start_sink: Callable[..., SinkProcess],
    kafka: KafkaConnection,
    topic: str,
    engine: AsyncEngine,
    second_engine: AsyncEngine,
) -> None:
    """Stopped in its second COPY: its backend is ended, another goes on, it wakes up fenced."""
    zombie = start_sink("sink.in_copy:2:STOP")
    await asyncio.to_thread(zombie.wait_placed)
    fed = await feed_events(kafka, topic, range(1, 61))
    await until(lambda: one(engine, IN_COPY), "the zombie in mid-COPY")
    with capture_logs() as logged:
        async with running(
            kafka,
            topic,
            second_engine,
            session_timeout_seconds=2.0,
            rebalance_timeout_seconds=REBALANCE_SECONDS,
            poll_records=10,
        ) as sink:
            await until_ledger(engine, 120)
            assert sink.sink.totals.fenced_backends == 1
            os.kill(zombie.process.pid, signal.SIGCONT)
            await asyncio.to_thread(zombie.wait_event, "retrying")  # its backend is gone
            await asyncio.to_thread(zombie.wait_event, "partitions_assigned")  # a member again
            fed += await feed_events(kafka, topic, range(61, 91))
            await until_ledger(engine, 180)
            await sink.stop()
    assert [entry["event"] for entry in logged].count("zombie_terminated") == 1
    assert await asyncio.to_thread(zombie.stop) == 0
    await assert_conserved(engine, fed)


@pytest.mark.parametrize("resent", [True, False])
async def test_a_zombie_in_mid_sweep_is_fenced(
    start_sink: Callable[..., SinkProcess],
    kafka: KafkaConnection,
    topic: str,
    parents_engine: AsyncEngine,
    monkeypatch: pytest.MonkeyPatch,
    resent: bool,
) -> None:
    """It holds natural keys, which a poll may bring again, and the lock of all sweeps."""
    await make_parents(parents_engine)
    url = parents_engine.url.render_as_string(hide_password=False)
    second_engine = make_engine(url, application_name="oddslog sink")
    zombie = start_sink("sink.in_copy:1:STOP", url)
    await asyncio.to_thread(zombie.wait_placed)
    await produce(kafka, topic, [good(7)])
    await until(lambda: one(parents_engine, COUNT_LETTERS), "the letter")
    await execute(parents_engine, "INSERT INTO events VALUES (7)")
    await until(lambda: one(parents_engine, IN_COPY), "the zombie in mid-COPY")
    # With the resend no sweep helps, and without it only the sweep finds the zombie.
    monkeypatch.setattr(service_module, "_SWEEP_SECONDS", 1000.0 if resent else 0.2)
    async with running(
        kafka,
        topic,
        second_engine,
        session_timeout_seconds=2.0,
        rebalance_timeout_seconds=REBALANCE_SECONDS,
    ) as sink:
        if resent:
            await produce(kafka, topic, [good(7)])
        await until(lambda: one(parents_engine, COUNT_SNAPSHOTS), "the snapshot")
        totals = await sink.stop()
    await second_engine.dispose()
    assert totals.fenced_backends == 1
    assert [letter.status for letter in await letters(parents_engine)] == ["written"]


async def test_a_living_sweep_is_not_ended(
    engine: AsyncEngine, second_engine: AsyncEngine, database_url: str
) -> None:
    """However old its transaction: only one that has waited for its client for as long."""
    totals = SinkTotals()
    fence = Fence(second_engine, LockWaits(), SinkOptions(rebalance_timeout_seconds=0.2), totals)
    keeper_engine = make_engine(database_url, application_name="oddslog sink")
    held = await keeper_engine.connect()
    assert (await held.execute(waiting_module._TRY_LOCK)).scalar_one()
    await execute(engine, "CREATE TABLE work_done ()")
    working = asyncio.create_task(held.exec_driver_sql(WORK))
    await until(lambda: one(engine, OLD_AT_WORK), "an old transaction at work")
    await fence.end_sweeping()
    assert totals.fenced_backends == 0
    await execute(engine, "INSERT INTO work_done DEFAULT VALUES")
    await working

    async def ended() -> bool:
        await fence.end_sweeping()
        return totals.fenced_backends == 1

    await until(ended, "its end when it only waits")
    await held.invalidate()
    await keeper_engine.dispose()


async def test_a_zombie_is_ended_although_another_waits_for_it_first(
    engine: AsyncEngine, second_engine: AsyncEngine, database_url: str
) -> None:
    """The one in front may be of a process that was killed: its backend waits all the same.

    The zombie is a replay, which writes the same keys as the sink.
    """
    await execute(engine, "CREATE TABLE kept AS SELECT 1 AS number")
    keep = "SELECT * FROM kept FOR UPDATE"
    totals, waits = SinkTotals(), LockWaits()
    fence = Fence(second_engine, waits, SinkOptions(rebalance_timeout_seconds=0.2), totals)
    other_engine = make_engine(database_url, application_name="oddslog sink")
    replay_engine = make_engine(database_url, application_name="oddslog replay")
    async with (
        replay_engine.connect() as zombie,
        other_engine.connect() as first,
        engine.connect() as second,
    ):
        await zombie.exec_driver_sql(keep)
        await first.exec_driver_sql("SET lock_timeout = 0")  # it waits however long this takes
        in_front = asyncio.create_task(first.exec_driver_sql(keep))
        await until(lambda: one(engine, "SELECT count(*) FROM pg_locks WHERE NOT granted"), "one")
        async with waits.around(second):
            behind = asyncio.create_task(second.exec_driver_sql(keep))
            await until(
                lambda: one(
                    engine,
                    "SELECT count(*) > 1 FROM pg_stat_activity WHERE query = :keep"
                    " AND datname = current_database() AND wait_event_type = 'Lock'",
                    keep=keep,
                ),
                "two that wait",
            )

            async def ended() -> bool:
                await fence._look()
                return totals.fenced_backends == 1

            await until(ended, "the zombie's end")
            await in_front
            await first.rollback()
            await behind
        await second.rollback()
        await zombie.invalidate()
    await replay_engine.dispose()
    await other_engine.dispose()
    assert totals.fenced_backends == 1


@pytest.mark.parametrize(
    "keeper",
    [
        "young",
        pytest.param("another's name", marks=pytest.mark.faults),
        pytest.param("behind a lock", marks=pytest.mark.faults),
    ],
)
async def test_what_is_no_zombie_is_waited_for(
    kafka: KafkaConnection,
    topic: str,
    engine: AsyncEngine,
    second_engine: AsyncEngine,
    database_url: str,
    keeper: str,
) -> None:
    """A living owner, an operator's session, one that waits itself: none is ended."""
    seconds = 60.0 if keeper == "young" else 0.2
    name = "psql" if keeper == "another's name" else "oddslog sink"
    keeper_engine = make_engine(database_url, application_name=name)
    async with running(
        kafka, topic, second_engine, rebalance_timeout_seconds=seconds
    ) as sink, keeper_engine.connect() as held, engine.connect() as other:  # fmt: skip
        await sink.until_placed(3)
        await held.exec_driver_sql(LEDGER_KEEPERS)
        waiting = None
        if keeper == "behind a lock":
            await other.exec_driver_sql("LOCK TABLE market_odds")
            await held.exec_driver_sql("SET lock_timeout = 0")
            waiting = asyncio.create_task(held.exec_driver_sql("LOCK TABLE market_odds"))
        fed = await feed_events(kafka, topic, range(1, 10))
        await until(lambda: sink.sink.totals.retries >= 2, "two lock time-outs")
        await other.rollback()
        if waiting is not None:
            await waiting
        await held.rollback()
        await until_ledger(engine, 18)
        totals = await sink.stop()
    await keeper_engine.dispose()
    assert totals.fenced_backends == 0
    await assert_conserved(engine, fed)


async def test_two_groups_own_every_partition(
    kafka: KafkaConnection, topic: str, engine: AsyncEngine, second_engine: AsyncEngine
) -> None:
    """Two members write every partition at once: each poll is one's, the other is fenced."""
    async with (
        running(kafka, topic, engine, poll_records=7) as first,
        running(kafka, topic, second_engine, group=f"{topic}-2", poll_records=11) as second,
    ):
        await first.until_placed(3)
        await second.until_placed(3)
        fed = []
        for start in range(1, 91, 30):
            fed += await feed_events(kafka, topic, range(start, start + 30))
        await until_ledger(engine, 180)
        totals = [await first.stop(), await second.stop()]
    assert sum(one_of.snapshots for one_of in totals) == 90
    assert sum(one_of.duplicates for one_of in totals) == 0
    assert sum(one_of.fenced for one_of in totals) > 0
    assert sum(one_of.fenced_backends for one_of in totals) == 0
    await assert_conserved(engine, fed)
