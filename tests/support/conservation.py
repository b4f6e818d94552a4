"""The end of every fault test: each fed snapshot exactly once, each bad one a letter."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncEngine

from oddslog.deploy.compare import compare
from oddslog.schemas import KafkaConnection, WriteBatch
from oddslog.schemas.codec import crc32_text, snapshot_part
from oddslog.schemas.wire import HEADER_CRC32
from tests.support.batches import NOON, batch, key_of, snapshot
from tests.support.fragments import confirming, holding
from tests.support.kafka import produce
from tests.support.polls import letters, one, rows
from tests.support.waiting import until

__all__ = ["CONFIRMED", "assert_conserved", "feed_events", "sealed", "until_ledger"]

CONFIRMED = NOON + timedelta(minutes=1)


async def feed_events(
    kafka: KafkaConnection, topic: str, events: Iterable[int], *, partitions: int = 3
) -> list[WriteBatch]:
    """Two records an event, spread over the partitions: a snapshot, and its confirmation."""
    made = [snapshot(event) for event in events]
    values: dict[int, list[bytes]] = {}
    for one_made in made:
        values.setdefault(one_made.event_id % partitions, []).extend(
            [
                holding(snapshot_part(one_made).record, event_id=one_made.event_id),
                confirming(NOON, event_id=one_made.event_id, at=CONFIRMED),
            ]
        )
    for partition, records in values.items():
        await produce(kafka, topic, records, partition=partition)
    return [batch(made, unchanged_betpawa=tuple(key_of(s) for s in made), confirmed_at=CONFIRMED)]


async def until_ledger(engine: AsyncEngine, total: int) -> None:
    """Wait until so many records are written; a database that is away is asked again."""

    async def there() -> bool:
        try:
            return bool(
                await one(engine, "SELECT sum(next_offset) = :n FROM oddslog_ledger", n=total)
            )
        except Exception:
            return False

    await until(there, f"a ledger of {total} records")


async def assert_conserved(
    engine: AsyncEngine,
    fed: Sequence[WriteBatch],
    reasons: Mapping[str, int] | None = None,
) -> None:
    """The tables hold exactly what was fed, the letters are these, the ledger's totals agree."""
    result = await compare(engine, fed)
    assert result.equal, result.first_difference
    found = Counter(letter.reason for letter in await letters(engine))
    assert found == Counter(reasons or {})
    assert await one(engine, "SELECT count(*) FROM oddslog_pending_confirmations") == 0
    ((snapshots, markets, dead),) = await rows(
        engine,
        "SELECT sum(snapshots_total), sum(markets_total), sum(dead_letters_total)"
        " FROM oddslog_ledger",
    )
    assert (snapshots, markets, dead) == (result.snapshots, result.markets, found.total())


def sealed(value: bytes) -> list[tuple[str, bytes]]:
    """The header by which a value's bytes are known to be those that were sent."""
    return [(HEADER_CRC32, crc32_text(value))]
