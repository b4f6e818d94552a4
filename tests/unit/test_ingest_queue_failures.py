"""The queue when things go wrong: attempts, back-off, deadlines, death of a worker."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from oddslog.ingest import AsyncWriteQueue, Delivery, MemoryDestination, RejectedPartsError
from oddslog.ingest.write_queue import Surroundings
from oddslog.schemas.errors import ConfigurationError, DeliveryError
from oddslog.schemas.records import WriteBatch
from oddslog.schemas.stamp import Stamper
from tests.unit.test_ingest_builders import (
    NOON,
    batch,
    betpawa,
    broken_betpawa,
    small,
    turns,
    until,
)


class Sleeps:
    """A sleep that takes no time, and remembers."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.for_ever = False

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        if self.for_ever:
            await asyncio.Event().wait()


class Destination(MemoryDestination):
    """One whose every step can be replaced."""

    async def attempt(self) -> None:
        """What a delivery does first."""

    async def prepare(self, batch: WriteBatch) -> Delivery:
        return _Delivery(self, await super().prepare(batch))


class _Delivery:
    def __init__(self, destination: Destination, inner: Delivery) -> None:
        self._destination = destination
        self._inner = inner

    async def attempt(self, deadline_seconds: float) -> None:
        await self._destination.attempt()
        await self._inner.attempt(deadline_seconds)

    def describe(self) -> dict[str, object]:
        return {"unacknowledged": 1}


@asynccontextmanager
async def running(
    destination: Any, sleeps: Sleeps | None = None, *, jitter: float = 0.0, **options: Any
) -> AsyncIterator[AsyncWriteQueue]:
    """A queue whose back-off takes no time."""
    surroundings = Surroundings(
        now=lambda: NOON,
        sleep=Sleeps() if sleeps is None else sleeps,
        jitter=lambda: jitter,
        stamper=Stamper(),
    )
    async with AsyncWriteQueue(destination, surroundings=surroundings, **options) as queue:
        yield queue


async def test_three_attempts_with_growing_pauses_then_it_is_written() -> None:
    """1 s and 2 s lie between three attempts; each retry is logged with its reason."""
    destination = MemoryDestination(fail_times=2)
    sleeps = Sleeps()
    with capture_logs() as logs:
        async with running(destination, sleeps) as queue:
            await (await queue.enqueue(small()))
            assert (queue.stats()["retries"], queue.stats()["failed"]) == (2, 0)
    assert sleeps.seconds == [1.0, 2.0]
    retries = [line for line in logs if line["event"] == "write_batch_retry"]
    assert [line["attempt"] for line in retries] == [1, 2]
    assert retries[0]["reason"] == "the destination is away"
    assert len(destination.batches) == 1


async def test_pauses_are_one_two_four_less_jitter() -> None:
    """Where more attempts are allowed; never more than four seconds."""
    sleeps = Sleeps()
    async with running(MemoryDestination(fail_times=9), sleeps, jitter=1.0, attempts=5) as queue:
        receipt = await queue.enqueue(small())
        with pytest.raises(DeliveryError):
            await receipt
    assert sleeps.seconds == [0.75, 1.5, 3.0, 3.0]


async def test_after_the_last_attempt_the_batch_fails_with_all_that_names_it() -> None:
    """The receipt raises, the log says which events, and the next batch goes on."""
    destination = MemoryDestination(fail_times=3)
    with capture_logs() as logs:
        async with running(destination) as queue:
            receipt = await queue.enqueue(batch(betpawa=[betpawa(41)], betpawa_ids=[6], index=3))
            await (await queue.enqueue(small(1)))
            assert queue.stats()["failed"] == 1
    with pytest.raises(DeliveryError, match="in 3 attempt"):
        await receipt
    assert isinstance(receipt._future.exception().__cause__, ConnectionError)  # type: ignore[union-attr]
    (failed,) = (line for line in logs if line["event"] == "write_batch_failed")
    assert failed["log_level"] == "error"
    assert failed["event_ids"] == [41]
    assert failed["unchanged_betpawa_ids"] == [6]
    assert (failed["scrape_run_id"], failed["batch_index"]) == (7, 3)
    assert "the destination is away" in failed["reason"]
    assert (failed["changed_bp"], failed["markets"], failed["unacknowledged"]) == (1, 2, 1)
    assert [written.batch_index for written in destination.batches] == [1]


async def test_a_failed_receipt_can_be_enqueued_again_with_its_keys() -> None:
    """`receipt.batch` is stamped, so the second try is the same snapshot."""
    destination = MemoryDestination(fail_times=3)
    async with running(destination) as queue:
        receipt = await queue.enqueue(small())
        with pytest.raises(DeliveryError):
            await receipt
        await (await queue.enqueue(receipt.batch))
    assert destination.batches == [receipt.batch]


async def test_a_failure_that_nobody_awaits_makes_no_noise_of_asyncio() -> None:
    """It is in our log; the loop's exception handler hears nothing."""
    heard: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context))

    async def nobody_awaits() -> None:
        async with running(MemoryDestination(fail_times=3)) as queue:
            await queue.enqueue(small())

    await nobody_awaits()
    gc.collect()
    await turns()
    assert heard == []


async def test_json_that_is_no_json_fails_only_its_snapshot() -> None:
    """The others of the batch are stored; it is not tried again."""
    destination = MemoryDestination()
    sleeps = Sleeps()
    with capture_logs() as logs:
        async with running(destination, sleeps) as queue:
            receipt = await queue.enqueue(
                batch(betpawa=[betpawa(1), broken_betpawa(2), betpawa(3)])
            )
            with pytest.raises(RejectedPartsError, match="event 2") as caught:
                await receipt
    assert caught.value.parts[0].event_id == 2
    stored = destination.batches[0].changed_betpawa
    assert [snapshot.event_id for snapshot in stored] == [1, 3]
    assert sleeps.seconds == []
    (line,) = (line for line in logs if line["event"] == "write_batch_rejected")
    assert "markets[0].outcomes" in line["reason"]


async def test_an_attempt_that_ignores_its_deadline_is_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One destination that hangs must not hold the queue for ever."""
    monkeypatch.setattr("oddslog.ingest.pipeline.ATTEMPT_GRACE_SECONDS", 0.0)

    class Hangs(Destination):
        times = 0

        async def attempt(self) -> None:
            self.times += 1
            if self.times == 1:
                await asyncio.Event().wait()

    destination = Hangs()
    async with running(destination, attempt_deadline_seconds=0.01) as queue:
        await (await queue.enqueue(small()))
    assert destination.times == 2


async def test_stop_is_bounded_and_names_what_it_could_not_write() -> None:
    """The deadline ends a back-off at once; every receipt raises; all is logged."""
    destination = MemoryDestination(fail_times=1000)
    sleeps = Sleeps()
    sleeps.for_ever = True
    receipts = []
    with capture_logs() as logs:
        async with running(destination, sleeps, stop_deadline_seconds=0.01) as queue:
            receipts = [await queue.enqueue(small(index)) for index in range(5)]
            await until(lambda: bool(sleeps.seconds))
    for receipt in receipts:
        with pytest.raises(DeliveryError, match="stopped"):
            await receipt
    failed = [line for line in logs if line["event"] == "write_batch_failed"]
    assert [line["event_ids"] for line in failed] == [[1], [2], [3], [4], [5]]
    assert logs[-1]["event"] == "write_queue_stopped"
    assert logs[-1]["failed"] == 5


async def test_at_most_two_batches_are_encoded_ahead() -> None:
    """Besides the one that is being sent."""
    prepared: list[int] = []

    class Counting(MemoryDestination):
        async def prepare(self, batch: WriteBatch) -> Delivery:
            prepared.append(batch.batch_index)
            return await super().prepare(batch)

    destination = Counting()
    destination.gate.clear()
    async with running(destination) as queue:
        for index in range(8):
            await queue.enqueue(small(index))
        await until(lambda: len(prepared) == 3)
        await turns(200)
        assert prepared == [0, 1, 2]
        destination.gate.set()
    assert prepared == list(range(8))


async def test_a_batch_that_cannot_be_prepared_fails_alone() -> None:
    """Whatever the destination raises there."""

    class Broken(MemoryDestination):
        async def prepare(self, batch: WriteBatch) -> Delivery:
            if batch.batch_index == 1:
                raise RuntimeError("a bug")
            return await super().prepare(batch)

    destination = Broken()
    async with running(destination) as queue:
        receipts = [await queue.enqueue(small(index)) for index in range(4)]
    with pytest.raises(DeliveryError, match="a bug"):
        await receipts[1]
    assert [written.batch_index for written in destination.batches] == [0, 2, 3]


class Bug(BaseException):
    """What no code expects: it ends a task."""


class Deadly(Destination):
    """Waits at its gate, then ends the worker that comes by."""

    def __init__(self, worker: str) -> None:
        super().__init__()
        self.worker = worker
        self.gate.clear()

    async def prepare(self, batch: WriteBatch) -> Delivery:
        if self.worker == "encoder" and batch.batch_index == 1:
            await self.gate.wait()
            raise Bug
        return await super().prepare(batch)

    async def attempt(self) -> None:
        if self.worker == "sender":
            await self.gate.wait()
            raise Bug
        await asyncio.Event().wait()


@pytest.mark.parametrize("cancelled", [False, True])
@pytest.mark.parametrize("worker", ["encoder", "sender"])
async def test_the_death_of_a_worker_stops_the_queue(worker: str, cancelled: bool) -> None:
    """Waiting enqueues and receipts raise, later ones too; stop still works."""
    destination = Deadly(worker)
    with capture_logs() as logs:
        async with running(destination, maxsize=2) as queue:
            receipts = [await queue.enqueue(small(index)) for index in range(2)]
            waiting = asyncio.create_task(queue.enqueue(small(2)))
            await until(lambda: queue.stats()["waiting"] == 1)
            await turns()
            if cancelled:
                name = f"oddslog-queue-{worker}"
                next(task for task in asyncio.all_tasks() if task.get_name() == name).cancel()
            else:
                destination.gate.set()
            for receipt in receipts:
                with pytest.raises(DeliveryError, match=f"oddslog-queue-{worker}"):
                    await receipt
            with pytest.raises(DeliveryError, match="has died"):
                await waiting
            with pytest.raises(DeliveryError, match="has died"):
                await queue.enqueue(small(3))
            assert queue.stats()["running"] is False
            assert queue.stats()["queue_size"] == 0
    assert [line["log_level"] for line in logs if line["event"] == "write_queue_died"] == ["error"]
    assert "write_queue_stopped" in [line["event"] for line in logs]


async def test_the_end_of_the_loop_leaves_nothing_in_silence() -> None:
    """Where nobody called stop, the batches are named in the log all the same."""

    def life() -> None:
        async def main() -> None:
            destination = MemoryDestination()
            destination.gate.clear()
            queue = AsyncWriteQueue(destination)
            await queue.start()
            await queue.enqueue(small(4))

        asyncio.run(main())

    with capture_logs() as logs:
        await asyncio.to_thread(life)
    assert [line["event_ids"] for line in logs if line["event"] == "write_batch_failed"] == [[5]]


async def test_a_destination_that_cannot_start_leaves_the_queue_unstarted() -> None:
    """And it can be started later."""

    class Unusable(MemoryDestination):
        broken = True

        async def start(self) -> None:
            if self.broken:
                raise ConfigurationError("topic 'x' does not exist")

    destination = Unusable()
    queue = AsyncWriteQueue(destination)
    with pytest.raises(ConfigurationError, match="does not exist"):
        await queue.start()
    assert queue.stats()["running"] is False
    with pytest.raises(ConfigurationError, match="not started"):
        await queue.enqueue(small())
    destination.broken = False
    async with queue:
        await (await queue.enqueue(small()))


async def test_a_destination_that_cannot_stop_does_not_hold_up_the_queue() -> None:
    """It is logged; the queue is stopped."""

    class Stuck(MemoryDestination):
        async def stop(self) -> None:
            raise OSError("no way out")

    with capture_logs() as logs:
        async with running(Stuck()) as queue:
            await queue.enqueue(small())
    assert queue.stats()["state"] == "stopped"
    assert "write_destination_stop_failed" in [line["event"] for line in logs]
