"""A version beside a newer one: whether it may use tables that the newer one migrated."""

import importlib
from typing import Any

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from oddslog.deploy.doctor.database import ask_database
from oddslog.deploy.doctor.finding import Level
from oddslog.deploy.doctor.judge_database import judge_database
from oddslog.deploy.settings import Settings
from oddslog.sink.errors import NotMigratedError
from oddslog.sink.migrate import check_migrated, head_revision, migrate

migrations = importlib.import_module("oddslog.sink.migrate")
NEWER = "9999"


async def migrated_by_newer(engine: AsyncEngine, oldest_code: str) -> None:
    """As a version to come leaves it, which says how old a code may use its tables."""
    async with engine.begin() as connection:
        await connection.execute(
            text("UPDATE oddslog_alembic_version SET version_num = :newer"), {"newer": NEWER}
        )
        changed = await connection.execute(
            text("UPDATE oddslog_meta SET value = to_jsonb(CAST(:o AS text)) WHERE name = :name"),
            {"o": oldest_code, "name": "oldest_code"},
        )
        assert changed.rowcount == 1


async def test_a_rollout_goes_on_with_tables_that_still_fit(
    engine: AsyncEngine, database_url: str
) -> None:
    """A sink of this version may start anew, its `migrate` does nothing, `doctor` says so."""
    await migrated_by_newer(engine, head_revision())
    async with engine.connect() as connection:
        await check_migrated(connection)
    assert await migrate(engine) == []
    values: dict[str, Any] = {"database_url": database_url}
    facts = await ask_database(Settings(**values))
    assert facts.migrated
    (found,) = [one for one in judge_database(facts) if one.check == "tables"]
    assert found.level is Level.OK
    assert f"revision {NEWER}, newer than this version's {head_revision()}" in found.line()


async def test_tables_that_are_too_new_are_refused_in_one_line(engine: AsyncEngine) -> None:
    """By a sink's start and by `migrate`, which would not know the way back."""
    await migrated_by_newer(engine, "9998")
    said = f"at revision {NEWER}, too new for this version, which needs {head_revision()}; install"
    with pytest.raises(NotMigratedError, match=said):
        await migrate(engine)
    async with engine.connect() as connection:
        with pytest.raises(NotMigratedError, match=said):
            await check_migrated(connection)


def test_every_migration_from_now_on_says_how_old_a_code_may_use_its_tables() -> None:
    """One that is known, and not newer than the migration itself."""
    scripts = ScriptDirectory.from_config(migrations._config())
    ways = [script for script in scripts.walk_revisions() if script.revision >= "0006"]
    assert ways
    for script in ways:
        there = {one.revision for one in scripts.iterate_revisions(script.revision, "base")}
        assert script.module.oldest_code in there
