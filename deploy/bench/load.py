"""The load of a bench: simulated batches, into a topic and out of it."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from ...ingest import AsyncWriteQueue, KafkaDestination
from ...ingest.feeds import SimulateSettings, simulate
from ...schemas import WriteBatch
from ...sink import SinkOptions, SinkSource, SinkTotals, open_sink
from .place import Place

__all__ = ["STARTED_AT", "Load", "feed_topic", "sink_topic"]

STARTED_AT = datetime(2026, 1, 1, tzinfo=UTC)
_KIB = 1024


@dataclass(frozen=True)
class Load:
    """Batches, and how many rows they come to."""

    batches: Sequence[WriteBatch]
    markets: int
    confirmations: int

    @classmethod
    def of(cls, events: int, raw_kb: float, **changes: Any) -> "Load":
        """A simulated load, in memory; by default one cycle."""
        options: dict[str, Any] = {"cycles": 1, "started_at": STARTED_AT, **changes}
        settings = SimulateSettings(events=events, raw_response_bytes=int(raw_kb * _KIB), **options)
        return cls.made_of(list(simulate(settings)))

    @classmethod
    def made_of(cls, batches: Sequence[WriteBatch]) -> "Load":
        """Count what is there."""
        markets = confirmations = 0
        for batch in batches:
            markets += sum(len(snapshot.markets) for snapshot in batch.changed_betpawa)
            markets += sum(len(snapshot.markets) for snapshot in batch.changed_competitor)
            confirmations += len(batch.unchanged_betpawa) + len(batch.unchanged_competitor)
        return cls(batches, markets, confirmations)


async def feed_topic(place: Place, topic: str, batches: Sequence[WriteBatch]) -> float:
    """Put batches into a topic, acknowledged. Returns seconds."""
    started = time.perf_counter()
    async with AsyncWriteQueue(KafkaDestination(place.settings.kafka(), topic=topic)) as queue:
        await asyncio.gather(*[await queue.enqueue(batch) for batch in batches])
    return time.perf_counter() - started


async def sink_topic(place: Place, engine: AsyncEngine, topic: str, group: str) -> SinkTotals:
    """Write a topic into the tables up to its end, with the default settings."""
    source = SinkSource(place.settings.kafka(), topic, group)
    settings = place.settings
    options = SinkOptions(
        poll_records=settings.poll_records, poll_bytes=settings.poll_bytes, until_caught_up=True
    )
    sink = await open_sink(engine, source, options)
    return await sink.run()
