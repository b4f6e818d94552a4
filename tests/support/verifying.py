"""A log with everything in it that can happen to one, and verifications of it."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker

from oddslog.schemas import KafkaConnection
from oddslog.schemas.wire import Kind
from oddslog.sink import handle_write_batch
from oddslog.sink.placing import PlacingOptions
from oddslog.sink.verify import Verified, verify
from oddslog.sink.verify_state import VerifyOptions
from tests.fixtures.sinks import RunSink
from tests.support.batches import NOON, batch, competitor, market, snapshot
from tests.support.fragments import confirming, good, holding, ids, record, with_market
from tests.support.kafka import delete_records, produce
from tests.support.polls import one, rows
from tests.support.waiting import until

__all__ = ["LATE_EVENT", "Unwatched", "add_parents", "change", "contents", "fill_messy", "verified"]

LATER = NOON + timedelta(hours=1)
LONG = "x" * 60
WAITING_EVENT, LATE_EVENT, PENDING_EVENT = 999, 50, 15


class Unwatched:
    """A progress that nobody looks at."""

    total = 0
    done = 0

    def begin(self, total: int) -> None:
        self.total = total

    def move_to(self, done: int) -> None:
        self.done = done


async def verified(
    engine: AsyncEngine, kafka: KafkaConnection, topic: str, **options: Any
) -> Verified:
    """Verify once; parts are small, so that there are several."""
    small = {"poll_records": 7, "keep": 100, **options}
    watched = Unwatched()
    found = await verify(engine, kafka, topic, VerifyOptions(**small), watched)
    assert watched.done == watched.total
    return found


async def change(engine: AsyncEngine, statement: str, **parameters: Any) -> int:
    """Change the tables behind everyone's back; how many rows."""
    async with engine.begin() as connection:
        return (await connection.execute(text(statement), parameters)).rowcount


async def contents(engine: AsyncEngine) -> list[Sequence[Any]]:
    """What the tables hold of the log, but for the ids."""
    found: list[Sequence[Any]] = []
    for table, event, bookmaker, markets in (
        ("odds_snapshots", "event_id", "bookmaker_id", "market_odds"),
        ("competitor_odds_snapshots", "competitor_event_id", "0", "competitor_market_odds"),
    ):
        found += await rows(
            engine,
            f"SELECT s.{event}, {bookmaker}, s.captured_at, s.scrape_run_id, s.raw_response::text,"  # noqa: S608
            " s.last_confirmed_at, s.content_hash, s.log_id, s.log_partition, s.log_offset,"
            " (SELECT jsonb_agg(to_jsonb(m) - 'id' - 'snapshot_id' ORDER BY m.id)::text"
            f" FROM {markets} AS m WHERE m.snapshot_id = s.id)"
            f" FROM {table} AS s ORDER BY 1, 2, 3, 7, 11",
        )
        found += await rows(engine, f"SELECT count(*) FROM {markets}")  # noqa: S608
    return found


async def add_parents(engine: AsyncEngine) -> None:
    """The scraper's own rows, but for the events that some snapshots wait for."""
    for table, last in (("events", 30), ("competitor_events", 30), ("bookmakers", 3)):
        await change(engine, f"INSERT INTO {table} (id) SELECT generate_series(1, {last})")
    await change(engine, "INSERT INTO scrape_runs (id) VALUES (1), (2)")


def _first_partition() -> list[bytes | None]:
    run = snapshot(3, scrape_run_id=1, raw_response={"a": [1.0, 1e22, True, None], "ü": "x"})
    plain = snapshot(4, markets=(), raw_response=None)
    wide = snapshot(
        5,
        markets=tuple(
            market(n, line=n / 4 if n % 3 else None, handicap_type="eu", handicap_home=-0.5)
            for n in range(12)
        ),
    )
    two = (record(snapshot(7)), record(snapshot(7, bookmaker_id=2)))
    return [
        good(1),
        holding(*two, event_id=7),
        good(1),  # a duplicate
        holding(record(snapshot(1, markets=(market(9),))), event_id=1),  # a conflict
        b"junk",
        None,
        holding(with_market(record(snapshot(2)), betpawa_market_id=LONG), event_id=2),  # poison
        holding(record(snapshot(2)), event_id=2),  # takes its turn
        good(WAITING_EVENT),
        good(LATE_EVENT),
        confirming(NOON, event_id=1),
        confirming(NOON, event_id=1, at=NOON - timedelta(hours=1)),
        confirming(LATER, event_id=PENDING_EVENT),
        confirming(NOON, event_id=WAITING_EVENT),
        confirming(NOON, event_id=LATE_EVENT),
        holding(record(run), event_id=3),
        holding(record(plain), event_id=4),
        holding(record(wide), event_id=5),
    ]


def _second_partition() -> list[bytes | None]:
    other = competitor(6, scrape_run_id=2, markets=(market(1, market_groups=None),))
    return [
        good(1),  # a duplicate in another partition
        good(8, kind=Kind.COMPETITOR),
        holding(record(other), event_id=6, kind=Kind.COMPETITOR),
        confirming(NOON, event_id=8, kind=Kind.COMPETITOR, at=LATER),
        confirming(NOON, event_id=8, kind=Kind.COMPETITOR),
        confirming(NOON, event_id=3),
        ids(10**6, 4),
        good(2**31),  # no column takes it
        *(good(n, NOON + timedelta(minutes=n)) for n in range(10, 15)),
    ]


async def fill_messy(
    kafka: KafkaConnection,
    topic: str,
    engine: AsyncEngine,
    run_sink: RunSink,
    *,
    other_writers: bool = True,
) -> None:
    """Fill a database that has parents with rows of every kind.

    Args:
        kafka: the broker.
        topic: of three partitions; is filled.
        engine: of a fresh database with parent tables.
        run_sink: into it.
        other_writers: also an accepted gap, and rows written without Kafka.
    """
    await add_parents(engine)
    await change(  # from before the log
        engine,
        "INSERT INTO odds_snapshots (event_id, bookmaker_id, captured_at, last_confirmed_at)"
        " SELECT 1, 1, timestamptz '2025-01-01Z', now() FROM generate_series(1, 3)",
    )
    await change(
        engine,
        "INSERT INTO market_odds (snapshot_id, betpawa_market_id, betpawa_market_name, outcomes)"
        " VALUES (1, '1', 'old', '[]'), (2, '1', 'of a snapshot long gone', '[]')",
    )
    await change(engine, "DELETE FROM odds_snapshots WHERE id = 2")
    await produce(kafka, topic, [good(20), good(21), good(22)], partition=2)
    if other_writers:
        await delete_records(kafka, topic, {2: 2})
    await produce(kafka, topic, _first_partition(), partition=0)
    await produce(kafka, topic, _second_partition(), partition=1)
    accept = PlacingOptions(accept_gap=other_writers)
    await run_sink(engine, placing=accept)
    mine = await one(engine, "SELECT max(id) FROM odds_snapshots")
    await produce(kafka, topic, [ids(mine, 5), confirming(NOON, event_id=2)], partition=2)
    await change(engine, "INSERT INTO events (id) VALUES (:id)", id=LATE_EVENT)

    async def written() -> bool:
        await run_sink(engine, placing=accept)
        late = "SELECT count(*) FROM odds_snapshots WHERE event_id = :id"
        return bool(await one(engine, late, id=LATE_EVENT))

    await until(written, "the snapshot whose parent came late")
    if other_writers:
        direct = [snapshot(25), snapshot(1), snapshot(10, NOON + timedelta(minutes=10))]
        await handle_write_batch(async_sessionmaker(engine), batch(direct))
