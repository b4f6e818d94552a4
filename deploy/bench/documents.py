"""`json` against `jsonb` for the documents of the market tables: COPY, size, reading."""

import statistics
import time
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ...schemas.wire import Kind
from ...sink.sql import snapshot_statements
from ..console import Out
from .load import Load
from .place import Place
from .plan import Plan
from .ways import copy_way

__all__ = ["documents"]

_TYPES = ("json", "jsonb")
_SNAPSHOTS = 500  # of a transaction, as of the other ways
_CYCLES = 8  # a market has prices over time

_COLUMNS = text(
    "SELECT table_name, column_name, data_type FROM information_schema.columns"
    " WHERE table_schema = :schema AND table_name = ANY(CAST(:tables AS text[]))"
    " AND data_type IN ('json', 'jsonb') ORDER BY table_name, column_name"
)
_TABLE_BYTES = text(
    "SELECT sum(pg_table_size(c.oid)) FROM pg_class AS c"
    " JOIN pg_namespace AS n ON n.oid = c.relnamespace"
    " WHERE n.nspname = :schema AND c.relname = ANY(CAST(:tables AS text[]))"
)
# What readers ask for, the same for both types; `:event` goes over all events. Market
# 3743 is 1X2, which every snapshot has.
_QUERIES = {
    "latest_odds_of_an_event": (
        "SELECT m.betpawa_market_id, m.line, m.outcomes, m.market_groups FROM market_odds AS m"
        " WHERE m.snapshot_id = (SELECT id FROM odds_snapshots WHERE event_id = :event"
        " ORDER BY captured_at DESC LIMIT 1)"
    ),
    "a_price_over_time": (
        "SELECT s.captured_at, (m.outcomes->0->>'odds')::float AS price"
        " FROM odds_snapshots AS s JOIN market_odds AS m ON m.snapshot_id = s.id"
        " WHERE s.event_id = :event AND m.betpawa_market_id = '3743' ORDER BY 1"
    ),
    "mean_price_of_each_market": (
        "SELECT m.betpawa_market_id, avg((m.outcomes->0->>'odds')::float)"
        " FROM market_odds AS m WHERE CAST(:event AS int) > 0 GROUP BY 1"
    ),
}
# That one reads the whole table.
_ASKED = {"mean_price_of_each_market": 2}
_OTHERS_ASKED = 20


async def documents(place: Place, plan: Plan, out: Out) -> dict[str, Any]:
    """The same rows into the tables with either type, in turns, and the same queries."""
    events = max(10, plan.events // _CYCLES)
    load = Load.of(events, 0, cycles=_CYCLES, changed_share=1.0)
    found: dict[str, Any] = {"market_rows": load.markets}
    figures: dict[str, dict[str, list[float]]] = {name: {} for name in _TYPES}
    for number in range(1, plan.rounds + 1):
        for name in _TYPES:
            async with place.tables() as (engine, schema):
                found["as_migrated"] = await _set_type(engine, schema, name)
                rate = load.markets / await copy_way(engine, load.batches, _SNAPSHOTS)
                measured = {"copy_rows_a_second": rate}
                measured |= await _read(engine, schema, events, load.markets)
            for what, value in measured.items():
                figures[name].setdefault(what, []).append(value)
            out.note(f"round {number}, COPY with {name}: {rate:,.0f} rows/s")
    for name, values in figures.items():
        found[name] = {what: _rounded(statistics.median(all_)) for what, all_ in values.items()}
    return found


def _rounded(value: float) -> float:
    return round(value) if value >= 1000 else round(value, 2)


async def _set_type(engine: AsyncEngine, schema: str, name: str) -> str:
    """Change the columns, which are empty. Returns which type they had."""
    async with engine.begin() as connection:
        columns = (await connection.execute(_COLUMNS, _named(schema))).all()
        for column in columns:
            await connection.execute(
                text(
                    f"ALTER TABLE {column.table_name} ALTER COLUMN {column.column_name}"
                    f" TYPE {name} USING {column.column_name}::{name}"
                )
            )
    return ", ".join(sorted({column.data_type for column in columns}))


def _named(schema: str) -> dict[str, Any]:
    tables = [snapshot_statements(kind).markets_table for kind in Kind]
    return {"schema": schema, "tables": tables}


async def _read(engine: AsyncEngine, schema: str, events: int, markets: int) -> dict[str, float]:
    """Bytes of the tables without their indexes, and milliseconds of each query."""
    found: dict[str, float] = {}
    async with engine.connect() as connection:
        session = await connection.execution_options(isolation_level="AUTOCOMMIT")
        await session.execute(text("VACUUM ANALYZE market_odds"))
        await session.execute(text("ANALYZE odds_snapshots"))
        size = (await session.execute(_TABLE_BYTES, _named(schema))).scalar_one()
        found["table_bytes_a_row"] = float(size) / markets
        for what, query in _QUERIES.items():
            times = _ASKED.get(what, _OTHERS_ASKED)
            found[f"{what}_ms"] = await _milliseconds(session, text(query), times, events)
    return found


async def _milliseconds(connection: AsyncConnection, query: Any, times: int, events: int) -> float:
    """The median, after one that is not counted."""
    seconds = []
    for number in range(times + 1):
        started = time.perf_counter()
        (await connection.execute(query, {"event": number % events + 1})).all()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:]) * 1000
