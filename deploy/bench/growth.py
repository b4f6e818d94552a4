"""How the sink's rate changes as the tables grow."""

import statistics
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ...schemas.wire import Kind
from ...sink.classify import sqlstate_of
from ...sink.sql import MARKET_COLUMNS, snapshot_statements
from ..console import Out
from .load import Load, feed_topic, sink_topic
from .place import Place
from .plan import Plan

__all__ = ["growth"]

_RAW_KB = 2
_STEPS = 3
_INSUFFICIENT_PRIVILEGE = "42501"
# Not every version has each of them.
_LIFT_TIMEOUTS = text(
    "SELECT set_config(name, '0', false) FROM pg_settings"
    " WHERE name IN ('statement_timeout', 'transaction_timeout')"
)


async def growth(place: Place, plan: Plan, out: Out) -> dict[str, Any]:
    """Rows a second into empty tables, and at each third of the way to their full size.

    Between the measurements PostgreSQL copies what the first one wrote, again and
    again with new ids and times, and vacuums.
    """
    topic = await place.topic()
    found: dict[str, Any] = {}
    async with place.tables() as (engine, _):
        feeding = _Feeding(place, plan, engine, topic)
        source: dict[Kind, int] = {}
        for step in range(_STEPS + 1):
            if step:
                wanted = plan.grow_to * step // _STEPS
                out.note(f"growth: filling the tables up to {wanted:,} market rows")
                await _fill(engine, source, wanted)
            rows = await _market_rows(engine)
            rates = []
            for _ in range(plan.rounds):
                rates.append(await feeding.rate())
                source = source or await _last_ids(engine)
            found[f"at_{rows}_rows"] = {"rows_a_second": round(statistics.median(rates))}
            out.note(f"growth, {rows:,} rows: {statistics.median(rates):,.0f} market rows/s")
    return found


class _Feeding:
    """One load after the other, each of other events."""

    def __init__(self, place: Place, plan: Plan, engine: AsyncEngine, topic: str) -> None:
        self._place = place
        self._events = plan.events
        self._engine = engine
        self._topic = topic
        self._fed = 0

    async def rate(self) -> float:
        load = Load.of(self._events, _RAW_KB, first_event_id=self._fed + 1)
        self._fed += self._events
        await feed_topic(self._place, self._topic, load.batches)
        totals = await sink_topic(self._place, self._engine, self._topic, self._place.name())
        return load.markets / totals.active_seconds


async def _fill(engine: AsyncEngine, source: dict[Kind, int], wanted: int) -> None:
    """Copy the rows of the first load, one copy a statement, until there are enough."""
    rows = await _market_rows(engine)
    while rows < wanted:
        last = await _last_ids(engine)
        async with engine.begin() as connection:
            for kind, ids in source.items():
                rows += await _copy_once(connection, kind, ids, last[kind])
    await _vacuum(engine)


async def _copy_once(connection: AsyncConnection, kind: Kind, ids: int, last: int) -> int:
    """The snapshots up to an id and their markets once more, behind the last id."""
    names = snapshot_statements(kind)
    keys = [names.event_column, *(["bookmaker_id"] if kind is Kind.BETPAWA else [])]
    snapshots = [*keys, "raw_response", "last_confirmed_at", "content_hash"]
    markets = [name for name in MARKET_COLUMNS if name not in ("snapshot_id", "captured_at")]
    # Later by as many milliseconds as there are ids: no two copies have a key in common.
    values = {"ids": ids, "last": last}
    later = "captured_at + :last * interval '1 millisecond'"
    await connection.execute(
        text(
            f"INSERT INTO {names.snapshots_table} (id, captured_at, {', '.join(snapshots)})"  # noqa: S608 - names of ours
            f" SELECT id + :last, {later}, {', '.join(snapshots)}"
            f" FROM {names.snapshots_table} WHERE id <= :ids ORDER BY id"
        ),
        values,
    )
    copied = await connection.execute(
        text(
            f"INSERT INTO {names.markets_table} (snapshot_id, captured_at, {', '.join(markets)})"  # noqa: S608 - names of ours
            f" SELECT snapshot_id + :last, {later}, {', '.join(markets)}"
            f" FROM {names.markets_table} WHERE snapshot_id <= :ids ORDER BY snapshot_id"
        ),
        values,
    )
    await connection.execute(
        text(
            f"SELECT setval(pg_get_serial_sequence('{names.snapshots_table}', 'id'),"  # noqa: S608 - names of ours
            f" (SELECT max(id) FROM {names.snapshots_table}))"
        )
    )
    return copied.rowcount


async def _vacuum(engine: AsyncEngine) -> None:
    """Do now what autovacuum would do in the middle of a measurement, and write it out."""
    async with engine.connect() as connection:
        session = await connection.execution_options(isolation_level="AUTOCOMMIT")
        await session.execute(_LIFT_TIMEOUTS)
        for kind in Kind:
            names = snapshot_statements(kind)
            for table in (names.snapshots_table, names.markets_table):
                await session.execute(text(f"VACUUM ANALYZE {table}"))
        try:
            await session.execute(text("CHECKPOINT"))
        except DBAPIError as error:
            if sqlstate_of(error) != _INSUFFICIENT_PRIVILEGE:
                raise
        await session.invalidate()  # another gets these time-outs otherwise


async def _market_rows(engine: AsyncEngine) -> int:
    counts = " + ".join(
        f"(SELECT count(*) FROM {snapshot_statements(kind).markets_table})"  # noqa: S608 - names of ours
        for kind in Kind
    )
    async with engine.connect() as connection:
        return int((await connection.execute(text(f"SELECT {counts}"))).scalar_one())


async def _last_ids(engine: AsyncEngine) -> dict[Kind, int]:
    found = {}
    async with engine.connect() as connection:
        for kind in Kind:
            table = snapshot_statements(kind).snapshots_table
            last = text(f"SELECT coalesce(max(id), 0) FROM {table}")  # noqa: S608 - names of ours
            found[kind] = int((await connection.execute(last)).scalar_one())
    return found
