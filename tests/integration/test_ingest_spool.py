"""The spool through real outages: the network to the brokers is cut, stalled, back."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from oddslog.ingest import AsyncWriteQueue, KafkaDestination
from oddslog.ingest.topic_check import topic_facts
from oddslog.schemas import KafkaConnection, WriteBatch
from tests.integration.test_ingest_contract_kafka import Stored, read_topic
from tests.support.batches import batch, snapshot
from tests.support.feeding_child import EVENTS, batch_number
from tests.support.network import BrokerNetwork
from tests.support.spools import open_store, reasons
from tests.support.waiting import until

DEADLINE_SECONDS = 1.0


@pytest.fixture
async def network(kafka: KafkaConnection) -> AsyncIterator[BrokerNetwork]:
    """What lies between the queue and its broker."""
    made = BrokerNetwork(kafka.bootstrap_servers)
    async with made:
        yield made


@asynccontextmanager
async def running(
    network: BrokerNetwork, topic: str, spool_dir: Path, **options: Any
) -> AsyncIterator[AsyncWriteQueue]:
    """A queue behind the network, with a spool; attempts are short."""
    destination = KafkaDestination(network.servers, topic=topic, spool_dir=spool_dir, **options)
    async with AsyncWriteQueue(
        destination, attempt_deadline_seconds=DEADLINE_SECONDS, stop_deadline_seconds=8.0
    ) as queue:
        yield queue


def in_order(records: list[Stored]) -> None:
    """Of each event the first time of each snapshot comes in the order of its making."""
    for event in range(1, EVENTS + 1):
        times = [
            one["captured_at"]
            for record in records
            if record.key == b"betpawa:%d" % event
            for one in record.writes.snapshots
        ]
        first_times = list(dict.fromkeys(times))
        assert first_times == sorted(first_times)


def batch_numbers(records: list[Stored]) -> set[int]:
    """The batches of which every fragment is there."""
    found: dict[int, set[int]] = {}
    for record in records:
        found.setdefault(record.writes.batch_index, set()).add(record.writes.fragment_index)
    return {number for number, there in found.items() if len(there) == EVENTS + 1}


async def emptied(queue: AsyncWriteQueue) -> None:
    """Wait until the spool is."""
    await until(lambda: queue.stats()["spool_fragments"] == 0, "an empty spool")


@pytest.mark.parametrize("how", ["refuse", "stall"])
async def test_an_outage_goes_by_and_everything_arrives_in_order(
    network: BrokerNetwork, kafka: KafkaConnection, topic: str, tmp_path: Path, how: str
) -> None:
    """Receipts resolve by the spool, the scraper goes on; afterwards the spool is empty."""
    async with running(network, topic, tmp_path) as queue:
        await (await queue.enqueue(batch_number(0)))
        before = queue.stats()["retries"]  # a busy machine may need some for a batch
        network.away(how)
        for number in range(1, 8):
            await (await queue.enqueue(batch_number(number)))
        # Three attempts for the first one; none for those behind it.
        assert queue.stats()["retries"] - before <= 2
        assert queue.stats()["spooled"] >= 7
        network.back()
        await (await queue.enqueue(batch_number(8)))
        await emptied(queue)
        await (await queue.enqueue(batch_number(9)))
        assert queue.stats()["written"] + queue.stats()["spooled"] == 10
    records = await read_topic(kafka.bootstrap_servers, topic)
    assert batch_numbers(records) == set(range(10))
    in_order(records)
    with open_store(tmp_path) as store:
        assert store.counts.empty


async def test_durability_spool_in_an_outage(
    network: BrokerNetwork, kafka: KafkaConnection, topic: str, tmp_path: Path
) -> None:
    """No receipt waits for a broker, before, during and after."""
    async with running(network, topic, tmp_path, durability="spool") as queue:
        for number in range(6):
            if number == 2:
                network.away("refuse")
            await (await queue.enqueue(batch_number(number)))
        assert (queue.stats()["retries"], queue.stats()["spooled"]) == (0, 6)
        network.back()
        await emptied(queue)
    records = await read_topic(kafka.bootstrap_servers, topic)
    assert batch_numbers(records) == set(range(6))
    in_order(records)


@pytest.mark.parametrize("how", ["refuse", "stall"])
async def test_stop_in_an_outage_and_a_restart_after_it(
    network: BrokerNetwork, kafka: KafkaConnection, topic: str, tmp_path: Path, how: str
) -> None:
    """The memory queue goes into the spool; the next start sends it before new batches."""
    receipts = []
    async with running(network, topic, tmp_path) as queue:
        await (await queue.enqueue(batch_number(0)))
        network.away(how)
        receipts = [await queue.enqueue(batch_number(number)) for number in range(1, 8)]
    for receipt in receipts:
        await receipt
    with open_store(tmp_path) as store:
        assert store.counts.fragments >= 6 * (EVENTS + 1)
    network.back()
    async with running(network, topic, tmp_path) as queue:
        await (await queue.enqueue(batch_number(8)))
        await emptied(queue)
    records = await read_topic(kafka.bootstrap_servers, topic)
    assert batch_numbers(records) == set(range(9))
    in_order(records)


async def set_limit(kafka: KafkaConnection, topic: str, max_message_bytes: int) -> None:
    """Change what the topic takes (and every other setting back to its default)."""
    admin = AIOKafkaAdminClient(**kafka.client_options())
    await admin.start()
    try:
        resource = ConfigResource(
            ConfigResourceType.TOPIC, topic, {"max.message.bytes": str(max_message_bytes)}
        )
        await admin.alter_configs([resource])
    finally:
        await admin.close()

    async def changed() -> bool:
        facts = await topic_facts(kafka, topic, "test")
        return facts.max_message_bytes == max_message_bytes

    await until(changed, "the topic's new limit")


def large(event: int) -> WriteBatch:
    """A batch of one snapshot of half a MiB, which compression makes half of that."""
    noise = random.Random(event).randbytes(256 * 1024).hex()  # noqa: S311 - a seeded test
    return batch([snapshot(event, raw_response={"noise": noise})], batch_index=event)


async def test_a_limit_lowered_during_the_outage_rejects_just_what_is_too_large(
    network: BrokerNetwork, kafka: KafkaConnection, topic: str, tmp_path: Path
) -> None:
    """With its reason, where it can be looked at; the head of the spool is not blocked."""
    async with running(network, topic, tmp_path) as queue:
        await (await queue.enqueue(batch_number(0)))
        network.away("refuse")
        for one in (batch_number(1), large(77), batch_number(2)):
            await (await queue.enqueue(one))
        await set_limit(kafka, topic, 200_000)
        network.back()
        await emptied(queue)
        assert queue.stats()["spool_rejected"] == 1
        await (await queue.enqueue(batch_number(3)))
    records = await read_topic(kafka.bootstrap_servers, topic)
    assert batch_numbers(records) == {0, 1, 2, 3}
    assert b"betpawa:77" not in [record.key for record in records]
    assert "and the topic's limit is" in reasons(tmp_path)[0]


async def test_a_limit_lowered_while_the_spool_drains_is_found_out(
    network: BrokerNetwork, kafka: KafkaConnection, topic: str, tmp_path: Path
) -> None:
    """The brokers refuse it, the producer is given up, and the others arrive all the same."""
    async with running(network, topic, tmp_path, durability="spool") as queue:
        await (await queue.enqueue(batch_number(0)))
        await emptied(queue)
        # The topic is known, and is not looked at again before something goes wrong.
        await set_limit(kafka, topic, 200_000)
        for one in (batch_number(1), large(77), batch_number(2)):
            await (await queue.enqueue(one))
        await emptied(queue)
        assert queue.stats()["spool_rejected"] == 1
    records = await read_topic(kafka.bootstrap_servers, topic)
    assert batch_numbers(records) == {0, 1, 2}
    assert b"betpawa:77" not in [record.key for record in records]
