"""Feeding: batches of any source into the log, with every receipt waited for."""

import asyncio
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..ingest import AsyncWriteQueue, KafkaDestination, Receipt, RejectedPart, RejectedPartsError
from ..schemas.errors import DeliveryError
from ..schemas.records import (
    CompetitorSnapshotKey,
    CompetitorSnapshotWriteData,
    SnapshotKey,
    SnapshotWriteData,
    WriteBatch,
)
from ..schemas.wire import Kind
from .console import Meter, Out
from .settings import Settings

__all__ = ["FeedTotals", "feed"]


@dataclass(slots=True)
class FeedTotals:
    """What was fed: only what Kafka has acknowledged counts.

    `failed` are batches that were not stored, or not whole; `rejected` the
    snapshots and confirmations that never can be.
    """

    batches: int = 0
    snapshots: int = 0
    markets: int = 0
    confirmations: int = 0
    failed: int = 0
    rejected: int = 0
    bad_lines: int = 0
    seconds: float = 0.0

    @property
    def fine(self) -> bool:
        """Whether everything that was to be fed is in the log."""
        return not (self.failed or self.rejected or self.bad_lines)

    def add(self, batch: WriteBatch, rejected: Iterable[RejectedPart] = ()) -> None:
        """Count a batch that is stored, but for what was rejected of it."""
        out = {(part.kind, part.event_id, part.captured_at) for part in rejected}
        for snapshot in (*batch.changed_betpawa, *batch.changed_competitor):
            if _source(snapshot) not in out:
                self.snapshots += 1
                self.markets += len(snapshot.markets)
        for key in (*batch.unchanged_betpawa, *batch.unchanged_competitor):
            self.confirmations += (*_source(key)[:2], None) not in out
        for kind, ids in (
            (Kind.BETPAWA, batch.unchanged_betpawa_ids),
            (Kind.COMPETITOR, batch.unchanged_competitor_ids),
        ):
            self.confirmations += 0 if (kind, None, None) in out else len(ids)


def _source(
    one: SnapshotWriteData | CompetitorSnapshotWriteData | SnapshotKey | CompetitorSnapshotKey,
) -> tuple[Kind, int, object]:
    if isinstance(one, (SnapshotWriteData, SnapshotKey)):
        return Kind.BETPAWA, one.event_id, one.captured_at
    return Kind.COMPETITOR, one.competitor_event_id, one.captured_at


async def feed(
    settings: Settings, batches: Iterator[WriteBatch], out: Out, meter: Meter
) -> FeedTotals:
    """Enqueue the batches and wait for all receipts; the topic was looked at before.

    A batch that Kafka does not take after all attempts ends the feed: the next
    ones would each wait as long. One of which only parts are rejected does not.

    Args:
        settings: where the log is, and how large the queue.
        batches: read one by one, in another thread: they may come slowly.
        out: is told of each batch that failed.
        meter: is moved on by every batch that ends.
    """
    feeder = _Feeder(out, meter)
    destination = KafkaDestination(
        settings.kafka(), topic=settings.topic, raw_response=settings.raw_response != "none"
    )
    started = time.perf_counter()
    async with AsyncWriteQueue(
        destination, maxsize=settings.queue_maxsize, max_bytes=settings.queue_bytes
    ) as queue:
        while (batch := await asyncio.to_thread(next, batches, None)) is not None:
            if feeder.undelivered:
                break
            feeder.watch(batch, await queue.enqueue(batch))
        await feeder.finish()
    feeder.totals.seconds = time.perf_counter() - started
    return feeder.totals


class _Feeder:
    """Watches the receipts of one feed."""

    def __init__(self, out: Out, meter: Meter) -> None:
        self.totals = FeedTotals()
        self.undelivered = False
        self._out = out
        self._meter = meter
        self._watching: set[asyncio.Task[None]] = set()

    def watch(self, batch: WriteBatch, receipt: Receipt) -> None:
        task = asyncio.create_task(self._settle(batch, receipt), name="oddslog-feed-receipt")
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)

    async def finish(self) -> None:
        if self._watching:
            await asyncio.wait(self._watching)

    async def _settle(self, batch: WriteBatch, receipt: Receipt) -> None:
        try:
            await receipt
        except RejectedPartsError as error:
            self.totals.failed += 1
            self.totals.rejected += len(error.parts)
            self.totals.add(batch, error.parts)
            for part in error.parts:
                self._out.note(f"oddslog: rejected: {part}", style="red")
        except DeliveryError as error:
            self.totals.failed += 1
            self.undelivered = True
            self._out.note(f"oddslog: batch {batch.batch_index}: {error}", style="red")
        else:
            self.totals.add(batch)
        finally:
            self.totals.batches += 1
            self._meter.advance()
