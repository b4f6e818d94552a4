"""A log with everything in it that a log may have, spread over three partitions."""

from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from oddslog.schemas import KafkaConnection
from oddslog.schemas.wire import Kind
from tests.support.batches import NOON, competitor, market, snapshot
from tests.support.fragments import confirming, good, holding, ids, record, with_market
from tests.support.kafka import produce

__all__ = ["LATER", "RECORDS", "add_parents", "feed_messy"]

LATER = NOON + timedelta(minutes=5)
MISSING_RUN = 99
RECORDS = 3 * 18


async def add_parents(engine: AsyncEngine) -> None:
    """Every parent that the messy log names, but for one scrape run."""
    async with engine.begin() as connection:
        for table in ("events", "competitor_events", "bookmakers"):
            await connection.execute(
                text(f"INSERT INTO {table} (id) SELECT generate_series(1, 40)")
            )
        await connection.execute(text("INSERT INTO scrape_runs (id) VALUES (1), (2)"))


async def feed_messy(kafka: KafkaConnection, topic: str) -> None:
    """Duplicates, conflicts, poison, waiting ones, confirmations early, late and by id."""
    for partition in range(3):
        base = partition * 10
        first, second = base + 1, base + 2
        conflict = record(snapshot(first, markets=(market(9),)))
        await produce(
            kafka,
            topic,
            [
                good(first),
                good(second),
                confirming(NOON, event_id=second, at=LATER),
                good(first),  # a duplicate, in another poll where polls are small
                confirming(NOON, event_id=first, at=LATER),
                confirming(LATER, event_id=first, at=LATER + timedelta(minutes=1)),  # early
                holding(conflict, event_id=first),
                holding(
                    with_market(record(snapshot(base + 3)), betpawa_market_name="x" * 300),
                    record(snapshot(base + 3, LATER)),
                    event_id=base + 3,
                ),
                b"no frame",
                holding(record(snapshot(base + 4, scrape_run_id=MISSING_RUN)), event_id=base + 4),
                good(first, LATER),
                good(first, kind=Kind.COMPETITOR),
                good(first, kind=Kind.COMPETITOR),
                confirming(NOON, event_id=first, kind=Kind.COMPETITOR, at=LATER),
                holding(
                    record(competitor(first, markets=(market(8),))),
                    event_id=first,
                    kind=Kind.COMPETITOR,
                ),
                confirming(NOON, event_id=base + 9, at=LATER),  # of none that ever comes
                ids(1, 2, 10**6),
                holding(record(snapshot(base + 5, scrape_run_id=1)), event_id=base + 5),
            ],
            partition=partition,
        )
