"""A queue with a spool whose brokers are slow at the end, or whose drainer has died."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from oddslog.schemas.errors import DeliveryError
from tests.unit.test_ingest_builders import small
from tests.unit.test_ingest_kafka_delivery import Broker
from tests.unit.test_ingest_kafka_delivery import broker as broker  # noqa: PLC0414 - a fixture
from tests.unit.test_ingest_spooling import inside, running


async def test_stop_with_brokers_that_are_slow_puts_the_rest_into_the_spool(
    broker: Broker, tmp_path: Path
) -> None:
    """Each batch goes well, and all of them would take twice the deadline."""
    loop = asyncio.get_running_loop()

    def slowly(number: int, event: int | None) -> None:
        loop.call_later(0.4, lambda: broker.futures[number][event].set_result(None))

    broker.answer = slowly
    more: dict[str, Any] = {"attempt_deadline_seconds": 60, "stop_deadline_seconds": 4.0}
    async with running(tmp_path, **more) as queue:
        receipts = [await queue.enqueue(small(index)) for index in range(20)]
    for receipt in receipts:
        await receipt
    sent = {event for generation in broker.sent for event in generation}
    assert sent | set(inside(tmp_path)) == set(range(1, 21))
    assert queue.stats()["spooled"] > 5


async def test_without_its_drainer_the_queue_takes_nothing_into_the_spool(
    broker: Broker, tmp_path: Path
) -> None:
    """What went in would not leave it: better a receipt that raises than a spool that grows."""
    async with running(tmp_path, options={"durability": "spool"}) as queue:
        draining = queue._destination._draining  # type: ignore[attr-defined]
        draining.cancel()
        await asyncio.wait({draining})
        receipt = await queue.enqueue(small(0))
        with pytest.raises(DeliveryError, match="drainer has died"):
            await receipt
    assert inside(tmp_path) == []
