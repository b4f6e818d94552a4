"""The two workers of a queue: one encodes batches, one sends them.

    add -> [encoder] -> at most two batches encoded ahead -> [sender] -> receipt

Every batch that was added ends in its receipt: written, spooled, failed, or aborted.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field

from ..schemas.backoff import backoff_seconds
from ..schemas.errors import DeliveryError, RejectedError
from ..schemas.metric import SECONDS_BOUNDS, Buckets
from ..schemas.records import WriteBatch
from .destination import Delivery, Destination, SpoolingDelivery
from .estimate import batch_counts, batch_details
from .receipt import Receipt
from .say import say
from .tracing import Headers, carrying

__all__ = ["Entry", "Pipeline", "RetryPolicy"]

ENCODED_AHEAD = 2
BACKOFF_BASE_SECONDS = 1.0
BACKOFF_CAP_SECONDS = 4.0
# An attempt has a deadline of its own; a destination that ignores it is cut off.
ATTEMPT_GRACE_SECONDS = 5.0
# While the queue stops, a batch that has a spool behind it does not wait longer than
# this for the brokers: the rest of the queue wants to get there too.
STOPPING_ATTEMPT_SECONDS = 2.0
# What cancelled workers get to leave.
ABORT_SECONDS = 5.0


@dataclass(slots=True, eq=False)
class Entry:
    """A batch on its way through the queue."""

    batch: WriteBatch
    receipt: Receipt
    size_bytes: int
    enqueued_at: float
    trace: Headers = ()
    delivery: Delivery | None = None


@dataclass(slots=True)
class Counts:
    """What has happened to batches so far."""

    written: int = 0
    spooled: int = 0
    failed: int = 0
    retries: int = 0

    def as_dict(self) -> dict[str, int]:
        """As fields of the queue's statistics."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often, how long and with which pauses a batch is tried."""

    attempts: int
    deadline_seconds: float
    sleep: Callable[[float], Awaitable[None]]
    jitter: Callable[[], float]
    counts: Counts = field(default_factory=Counts)
    write_seconds: Buckets = field(default_factory=lambda: Buckets(SECONDS_BOUNDS))

    def pause_seconds(self, attempt: int) -> float:
        """How long to wait after that attempt (from 1): 1, 2, 4 s less jitter."""
        return backoff_seconds(
            attempt, base=BACKOFF_BASE_SECONDS, cap=BACKOFF_CAP_SECONDS, jitter=self.jitter()
        )


class Pipeline:
    """Runs the workers; made when the queue starts, used until it has stopped.

    Attributes:
        unfinished: batches that were added and have not ended, in order.
        size_bytes: their estimated size.
        death: why the workers ended when they should not have; else None.
    """

    def __init__(
        self, destination: Destination, policy: RetryPolicy, on_death: Callable[[str], None]
    ) -> None:
        self.unfinished: dict[Entry, None] = {}
        self.size_bytes = 0
        self.death: str | None = None
        self._destination = destination
        self._policy = policy
        self._on_death = on_death
        self._to_encode: asyncio.Queue[Entry | None] = asyncio.Queue()
        self._to_send: asyncio.Queue[Entry | None] = asyncio.Queue()
        self._ahead = asyncio.Semaphore(ENCODED_AHEAD)
        self._changed = asyncio.Event()
        self._ending = False
        # Where a delivery with a spool behind it is held up; written by the sender.
        self._attempting: asyncio.Timeout | None = None
        self._pausing: asyncio.Timeout | None = None
        self._haste_seconds: float | None = None  # while the queue stops
        self._spool_only_from: float | None = None  # the loop's time; while it stops
        self._workers = [
            self._worker(self._encode_loop(), "oddslog-queue-encoder"),
            self._worker(self._send_loop(), "oddslog-queue-sender"),
        ]

    def add(self, entry: Entry) -> None:
        """Take a batch. Never blocks."""
        self.unfinished[entry] = None
        self.size_bytes += entry.size_bytes
        self._to_encode.put_nowait(entry)

    async def changed(self) -> None:
        """Wait until a batch has ended, or the pipeline has."""
        self._changed.clear()
        await self._changed.wait()

    async def drain(self, deadline_seconds: float) -> None:
        """Write what was added; add nothing more. Cancels the workers at the deadline.

        What the destination does not take soon goes to its spool, where it has one.
        """
        self._ending = True
        self._changed.set()  # whoever waits for room must learn of it
        self._to_encode.put_nowait(None)
        self._hasten(deadline_seconds)
        try:
            await asyncio.wait(self._workers, timeout=deadline_seconds)
        finally:
            for worker in self._workers:
                worker.cancel()
        _, left = await asyncio.wait(self._workers, timeout=ABORT_SECONDS)
        if left:
            say("error", "write_queue_worker_left", workers=[task.get_name() for task in left])

    def abort(self, reason: str) -> None:
        """Fail every batch that has not ended, each with its log line. Never blocks."""
        self._ending = True
        for worker in self._workers:
            worker.cancel()
        for entry in list(self.unfinished):
            self._fail(entry, DeliveryError(reason))
        self._changed.set()

    def _worker(self, loop: Awaitable[None], name: str) -> asyncio.Task[None]:
        task = asyncio.ensure_future(loop)
        assert isinstance(task, asyncio.Task)  # noqa: S101 - of a coroutine
        task.set_name(name)
        task.add_done_callback(self._worker_ended)
        return task

    def _worker_ended(self, task: "asyncio.Task[None]") -> None:
        error = None if task.cancelled() else task.exception()
        if self._ending and error is None:
            return
        what = "was cancelled" if task.cancelled() else f"ended: {error!r}"
        self.death = f"{task.get_name()} {what}"
        self._on_death(self.death)
        self.abort(f"the write queue has died: {self.death}")

    async def _encode_loop(self) -> None:
        while (entry := await self._to_encode.get()) is not None:
            await self._ahead.acquire()
            try:
                with carrying(entry.trace):
                    entry.delivery = await self._destination.prepare(entry.batch)
            except Exception as error:
                self._ahead.release()
                self._fail(entry, _delivery_error("could not be prepared", error))
            else:
                self._to_send.put_nowait(entry)
        self._to_send.put_nowait(None)

    async def _send_loop(self) -> None:
        while (entry := await self._to_send.get()) is not None:
            self._ahead.release()
            assert entry.delivery is not None  # noqa: S101 - the encoder has set it
            await self._send(entry, entry.delivery)

    async def _send(self, entry: Entry, delivery: Delivery) -> None:
        """Try until it is stored or the attempts are used up."""
        began = time.perf_counter()
        if self._is_late(delivery):
            error = TimeoutError("the queue stops")
            await self._last_resort(entry, delivery, 0, began, error)
            return
        for attempt in range(1, self._policy.attempts + 1):
            try:
                await self._attempt(delivery)
            except RejectedError as error:
                self._fail(entry, error)
                return
            except Exception as error:
                if attempt < self._policy.attempts and not self._in_haste(delivery):
                    await self._back_off(entry, delivery, attempt, error)
                    if not self._in_haste(delivery):
                        continue
                await self._last_resort(entry, delivery, attempt, began, error)
                return
            else:
                self._written(entry, delivery, attempt, began)
                return

    async def _attempt(self, delivery: Delivery) -> None:
        seconds = self._policy.deadline_seconds
        spooling = isinstance(delivery, SpoolingDelivery)
        if spooling and self._haste_seconds is not None:
            seconds = min(seconds, self._haste_seconds)
        async with asyncio.timeout(seconds + ATTEMPT_GRACE_SECONDS) as limit:
            self._attempting = limit if spooling else None
            try:
                await delivery.attempt(seconds)
            finally:
                self._attempting = None

    async def _last_resort(
        self, entry: Entry, delivery: Delivery, attempts: int, began: float, error: Exception
    ) -> None:
        """Into the spool, where there is one; else the batch has failed."""
        what = f"was not written in {attempts} attempt(s)"
        if not isinstance(delivery, SpoolingDelivery):
            self._fail(entry, _delivery_error(what, error))
            return
        try:
            await delivery.spool()
        except RejectedError as rejected:
            self._fail(entry, rejected)
        except Exception as failure:
            what += f" ({_reason(error)}), and the spool did not take it"
            self._fail(entry, _delivery_error(what, failure))
        else:
            self._written(entry, delivery, attempts, began)

    def _is_late(self, delivery: Delivery) -> bool:
        """Whether the queue's end is near: brokers that are slow, too, cost the others' room."""
        return (
            self._spool_only_from is not None
            and isinstance(delivery, SpoolingDelivery)
            and asyncio.get_running_loop().time() >= self._spool_only_from
        )

    def _in_haste(self, delivery: Delivery) -> bool:
        """Whether the queue stops, and the spool is a better place than the next attempt."""
        return self._haste_seconds is not None and isinstance(delivery, SpoolingDelivery)

    def _hasten(self, deadline_seconds: float) -> None:
        """Leave time for the spool: cut attempts short, pauses off; none in the second half."""
        self._haste_seconds = min(STOPPING_ATTEMPT_SECONDS, deadline_seconds / 4)
        now = asyncio.get_running_loop().time()
        self._spool_only_from = now + deadline_seconds / 2
        soon = now + self._haste_seconds
        # One that expires just now ends by itself, and refuses to be changed.
        if self._attempting is not None and not self._attempting.expired():
            self._attempting.reschedule(min(soon, self._attempting.when() or soon))
        if self._pausing is not None and not self._pausing.expired():
            self._pausing.reschedule(0)

    async def _back_off(
        self, entry: Entry, delivery: Delivery, attempt: int, error: Exception
    ) -> None:
        policy = self._policy
        policy.counts.retries += 1
        pause = policy.pause_seconds(attempt)
        say(
            "warning",
            "write_batch_retry",
            **batch_counts(entry.batch),
            scrape_run_id=entry.batch.scrape_run_id,
            attempt=attempt,
            attempts=policy.attempts,
            reason=_reason(error),
            wait_seconds=round(pause, 3),
        )
        try:
            async with asyncio.timeout(None) as limit:
                if isinstance(delivery, SpoolingDelivery):
                    self._pausing = limit
                await policy.sleep(pause)
        except TimeoutError:
            pass  # the queue stops
        finally:
            self._pausing = None

    def _written(self, entry: Entry, delivery: Delivery, attempts: int, began: float) -> None:
        if not self._finish(entry):
            return
        spooled = isinstance(delivery, SpoolingDelivery) and delivery.spooled
        if spooled:
            self._policy.counts.spooled += 1
        else:
            self._policy.counts.written += 1
        entry.receipt._resolve()  # noqa: SLF001 - the receipt's other half
        now = time.perf_counter()
        self._policy.write_seconds.observe(now - began)
        say(
            "info",
            "write_batch_spooled" if spooled else "write_batch_written",
            **batch_counts(entry.batch),
            scrape_run_id=entry.batch.scrape_run_id,
            write_ms=round((now - began) * 1000, 1),
            queue_ms=round((began - entry.enqueued_at) * 1000, 1),
            attempts=attempts,
        )

    def _fail(self, entry: Entry, error: DeliveryError) -> None:
        if not self._finish(entry):
            return
        self._policy.counts.failed += 1
        entry.receipt._fail(error)  # noqa: SLF001 - the receipt's other half
        rejected = isinstance(error, RejectedError)
        say(
            "error",
            "write_batch_rejected" if rejected else "write_batch_failed",
            **batch_details(entry.batch),
            reason=str(error),
            **(entry.delivery.describe() if entry.delivery is not None else {}),
        )

    def _finish(self, entry: Entry) -> bool:
        """Free the batch's room; whether it had not ended before."""
        if entry not in self.unfinished:
            return False
        del self.unfinished[entry]
        self.size_bytes -= entry.size_bytes
        self._changed.set()
        return True


def _delivery_error(what: str, error: Exception) -> DeliveryError:
    failure = DeliveryError(f"the batch {what}: {_reason(error)}")
    failure.__cause__ = error
    return failure


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
