"""The spool's drainer: its death is seen, and what it does with what is too large."""

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.unit.test_ingest_builders import small
from tests.unit.test_ingest_kafka_delivery import Broker
from tests.unit.test_ingest_kafka_delivery import broker as broker  # noqa: PLC0414 - a fixture
from tests.unit.test_ingest_spooling import inside, no_sleep, running
from tests.unit.test_ingest_spooling import no_pauses as no_pauses  # noqa: PLC0414 - a fixture


async def test_a_drainer_that_is_cancelled_by_nobody_we_know_is_seen(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is logged, and who waits for the spool to be empty does not wait for nothing."""
    monkeypatch.setattr("oddslog.ingest.spool_drain.DEADLINE_SECONDS", 600.0)
    with capture_logs() as logs:
        async with running(tmp_path, options={"durability": "spool"}) as queue:
            broker.answer = lambda _number, _event: None
            await (await queue.enqueue(small(0)))
            destination = queue._destination
            settling = asyncio.create_task(destination.settle(600.0))  # type: ignore[attr-defined]
            await no_sleep(0)
            assert not settling.done()
            destination._draining.cancel()  # type: ignore[attr-defined]
            async with asyncio.timeout(20):
                await settling
    assert [line["reason"] for line in logs if line["event"] == "spool_drain_died"] == ["cancelled"]
    assert inside(tmp_path) == [1]


async def test_a_drainer_that_a_stop_ends_is_no_death(broker: Broker, tmp_path: Path) -> None:
    """Or every stop would cry wolf."""
    with capture_logs() as logs:
        async with running(tmp_path, options={"durability": "spool"}) as queue:
            await (await queue.enqueue(small(0)))
    assert "spool_drain_died" not in [line["event"] for line in logs]
