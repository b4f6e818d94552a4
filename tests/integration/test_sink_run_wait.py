"""Waiting for a scrape run, and runs through real Kafka: members, refills, empty batches."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from sqlalchemy import QueuePool
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from oddslog.deploy.stack import Servers
from oddslog.deploy.torture.proxy import Proxy
from oddslog.ingest.feeds import SimulateSettings, simulate
from oddslog.schemas import KafkaConnection
from oddslog.sink import RunIncompleteError, wait_for_run
from oddslog.sink.database import make_engine
from oddslog.sink.errors import NotMigratedError
from tests.fixtures.servers import create_database, drop_database
from tests.fixtures.sinks import Feed, RunSink
from tests.support.batches import batch
from tests.support.kafka import produce
from tests.support.polls import PollWriter
from tests.support.running import running
from tests.support.runs import counts, headers_of, of_run, run_in, runs_in
from tests.support.waiting import BUDGET_SECONDS, until

Sessions = async_sessionmaker[AsyncSession]


@pytest.fixture
def sessions(engine: AsyncEngine) -> Sessions:
    """A reader's sessions."""
    return async_sessionmaker(engine)


@pytest.fixture
async def second_engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """Another engine on the test's database."""
    engine = make_engine(database_url)
    yield engine
    await engine.dispose()


async def test_a_reader_is_told_when_all_is_there(
    engine: AsyncEngine, second_engine: AsyncEngine
) -> None:
    """Not before; and no connection is held while it waits."""
    writer = await PollWriter.open(engine)
    await writer.write(of_run(1, 0, 2))
    waiting = asyncio.create_task(
        wait_for_run(async_sessionmaker(second_engine), 7, timeout_seconds=BUDGET_SECONDS)
    )
    pool = second_engine.pool
    assert isinstance(pool, QueuePool)
    # It has looked, and has given its connection back.
    await until(lambda: pool.checkedin() == 1, "the first look")
    assert not waiting.done()
    await writer.write(of_run(2, 1, 2))
    run = await waiting
    assert (counts(run), run.marked) == ((1, 2, True), False)
    # What is there already is returned at once, also where there is no time at all.
    assert (await wait_for_run(async_sessionmaker(engine), 7, timeout_seconds=0)).complete


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([], "scrape run 7 is not complete after 0 s: nothing of it has arrived"),
        (
            [of_run(1, 0, 3, count=2)],
            "scrape run 7 is not complete after 0 s: 0 of 2 batches, 1 of 3 fragments of those"
            " begun",
        ),
        (
            [of_run(1, count=None)],
            "scrape run 7 is not complete after 0 s: its batches do not say how many there are"
            " (batch_count); 1 have arrived, 1 of 1 fragments of those begun",
        ),
    ],
    ids=["nothing", "a part", "open"],
)
async def test_the_time_out_says_how_far_it_was(
    engine: AsyncEngine, sessions: Sessions, values: list[bytes], says: str
) -> None:
    """For people in one line, for programs in `run`."""
    if values:
        await (await PollWriter.open(engine)).write(*values)
    with pytest.raises(TimeoutError) as raised:
        await wait_for_run(sessions, 7, timeout_seconds=0)
    assert isinstance(raised.value, RunIncompleteError)
    assert str(raised.value) == says
    assert (raised.value.run is None) == (not values)


async def test_a_database_that_is_away_for_a_while(engine: AsyncEngine, database_url: str) -> None:
    """A lost connection is tried again; at the time-out it is what is said."""
    writer = await PollWriter.open(engine)
    await writer.write(of_run(1, 0, 1, count=2))
    async with Proxy.before(database_url) as proxy:
        through = make_engine(proxy.url(database_url))
        try:
            sessions = async_sessionmaker(through)
            proxy.stall()
            with pytest.raises(RunIncompleteError, match="the database does not answer"):
                await wait_for_run(sessions, 7, timeout_seconds=0)
            proxy.flow()
            waiting = asyncio.create_task(wait_for_run(sessions, 7, timeout_seconds=BUDGET_SECONDS))
            pool = through.pool
            assert isinstance(pool, QueuePool)
            await until(lambda: pool.checkedin() == 1, "the first look")
            proxy.cut()
            await writer.write(of_run(2, 0, 1, index=1, count=2))
            assert (await waiting).complete
        finally:
            await through.dispose()


async def test_a_database_without_the_tables(servers: Servers, new_name: str) -> None:
    """Waiting would not mend it: it is said at once."""
    name = f"{new_name}_empty"
    engine = make_engine(await create_database(servers, name))
    try:
        with pytest.raises(NotMigratedError, match="oddslog migrate"):
            await wait_for_run(async_sessionmaker(engine), 7, timeout_seconds=BUDGET_SECONDS)
    finally:
        await engine.dispose()
        await drop_database(servers, name)


async def test_two_members_fill_a_run_and_a_reader_waits(
    kafka: KafkaConnection,
    topic: str,
    feed: Feed,
    engine: AsyncEngine,
    second_engine: AsyncEngine,
    sessions: Sessions,
) -> None:
    """Real batches, one of them with nothing to write; counts are exact, and stay so."""
    settings = SimulateSettings(
        events=12,
        cycles=1,
        batch_events=4,
        raw_response_bytes=50,
        first_run_id=7,
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    batches = [
        batch(
            one.changed_betpawa,
            one.changed_competitor,
            scrape_run_id=7,
            batch_index=one.batch_index,
            batch_count=4,
        )
        for one in simulate(settings)
    ]
    empty = batch(scrape_run_id=7, batch_index=3, batch_count=4)
    events = {("b", s.event_id) for one in batches for s in one.changed_betpawa} | {
        ("c", s.competitor_event_id) for one in batches for s in one.changed_competitor
    }
    async with (
        running(kafka, topic, engine, poll_records=5) as first,
        running(kafka, topic, second_engine, poll_records=5) as second,
    ):
        await until(lambda: len(first.placed) + len(second.placed) == 3, "both to have a share")
        await until(lambda: first.placed and second.placed, "both to have a share")
        await feed(reversed([empty, *batches]))
        run = await wait_for_run(sessions, 7, timeout_seconds=BUDGET_SECONDS)
        await feed(batches[:1])  # enqueued again: another batch id
    assert counts(run) == (4, len(events) + 1, True)
    assert counts(await run_in(engine)) == counts(run)


async def test_a_refill_counts_what_a_backup_lacks(
    servers: Servers,
    kafka: KafkaConnection,
    topic: str,
    new_name: str,
    engine: AsyncEngine,
    run_sink: RunSink,
) -> None:
    """Taken before the first record and mid-way: both end as the original, times included."""
    first = [of_run(1, 0, 4, count=2), of_run(2, 1, 4, count=2)]
    rest = [of_run(3, 2, 4, count=2), of_run(4, 3, 4, count=2), of_run(5, index=1, count=2)]
    copies = [f"{new_name}_copy{number}" for number in range(2)]
    restored: list[AsyncEngine] = []
    try:
        for name, values in zip(copies, (first, rest), strict=True):
            await engine.dispose()  # a template must have no sessions
            restored.append(make_engine(await create_database(servers, name, new_name)))
            await produce(kafka, topic, values)
            if name == copies[0]:
                await produce(kafka, topic, [b"bad"], partition=2, headers=headers_of(2, 0, 1))
            await run_sink()
        original = await run_in(engine)
        assert (counts(original), original.dead_letters) == ((3, 6, True), 1)
        for other in restored:
            await run_sink(into=other)
            run = await run_in(other)
            assert counts(run) == counts(original)
            assert run.dead_letters == 1
            assert run.first_arrival_at == original.first_arrival_at
            assert run.last_arrival_at == original.last_arrival_at
    finally:
        for name, other in zip(copies, restored, strict=False):
            await other.dispose()
            await drop_database(servers, name)


async def test_the_sink_prunes_old_runs(
    kafka: KafkaConnection, topic: str, engine: AsyncEngine, run_sink: RunSink
) -> None:
    """Those of which nothing came within the retention."""
    await produce(kafka, topic, [of_run(1)])
    await run_sink()
    assert await runs_in(engine) == [7]
    await run_sink(run_retention_seconds=0.0)
    assert await runs_in(engine) == []
