"""What each index of the market tables costs: bare COPY without it, and its size."""

import statistics
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from ...schemas.wire import Kind
from ...sink.sql import snapshot_statements
from ..console import Out
from .load import Load
from .place import Place
from .plan import Plan
from .ways import copy_way

__all__ = ["indexes"]

_SNAPSHOTS = 500  # of a transaction, as of the other ways
_AS_IT_IS, _NONE, _FOREIGN_KEYS = "as_it_is", "without_any", "with_foreign_keys"

# By its columns, which are the same in both tables.
_INDEXES = text(
    "SELECT t.relname AS table_name, i.relname AS name, c.conname AS constraint_name,"
    " (SELECT string_agg(a.attname, '_' ORDER BY k.place)"
    "  FROM unnest(x.indkey) WITH ORDINALITY AS k(number, place)"
    "  JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attnum = k.number) AS columns,"
    " pg_relation_size(i.oid) AS size"
    " FROM pg_index AS x JOIN pg_class AS i ON i.oid = x.indexrelid"
    " JOIN pg_class AS t ON t.oid = x.indrelid JOIN pg_namespace AS n ON n.oid = t.relnamespace"
    " LEFT JOIN pg_constraint AS c ON c.conindid = i.oid AND c.conrelid = t.oid"
    " WHERE n.nspname = :schema AND t.relname = ANY(CAST(:tables AS text[]))"
    " ORDER BY t.relname, x.indisprimary DESC, i.relname"
)
# There is none: a partitioned table of snapshots has no unique `id`.
_ADD_FOREIGN_KEYS = (
    "ALTER TABLE market_odds ADD FOREIGN KEY (snapshot_id, captured_at)"
    " REFERENCES odds_snapshots (id, captured_at)",
    "ALTER TABLE competitor_market_odds ADD FOREIGN KEY (snapshot_id)"
    " REFERENCES competitor_odds_snapshots (id)",
)


@dataclass(frozen=True)
class _Index:
    table: str
    name: str
    constraint: str | None
    columns: str
    size: int

    @property
    def variant(self) -> str:
        return f"without_{self.columns}"

    @property
    def drop(self) -> str:
        if self.constraint is None:
            return f"DROP INDEX {self.name}"
        return f"ALTER TABLE {self.table} DROP CONSTRAINT {self.constraint}"


async def indexes(place: Place, plan: Plan, out: Out) -> dict[str, Any]:
    """Rows a second of bare COPY without each index, and with foreign keys, in turns."""
    load = Load.of(plan.events, 0)
    async with place.tables() as (engine, schema):
        variants = list(dict.fromkeys(i.variant for i in await _indexes(engine, schema)))
    rates: dict[str, list[float]] = {
        name: [] for name in (_AS_IT_IS, *variants, _NONE, _FOREIGN_KEYS)
    }
    sizes: dict[str, int] = {}
    for number in range(1, plan.rounds + 1):
        for variant, rate in rates.items():
            async with place.tables() as (engine, schema):
                await _change(engine, schema, variant)
                rate.append(load.markets / await copy_way(engine, load.batches, _SNAPSHOTS))
                if variant == _AS_IT_IS:
                    sizes = _sizes(await _indexes(engine, schema))
            out.note(f"round {number}, COPY {variant.replace('_', ' ')}: {rate[-1]:,.0f} rows/s")
    found: dict[str, Any] = {"market_rows": load.markets}
    for variant, rate in rates.items():
        ratios = [one / as_it_is for one, as_it_is in zip(rate, rates[_AS_IT_IS], strict=True)]
        found[variant] = {
            "copy_rows_a_second": round(statistics.median(rate)),
            "to_as_it_is": round(statistics.median(ratios), 3),
        }
        if variant in sizes:
            found[variant]["index_bytes_a_row"] = round(sizes[variant] / load.markets, 1)
    return found


async def _indexes(engine: AsyncEngine, schema: str) -> list[_Index]:
    tables = [snapshot_statements(kind).markets_table for kind in Kind]
    async with engine.connect() as connection:
        rows = await connection.execute(_INDEXES, {"schema": schema, "tables": tables})
    return [_Index(*row) for row in rows]


async def _change(engine: AsyncEngine, schema: str, variant: str) -> None:
    """Make the tables, which are empty, what a variant says."""
    statements = (
        _ADD_FOREIGN_KEYS
        if variant == _FOREIGN_KEYS
        else [i.drop for i in await _indexes(engine, schema) if variant in (i.variant, _NONE)]
    )
    async with engine.begin() as connection:
        for statement in statements:
            await connection.execute(text(statement))


def _sizes(found: list[_Index]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for index in found:
        sizes[index.variant] = sizes.get(index.variant, 0) + index.size
    return sizes
