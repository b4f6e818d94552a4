"""The queue between a scraper and a destination."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from random import random
from types import TracebackType
from typing import Any, Self

from ..schemas.errors import ConfigurationError, DeliveryError
from ..schemas.metric import Buckets
from ..schemas.records import WriteBatch
from ..schemas.stamp import Stamper, process_stamper
from .destination import SPOOL_STATS, Destination, Spooling
from .estimate import batch_counts, estimate_steps
from .metrics import load_prometheus, unwatch, watch
from .pacing import Pacer
from .pipeline import Entry, Pipeline, RetryPolicy
from .receipt import Receipt
from .say import say
from .tracing import current

__all__ = ["AsyncWriteQueue", "Surroundings"]

DEFAULT_MAXSIZE = 50  # batches: two cycles of 1,300 events
DEFAULT_MAX_BYTES = 512 * 1024 * 1024
# Under an orchestrator's usual 30 s between SIGTERM and SIGKILL.
DEFAULT_STOP_SECONDS = 25.0
DESTINATION_STOP_SECONDS = 10.0


class _State(StrEnum):
    NEW = "not started"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    DEAD = "dead"


@dataclass(slots=True)
class _Counts:
    enqueued: int = 0
    waiting: int = 0
    dropped_ids: int = 0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the queue takes from the world, and tests replace.

    Attributes:
        now: the wall clock, aware UTC.
        sleep: waits between attempts; ends at once when cancelled.
        jitter: 0 to 1.
        stamper: one a process, so that stamps increase over all its queues.
    """

    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    jitter: Callable[[], float] = random
    stamper: Stamper = process_stamper


class AsyncWriteQueue:
    """Takes batches from a scraper at once and writes them in the background.

    Batches are written in the order of their `enqueue`, by one sender. A batch
    holds its room in the queue until it is written or has failed.

    Args:
        destination: `KafkaDestination`, `MemoryDestination`, or the sink's
            `DatabaseDestination`.
        maxsize: batches that may be on their way.
        max_bytes: their estimated encoded size; the objects in memory take several
            times that. One batch larger than this is taken when it is alone.
        attempts: how often a batch is tried before it fails.
        attempt_deadline_seconds: how long one try may take.
        stop_deadline_seconds: how long `stop` may drain.
        name: tells it apart from others of the process in the metrics, which are in
            prometheus-client's registry while it runs, where that is installed.
        surroundings: for tests.

    Raises:
        ConfigurationError: a bare session factory as destination, or a bound that
            is not positive.
    """

    def __init__(
        self,
        destination: Destination,
        maxsize: int = DEFAULT_MAXSIZE,
        max_bytes: int = DEFAULT_MAX_BYTES,
        *,
        attempts: int = 3,
        attempt_deadline_seconds: float = 10.0,
        stop_deadline_seconds: float = DEFAULT_STOP_SECONDS,
        name: str | None = None,
        surroundings: Surroundings | None = None,
    ) -> None:
        _check_destination(destination)
        _check_positive(
            maxsize=maxsize,
            max_bytes=max_bytes,
            attempts=attempts,
            attempt_deadline_seconds=attempt_deadline_seconds,
            stop_deadline_seconds=stop_deadline_seconds,
        )
        self._name = name
        self._destination = destination
        self._maxsize = maxsize
        self._max_bytes = max_bytes
        self._stop_deadline_seconds = stop_deadline_seconds
        self._surroundings = surroundings if surroundings is not None else Surroundings()
        self._retries = RetryPolicy(
            attempts=attempts,
            deadline_seconds=attempt_deadline_seconds,
            sleep=self._surroundings.sleep,
            jitter=self._surroundings.jitter,
        )
        self._state = _State.NEW
        self._counts = _Counts()
        # Enqueues pass one by one, in the order of their calls.
        self._intake = asyncio.Lock()
        self._pipeline: Pipeline | None = None
        self._stopping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the destination and the workers; harmless when running.

        An outage does not make it fail: batches wait in the queue.

        Raises:
            ConfigurationError: from the destination, or it is stopping just now.
        """
        if self._state is _State.RUNNING:
            return
        if self._state in (_State.STARTING, _State.STOPPING):
            raise ConfigurationError(f"the write queue is {self._state}")
        before, self._state = self._state, _State.STARTING
        try:
            await load_prometheus()
            await self._destination.start()
        except BaseException:
            self._state = before
            raise
        self._stopping = None
        self._pipeline = Pipeline(self._destination, self._retries, self._on_death)
        self._state = _State.RUNNING
        watch(self, self._name)
        say("info", "write_queue_started", maxsize=self._maxsize, max_bytes=self._max_bytes)

    async def stop(self) -> None:
        """Drain within the deadline, then stop; harmless a second time.

        Enqueues that wait for room raise. What cannot be written in time goes to
        the destination's spool; without one it is logged in full, and its receipts
        raise. Cancelling the caller does not
        stop the draining; a further `stop` waits for it.
        """
        if self._state in (_State.NEW, _State.STOPPED):
            return
        if self._state is _State.STARTING:
            raise ConfigurationError("the write queue is starting")
        if self._stopping is None:
            self._state = _State.STOPPING
            self._stopping = asyncio.get_running_loop().create_task(
                self._stop(), name="oddslog-queue-stop"
            )
        await asyncio.shield(self._stopping)

    async def enqueue(self, batch: WriteBatch) -> Receipt:
        """Take a batch; waits only for room in the queue.

        Times that the caller left out become the moment of this call. Plain ids
        below 1 are dropped. From here on the batch belongs to the queue: the
        dicts in it must not be changed. Cancelled while it waits, nothing is
        enqueued.

        Raises:
            ConfigurationError: the queue was never started.
            DeliveryError: the queue is stopped, or one of its workers has died.
            TypeError: not a `WriteBatch`.
        """
        if not isinstance(batch, WriteBatch):
            raise TypeError(f"enqueue takes a WriteBatch, not {type(batch).__name__}")
        self._running_pipeline()
        self._counts.waiting += 1
        try:
            entry = await self._take_in(batch, self._surroundings.now())
        finally:
            self._counts.waiting -= 1
        say("debug", "write_batch_enqueued", **batch_counts(entry.batch))
        return entry.receipt

    def stats(self) -> dict[str, Any]:
        """How the queue is doing, as plain numbers."""
        pipeline = self._pipeline
        return {
            "queue_size": 0 if pipeline is None else len(pipeline.unfinished),
            "queue_maxsize": self._maxsize,
            "running": self._state is _State.RUNNING,
            "queue_bytes": 0 if pipeline is None else pipeline.size_bytes,
            "queue_max_bytes": self._max_bytes,
            "state": str(self._state),
            "enqueued": self._counts.enqueued,
            "waiting": self._counts.waiting,
            "dropped_ids": self._counts.dropped_ids,
            **self._retries.counts.as_dict(),
            **_spool_stats(self._destination),
        }

    def write_seconds(self) -> Buckets:
        """How long batches took from their first attempt until they were stored."""
        return self._retries.write_seconds

    def generations(self) -> int:
        """How many Kafka producers there have been; 0 where the destination has none."""
        return int(getattr(self._destination, "generations", 0))

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    def __repr__(self) -> str:
        stats = self.stats()
        mebibytes = 1024 * 1024
        return (
            f"<AsyncWriteQueue {stats['state']}: {stats['queue_size']}/{self._maxsize} batches, "
            f"{stats['queue_bytes'] / mebibytes:.1f}/{self._max_bytes / mebibytes:.1f} MiB, "
            f"{stats['written']} written, {stats['spooled']} spooled, {stats['failed']} failed, "
            f"{stats['retries']} retries; "
            f"to {self._destination!r}>"
        )

    def _running_pipeline(self) -> Pipeline:
        if self._state is _State.RUNNING and self._pipeline is not None:
            return self._pipeline
        if self._state in (_State.NEW, _State.STARTING):
            raise ConfigurationError("the write queue is not started: await queue.start() first")
        if self._state is _State.DEAD and self._pipeline is not None:
            raise DeliveryError(f"the write queue has died: {self._pipeline.death}")
        raise DeliveryError("the write queue is stopped; the batch was not taken")

    async def _take_in(self, batch: WriteBatch, now: datetime) -> Entry:
        async with self._intake:
            self._running_pipeline()
            stamped = self._surroundings.stamper.stamp(self._without_bad_ids(batch), now)
            size_bytes = await _estimated_bytes(stamped)
            await self._room_for(size_bytes)
            # No await from here on: the batch is taken, or it is not.
            entry = Entry(stamped, Receipt(stamped), size_bytes, time.perf_counter(), current())
            self._running_pipeline().add(entry)
            self._counts.enqueued += 1
            return entry

    async def _room_for(self, size_bytes: int) -> None:
        while True:
            pipeline = self._running_pipeline()
            if not pipeline.unfinished:
                return
            if (
                len(pipeline.unfinished) < self._maxsize
                and pipeline.size_bytes + size_bytes <= self._max_bytes
            ):
                return
            await pipeline.changed()

    def _without_bad_ids(self, batch: WriteBatch) -> WriteBatch:
        betpawa = tuple(member for member in batch.unchanged_betpawa_ids if member >= 1)
        competitor = tuple(member for member in batch.unchanged_competitor_ids if member >= 1)
        dropped = len(batch.unchanged_betpawa_ids) + len(batch.unchanged_competitor_ids)
        dropped -= len(betpawa) + len(competitor)
        if not dropped:
            return batch
        if not self._counts.dropped_ids:
            say("warning", "write_batch_ids_dropped", batch_index=batch.batch_index, ids=dropped)
        self._counts.dropped_ids += dropped
        return replace(batch, unchanged_betpawa_ids=betpawa, unchanged_competitor_ids=competitor)

    async def _stop(self) -> None:
        """Drain, then let go of everything; in a task of its own."""
        pipeline = self._pipeline
        assert pipeline is not None  # noqa: S101 - it was running
        try:
            await pipeline.drain(self._stop_deadline_seconds)
        finally:
            # Also when the loop is being torn down: nothing ends in silence.
            pipeline.abort("the write queue was stopped before the batch was written")
            try:
                await self._stop_destination()
            finally:
                # Not before: a second `stop` waits for this one, and a `start` then finds
                # a destination that has let go of everything.
                self._state = _State.STOPPED
                unwatch(self)
            say("info", "write_queue_stopped", **self.stats())

    async def _stop_destination(self) -> None:
        try:
            async with asyncio.timeout(DESTINATION_STOP_SECONDS):
                await self._destination.stop()
        except Exception as error:
            say("warning", "write_destination_stop_failed", reason=repr(error))

    def _on_death(self, reason: str) -> None:
        """Called by the pipeline when one of its tasks ended and should not have."""
        if self._state is _State.RUNNING:
            self._state = _State.DEAD
        say("error", "write_queue_died", reason=reason)


def _spool_stats(destination: Destination) -> dict[str, int]:
    """What the destination's spool holds; zeros where it has none."""
    nothing = dict.fromkeys(SPOOL_STATS, 0)
    return nothing | (destination.stats() if isinstance(destination, Spooling) else {})


async def _estimated_bytes(batch: WriteBatch) -> int:
    pacer = Pacer()
    total = 0
    for size in estimate_steps(batch):
        total += size
        await pacer.pause()
    return total


def _check_destination(destination: object) -> None:
    if isinstance(destination, type):
        raise ConfigurationError(
            f"{destination.__name__} is a class; the destination has to be made first"
        )
    if hasattr(destination, "prepare"):
        return
    if callable(destination):
        raise ConfigurationError(
            f"{destination!r} looks like a bare session factory; a queue writes to a "
            "destination: use DatabaseDestination(session_factory) from oddslog.sink, "
            "or KafkaDestination(...)"
        )
    raise ConfigurationError(
        f"{type(destination).__name__} is no destination; use KafkaDestination(...)"
    )


def _check_positive(**bounds: float) -> None:
    for name, value in bounds.items():
        if value <= 0:
            raise ConfigurationError(f"{name} must be above 0, not {value}")
