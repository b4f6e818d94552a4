"""The queue: what it takes, when it waits, what it says, how it ends."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from oddslog.ingest import AsyncWriteQueue, MemoryDestination
from oddslog.ingest.write_queue import Surroundings
from oddslog.schemas.errors import ConfigurationError, DeliveryError
from oddslog.schemas.records import SnapshotKey, WriteBatch
from oddslog.schemas.stamp import Stamper
from tests.unit.test_ingest_builders import (
    NOON,
    batch,
    betpawa,
    competitor,
    small,
    turns,
    until,
)


def at(*moments: datetime) -> Surroundings:
    """A wall clock that shows these moments, the last one for ever."""
    left = list(moments)

    def now() -> datetime:
        return left.pop(0) if len(left) > 1 else left[0]

    return Surroundings(now=now, stamper=Stamper())


def queue_to(destination: Any, **options: Any) -> AsyncWriteQueue:
    """A queue with a clock that stands still."""
    return AsyncWriteQueue(destination, **{"surroundings": at(NOON), **options})


async def test_batches_are_written_in_the_order_of_their_enqueue() -> None:
    """Also when many callers enqueue at once."""
    destination = MemoryDestination()
    async with queue_to(destination, maxsize=3) as queue:
        await asyncio.gather(*(queue.enqueue(small(index)) for index in range(20)))
    assert [written.batch_index for written in destination.batches] == list(range(20))


async def test_a_full_queue_makes_enqueue_wait_and_nothing_else() -> None:
    """Room is counted in batches that have not ended."""
    destination = MemoryDestination()
    destination.gate.clear()
    async with queue_to(destination, maxsize=2) as queue:
        receipts = [await queue.enqueue(small(index)) for index in range(2)]
        third = asyncio.create_task(queue.enqueue(small(2)))
        await until(lambda: queue.stats()["waiting"] == 1)
        await turns()
        assert not third.done()
        assert queue.stats()["queue_size"] == queue.stats()["queue_maxsize"] == 2
        assert not any(receipt.done() for receipt in receipts)
        destination.gate.set()
        await (await third)
    assert len(destination.batches) == 3


async def test_a_queue_full_of_bytes_makes_enqueue_wait() -> None:
    """The second bound; a batch larger than it is taken when it is alone."""
    destination = MemoryDestination()
    destination.gate.clear()
    async with queue_to(destination, max_bytes=10_000) as queue:
        await queue.enqueue(batch(betpawa=[betpawa(1, markets=100)]))
        second = asyncio.create_task(queue.enqueue(batch(betpawa=[betpawa(2, markets=1)])))
        await until(lambda: queue.stats()["waiting"] == 1)
        await turns()
        assert not second.done()
        assert queue.stats()["queue_bytes"] > 10_000
        destination.gate.set()
        await (await second)
        assert queue.stats()["queue_bytes"] == 0


async def test_a_small_batch_does_not_overtake_a_large_one_that_waits() -> None:
    """The order of batches is that of their enqueue, and no batch starves."""
    destination = MemoryDestination()
    destination.gate.clear()
    async with queue_to(destination, max_bytes=10_000) as queue:
        await queue.enqueue(batch(betpawa=[betpawa(1, markets=20)]))
        large = batch(betpawa=[betpawa(2, markets=40)], index=1)
        waiting = [asyncio.create_task(queue.enqueue(member)) for member in (large, small(2))]
        await until(lambda: queue.stats()["waiting"] == 2)
        await turns()
        assert not any(task.done() for task in waiting)
        destination.gate.set()
        await asyncio.wait(waiting)
    assert [written.batch_index for written in destination.batches] == [0, 1, 2]


async def test_cancelled_while_it_waits_nothing_is_enqueued() -> None:
    """And those behind it are not held up."""
    destination = MemoryDestination()
    destination.gate.clear()
    async with queue_to(destination, maxsize=1) as queue:
        await queue.enqueue(small(0))
        waiting = [asyncio.create_task(queue.enqueue(small(index))) for index in (1, 2, 3)]
        await until(lambda: queue.stats()["waiting"] == 3)
        await turns()
        waiting[0].cancel()
        waiting[1].cancel()
        await asyncio.wait(waiting[:2])
        destination.gate.set()
        await (await waiting[2])
    assert [written.batch_index for written in destination.batches] == [0, 3]


async def test_times_left_out_are_stamped_at_the_call_and_increase_per_key() -> None:
    """A clock that stands still or steps back gives no key twice."""
    destination = MemoryDestination()
    back = NOON - timedelta(hours=1)
    queue = queue_to(destination, surroundings=at(NOON, NOON, back, back))
    async with queue:
        receipts = [await queue.enqueue(batch(betpawa=[betpawa(5), betpawa(5)])) for _ in range(3)]
    stamps = [
        snapshot.captured_at
        for receipt in receipts
        for snapshot in receipt.batch.changed_betpawa
        if snapshot.captured_at is not None
    ]
    assert stamps == [NOON + timedelta(microseconds=micros) for micros in range(6)]
    assert [receipt.batch.confirmed_at for receipt in receipts] == [NOON, NOON, back]
    assert destination.batches == [receipt.batch for receipt in receipts]


async def test_times_that_were_given_stay() -> None:
    """A batch that is enqueued again keeps its keys."""
    destination = MemoryDestination()
    async with queue_to(destination) as queue:
        first = await queue.enqueue(small())
        again = await queue.enqueue(first.batch)
    assert again.batch == first.batch


async def test_a_batch_is_stamped_when_it_was_handed_over_not_when_there_was_room() -> None:
    """Waiting under back-pressure does not make odds younger."""
    later = NOON + timedelta(seconds=30)
    destination = MemoryDestination()
    destination.gate.clear()
    moments = [NOON, later]
    surroundings = Surroundings(now=lambda: moments[0], stamper=Stamper())
    async with queue_to(destination, maxsize=1, surroundings=surroundings) as queue:
        await queue.enqueue(small(0))
        second = asyncio.create_task(queue.enqueue(small(1)))
        await until(lambda: queue.stats()["waiting"] == 1)
        moments.pop(0)
        destination.gate.set()
        receipt = await second
    assert receipt.batch.changed_betpawa[0].captured_at == NOON


async def test_plain_ids_below_one_are_dropped_counted_and_logged_once() -> None:
    """The scraper's cache has 0 for every snapshot that it has not read back."""
    destination = MemoryDestination()
    with capture_logs() as logs:
        async with queue_to(destination) as queue:
            await queue.enqueue(batch(betpawa_ids=[0, 5, -1], competitor_ids=[0]))
            await (await queue.enqueue(batch(betpawa_ids=[0], competitor_ids=[8])))
            assert queue.stats()["dropped_ids"] == 4
    assert [written.unchanged_betpawa_ids for written in destination.batches] == [(5,), ()]
    assert [written.unchanged_competitor_ids for written in destination.batches] == [(), (8,)]
    assert [line["event"] for line in logs].count("write_batch_ids_dropped") == 1


async def test_stop_drains_what_was_enqueued() -> None:
    """And a second stop is harmless."""
    destination = MemoryDestination()
    queue = queue_to(destination)
    await queue.start()
    receipts = [await queue.enqueue(small(index)) for index in range(10)]
    await asyncio.gather(queue.stop(), queue.stop())
    await queue.stop()
    assert len(destination.batches) == 10
    assert all(receipt.done() for receipt in receipts)
    assert queue.stats()["running"] is False


async def test_a_cancelled_stop_goes_on_draining() -> None:
    """The next stop waits for it."""
    destination = MemoryDestination()
    destination.gate.clear()
    queue = queue_to(destination)
    await queue.start()
    receipt = await queue.enqueue(small())
    stopping = asyncio.create_task(queue.stop())
    await until(lambda: queue.stats()["state"] == "stopping")
    stopping.cancel()
    await asyncio.wait([stopping])
    destination.gate.set()
    await queue.stop()
    await receipt
    assert len(destination.batches) == 1


async def test_a_further_stop_waits_until_the_destination_has_let_go() -> None:
    """A start behind it would otherwise find a spool that is still open, or closed under it."""
    let_go = asyncio.Event()

    class Slow(MemoryDestination):
        async def stop(self) -> None:
            await let_go.wait()

    queue = queue_to(Slow())
    await queue.start()
    first = asyncio.create_task(queue.stop())
    await until(lambda: queue.stats()["state"] == "stopping")
    first.cancel()
    await asyncio.wait([first])
    second = asyncio.create_task(queue.stop())
    done, _ = await asyncio.wait([second], timeout=0.05)
    assert not done
    with pytest.raises(ConfigurationError, match="stopping"):
        await queue.start()
    let_go.set()
    await second
    assert queue.stats()["state"] == "stopped"


async def test_an_enqueue_that_waits_when_the_queue_stops_raises() -> None:
    """It was not taken, so it must not be lost in silence."""
    destination = MemoryDestination()
    destination.gate.clear()
    queue = queue_to(destination, maxsize=1)
    await queue.start()
    await queue.enqueue(small(0))
    waiting = [asyncio.create_task(queue.enqueue(small(index))) for index in (1, 2)]
    await until(lambda: queue.stats()["waiting"] == 2)
    stopping = asyncio.create_task(queue.stop())
    await asyncio.wait(waiting)
    destination.gate.set()
    await stopping
    for task in waiting:
        assert isinstance(task.exception(), DeliveryError)
    assert [written.batch_index for written in destination.batches] == [0]


async def test_enqueue_before_start_and_after_stop_says_so() -> None:
    """Clear errors, by class and by text."""
    queue = queue_to(MemoryDestination())
    with pytest.raises(ConfigurationError, match="not started"):
        await queue.enqueue(small())
    await queue.stop()
    async with queue:
        with pytest.raises(TypeError, match="WriteBatch"):
            await queue.enqueue([])  # type: ignore[arg-type]
    with pytest.raises(DeliveryError, match="stopped"):
        await queue.enqueue(small())


async def test_a_stopped_queue_can_be_started_again() -> None:
    """With its counts going on."""
    destination = MemoryDestination()
    queue = queue_to(destination)
    for index in range(2):
        async with queue:
            await queue.start()  # harmless when running
            await queue.enqueue(small(index))
    assert queue.stats()["written"] == 2


async def test_a_receipt_can_be_awaited_many_times() -> None:
    """And a waiter that is cancelled takes nothing from the others."""
    destination = MemoryDestination()
    destination.gate.clear()
    async with queue_to(destination) as queue:
        receipt = await queue.enqueue(small())
        waiters = [asyncio.ensure_future(receipt) for _ in range(3)]
        await turns()
        waiters[0].cancel()
        await asyncio.wait([waiters[0]])
        assert not receipt.done()
        destination.gate.set()
        await asyncio.gather(*waiters[1:])
        await receipt
        assert receipt.done()
        assert repr(receipt) == "<Receipt of batch 0: stored>"


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: lambda: None, "DatabaseDestination"),
        (lambda: MemoryDestination, "has to be made"),
        (lambda: 5, "no destination"),
    ],
)
def test_what_is_no_destination_is_refused(make: Callable[[], Any], text: str) -> None:
    """A bare session factory gets the one line that helps."""
    with pytest.raises(ConfigurationError, match=text):
        AsyncWriteQueue(make())


@pytest.mark.parametrize(
    "name",
    ["maxsize", "max_bytes", "attempts", "attempt_deadline_seconds", "stop_deadline_seconds"],
)
def test_bounds_must_be_positive(name: str) -> None:
    """The message names the one that is not."""
    with pytest.raises(ConfigurationError, match=name):
        queue_to(MemoryDestination(), **{name: 0})


async def test_dashboards_find_their_events_and_fields() -> None:
    """Names and fields that must not change."""
    full = batch(
        betpawa=[betpawa(1), betpawa(2)],
        competitor=[competitor(3)],
        betpawa_ids=[4, 5],
        unchanged_betpawa=(SnapshotKey(6, 1, NOON),),
        index=9,
    )
    with capture_logs() as logs:
        async with queue_to(MemoryDestination()) as queue:
            await queue.enqueue(full)
    found = {line["event"]: line for line in logs}
    assert found["write_queue_started"]["maxsize"] == 50
    enqueued = found["write_batch_enqueued"]
    assert enqueued == {
        "event": "write_batch_enqueued",
        "log_level": "debug",
        "batch_index": 9,
        "changed_bp": 2,
        "changed_comp": 1,
        "unchanged_bp": 3,
        "unchanged_comp": 0,
    }
    written = found["write_batch_written"]
    assert written["write_ms"] >= 0
    assert (written["attempts"], written["scrape_run_id"]) == (1, 7)
    assert "write_queue_stopped" in found


async def test_a_log_that_cannot_be_written_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log call once crashed a success path."""

    def broken(*_: object) -> None:
        raise ValueError("I/O operation on closed file")

    monkeypatch.setattr("structlog.get_logger", broken)
    destination = MemoryDestination()
    async with queue_to(destination) as queue:
        await (await queue.enqueue(small()))
    assert len(destination.batches) == 1


async def test_the_repr_is_a_dashboard() -> None:
    """What an operator wants to see in a debugger."""
    queue = queue_to(MemoryDestination())
    assert repr(queue) == (
        "<AsyncWriteQueue not started: 0/50 batches, 0.0/512.0 MiB, 0 written, 0 spooled, "
        "0 failed, 0 retries; to <MemoryDestination 0 batches>>"
    )


async def test_two_queues_of_a_process_never_stamp_a_key_twice() -> None:
    """The stamps are the process's, not the queue's."""
    now = datetime.now(NOON.tzinfo) + timedelta(days=1)
    receipts = []
    for _ in range(2):
        queue = AsyncWriteQueue(MemoryDestination(), surroundings=Surroundings(now=lambda: now))
        async with queue:
            receipts.append(await queue.enqueue(batch(betpawa=[betpawa(987_654)])))
    first, second = (receipt.batch.changed_betpawa[0].captured_at for receipt in receipts)
    assert first is not None
    assert second == first + timedelta(microseconds=1)


def unstamped(stamped: WriteBatch) -> WriteBatch:
    """The batch as its caller made it."""
    return replace(
        stamped,
        confirmed_at=None,
        changed_betpawa=tuple(
            replace(snapshot, captured_at=None) for snapshot in stamped.changed_betpawa
        ),
    )


async def test_a_receipts_batch_is_the_callers_but_for_the_times() -> None:
    """Nothing else is touched on the way."""
    mine = batch(betpawa=[betpawa(1, raw={"a": [1]})], betpawa_ids=[3], batch_count=4)
    async with queue_to(MemoryDestination()) as queue:
        receipt = await queue.enqueue(mine)
    assert receipt.batch != mine
    assert unstamped(receipt.batch) == mine
