"""The sections of a bench that need one process."""

import asyncio
import statistics
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from ...ingest import AsyncWriteQueue, KafkaDestination
from ...sink import SinkOptions, SinkSource, open_sink
from ..console import Out
from .load import Load, feed_topic, sink_topic
from .place import Place
from .plan import Plan
from .ways import copy_way, orm_way

__all__ = ["ingest", "latency", "steady", "throughput"]

_MOST_RAW_KB = 50
# Snapshots of a transaction of the ways beside the sink: about what 16 MiB of poll are.
_SNAPSHOTS = {0: 500, _MOST_RAW_KB: 200}
_ORM_SHARE = 5
_LATENCY_SAMPLES = 100
_CHANGED_SHARE = 0.15
_STEADY_RAW_KB = 4  # beyond what stays in the row: as real ones of 50 KB do


async def throughput(place: Place, plan: Plan, out: Out) -> dict[str, Any]:
    """Rows a second of one object a row, bare COPY and the sink, in turns."""
    found: dict[str, Any] = {}
    for raw_kb, snapshots in _SNAPSHOTS.items():
        load = Load.of(plan.events if raw_kb == 0 else max(10, plan.events // 4), raw_kb)
        topic = await place.topic()
        await feed_topic(place, topic, load.batches)
        rates: dict[str, list[float]] = {"orm": [], "copy": [], "sink": []}
        own: list[float] = []
        for number in range(1, plan.rounds + 1):
            for way, rate in rates.items():
                async with place.tables() as (engine, _):
                    cpu = time.process_time()
                    rate.append(await _rate(place, engine, way, load, topic, snapshots))
                    if way == "sink":
                        own.append((time.process_time() - cpu) / load.markets * 1e6)
                out.note(f"raw {raw_kb} KB, round {number}: {way} {rate[-1]:,.0f} market rows/s")
        found[f"raw_{raw_kb}_kb"] = _compared(rates) | {
            "market_rows": load.markets,
            "sink_own_cpu_us_a_row": round(statistics.median(own), 2),
        }
    return found


async def _rate(
    place: Place, engine: AsyncEngine, way: str, load: Load, topic: str, snapshots: int
) -> float:
    if way == "orm":  # of a part: it takes 20 times as long as the others
        part = Load.made_of(load.batches[: max(1, len(load.batches) // _ORM_SHARE)])
        return part.markets / await orm_way(engine, part.batches, snapshots)
    if way == "copy":
        return load.markets / await copy_way(engine, load.batches, snapshots)
    totals = await sink_topic(place, engine, topic, place.name())
    return load.markets / totals.active_seconds


def _compared(rates: dict[str, list[float]]) -> dict[str, Any]:
    """Medians, and the medians of each round's ratios."""
    medians = {f"{way}_rows_a_second": round(statistics.median(r)) for way, r in rates.items()}
    ratios = {
        f"sink_to_{way}": round(
            statistics.median(s / r for s, r in zip(rates["sink"], rates[way], strict=True)), 3
        )
        for way in ("copy", "orm")
    }
    return medians | ratios


async def steady(place: Place, plan: Plan, out: Out) -> dict[str, Any]:
    """What cycles cost when 85 % of the snapshots are confirmed, and how the tables grow."""
    events = max(50, plan.events // 2)
    load = Load.of(events, _STEADY_RAW_KB, cycles=plan.cycles + 1, changed_share=_CHANGED_SHARE)
    first = -(-events // 50)
    topic = await place.topic()
    async with place.tables() as (engine, schema):
        await feed_topic(place, topic, load.batches[:first])
        await sink_topic(place, engine, topic, place.name())
        before = await _sizes(engine, schema)
        rest = Load.made_of(load.batches[first:])
        await feed_topic(place, topic, rest.batches)
        totals = await sink_topic(place, engine, topic, place.name())
        await engine.dispose()  # a session tells its statistics when it ends
        after = await _sizes(engine, schema)
        updates, hot = await _updates(engine, schema)
    a_second = rest.confirmations / totals.active_seconds
    out.note(f"steady: {a_second:,.0f} confirmations/s")
    return {
        "cycles": plan.cycles,
        "confirmations": rest.confirmations,
        "confirmations_a_second": round(a_second),
        "rows_updated": updates,
        "market_rows_a_second": round(totals.markets / totals.active_seconds),
        "hot_share": round(hot / updates, 3) if updates else None,
        **{
            f"snapshot_{what}_{when}": sizes[what]
            for what in ("rows", "heap_bytes", "index_bytes")
            for when, sizes in (("before", before), ("after", after))
        },
    }


_SIZES = text(
    "SELECT sum(pg_relation_size(c.oid)) AS heap, sum(pg_indexes_size(c.oid)) AS indexes"
    " FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
    " WHERE n.nspname = :schema AND c.relkind = 'r' AND c.relname LIKE '%odds_snapshots%'"
)
_ROWS = text(
    "SELECT (SELECT count(*) FROM odds_snapshots) + (SELECT count(*) FROM"
    " competitor_odds_snapshots)"
)
_UPDATES = text(
    "SELECT coalesce(sum(n_tup_upd), 0) AS updates, coalesce(sum(n_tup_hot_upd), 0) AS hot"
    " FROM pg_stat_user_tables WHERE schemaname = :schema AND relname LIKE '%odds_snapshots%'"
)


async def _sizes(engine: AsyncEngine, schema: str) -> dict[str, int]:
    async with engine.connect() as connection:
        sizes = (await connection.execute(_SIZES, {"schema": schema})).one()
        rows = (await connection.execute(_ROWS)).scalar_one()
    return {
        "rows": int(rows),
        "heap_bytes": int(sizes.heap),
        "index_bytes": int(sizes.indexes),
    }


async def _updates(engine: AsyncEngine, schema: str) -> tuple[int, int]:
    async with engine.connect() as connection:
        row = (await connection.execute(_UPDATES, {"schema": schema})).one()
    return int(row.updates), int(row.hot)


async def latency(place: Place, _plan: Plan, out: Out) -> dict[str, Any]:
    """Milliseconds from `enqueue` to a row that others see, with nothing else to do."""
    topic = await place.topic()
    async with place.tables() as (engine, _):
        source = SinkSource(place.settings.kafka(), topic, place.name())
        sink = await open_sink(engine, source, SinkOptions())
        running = asyncio.create_task(sink.run(), name="oddslog-bench-sink")
        try:
            async with AsyncWriteQueue(
                KafkaDestination(place.settings.kafka(), topic=topic)
            ) as queue:
                samples = await _samples(engine, queue)
        finally:
            sink.stop()
            await running
    out.note(f"latency: median {statistics.median(samples):.1f} ms")
    return {
        "samples": len(samples),
        "median_ms": round(statistics.median(samples), 1),
        "p99_ms": round(statistics.quantiles(samples, n=100)[98], 1),
    }


_IS_THERE = text("SELECT count(*) FROM odds_snapshots")


async def _samples(engine: AsyncEngine, queue: AsyncWriteQueue) -> list[float]:
    """One batch of one event after the other; the first, which waits for the group, is left out."""
    samples = []
    cycles = timedelta(seconds=60)
    async with engine.connect() as connection:
        watching = await connection.execution_options(isolation_level="AUTOCOMMIT")
        for number in range(1 + _LATENCY_SAMPLES):
            (batch,) = Load.of(1, 2, first_event_id=number + 1, cycle_seconds=60.0).batches
            started = time.perf_counter()
            await queue.enqueue(batch)
            while (await watching.execute(_IS_THERE)).scalar_one() <= number:
                if time.perf_counter() - started > cycles.total_seconds():
                    raise TimeoutError("a batch was not visible after a minute")
                await asyncio.sleep(0.001)
            samples.append((time.perf_counter() - started) * 1000)
    return samples[1:]


async def ingest(place: Place, plan: Plan, out: Out) -> dict[str, Any]:
    """Markets a second that are encoded and acknowledged, and the loop's longest block."""
    found: dict[str, Any] = {}
    for raw_kb in _SNAPSHOTS:
        load = Load.of(plan.events if raw_kb == 0 else max(10, plan.events // 4), raw_kb)
        rates, own, blocks = [], [], []
        for _ in range(plan.rounds):
            topic = await place.topic()
            probe = _Probe()
            cpu = time.process_time()
            async with probe:
                seconds = await feed_topic(place, topic, load.batches)
            own.append((time.process_time() - cpu) / load.markets * 1e6)
            rates.append(load.markets / seconds)
            blocks.append(probe.longest_seconds * 1000)
        out.note(f"ingest, raw {raw_kb} KB: {statistics.median(rates):,.0f} markets/s")
        found[f"raw_{raw_kb}_kb"] = {
            "markets_a_second": round(statistics.median(rates)),
            "own_cpu_us_a_market": round(statistics.median(own), 2),
            "longest_block_ms": _spread(blocks),
        }
    return found


def _spread(values: Sequence[float]) -> float:
    return round(statistics.median(values), 1)


class _Probe:
    """How long the event loop was held up at most, while the block ran."""

    def __init__(self) -> None:
        self.longest_seconds = 0.0
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> None:
        self._task = asyncio.create_task(self._look(), name="oddslog-bench-probe")

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _look(self) -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            late = time.perf_counter() - before - 0.001
            self.longest_seconds = max(self.longest_seconds, late)
