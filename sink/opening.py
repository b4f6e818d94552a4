"""Opening a sink: check what it stands on, then put it together."""

from dataclasses import dataclass, field, replace

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from ..schemas.connection import KafkaConnection
from ..schemas.errors import ConfigurationError, OddslogError, UnreachableError
from ..schemas.wire import DEFAULT_GROUP, DEFAULT_TOPIC, Kind
from .checks import ColumnLimits
from .classify import sqlstate_of
from .consumer import LogConsumer
from .database import read_limits
from .database_access import access_error
from .database_url import masked_url
from .ledger import LogIdentity
from .migrate import check_migrated
from .options import SinkOptions
from .outbox import LetterTopic
from .registry import check_registry
from .service import Sink
from .topics import TopicDescription, describe_topic, topic_problems, topic_warnings

__all__ = ["SinkSource", "check_database", "check_topic", "open_sink"]

log = structlog.get_logger("oddslog.sink")


@dataclass(frozen=True)
class SinkSource:
    """Where a sink reads."""

    connection: KafkaConnection = field(default_factory=KafkaConnection)
    topic: str = DEFAULT_TOPIC
    group: str = DEFAULT_GROUP
    session_timeout_seconds: float = 45.0
    group_instance_id: str | None = None


async def open_sink(
    engine: AsyncEngine,
    source: SinkSource,
    options: SinkOptions,
    letters: LetterTopic | None = None,
) -> Sink:
    """A sink that is ready to `run`; nothing is read or written yet.

    Args:
        engine: on the database.
        source: where it reads.
        options: how it works.
        letters: where copies of dead letters go; None: nowhere.

    Raises:
        UnreachableError: Kafka, PostgreSQL or the schema registry does not answer.
        ConfigurationError: no such topic, or one that is no log; a database that
            is not migrated, or refuses the user.
    """
    limits = await check_database(engine)
    topic = await check_topic(source.connection, source.topic)
    await check_registry(source.connection, source.topic)
    if topic.retention_ms > 0 and options.retention_seconds is None:
        options = replace(options, retention_seconds=topic.retention_ms / 1000)
    consumer = LogConsumer(
        source.connection,
        source.topic,
        source.group,
        fetch_bytes=max(options.poll_bytes, topic.max_message_bytes),
        group_instance_id=source.group_instance_id,
        session_timeout_seconds=source.session_timeout_seconds,
        rebalance_timeout_seconds=options.rebalance_timeout_seconds,
    )
    identity = LogIdentity(topic.cluster_id, topic.topic, topic.partitions)
    return Sink(engine, consumer, identity, limits, options, letters)


async def check_topic(connection: KafkaConnection, topic: str) -> TopicDescription:
    """The topic, if it can be a log; weaknesses are logged.

    Raises:
        UnreachableError: no broker answers.
        ConfigurationError: it is not there, or cannot be a log.
    """
    described = await describe_topic(connection, topic)
    if described is None:
        raise ConfigurationError(
            f"topic {topic} is not there, or may not be described by this user; run: oddslog"
            " topics --create (or name another with ODDSLOG_TOPIC)"
        )
    problems = topic_problems(described)
    if problems:
        raise ConfigurationError(problems[0])
    for warning in topic_warnings(described):
        log.warning("topic_warning", topic=topic, problem=warning)
    return described


async def check_database(engine: AsyncEngine) -> dict[Kind, ColumnLimits]:
    """What the tables can hold, if the database is migrated.

    Raises:
        UnreachableError: PostgreSQL does not answer.
        ConfigurationError: not migrated, no such database, wrong user or password.
    """
    try:
        async with engine.connect() as connection:
            await check_migrated(connection)
            return await read_limits(connection)
    except (DBAPIError, OSError, TimeoutError) as error:
        raise _connection_error(error, engine) from error
    except Exception as error:
        # The driver raises its own errors while it connects.
        if sqlstate_of(error) is None:
            raise
        raise _connection_error(error, engine) from error


def _connection_error(error: BaseException, engine: AsyncEngine) -> OddslogError:
    url = engine.url.render_as_string(hide_password=False)
    refused = access_error(error, url)
    sqlstate = sqlstate_of(error) or ""
    if refused is None and sqlstate.startswith("42"):
        return ConfigurationError(
            f"{masked_url(url)}: the tables are not those of this version (SQLSTATE {sqlstate})"
        )
    return refused or UnreachableError(
        f"PostgreSQL at {masked_url(url)} does not answer: start it, or mend ODDSLOG_DATABASE_URL"
    )
