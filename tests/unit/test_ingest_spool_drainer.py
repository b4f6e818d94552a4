"""The spool's drainer: its death is seen, and what it does with what is too large."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from oddslog.ingest.fragments import Fragment
from oddslog.ingest.topic_check import TopicFacts, record_limit
from oddslog.schemas.codec import crc32_text, decode
from oddslog.schemas.records import SnapshotKey
from oddslog.schemas.wire import HEADER_CRC32, HEADER_MORE
from tests.support.spools import open_store, peek, reasons
from tests.unit.test_ingest_builders import NOON, batch, betpawa, small, until
from tests.unit.test_ingest_kafka_delivery import Broker, Generation
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


async def test_a_fragment_of_several_snapshots_is_split_where_the_limit_has_shrunk(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the snapshot that is too large alone is rejected; all else goes, in its order."""
    sent: list[Fragment] = []
    send = Generation.send

    async def noting(self: Generation, fragment: Fragment) -> "asyncio.Future[Any]":
        sent.append(fragment)
        return await send(self, fragment)

    monkeypatch.setattr(Generation, "send", noting)
    broker.away = True
    async with running(tmp_path) as queue:
        several = [betpawa(2, markets=count) for count in (40, 41, 400, 42, 43)]
        keys = [SnapshotKey(2, 1, NOON)]
        await (
            await queue.enqueue(
                batch(betpawa=[betpawa(1), *several, betpawa(3)], unchanged_betpawa=keys)
            )
        )
    with open_store(tmp_path) as store:
        _, spooled, _ = (decode(one.value) for one in peek(store))
    assert (len(spooled.snapshots), len(spooled.confirmations)) == (5, 1)
    broker.facts = TopicFacts(3, 1, 20_000, 1)
    broker.away = False
    async with running(tmp_path) as queue:
        await until(lambda: queue.stats()["spool_fragments"] == 0)
        assert queue.stats()["spool_rejected"] == 1
    writes = [decode(one.value) for one in sent]
    assert list(dict.fromkeys(one.event_id for one in writes)) == [1, 2, 3]
    of_two = [one for one in writes if one.event_id == 2]
    found = [snapshot for one in of_two for snapshot in one.snapshots]
    assert found == [*spooled.snapshots[:2], *spooled.snapshots[3:]]
    assert [key for one in of_two for key in one.confirmations] == list(spooled.confirmations)
    assert {one.batch_id for one in writes} == {spooled.batch_id}
    assert {one.confirmed_at for one in of_two if one.confirmations} == {spooled.confirmed_at}
    for one in sent:
        assert len(one.value) <= record_limit(20_000)
        assert dict(one.headers)[HEADER_CRC32] == crc32_text(one.value)
        # What is rejected never comes: no part may say that the fragment is whole now.
        assert (HEADER_MORE in dict(one.headers)) == (decode(one.value).event_id == 2)
    (reason,) = reasons(tmp_path)
    assert "and the topic's limit is" in reason
