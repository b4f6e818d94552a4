"""A real schema registry beside a real Kafka: framed records, and what its absence means."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from oddslog.deploy.configuration import read_configuration
from oddslog.deploy.letter_topic import open_letter_topic
from oddslog.deploy.torture.proxy import Proxy
from oddslog.ingest import AsyncWriteQueue, KafkaDestination
from oddslog.schemas import KafkaConnection, WriteBatch
from oddslog.schemas.codec import crc32_text
from oddslog.schemas.errors import ConfigurationError, DeliveryError, UnreachableError
from oddslog.schemas.framing import CURRENT_SCHEMA, frame, registry_id, schema_text
from oddslog.schemas.registry import SchemaRegistry
from oddslog.schemas.wire import HEADER_CRC32
from oddslog.sink import SinkOptions, SinkSource, open_sink
from oddslog.sink.items import LogRecord
from oddslog.sink.letter_records import LetterRecord
from oddslog.sink.log_reader import open_log_reader
from oddslog.sink.service import Sink
from tests.support.apicurio import Apicurio
from tests.support.batches import batch, snapshot
from tests.support.command import Command
from tests.support.kafka import produce
from tests.support.waiting import until

# Starting the registry takes longer than most files.
pytestmark = pytest.mark.faults

OTHER = json.dumps({"type": "record", "name": "Other", "fields": [{"name": "x", "type": "int"}]})


@pytest.fixture(scope="module")
def apicurio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apicurio]:
    """The registry; each topic has a subject of its own in it."""
    made = Apicurio(tmp_path_factory.mktemp("apicurio"))
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture
def registry(apicurio: Apicurio) -> SchemaRegistry:
    """Its client."""
    return SchemaRegistry(apicurio.url())


@pytest.fixture
async def network(apicurio: Apicurio) -> AsyncIterator[Proxy]:
    """The way to it, which can be cut."""
    async with Proxy(*apicurio.address) as proxy:
        yield proxy


@pytest.fixture
def framed(kafka: KafkaConnection, apicurio: Apicurio, network: Proxy) -> KafkaConnection:
    """Kafka with the registry beside it."""
    return replace(kafka, schema_registry_url=apicurio.url(network.port))


def away(network: Proxy) -> None:
    """From now on nobody gets through."""
    network.refuse = True
    network.cut()


def one(event_id: int) -> WriteBatch:
    """A batch of one snapshot."""
    return batch([snapshot(event_id)])


async def feed(connection: KafkaConnection, topic: str, *events: int) -> None:
    """A batch for each event, by a new destination."""
    async with AsyncWriteQueue(KafkaDestination(connection, topic=topic)) as queue:
        for receipt in [await queue.enqueue(one(event)) for event in events]:
            await receipt


async def open_one(connection: KafkaConnection, topic: str, engine: AsyncEngine) -> Sink:
    """A sink that ends when it has caught up."""
    source = SinkSource(connection, topic, topic, session_timeout_seconds=6.0)
    return await open_sink(engine, source, SinkOptions(until_caught_up=True))


async def read_all(connection: KafkaConnection, topic: str) -> list[LogRecord]:
    """Every record, as replay and verify read it."""
    async with open_log_reader(connection, topic) as reader:
        spans = await reader.ranges(range(3))
        parts = [
            part
            async for some in reader.read(spans, max_records=100, max_bytes=10**7)
            for part in some
        ]
    return [record for part in parts for record in part.records]


async def test_records_framed_either_way_are_read_in_one_topic(
    kafka: KafkaConnection,
    framed: KafkaConnection,
    registry: SchemaRegistry,
    topic: str,
    engine: AsyncEngine,
) -> None:
    """A producer is moved to the registry while its log goes on."""
    await feed(kafka, topic, 1)
    await feed(framed, topic, 2, 3)
    subject = f"{topic}-value"
    assert registry.compatibility(subject) == "FULL"
    (version,) = registry.versions(subject)
    assert json.loads(version.text) == json.loads(schema_text(CURRENT_SCHEMA))

    records = await read_all(framed, topic)
    ids = sorted(str(registry_id(record.value or b"")) for record in records)
    assert ids == sorted(["None", str(version.schema_id), str(version.schema_id)])
    for record in records:
        assert record.error is None
        assert dict(record.headers)[HEADER_CRC32] == crc32_text(record.value or b"")

    totals = await (await open_one(framed, topic, engine)).run()
    assert (totals.snapshots, totals.dead_letters) == (3, 0)
    # A second producer finds the id, and registers nothing.
    await feed(framed, topic, 4)
    assert len(registry.versions(subject)) == 1


async def test_a_letter_is_sent_again_when_the_registry_knows_its_id(
    kafka: KafkaConnection,
    framed: KafkaConnection,
    apicurio: Apicurio,
    registry: SchemaRegistry,
    topic: str,
    engine: AsyncEngine,
    database_url: str,
) -> None:
    """As after a sink that read from another registry."""
    await feed(framed, topic, 1)
    ours = next(iter(await read_all(framed, topic))).value or b""
    await feed(kafka, topic, 2)  # without the registry configured, its frame cannot be read
    totals = await (await open_one(kafka, topic, engine)).run()
    assert (totals.snapshots, totals.dead_letters) == (1, 1)
    command = Command(
        {
            "BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "TOPIC": topic,
            "DATABASE_URL": database_url,
            "SCHEMA_REGISTRY_URL": apicurio.url(),
        }
    )
    command("dlq", "redrive", "--reason", "undecodable").ok()
    assert registry_id(ours) is not None
    totals = await (await open_one(framed, topic, engine)).run()
    assert (totals.snapshots, totals.dead_letters) == (1, 0)


async def test_what_the_registry_does_not_know_is_a_dead_letter_with_its_reason(
    kafka: KafkaConnection,
    framed: KafkaConnection,
    registry: SchemaRegistry,
    topic: str,
    engine: AsyncEngine,
) -> None:
    """As is a schema that is not ours; the good neighbours land."""
    await feed(framed, topic, 1, 2)
    other = registry.register(f"{topic}-other", OTHER)
    ids = (other, 2**31 - 1)
    await produce(kafka, topic, [b"\0" + number.to_bytes(4, "big") + b"body" for number in ids])
    totals = await (await open_one(framed, topic, engine)).run()
    assert (totals.snapshots, totals.dead_letters) == (2, 2)
    async with engine.connect() as connection:
        found = await connection.execute(text("SELECT message FROM oddslog_dead_letters"))
        messages = sorted(row.message for row in found)
    assert any(f"schema id {other} (fingerprint" in message for message in messages)
    assert any(f"schema id {2**31 - 1}, which the schema registry" in one for one in messages)


async def test_copies_of_letters_are_the_bytes_as_they_came(
    kafka: KafkaConnection, apicurio: Apicurio, registry: SchemaRegistry, topic: str
) -> None:
    """Nothing is registered for the dead-letter topic, and no frame is changed."""
    settings = read_configuration(
        {
            "bootstrap_servers": kafka.bootstrap_servers,
            "dead_letter_topic": topic,
            "schema_registry_url": apicurio.url(),
        }
    ).settings
    value = frame() + b"no fragment"
    async with open_letter_topic(settings) as letters:
        assert letters is not None
        await letters.send([LetterRecord(1, b"key", value, [])])
    (record,) = await read_all(kafka, topic)
    assert record.value == value
    assert registry.versions(f"{topic}-value") == []


async def test_without_the_registry_a_known_id_is_enough_for_a_producer(
    framed: KafkaConnection, network: Proxy, topic: str, tmp_path: Path
) -> None:
    """A new process says so, and its batches wait in the spool until it is back."""
    async with AsyncWriteQueue(KafkaDestination(framed, topic=topic)) as queue:
        await (await queue.enqueue(one(1)))
        away(network)
        await (await queue.enqueue(one(2)))

    with (
        capture_logs() as events,
        pytest.raises(DeliveryError, match=r"schema registry at .* does not answer"),
    ):
        await feed(framed, topic, 3)
    assert "schema_registry_unreachable" in [event["event"] for event in events]

    spooling = KafkaDestination(
        framed, topic=topic, spool_dir=tmp_path / "spool", durability="spool"
    )
    async with AsyncWriteQueue(spooling) as queue:
        await (await queue.enqueue(one(4)))
        assert spooling.stats()["spool_fragments"] == 1
        network.refuse = False
        await until(lambda: spooling.stats()["spool_fragments"] == 0, "the spool's end")
    records = await read_all(framed, topic)
    assert all(registry_id(record.value or b"") is not None for record in records)
    written = {record.fragment.event_id for record in records if record.fragment}
    assert {1, 2, 4} <= written


async def test_without_the_registry_a_sink_waits_and_makes_no_dead_letters(
    framed: KafkaConnection, network: Proxy, topic: str, engine: AsyncEngine
) -> None:
    """It goes on by itself; one that starts meanwhile says what is away."""
    await feed(framed, topic, 1, 2, 3)
    sink = await open_one(framed, topic, engine)
    away(network)
    with capture_logs() as events:
        running = asyncio.create_task(sink.run())
        await until(
            lambda: any(event["event"] == "retrying" for event in events), "a second attempt"
        )
        with pytest.raises(UnreachableError, match=r"schema registry at .* does not answer"):
            await open_one(framed, topic, engine)
        assert not running.done()
        network.refuse = False
        totals = await running
    assert (totals.snapshots, totals.dead_letters) == (3, 0)
    reasons = [event["reason"] for event in events if event["event"] == "retrying"]
    assert all("schema registry" in reason for reason in reasons)


async def test_a_schema_that_does_not_fit_is_refused_at_the_start(
    framed: KafkaConnection, registry: SchemaRegistry, topic: str
) -> None:
    """Somebody else's is under the subject, with the rule FULL."""
    registry.register(f"{topic}-value", OTHER)
    with pytest.raises(ConfigurationError, match=r"incompatible.*oddslog schema check"):
        await feed(framed, topic, 1)


async def test_schema_check_compares_with_the_registry(
    apicurio: Apicurio, framed: KafkaConnection, registry: SchemaRegistry, topic: str
) -> None:
    """0 where all agree, 1 where not, 3 where it is away; the same lines from `doctor`."""
    command = Command({"TOPIC": topic, "SCHEMA_REGISTRY_URL": apicurio.url()})
    assert "is not there yet" in command("schema", "check").ok().out
    await feed(framed, topic, 1)
    golden = Path(__file__).parents[1] / "data" / "golden"
    good = command("schema", "check", "--golden", str(golden), "--json").ok()
    assert (good.json["failed"], good.json["warned"]) == (0, 0)
    registry.register(f"{topic}-odd-value", OTHER)
    bad = command.but(TOPIC=f"{topic}-odd")("schema", "check")
    assert bad.code == 1
    assert "is no schema of this version" in bad.out
    gone = command.but(SCHEMA_REGISTRY_URL="http://me:s3cret@127.0.0.1:1")("schema", "check")
    assert gone.code == 3
    assert "s3cret" not in gone.out + gone.err
