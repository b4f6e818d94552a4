"""A migration while another session uses the tables: it gets in nobody's way for long."""

import asyncio
import sys
from collections.abc import AsyncIterator

import pytest
from alembic import command
from sqlalchemy.ext.asyncio import AsyncEngine

from oddslog.deploy.stack import Servers
from oddslog.sink.database import make_engine
from oddslog.sink.errors import TableInUseError
from oddslog.sink.migrate import check_migrated, current_revision, migrate
from tests.fixtures.servers import create_database, drop_database
from tests.integration.test_migrations import catalog, execute, run_alembic
from tests.support.polls import one
from tests.support.waiting import until

# `oddslog.sink.migrate` is the function of that name.
module = sys.modules["oddslog.sink.migrate"]


@pytest.fixture(name="empty")
async def empty_database(servers: Servers, new_name: str) -> AsyncIterator[AsyncEngine]:
    """An engine on a database without any table."""
    name = f"{new_name}_empty"
    engine = make_engine(await create_database(servers, name))
    yield engine
    await engine.dispose()
    await drop_database(servers, name)


LETTER = (
    "INSERT INTO oddslog_dead_letters (status, reason, message, value, item, log_partition,"
    " log_offset, oddslog_version) VALUES ('dead', 'poison', '', '', 0, 0, {offset}, '0')"
)
READ_LETTERS = "SELECT count(*) FROM oddslog_dead_letters"


async def _is_waiting(engine: AsyncEngine) -> bool:
    waits = (
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'"
        " AND relation = 'oddslog_dead_letters'::regclass"
    )
    return bool(await one(engine, waits))


async def test_letters_are_written_while_a_migration_waits_for_a_reader(
    empty: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup holds the letters: polls with letters go on, and when it ends so does the wait."""
    monkeypatch.setattr(module, "_LOCK_SECONDS", 1)
    monkeypatch.setattr(module, "_PAUSE_SECONDS", 0.5)
    monkeypatch.setattr(module, "_ATTEMPTS", 1000)
    await run_alembic(empty, command.upgrade, "0003")
    async with empty.connect() as reader:
        await reader.exec_driver_sql(READ_LETTERS)
        migrating = asyncio.create_task(migrate(empty))
        for offset in range(2):
            await until(lambda: _is_waiting(empty), "the migration to wait")
            async with asyncio.timeout(60):
                await execute(empty, LETTER.format(offset=offset))
        assert not migrating.done()
        await reader.rollback()
        assert await migrating
    assert await one(empty, READ_LETTERS) == 2
    async with empty.connect() as connection:
        await check_migrated(connection)


async def test_a_table_that_stays_in_use_is_one_line(
    empty: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names the table, and nothing was changed; the next time works."""
    monkeypatch.setattr(module, "_LOCK_SECONDS", 1)
    monkeypatch.setattr(module, "_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(module, "_ATTEMPTS", 2)
    await run_alembic(empty, command.upgrade, "0003")
    before = await catalog(empty)
    async with empty.connect() as reader:
        await reader.exec_driver_sql(READ_LETTERS)
        with pytest.raises(TableInUseError) as raised:
            async with asyncio.timeout(60):
                await migrate(empty)
        assert str(raised.value).startswith("public.oddslog_dead_letters is in use by another")
        assert "nothing was changed" in str(raised.value)
        assert "\n" not in str(raised.value)
        assert raised.value.exit_code == 3
    assert await catalog(empty) == before
    async with empty.connect() as connection:
        assert await current_revision(connection) == "0003"
    assert await migrate(empty)
