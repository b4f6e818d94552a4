"""Making a topic on a broker that its controller does not count at times."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from oddslog.deploy.stack import LocalStack
from oddslog.schemas import KafkaConnection
from oddslog.schemas.errors import UnreachableError
from oddslog.sink.topics import create_topic, describe_topic
from tests.support.waiting import until

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
    found: list[int] = []

    async def all_are_there() -> bool:
        try:
            for topic in sorted(topics)[len(found) :]:
                described = await describe_topic(connection, topic)
                found.append(described.partitions if described else 0)
        except UnreachableError:  # no broker counts, again
            return False
        return True

    await until(all_are_there, "the topics")
    assert found == [3] * TOPICS
