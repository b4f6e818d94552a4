"""Topics: what a topic is like, what is wrong with it, making a missing one.

Only through the admin client: any other request of aiokafka asks the broker to
make a topic that it does not know.
"""

import asyncio
import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    InvalidReplicationFactorError,
    KafkaError,
    NodeNotReadyError,
    NoError,
    TopicAlreadyExistsError,
    for_code,
)

from ..schemas.connection import KafkaConnection
from ..schemas.errors import ConfigurationError, UnreachableError
from ..schemas.kafka_access import access_denied, why_unreachable
from ..schemas.wire import RECORD_OVERHEAD_BYTES

log = structlog.get_logger("oddslog.sink")

__all__ = [
    "DEFAULT_PARTITIONS",
    "LETTER_PARTITIONS",
    "TOPIC_CONFIGS",
    "TopicDescription",
    "await_controller",
    "create_topic",
    "describe_topic",
    "describe_with",
    "topic_problems",
    "topic_warnings",
]

DEFAULT_PARTITIONS = 12
# Of a dead-letter topic: letters are few, and so stay in their order.
LETTER_PARTITIONS = 1
# DESIGN 6.7. A create time too far from the broker's clock would poison an
# idempotent producer, so the broker stamps the records.
TOPIC_CONFIGS = {
    "cleanup.policy": "delete",
    "retention.ms": str(30 * 24 * 3600 * 1000),
    "message.timestamp.type": "LogAppendTime",
    "max.message.bytes": str(10 * 1024 * 1024),
}

_REQUEST_TIMEOUT_MS = 10_000
_CONTROLLER_PAUSE_SECONDS = 0.1
_UNKNOWN_TOPIC = 3
_NO_BROKER_COUNTS = (InvalidReplicationFactorError, NodeNotReadyError)


@dataclass(frozen=True)
class TopicDescription:
    """A topic as the cluster describes it."""

    cluster_id: str
    topic: str
    partitions: int
    replicas: int
    brokers: int
    configs: Mapping[str, str]

    @property
    def max_message_bytes(self) -> int:
        """The largest batch that the topic takes."""
        return int(self.configs.get("max.message.bytes", 1048588))

    @property
    def retention_ms(self) -> int:
        """How long records are kept; -1 is for ever."""
        return int(self.configs.get("retention.ms", -1))


async def describe_topic(connection: KafkaConnection, topic: str) -> TopicDescription | None:
    """What the cluster says of a topic; None where it is not there. Up to 10 s.

    Raises:
        UnreachableError: no broker answers.
        ConfigurationError: the cluster refuses us, or the topic may not be described.
    """
    client = await _start_admin(connection)
    try:
        return await describe_with(client, topic)
    except KafkaError as error:
        raise access_denied(error, connection) or UnreachableError(
            f"Kafka at {connection.bootstrap_servers} did not describe topic {topic}: "
            f"{type(error).__name__}"
        ) from error
    finally:
        await client.close()


async def create_topic(
    connection: KafkaConnection, topic: str, *, partitions: int = DEFAULT_PARTITIONS
) -> None:
    """Make a topic with the configuration of DESIGN 6.7; one that is there stays as it is.

    When this returns, the brokers tell of it.

    Raises:
        UnreachableError: no broker answers.
        ConfigurationError: the cluster refuses.
    """
    client = await _start_admin(connection)
    try:
        await await_controller(client)
        refused = await _ask_for(client, topic, partitions)
        if isinstance(refused, NodeNotReadyError):
            raise refused
        if refused is not None:
            raise access_denied(refused, connection) or ConfigurationError(
                f"topic {topic} was not made: {type(refused).__name__}"
            )
        await _await_topic(client, topic)
    except (KafkaError, TimeoutError) as error:
        raise UnreachableError(
            f"Kafka at {connection.bootstrap_servers} did not make topic {topic}: "
            f"{type(error).__name__}"
        ) from error
    finally:
        await client.close()


def topic_problems(description: TopicDescription) -> list[str]:
    """What makes the topic unusable as a log, each with what to do. Pure."""
    problems = []
    policy = description.configs.get("cleanup.policy", "delete")
    if policy != "delete":
        problems.append(
            f"topic {description.topic} has cleanup.policy={policy}: compaction would delete"
            " snapshots. Set it to delete"
        )
    if description.max_message_bytes <= 2 * RECORD_OVERHEAD_BYTES:
        problems.append(
            f"topic {description.topic} takes records of only {description.max_message_bytes}"
            f" bytes. Set max.message.bytes to {TOPIC_CONFIGS['max.message.bytes']}"
        )
    return problems


def topic_warnings(description: TopicDescription) -> list[str]:
    """What weakens the promises, each with what to do. Pure."""
    warnings = []
    in_sync = int(description.configs.get("min.insync.replicas", 1))
    if description.replicas < 3 or in_sync < 2:
        warnings.append(
            f"topic {description.topic} has {description.replicas} replica(s) and"
            f" min.insync.replicas={in_sync}: acknowledged batches are lost with one broker's disk"
        )
    if description.configs.get("message.timestamp.type") != "LogAppendTime":
        warnings.append(
            f"topic {description.topic} has message.timestamp.type="
            f"{description.configs.get('message.timestamp.type')}: set it to LogAppendTime"
        )
    return warnings


async def await_controller(client: Any) -> None:
    """Wait until the cluster says which broker is its controller; up to 10 s.

    Before that, as just after a start, aiokafka's admin client raises AttributeError
    from any call that the controller answers.

    Raises:
        TimeoutError: there is none.
    """
    async with asyncio.timeout(_REQUEST_TIMEOUT_MS / 1000):
        while client._client.cluster.controller is None:  # noqa: SLF001 - no public name
            await client._client.force_metadata_update()  # noqa: SLF001
            await asyncio.sleep(_CONTROLLER_PAUSE_SECONDS)


async def _ask_for(client: Any, topic: str, partitions: int) -> KafkaError | None:
    """Ask for a topic, as often as the brokers are not ready for it; the error of a refusal."""
    deadline = time.monotonic() + _REQUEST_TIMEOUT_MS / 1000
    while True:
        error = await _asked(client, topic, partitions)
        # A broker that was frozen, or has just started, counts as none until its next heartbeat.
        if not isinstance(error, _NO_BROKER_COUNTS) or time.monotonic() > deadline:
            return error
        await asyncio.sleep(_CONTROLLER_PAUSE_SECONDS)


async def _asked(client: Any, topic: str, partitions: int) -> KafkaError | None:
    try:
        brokers = len((await client.describe_cluster())["brokers"])
        # Does not raise for a refusal: the error is in the answer.
        answer = await client.create_topics([_new_topic(topic, partitions, brokers)])
    except NodeNotReadyError as error:
        return error
    refused = for_code(answer.topic_errors[0][1])()
    return None if isinstance(refused, NoError | TopicAlreadyExistsError) else refused


def _new_topic(topic: str, partitions: int, brokers: int) -> NewTopic:
    replicas = min(3, brokers)
    configs = dict(TOPIC_CONFIGS)
    if replicas >= 3:
        configs["min.insync.replicas"] = "2"
    return NewTopic(topic, partitions, replicas, topic_configs=configs)


async def _await_topic(client: Any, topic: str) -> None:
    """Wait until a topic is told of: brokers learn of a new one a little after its making."""
    async with asyncio.timeout(_REQUEST_TIMEOUT_MS / 1000):
        while True:
            with contextlib.suppress(NodeNotReadyError):
                if topic in await client.list_topics():
                    return
            await asyncio.sleep(_CONTROLLER_PAUSE_SECONDS)


async def _start_admin(connection: KafkaConnection) -> AIOKafkaAdminClient:
    client = AIOKafkaAdminClient(
        **connection.client_options(),
        client_id="oddslog-admin",
        request_timeout_ms=_REQUEST_TIMEOUT_MS,
    )
    try:
        await client.start()
    except KafkaError as error:
        await client.close()
        raise await why_unreachable(connection) from error
    return client


async def describe_with(client: AIOKafkaAdminClient, topic: str) -> TopicDescription | None:
    """The same with a client that is open; raises what the client raises."""
    if topic not in await client.list_topics():
        return None
    (described,) = await client.describe_topics([topic])
    if described["error_code"] == _UNKNOWN_TOPIC:
        return None
    if described["error_code"]:
        raise ConfigurationError(
            f"topic {topic} cannot be described: {for_code(described['error_code']).__name__}"
        )
    cluster = await client.describe_cluster()
    (answer,) = await client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    configs: dict[str, str] = {}
    for code, _message, _type, _name, entries in answer.resources:
        if code:
            log.warning("topic_unchecked", topic=topic, reason=for_code(code).__name__)
        configs |= {entry[0]: entry[1] for entry in entries}
    partitions = described["partitions"]
    return TopicDescription(
        cluster["cluster_id"],
        topic,
        len(partitions),
        min((len(p["replicas"]) for p in partitions), default=0),
        len(cluster["brokers"]),
        configs,
    )
