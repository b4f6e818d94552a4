"""The scraper's own rows in the kit's database: most are made first, some come late."""

import asyncio
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from ...schemas.wire import Kind
from ...sink.classify import ErrorClass, classify
from .journal import read_journals
from .lateness import Family, Parent, early_parents
from .load import REFUSED_RUN

__all__ = ["LateParents", "make_parents"]

_TICK_SECONDS = 1.0
_INSERT_SECONDS = 20.0

_WAITING = text(
    "SELECT kind, event_id, count(*) AS letters FROM oddslog_dead_letters"
    " WHERE status = 'waiting' GROUP BY kind, event_id"
)


async def make_parents(engine: AsyncEngine) -> None:
    """Make the parent tables with what is there from the start; before `migrate`."""
    async with engine.begin() as connection:
        for table in early_parents():
            await connection.execute(text(f"CREATE TABLE {table} (id serial PRIMARY KEY)"))
    rows = {Parent(table, n) for table, ids in early_parents().items() for n in ids}
    await _insert(engine, {*rows, Parent("scrape_runs", REFUSED_RUN)})


class LateParents:
    """Inserts what comes late, some time after the first snapshots of it were acknowledged.

    Args:
        engine: of the database, past every proxy.
        folder: of the journals.
        seed: of what is fed.
    """

    def __init__(self, engine: AsyncEngine, folder: Path, seed: int) -> None:
        self.inserted: set[Parent] = set()
        self._engine = engine
        self._folder = folder
        self._seed = seed
        self._families: dict[int, Family] = {}
        self._due: dict[Parent, float] = {}  # on the monotonic clock

    async def run(self) -> None:
        """Insert them when their time has come, whatever PostgreSQL does; until cancelled."""
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            journal = await asyncio.to_thread(read_journals, self._folder)
            now = time.monotonic()
            for parent, seconds in self._named(_last_numbers(journal.acknowledged)).items():
                self._due.setdefault(parent, now + seconds)
            await self._try_to_insert({parent for parent, due in self._due.items() if due <= now})

    async def finish(self) -> None:
        """Insert all that anything fed may refer to; returns when they are there."""
        journal = await asyncio.to_thread(read_journals, self._folder)
        last = _last_numbers((*journal.acknowledged, *journal.unknown))
        wanted = set(self._named(last))
        while True:
            if await self._try_to_insert(wanted):
                return
            await asyncio.sleep(_TICK_SECONDS)

    async def letters_to_sweep(self) -> int | None:
        """How many letters wait that need not, now that everything is inserted.

        None where PostgreSQL does not answer.
        """
        try:
            async with asyncio.timeout(_INSERT_SECONDS), self._engine.connect() as connection:
                rows = (await connection.execute(_WAITING)).all()
        except Exception as error:
            if classify(error) is not ErrorClass.TRANSIENT:
                raise
            return None
        return sum(
            int(row.letters) for row in rows if not self._is_orphaned(row.kind, row.event_id)
        )

    def _is_orphaned(self, kind: str, event_id: int) -> bool:
        table = "events" if kind == Kind.BETPAWA.value else "competitor_events"
        parent = Parent(table, event_id)
        return any(parent in family.never for family in self._families.values())

    def _named(self, last_numbers: Mapping[int, int]) -> dict[Parent, float]:
        """What batches up to these refer to, by life; with the seconds after them."""
        named = {}
        for life, last in last_numbers.items():
            if life not in self._families:
                self._families[life] = Family(self._seed, life)
            for parent, late in self._families[life].late.items():
                if late.batch <= last:
                    named[parent] = late.seconds
        return named

    async def _try_to_insert(self, parents: set[Parent]) -> bool:
        """Whether these are there; not where PostgreSQL is away."""
        missing = parents - self.inserted
        try:
            async with asyncio.timeout(_INSERT_SECONDS):
                await _insert(self._engine, missing)
        except Exception as error:
            if classify(error) is not ErrorClass.TRANSIENT:
                raise
            return False
        self.inserted |= missing
        return True


def _last_numbers(names: Iterable[tuple[int, int]]) -> dict[int, int]:
    last: dict[int, int] = {}
    for life, number in names:
        last[life] = max(number, last.get(life, 0))
    return last


async def _insert(engine: AsyncEngine, parents: Iterable[Parent]) -> None:
    """In one transaction; one whose reply was lost may be there already."""
    by_table: dict[str, list[int]] = {}
    for parent in sorted(parents):
        by_table.setdefault(parent.table, []).append(parent.id)
    if not by_table:
        return
    async with engine.begin() as connection:
        for table, ids in by_table.items():
            await connection.execute(
                text(
                    f"INSERT INTO {table} SELECT unnest(CAST(:ids AS int[])) ON CONFLICT DO NOTHING"
                ),
                {"ids": ids},
            )
