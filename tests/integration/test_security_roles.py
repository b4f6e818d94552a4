"""The roles of docs/security.md: each can do its work, and nothing else is let through."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncpg
import pytest
from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from oddslog.deploy.stack import Servers
from oddslog.schemas import KafkaConnection
from oddslog.sink.classify import sqlstate_of
from oddslog.sink.database import make_engine
from oddslog.sink.migrate import migrate
from tests.fixtures.servers import PARENT_DDL, create_database, drop_database
from tests.fixtures.sinks import Feed, RunSink
from tests.support.batches import NOON, batch, competitor, key_of, snapshot
from tests.support.kafka import produce
from tests.support.modules import ROOT

REFUSED = "42501"


@dataclass(frozen=True)
class Roles:
    """A database with both roles, migrated by the one and granted to the other."""

    names: dict[str, str]
    owner: asyncpg.Connection
    migrating: AsyncEngine
    sinking: AsyncEngine


def documented(part: str, names: dict[str, str]) -> str:
    """The statements of the page, for roles of other names: those are the cluster's."""
    page = (ROOT / "docs" / "security.md").read_text("utf-8")
    ((sql),) = re.findall(rf"<!-- {part}: begin.*?```sql\n(.*?)```", page, re.DOTALL)
    for name, ours in names.items():
        sql = re.sub(rf"\b{name}\b", ours, sql)
    return str(sql)


@pytest.fixture
async def roles(servers: Servers, new_name: str) -> AsyncIterator[Roles]:
    """As the page says, step by step; with the scraper's tables, and one of somebody else."""
    names = {"oddslog_migrate": f"{new_name}_migrate", "oddslog_sink": f"{new_name}_sink"}
    url = await create_database(servers, f"{new_name}_roles")
    owner = await asyncpg.connect(url)
    engines = []
    try:
        await owner.execute(PARENT_DDL + "CREATE TABLE payroll (salary int)")
        await owner.execute(documented("roles", names))
        for name in names.values():
            await owner.execute(f"ALTER ROLE {name} PASSWORD 'hush'")
            mine = make_url(url).set(username=name, password="hush")
            engines.append(make_engine(mine.render_as_string(hide_password=False)))
        migrating, sinking = engines
        await migrate(migrating)
        async with migrating.begin() as connection:
            for statement in documented("grants", names).strip().rstrip(";").split(";"):
                await connection.exec_driver_sql(statement)
        yield Roles(names, owner, migrating, sinking)
    finally:
        for engine in engines:
            await engine.dispose()
        await owner.close()
        await drop_database(servers, f"{new_name}_roles")
        cleaner = await asyncpg.connect(servers.database_url)
        for name in names.values():
            await cleaner.execute(f"DROP ROLE IF EXISTS {name}")
        await cleaner.close()


async def assert_refused(engine: AsyncEngine, statement: str) -> None:
    """For want of a right, and for nothing else."""
    async with engine.connect() as connection:
        with pytest.raises(DBAPIError) as caught:
            await connection.exec_driver_sql(statement)
    assert sqlstate_of(caught.value) == REFUSED, statement


SINK_MAY_NOT = [
    "SELECT * FROM market_odds",
    "UPDATE market_odds SET line = 1",
    "DELETE FROM competitor_market_odds",
    "DELETE FROM odds_snapshots",
    "DELETE FROM odds_snapshots_default",
    "TRUNCATE odds_snapshots",
    "DELETE FROM oddslog_ledger",
    "UPDATE oddslog_alembic_version SET version_num = 'x'",
    "SELECT setval('odds_snapshots_id_seq', 1)",
    "INSERT INTO events DEFAULT VALUES",
    "DELETE FROM scrape_runs",
    "SELECT * FROM payroll",
    "DROP TABLE odds_snapshots",
    "ALTER TABLE odds_snapshots ADD COLUMN x int",
    "CREATE TABLE mine (x int)",
    "CREATE SCHEMA mine",
    "CREATE ROLE mine",
    "COPY odds_snapshots TO PROGRAM 'cat'",
    "SELECT pg_read_file('PG_VERSION')",
]


async def test_the_sinks_role_can_do_its_work_and_nothing_else(
    roles: Roles, kafka: KafkaConnection, topic: str, feed: Feed, run_sink: RunSink
) -> None:
    """Snapshots, confirmations (early and late), waiting ones and their sweep, junk, runs."""
    await roles.owner.execute(
        "INSERT INTO bookmakers DEFAULT VALUES; INSERT INTO events DEFAULT VALUES;"
        "INSERT INTO competitor_events DEFAULT VALUES; INSERT INTO scrape_runs DEFAULT VALUES"
    )
    early = key_of(snapshot(1, NOON.replace(hour=13)))
    await feed(
        [
            batch([snapshot(1), snapshot(2)], [competitor(1)], scrape_run_id=1, batch_count=1),
            batch(unchanged_betpawa=(key_of(snapshot(1)), early)),
        ]
    )
    await produce(kafka, topic, [b"junk"])
    first = await run_sink(roles.sinking)
    assert (first.snapshots, first.dead_letters) == (2, 2)  # event 2 waits; the junk
    await roles.owner.execute("INSERT INTO events DEFAULT VALUES")
    await feed([batch([snapshot(1, NOON.replace(hour=13))])])
    await run_sink(roles.sinking)
    written = await roles.owner.fetchval("SELECT count(*) FROM odds_snapshots")
    assert written == 3  # the waiting one came by the sweep
    for statement in SINK_MAY_NOT:
        await assert_refused(roles.sinking, statement)
    await assert_refused(roles.sinking, f"SET ROLE {roles.names['oddslog_migrate']}")


async def test_the_migration_role_owns_our_tables_and_nothing_else(roles: Roles) -> None:
    """The scraper's rows and other people's are not its."""
    for statement in (
        "SELECT * FROM events",
        "INSERT INTO events DEFAULT VALUES",
        "DROP TABLE bookmakers",
        "ALTER TABLE scrape_runs ADD COLUMN x int",
        "SELECT * FROM payroll",
        "CREATE ROLE mine",
        f"SET ROLE {roles.names['oddslog_sink']}",
    ):
        await assert_refused(roles.migrating, statement)
    others = await roles.owner.fetchval(
        "SELECT count(*) FROM pg_tables WHERE schemaname = 'public' AND tableowner <> $1"
        " AND tablename NOT IN ('events','bookmakers','scrape_runs','competitor_events','payroll')",
        roles.names["oddslog_migrate"],
    )
    assert others == 0
