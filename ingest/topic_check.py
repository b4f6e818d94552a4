"""Looking at a topic before anything is sent to it, by the admin client.

aiokafka's producer asks the brokers to create any topic it does not know; so the
topic must be seen first, in a way that asks for nothing.
"""

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import (
    ConfigResource,
    ConfigResourceType,
)
from aiokafka.errors import (
    KafkaError,
    UnknownTopicOrPartitionError,
)

from ..schemas.connection import KafkaConnection
from ..schemas.errors import ConfigurationError, UnreachableError
from ..schemas.kafka_access import access_denied, why_unreachable
from ..schemas.wire import RECORD_OVERHEAD_BYTES
from .producer import close_client

__all__ = ["ASSUMED_MAX_MESSAGE_BYTES", "TopicFacts", "record_limit", "topic_facts"]

REQUEST_TIMEOUT_MS = 10_000
# What DESIGN 6.7 gives the topic; planned with until the topic has been seen.
ASSUMED_MAX_MESSAGE_BYTES = 10 * 1024 * 1024
# Kafka's default, for a topic whose configuration we have no right to read.
DEFAULT_MAX_MESSAGE_BYTES = 1_048_588
_PAUSE_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """What matters to a writer about a topic.

    `min_insync_replicas` is None where the configuration may not be read.
    `broker_time` says that the brokers stamp the records, not the producer.
    """

    partitions: int
    brokers: int
    max_message_bytes: int
    min_insync_replicas: int | None
    broker_time: bool = True

    def warnings(self) -> list[str]:
        """What an operator should mend, one line each."""
        if self.min_insync_replicas is None:
            return [
                "the topic's configuration may not be read (DESCRIBE_CONFIGS); records are kept "
                f"below {self.max_message_bytes:,} bytes"
            ]
        problems = []
        if self.brokers >= 3 and self.min_insync_replicas < 2:
            problems.append(
                f"min.insync.replicas is {self.min_insync_replicas} on {self.brokers} brokers: "
                "an acknowledged record can be lost with one broker; set it to 2"
            )
        if not self.broker_time:
            problems.append(
                "message.timestamp.type is CreateTime: with a clock that is far off here, the "
                "brokers refuse everything; set it to LogAppendTime"
            )
        return problems


def record_limit(max_message_bytes: int) -> int:
    """What one record's value may take, uncompressed, on a topic of that limit."""
    return max(max_message_bytes - RECORD_OVERHEAD_BYTES, max_message_bytes // 2)


async def topic_facts(
    connection: KafkaConnection, topic: str, client_id: str, *, patience_seconds: float = 0.0
) -> TopicFacts:
    """Look at a topic; never creates it. Has no deadline of its own; cancel it.

    A missing one is looked for again for `patience_seconds`: a broker may learn late of
    a topic that was just made.

    Raises:
        ConfigurationError: the topic is missing or no log, or the settings are wrong:
            credentials that are refused, a certificate that is not trusted.
        UnreachableError: no broker answers.
    """
    options = connection.client_options()
    admin = AIOKafkaAdminClient(
        **options, client_id=client_id, request_timeout_ms=REQUEST_TIMEOUT_MS
    )
    try:
        await _started(admin, connection)
        partitions, brokers = await _known_partitions(admin, topic, patience_seconds)
        settings = await _settings(admin, topic)
    except (KafkaError, TimeoutError, OSError) as error:
        raise access_denied(error, connection) or UnreachableError(
            f"Kafka at {connection.bootstrap_servers} does not tell about topic {topic!r}: "
            f"{type(error).__name__}: {error}"
        ) from error
    finally:
        await close_client(admin._client)  # noqa: SLF001 - its own close has no deadline
    if settings is None:
        return TopicFacts(partitions, brokers, DEFAULT_MAX_MESSAGE_BYTES, None)
    if settings["cleanup.policy"] != "delete":
        raise ConfigurationError(
            f"topic {topic!r} has cleanup.policy={settings['cleanup.policy']}, which throws "
            "records away by key; use a topic with cleanup.policy=delete"
        )
    return TopicFacts(
        partitions,
        brokers,
        int(settings["max.message.bytes"]),
        int(settings["min.insync.replicas"]),
        settings["message.timestamp.type"] == "LogAppendTime",
    )


async def _started(admin: Any, connection: KafkaConnection) -> None:
    try:
        await admin.start()
    except KafkaError as error:
        raise await why_unreachable(connection) from error
    except ValueError as error:
        raise ConfigurationError(
            f"bootstrap servers {connection.bootstrap_servers!r} are no list of host:port: {error}"
        ) from error


async def _known_partitions(admin: Any, topic: str, patience_seconds: float) -> tuple[int, int]:
    look_until = time.monotonic() + patience_seconds
    while (counts := await _partitions(admin, topic)) is None:
        if time.monotonic() >= look_until:
            raise ConfigurationError(
                f"topic {topic!r} does not exist (or may not be described by this user); "
                "create it with: oddslog topics --create"
            )
        await asyncio.sleep(_PAUSE_SECONDS)
    return counts


async def _partitions(admin: Any, topic: str) -> tuple[int, int] | None:
    """Partition and broker counts. Asks for all topics: naming one may create it."""
    topics = await admin.describe_topics()
    cluster = await admin.describe_cluster()
    for found in topics:
        if found["topic"] == topic and found["error_code"] != UnknownTopicOrPartitionError.errno:
            return len(found["partitions"]), len(cluster["brokers"])
    return None


async def _settings(admin: Any, topic: str) -> dict[str, str] | None:
    """The topic's configuration; None where it may not be read."""
    resource = ConfigResource(ConfigResourceType.TOPIC, topic)
    for response in await admin.describe_configs([resource]):
        for error_code, _message, _type, _name, entries in response.resources:
            if error_code == 0:
                return {entry[0]: entry[1] for entry in entries}
    return None
