"""Compression of the raw responses, and what an asynchronous COMMIT would bring."""

import statistics
from typing import Any

from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from ...sink.classify import sqlstate_of
from ..console import Out
from .load import Load, feed_topic, sink_topic
from .place import Place
from .plan import Plan
from .ways import copy_way

__all__ = ["storage"]

_RAW_KB = 50
_LITTLE_RAW_KB = 2
_SNAPSHOTS = {_RAW_KB: 200, _LITTLE_RAW_KB: 500}  # of a transaction, as of the other ways
_NOT_SUPPORTED = "0A000"

_TABLES = text(
    "SELECT relid::regclass::text FROM pg_partition_tree('odds_snapshots')"
    " UNION ALL SELECT 'competitor_odds_snapshots'"
)
_BYTES = text(
    "SELECT sum(pg_table_size(c.oid)) FROM pg_class AS c"
    " JOIN pg_namespace AS n ON n.oid = c.relnamespace"
    " WHERE n.nspname = :schema AND c.relkind = 'r' AND c.relname LIKE '%odds_snapshots%'"
)


async def storage(place: Place, plan: Plan, out: Out) -> dict[str, Any]:
    """Rows a second of COPY and sink with each choice, in turns with what is the default."""
    lz4 = await _has_lz4(place)
    if not lz4:
        out.note("lz4 is not in this build of PostgreSQL")
    compressed: dict[str, Any] = await _compare(
        place, plan, out, _RAW_KB, ("default", *(["lz4"] if lz4 else []))
    )
    commits = await _compare(
        place, plan, out, _LITTLE_RAW_KB, ("commit_waits", "synchronous_commit_off")
    )
    return {
        "lz4_in_this_build": lz4,
        f"raw_{_RAW_KB}_kb": compressed,
        f"raw_{_LITTLE_RAW_KB}_kb": commits,
    }


async def _has_lz4(place: Place) -> bool:
    async with place.tables() as (engine, _):
        try:
            await _use_lz4(engine)
        except DBAPIError as error:
            if sqlstate_of(error) != _NOT_SUPPORTED:
                raise
            return False
    return True


async def _use_lz4(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        for table in (await connection.execute(_TABLES)).scalars().all():
            await connection.execute(
                text(f"ALTER TABLE {table} ALTER COLUMN raw_response SET COMPRESSION lz4")
            )


async def _compare(
    place: Place, plan: Plan, out: Out, raw_kb: int, choices: tuple[str, ...]
) -> dict[str, Any]:
    load = Load.of(max(10, plan.events // 4) if raw_kb == _RAW_KB else plan.events, raw_kb)
    snapshots = sum(len(b.changed_betpawa) + len(b.changed_competitor) for b in load.batches)
    topic = await place.topic()
    await feed_topic(place, topic, load.batches)
    rates: dict[str, dict[str, list[float]]] = {c: {"copy": [], "sink": []} for c in choices}
    sizes: dict[str, int] = {}
    for number in range(1, plan.rounds + 1):
        for choice, ways in rates.items():
            for way, rate in ways.items():
                async with place.tables() as (engine, schema):
                    await _choose(engine, choice)
                    if way == "copy":
                        seconds = await copy_way(engine, load.batches, _SNAPSHOTS[raw_kb])
                    else:
                        totals = await sink_topic(place, engine, topic, place.name())
                        seconds = totals.active_seconds
                    rate.append(load.markets / seconds)
                    sizes[choice] = await _bytes(engine, schema)
                out.note(
                    f"raw {raw_kb} KB, round {number}: {way}, {choice.replace('_', ' ')}:"
                    f" {rate[-1]:,.0f} market rows/s"
                )
    return {
        choice: {
            **{f"{way}_rows_a_second": round(statistics.median(r)) for way, r in ways.items()},
            "table_bytes_a_snapshot": round(sizes[choice] / snapshots),
        }
        for choice, ways in rates.items()
    }


async def _choose(engine: AsyncEngine, choice: str) -> None:
    if choice == "lz4":
        await _use_lz4(engine)
    elif choice == "synchronous_commit_off":
        await engine.dispose()  # sessions that are open would not be told
        event.listen(engine.sync_engine, "connect", _commit_without_waiting)


def _commit_without_waiting(dbapi_connection: Any, _record: object) -> None:
    cursor = dbapi_connection.cursor()
    cursor.execute("SET synchronous_commit = off")
    cursor.close()
    dbapi_connection.commit()


async def _bytes(engine: AsyncEngine, schema: str) -> int:
    async with engine.connect() as connection:
        return int((await connection.execute(_BYTES, {"schema": schema})).scalar_one())
