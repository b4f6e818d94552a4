"""Making a topic on a broker that its controller does not count at times."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from oddslog.deploy.stack import LocalStack
from oddslog.schemas import KafkaConnection
from oddslog.sink.topics import create_topic

TOPICS = 12


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[KafkaConnection]:
    """A broker that is fenced, as one that was frozen, from each session's end to the next beat."""
    properties = {"broker.session.timeout.ms": "300", "broker.heartbeat.interval.ms": "900"}
    stack = LocalStack(tmp_path, kafka_properties=properties)
    stack.start_kafka()
    yield KafkaConnection(f"127.0.0.1:{stack._kafka.state.port}")
    stack.destroy()


async def test_a_fenced_broker_is_waited_for(connection: KafkaConnection) -> None:
    """It counts as none: for a while no topic can have even one replica."""
    topics = {f"t{uuid.uuid4().hex[:12]}" for _ in range(TOPICS)}
    for topic in topics:
        await create_topic(connection, topic, partitions=3)
    admin = AIOKafkaAdminClient(**connection.client_options())
    await admin.start()
    try:
        assert topics <= set(await admin.list_topics())
    finally:
        await admin.close()
