"""Positions that change under the running sink: an older database, a topic that grows."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from oddslog.deploy.stack import Servers
from oddslog.deploy.torture.proxy import Proxy
from oddslog.schemas import KafkaConnection
from oddslog.schemas.codec import snapshot_part
from oddslog.sink.database import make_engine
from tests.fixtures.servers import create_database, drop_database
from tests.fixtures.sinks import Feed
from tests.support.batches import NOON, batch, competitor, key_of, snapshot
from tests.support.conservation import assert_conserved, feed_events, until_ledger
from tests.support.fragments import confirming, holding
from tests.support.kafka import add_partitions, produce
from tests.support.polls import blocked, one, rows
from tests.support.running import running
from tests.support.waiting import until


@pytest.fixture
async def proxy(database_url: str) -> AsyncIterator[Proxy]:
    """A proxy before the session's PostgreSQL."""
    async with Proxy.before(database_url) as proxy:
        yield proxy


@pytest.mark.parametrize(
    ("taken", "idle"),
    [
        ("mid-way", True),
        ("before the first batch", False),
        pytest.param("before the first batch", True, marks=pytest.mark.faults),
        pytest.param("mid-way", False, marks=pytest.mark.faults),
    ],
)
async def test_the_database_is_replaced_by_an_older_copy(
    kafka: KafkaConnection,
    topic: str,
    servers: Servers,
    new_name: str,
    database_url: str,
    engine: AsyncEngine,
    proxy: Proxy,
    taken: str,
    *,
    idle: bool,
) -> None:
    """Restored under the running sink, which is cut off meanwhile: it refills it by itself."""
    through = make_engine(proxy.url(database_url))
    fed = []
    async with running(kafka, topic, through, poll_records=10) as sink:
        await sink.until_placed(3)
        if taken == "mid-way":
            fed += await feed_events(kafka, topic, range(1, 31))
            await until_ledger(engine, 60)
        proxy.refuse = True
        proxy.cut()
        await engine.dispose()
        await copy_database(servers, new_name, f"{new_name}_copy")
        proxy.refuse = False
        fed += await feed_events(kafka, topic, range(31, 61))
        await until(lambda: sink.sink.totals.records == 30 * 2 * len(fed), "all to be written")
        proxy.refuse = True
        proxy.cut()
        await engine.dispose()
        await drop_database(servers, new_name)
        await copy_database(servers, f"{new_name}_copy", new_name)
        await drop_database(servers, f"{new_name}_copy")
        assert await one(engine, "SELECT count(*) FROM odds_snapshots") == 30 * (len(fed) - 1)
        if not idle:
            fed += await feed_events(kafka, topic, range(61, 91))
        proxy.refuse = False
        await until_ledger(engine, 60 * len(fed))
        totals = await sink.stop()
    await through.dispose()
    assert totals.duplicates == 0
    await assert_conserved(engine, fed)
    valid = await rows(engine, "SELECT ids_valid_from FROM oddslog_ledger")
    assert all(row.ids_valid_from >= 20 * (len(fed) - (not idle)) for row in valid)


async def copy_database(servers: Servers, source: str, target: str) -> None:
    """A copy, as a dump and its restoring make one; sessions on the source are ended."""
    connection = await asyncpg.connect(servers.database_url)
    try:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", source
        )
    finally:
        await connection.close()
    await create_database(servers, target, source)


async def test_partitions_are_added_in_the_middle_of_a_backlog(
    kafka: KafkaConnection, topic: str, engine: AsyncEngine, database_url: str
) -> None:
    """Keys move: confirmations in a new partition come before their snapshots in an old one."""
    keeper_engine = make_engine(database_url)
    made = [snapshot(event) for event in range(101, 131)]
    late = NOON + timedelta(hours=3)
    async with running(kafka, topic, engine, poll_records=5) as sink:
        await sink.until_placed(3)
        async with keeper_engine.connect() as keeper, keeper.begin():
            await keeper.exec_driver_sql("LOCK TABLE market_odds")
            fed = await feed_events(kafka, topic, range(1, 31))
            await until(lambda: blocked(keeper_engine), "a transaction in its midst")
            await add_partitions(kafka, topic, 5)
            confirmations = [confirming(NOON, event_id=s.event_id, at=late) for s in made]
            await produce(kafka, topic, confirmations, partition=4)
        sink.sink._replace(0)  # asks the cluster: it would do so within a minute by itself
        await until_ledger(keeper_engine, 90)
        pending = "SELECT count(*) FROM oddslog_pending_confirmations"
        assert await one(keeper_engine, pending) == len(made)
        values = [holding(snapshot_part(s).record, event_id=s.event_id) for s in made]
        await produce(kafka, topic, values, partition=0)
        await until_ledger(keeper_engine, 120)
        await sink.stop()
    await keeper_engine.dispose()
    fed += [batch(made, unchanged_betpawa=tuple(key_of(s) for s in made), confirmed_at=late)]
    await assert_conserved(engine, fed)
    assert await one(engine, "SELECT partition_count FROM oddslog_logs") == 5


async def test_a_feed_goes_on_while_the_topic_grows(
    feed: Feed, kafka: KafkaConnection, topic: str, engine: AsyncEngine
) -> None:
    """The publisher and two sinks see it each in its time; nothing is lost between them."""
    first = batch(
        [snapshot(event) for event in range(1, 41)], [competitor(event) for event in range(1, 41)]
    )
    confirmed = batch(
        unchanged_betpawa=tuple(key_of(s) for s in first.changed_betpawa),
        confirmed_at=NOON + timedelta(hours=1),
        batch_index=1,
    )
    async with running(kafka, topic, engine, poll_records=5) as sink:
        await sink.until_placed(3)
        feeding = asyncio.ensure_future(feed([first]))
        await add_partitions(kafka, topic, 6)
        await feeding
        await feed([confirmed])  # a producer that knows of six partitions from its start
        sink.sink._replace(0)
        await until_ledger(engine, 120)
        await sink.stop()
    async with running(kafka, topic, engine, until_caught_up=True) as again:
        await again.task
    await assert_conserved(engine, [first, confirmed])
