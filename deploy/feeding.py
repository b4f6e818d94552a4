"""Feeding: batches of any source into the log, with every receipt waited for."""

import asyncio
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from ..ingest import AsyncWriteQueue, KafkaDestination, Receipt, RejectedPart, RejectedPartsError
from ..schemas.errors import DeliveryError
from ..schemas.records import WriteBatch
from ..schemas.wire import Kind
from .console import Meter, Out
from .logs import quieten_logs
from .settings import Settings

__all__ = ["FeedTotals", "feed"]

# What an interrupt waits for: a batch takes a tenth of it.
_STOP_SECONDS = 3.0
# What the spool gets at the end, as long as Kafka takes it.
_SETTLE_SECONDS = 3600.0


@dataclass(slots=True)
class FeedTotals:
    """What was fed: only what Kafka has acknowledged, or the spool has taken, counts.

    `failed` are batches that were not stored, or not whole; `rejected` the
    snapshots and confirmations that never can be. `spool_fragments` are in the
    spool at the end, and not in Kafka yet.
    """

    batches: int = 0
    snapshots: int = 0
    markets: int = 0
    confirmations: int = 0
    failed: int = 0
    rejected: int = 0
    bad_lines: int = 0
    seconds: float = 0.0
    spool_fragments: int = 0

    @property
    def fine(self) -> bool:
        """Whether everything that was to be fed is in the log."""
        return not (self.failed or self.rejected or self.bad_lines)

    def add(self, batch: WriteBatch, rejected: Iterable[RejectedPart] = ()) -> None:
        """Count a batch that is stored, but for what was rejected of it."""
        self.batches += 1
        out = {(part.kind, part.event_id, part.captured_at) for part in rejected}
        for source, markets in _snapshots(batch):
            if source not in out:
                self.snapshots += 1
                self.markets += markets
        self.confirmations += sum(
            count for source, count in _confirmations(batch) if source not in out
        )


# Kind, event and moment, as `RejectedPart` names what it was.
_Source = tuple[Kind, int | None, datetime | None]


def _snapshots(batch: WriteBatch) -> Iterator[tuple[_Source, int]]:
    """Each snapshot with its number of markets."""
    for one in batch.changed_betpawa:
        yield (Kind.BETPAWA, one.event_id, one.captured_at), len(one.markets)
    for other in batch.changed_competitor:
        yield (Kind.COMPETITOR, other.competitor_event_id, other.captured_at), len(other.markets)


def _confirmations(batch: WriteBatch) -> Iterator[tuple[_Source, int]]:
    """Confirmations with their number; one part holds all of an event, or all plain ids."""
    for one in batch.unchanged_betpawa:
        yield (Kind.BETPAWA, one.event_id, None), 1
    for other in batch.unchanged_competitor:
        yield (Kind.COMPETITOR, other.competitor_event_id, None), 1
    yield (Kind.BETPAWA, None, None), len(batch.unchanged_betpawa_ids)
    yield (Kind.COMPETITOR, None, None), len(batch.unchanged_competitor_ids)


async def feed(
    settings: Settings, batches: Iterator[WriteBatch], out: Out, meter: Meter
) -> FeedTotals:
    """Enqueue the batches and wait for all receipts; the topic was looked at before.

    A batch that neither Kafka nor a spool takes ends the feed: the next
    ones would each wait as long. One of which only parts are rejected does not.

    Args:
        settings: where the log is, and how large the queue.
        batches: read one by one, in another thread: they may come slowly.
        out: is told of each batch that failed.
        meter: is moved on by every batch that ends.
    """
    feeder = _Feeder(out, meter)
    destination = KafkaDestination(
        settings.kafka(),
        topic=settings.topic,
        raw_response=settings.raw_response != "none",
        spool_dir=settings.spool_dir,
        spool_bytes=settings.spool_bytes,
        durability=settings.durability,
    )
    started = time.perf_counter()
    async with AsyncWriteQueue(
        destination,
        maxsize=settings.queue_maxsize,
        max_bytes=settings.queue_bytes,
        stop_deadline_seconds=_STOP_SECONDS,
    ) as queue:
        try:
            await _enqueue_all(queue, batches, feeder)
            if feeder.undelivered.is_set():
                quieten_logs()  # one batch was logged in full; the others fail of the same
            await destination.settle(_SETTLE_SECONDS)
        except asyncio.CancelledError:
            feeder.interrupted(queue.stats()["queue_size"])
            raise
    feeder.totals.spool_fragments = destination.stats()["spool_fragments"]
    feeder.totals.seconds = time.perf_counter() - started
    return feeder.totals


async def _enqueue_all(
    queue: AsyncWriteQueue, batches: Iterator[WriteBatch], feeder: "_Feeder"
) -> None:
    try:
        while (batch := await asyncio.to_thread(next, batches, None)) is not None:
            feeder.watch(await queue.enqueue(batch))
            if feeder.undelivered.is_set():
                break
    except Exception:  # of the source: what was good before it goes in
        await feeder.finish()
        feeder.source_failed()
        raise
    await feeder.finish()


class _Feeder:
    """Watches the receipts of one feed."""

    def __init__(self, out: Out, meter: Meter) -> None:
        self.totals = FeedTotals()
        self.undelivered = asyncio.Event()
        self._out = out
        self._meter = meter
        self._watching: set[asyncio.Task[None]] = set()

    def watch(self, receipt: Receipt) -> None:
        task = asyncio.create_task(self._settle(receipt), name="oddslog-feed-receipt")
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)

    def interrupted(self, on_their_way: int) -> None:
        """Say how far it came; the batches on their way may or may not get there."""
        quieten_logs()  # else each of them is logged in full
        self.undelivered.set()
        self._out.note(
            f"oddslog: interrupted: {self.totals.batches:,} batches are in the log,"
            f" {on_their_way:,} were on their way"
        )

    def source_failed(self) -> None:
        """Say how far it came."""
        self._out.note(f"oddslog: batches before it, which are in the log: {self.totals.batches:,}")

    async def finish(self) -> None:
        """Wait for every receipt, or for the first batch that Kafka does not take."""
        undelivered = asyncio.create_task(self.undelivered.wait())
        try:
            while self._watching and not undelivered.done():
                waiting = {*self._watching, undelivered}
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            undelivered.cancel()

    async def _settle(self, receipt: Receipt) -> None:
        batch = receipt.batch
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
            if not self.undelivered.is_set():  # the others fail of the same, and are logged in full
                self._out.note(f"oddslog: batch {batch.batch_index}: {error}", style="red")
            self.undelivered.set()
        else:
            self.totals.add(batch)
        finally:
            self._meter.advance()
