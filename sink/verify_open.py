"""Which of the logs that a database knows can be read here, and whether they are those."""

from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from ..schemas.connection import KafkaConnection
from ..schemas.errors import ConfigurationError
from .errors import WrongLogError
from .log_reader import LogReader, open_log_reader
from .positions import Gap, LastApplied, LogRange
from .topics import TopicDescription, describe_topic
from .verify_logs import Logs, LogSpan, ReadableLog, check_span
from .verify_tables import Tables

__all__ = ["OpenedLogs", "check_last_applied", "open_logs"]

_FETCH_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class OpenedLogs:
    """All logs, and a reader of each that can be read."""

    logs: Logs
    readers: Mapping[int, LogReader]


async def open_logs(
    stack: AsyncExitStack, tables: Tables, connection: KafkaConnection, topic: str
) -> OpenedLogs:
    """Open every log of this cluster that filled the database; the newest generation of each.

    Raises:
        UnreachableError: Kafka does not answer.
        ConfigurationError: no such topic, or nothing of it was written to this database.
        WrongLogError: the topic ends before the ledger, or has fewer partitions.
    """
    described = await describe_topic(connection, topic)
    if described is None:
        raise ConfigurationError(f"topic {topic} is not there")
    registered, ledger = await tables.logs()
    here = [log for log in registered if log.cluster_id == described.cluster_id]
    if not any(log.topic == topic for log in here):
        raise ConfigurationError(_unknown(topic, described.cluster_id, registered))
    readable: dict[int, ReadableLog] = {}
    readers: dict[int, LogReader] = {}
    for name in sorted({log.topic for log in here}):
        found = described if name == topic else await describe_topic(connection, name)
        if found is None:
            continue
        generations = tuple(log.log_id for log in here if log.topic == name)
        newest = max((log for log in here if log.topic == name), key=lambda log: log.generation)
        fetch_bytes = max(_FETCH_BYTES, found.max_message_bytes)
        reader = await stack.enter_async_context(
            open_log_reader(connection, name, fetch_bytes=fetch_bytes)
        )
        ranges = await reader.ranges(range(found.partitions))
        spans = _spans(newest, found, ranges, ledger.get(newest.log_id, {}))
        readable[newest.log_id] = ReadableLog(newest.log_id, name, spans, generations)
        readers[newest.log_id] = reader
    all_ids = frozenset(log.log_id for log in registered)
    unread = frozenset(i for i in all_ids if i not in readable and ledger.get(i))
    return OpenedLogs(Logs(readable, all_ids, unread), readers)


def _unknown(topic: str, cluster_id: str, registered: Iterable[Any]) -> str:
    names = ", ".join(f"topic {log.topic} of cluster {log.cluster_id}" for log in registered)
    filled = f"it was filled from {names}" if names else "run: oddslog sink"
    name = f"topic {topic} (cluster {cluster_id})"
    return f"nothing of {name} was ever written to this database; {filled}"


def _spans(
    log: Any, found: TopicDescription, ranges: Mapping[int, LogRange], rows: Mapping[int, Any]
) -> dict[int, LogSpan]:
    if found.partitions < log.partition_count:
        raise WrongLogError(
            f"topic {log.topic} has {found.partitions} partitions and had {log.partition_count}: it"
            " was made anew, and is not the log that filled this database"
        )
    spans = {}
    for partition, held in ranges.items():
        row = rows.get(partition)
        if row is None:
            spans[partition] = LogSpan(held, 0, 0)
            continue
        last = None if row.last_offset is None else LastApplied(row.last_offset, row.last_crc32)
        gaps = [Gap(gap["from"], gap["to"]) for gap in row.accepted_gaps]
        spans[partition] = LogSpan(
            held, row.start_offset, row.next_offset, row.ids_valid_from, last, gaps
        )
        check_span(log.topic, partition, spans[partition])
    return spans


async def check_last_applied(reader: LogReader, log: ReadableLog) -> None:
    """Look whether the last records that were written are still the same.

    Raises:
        WrongLogError: one is not: the topic was made anew, and has grown since.
    """
    wanted = {
        partition: span.last
        for partition, span in log.spans.items()
        if span.last is not None and span.last.offset >= span.held.start
    }
    spans = {p: LogRange(last.offset, last.offset + 1) for p, last in wanted.items()}
    async for parts in reader.read(spans, max_records=len(spans), max_bytes=1):
        for part in parts:
            if part.last != wanted[part.partition]:
                raise WrongLogError(
                    f"topic {log.topic}, partition {part.partition}: the record at offset"
                    f" {part.start} is not the one that was written last: this is not the log that"
                    " filled this database"
                )
