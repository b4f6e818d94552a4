"""`oddslog migrate`: the tables of this version."""
# ruff: noqa: PLC0415 - loaded when the command runs

from typing import TYPE_CHECKING, Annotated

import typer

from .common import Json, Run, Schema, begin

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

__all__ = ["migrate"]


def migrate(
    sql: Annotated[
        bool,
        typer.Option("--sql", help="Print the statements, and roll them back."),
    ] = False,
    schema: Schema = None,
    as_json: Json = False,
) -> None:
    """Bring the database's tables to this version, in one transaction.

    Example: oddslog migrate --sql
    """
    from .. import signals

    run = begin(as_json=as_json, database_schema=schema)
    signals.run(_migrate(run, dry_run=sql))


async def _migrate(run: Run, *, dry_run: bool) -> None:
    from ...sink.migrate import migrate as run_migrations
    from ..database import asking, open_engine

    async with open_engine(run.settings, "migrate") as engine:
        with asking(engine):
            before = await _revision(engine)
            statements = await run_migrations(
                engine, schema=run.settings.database_schema, dry_run=dry_run
            )
            after = await _revision(engine)
    if dry_run:
        for statement in statements:
            run.out.say(f"{statement.rstrip(';')};\n")
        run.out.note(f"{len(statements)} statements were tried and rolled back")
    elif before == after:
        run.out.say(f"The tables are already at revision {after}; nothing to do")
    else:
        run.out.say(
            f"The tables went from {before or 'nothing'} to revision {after}"
            f" ({len(statements)} statements)"
        )
    run.out.result({"from": before, "to": after, "statements": len(statements), "dry_run": dry_run})


async def _revision(engine: "AsyncEngine") -> str | None:
    from ...sink.migrate import current_revision

    async with engine.connect() as connection:
        return await current_revision(connection)
