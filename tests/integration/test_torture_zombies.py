"""Who stands still is found where a living one waits for it; nobody else."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from oddslog.deploy.stack import Servers
from oddslog.deploy.torture.proxy import Proxy
from oddslog.deploy.torture.zombies import Verdict, ZombieWatch
from oddslog.sink.database import make_engine
from tests.fixtures.servers import create_database, drop_database
from tests.support.waiting import until


@pytest.fixture
async def database_url(servers: Servers, new_name: str) -> AsyncIterator[str]:
    """With one row to be locked."""
    name = f"{new_name}_zombies"
    url = await create_database(servers, name)
    engine = make_engine(url)
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE one AS SELECT 1 AS id"))
    await engine.dispose()
    yield url
    await drop_database(servers, name)


@asynccontextmanager
async def by(proxy: Proxy, database_url: str) -> AsyncIterator[AsyncConnection]:
    """A session that comes by a proxy."""
    engine: AsyncEngine = make_engine(proxy.url(database_url))
    try:
        async with engine.connect() as connection:
            yield connection
    finally:
        await engine.dispose()


async def _lock(connection: AsyncConnection) -> None:
    await connection.execute(text("SELECT * FROM one FOR UPDATE"))


async def test_a_zombie_is_found_by_who_waits_for_it(database_url: str) -> None:
    """Not where nobody waits, nor the other way round, nor once its transaction is over."""
    async with (
        Proxy.before(database_url) as first,
        Proxy.before(database_url) as second,
        by(first, database_url) as zombie,
        by(second, database_url) as living,
    ):
        watch = ZombieWatch(
            database_url, first.backend_pids, lambda: second.backend_pids, most_waiting_seconds=0.0
        )
        back = ZombieWatch(
            database_url, second.backend_pids, lambda: first.backend_pids, most_waiting_seconds=0.0
        )
        try:
            await _lock(zombie)
            assert await watch.watch(0.0) == Verdict(blocked=False, too_long_seconds=None)
            waiting = asyncio.create_task(_lock(living))
            await until(watch.waiting_seconds, "the wait")
            verdict = await watch.watch(0.0)
            assert verdict.blocked
            assert verdict.too_long_seconds
            assert await back.waiting_seconds() is None
            await zombie.rollback()
            await waiting
            assert await watch.watch(0.0) == Verdict(blocked=False, too_long_seconds=None)
        finally:
            await watch.close()
            await back.close()


async def test_a_server_that_is_away_tells_nothing() -> None:
    """It is no finding, and no error."""
    watch = ZombieWatch("postgresql://nobody:x@127.0.0.1:1/none", [1], lambda: [2])
    assert await watch.watch(0.0) == Verdict(blocked=False, too_long_seconds=None)
    await watch.close()
