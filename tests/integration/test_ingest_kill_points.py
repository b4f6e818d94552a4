"""SIGKILL of a scraper at every named point: what a receipt promised is in the topic.

And through the sink in the tables, each snapshot once.
"""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from oddslog.deploy.compare import compare
from oddslog.schemas import KafkaConnection
from tests.fixtures.sinks import RunSink
from tests.integration.test_ingest_contract_kafka import read_topic
from tests.integration.test_ingest_spool import batch_numbers, in_order
from tests.support.feeding_child import FeedingChild, batch_number
from tests.support.spools import open_store

COUNT = 10
# The n-th time of each: early, in the middle of a batch, at a page's end.
# The n-th time of each: in the middle of a batch, at a page's end.
POINTS = (
    ("ack", "ingest.before_send:13"),
    ("ack", "ingest.after_send:18"),
    ("ack", "ingest.after_ack:3"),
    ("spool", "ingest.before_spool:4"),
    ("spool", "ingest.after_spool:5"),
    ("spool", "ingest.before_send:8"),
    ("spool", "ingest.after_send:8"),
    ("spool", "ingest.before_spool_delete:1"),
    ("spool", "ingest.after_spool_delete:1"),
)
# For these also through the sink; the way there is the same for all.
TO_THE_TABLES = {"ingest.after_ack:3", "ingest.before_spool_delete:1"}


@pytest.fixture
def start(kafka: KafkaConnection, topic: str, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Start scrapers on one spool; all are ended with the test."""
    started: list[FeedingChild] = []

    def make(kill_point: str = "", servers: str = "", **more: Any) -> FeedingChild:
        servers = servers or kafka.bootstrap_servers
        child = FeedingChild(servers, topic, tmp_path, kill_point=kill_point, **more)
        started.append(child)
        return child

    yield make
    for child in started:
        if child.process.poll() is None:
            child.kill()


@pytest.mark.parametrize(("durability", "kill_point"), POINTS)
async def test_killed_at_a_named_point(
    start: Callable[..., FeedingChild],
    kafka: KafkaConnection,
    topic: str,
    tmp_path: Path,
    engine: AsyncEngine,
    run_sink: RunSink,
    durability: str,
    kill_point: str,
) -> None:
    """Every batch whose receipt had resolved is in the topic after a restart with the spool."""
    victim = start(kill_point, durability=durability, count=COUNT)
    await asyncio.to_thread(victim.wait_killed)
    # The next life sends nothing new before what the spool holds.
    again = start(durability=durability, first=COUNT, count=2)
    await asyncio.to_thread(again.wait_end)
    assert again.acknowledged == {COUNT, COUNT + 1}
    promised = victim.acknowledged | again.acknowledged
    records = await read_topic(kafka.bootstrap_servers, topic)
    assert promised <= batch_numbers(records)
    in_order(records)
    with open_store(tmp_path) as store:
        assert (store.counts.empty, store.counts.rejected) == (True, 0)
    if kill_point in TO_THE_TABLES:
        await check_tables(engine, run_sink, batch_numbers(records))


async def check_tables(engine: AsyncEngine, run_sink: RunSink, whole: set[int]) -> None:
    """Each snapshot of those batches exactly once and equal; at most one batch is half there."""
    totals = await run_sink()
    result = await compare(engine, [batch_number(number) for number in sorted(whole)])
    assert result.missing == result.different == 0, result.first_difference
    assert totals.dead_letters == 0


async def test_killed_in_an_outage(
    start: Callable[..., FeedingChild], kafka: KafkaConnection, topic: str, tmp_path: Path
) -> None:
    """Nothing reached a broker; the spool alone has kept the promise."""
    victim = start("ingest.after_spool:6", "127.0.0.1:1", count=COUNT)
    await asyncio.to_thread(victim.wait_killed)
    assert victim.acknowledged == set(range(5))
    again = start(first=COUNT, count=1)
    await asyncio.to_thread(again.wait_end)
    records = await read_topic(kafka.bootstrap_servers, topic)
    # The sixth was committed, and its receipt never told.
    assert batch_numbers(records) == {*range(6), COUNT}
    in_order(records)
