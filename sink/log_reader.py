"""Reading spans of a log beside the group: for replay and verify.

Assigns partitions by itself and joins no group, so that the running sink notices
nothing. The end of a span is told by positions, never by counting records:
transactions and compaction leave holes.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaConnectionError, KafkaError, OffsetOutOfRangeError

from ..schemas.connection import KafkaConnection
from ..schemas.errors import OddslogError, ProtectionError
from ..schemas.kafka_access import access_denied, unreachable, why_unreachable
from .errors import GapError
from .items import LogRecord, PartitionPart, decode_record, record_crc32
from .poller import log_record
from .positions import LastApplied, LogRange
from .registry import registry_schemas

__all__ = ["LogReader", "open_log_reader"]

_ANSWER_SECONDS = 20.0
# A broker that restarts is back well before; a reader does not wait for ever.
_STALLED_SECONDS = 60.0
_POLL_MS = 500
# Records of one getmany: decoding 20 of 75 KB blocks the loop about 10 ms.
_CHUNK_RECORDS = 20
_MILLIS = 1000


@asynccontextmanager
async def open_log_reader(
    connection: KafkaConnection, topic: str, *, fetch_bytes: int = 16 * 1024 * 1024
) -> AsyncIterator["LogReader"]:
    """A reader of a topic that is known to be there (see `check_topic`), closed afterwards.

    Args:
        connection: to Kafka.
        topic: the log.
        fetch_bytes: that one fetch may bring; at least the topic's largest record.

    Raises:
        UnreachableError: no broker answers.
        ConfigurationError: the cluster refuses us, or we do not trust it.
    """
    consumer = AIOKafkaConsumer(
        **connection.client_options(),
        client_id="oddslog-reader",
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level="read_committed",
        max_partition_fetch_bytes=max(1024 * 1024, fetch_bytes // 4),
        fetch_max_bytes=fetch_bytes,
    )
    try:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await consumer.start()
        except KafkaConnectionError as error:
            raise await why_unreachable(connection) from error
        except TimeoutError as error:
            raise unreachable(connection, "TimeoutError") from error
        yield LogReader(consumer, connection, topic)
    finally:
        stopping = asyncio.create_task(consumer.stop(), name="oddslog-reader-stop")
        await asyncio.wait({stopping}, timeout=_ANSWER_SECONDS)


@dataclass(slots=True)
class _Span:
    """What is still to be read of a partition."""

    start: int
    end: int
    next_offset: int
    records: list[LogRecord] = field(default_factory=list)

    def take(self) -> tuple[int, list[LogRecord]]:
        """What was gathered, and from which offset on; the span goes on behind it."""
        taken = self.start, self.records
        self.start, self.records = self.next_offset, []
        return taken


class LogReader:
    """Reads spans of one log; one `read` at a time."""

    def __init__(self, consumer: Any, connection: KafkaConnection, topic: str) -> None:
        self._consumer = consumer
        self._connection = connection
        self._schemas = registry_schemas(connection)
        self._topic = topic

    async def ranges(self, partitions: Iterable[int]) -> dict[int, LogRange]:
        """What the log holds of each partition now.

        Raises:
            UnreachableError: no answer in 20 s, or the broker's refusal.
        """
        wanted = [self._tp(p) for p in partitions]
        if not wanted:
            return {}
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                starts = await self._consumer.beginning_offsets(wanted)
                ends = await self._consumer.end_offsets(wanted)
        except (KafkaError, TimeoutError) as error:
            raise self._told(error) from error
        return {tp.partition: LogRange(starts[tp], ends[tp]) for tp in wanted}

    async def offsets_at(
        self, partitions: Iterable[int], moment: datetime
    ) -> dict[int, int | None]:
        """The first offset appended at or after an (aware) moment; None where there is none.

        Raises:
            UnreachableError: no answer in 20 s, or the broker's refusal.
        """
        millis = -int(-moment.timestamp() * _MILLIS // 1)  # up: the log's times are in ms
        wanted = {self._tp(p): millis for p in partitions}
        if not wanted:
            return {}
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                found = await self._consumer.offsets_for_times(wanted)
        except (KafkaError, TimeoutError) as error:
            raise self._told(error) from error
        return {tp.partition: at.offset if at else None for tp, at in found.items()}

    async def read(
        self, spans: Mapping[int, LogRange], *, max_records: int, max_bytes: int
    ) -> AsyncGenerator[list[PartitionPart], None]:
        """The spans' records, decoded, in log order in each partition; bounded by both limits.

        The parts of a partition follow one another without holes, from the span's start
        to its end, whatever the log holds in between. Not more is in memory than one
        result and what the client has fetched.

        Raises:
            GapError: the log no longer holds a part of a span.
            UnreachableError: nothing came for a minute, or the schema registry is away.
            ProtectionError: a record that the client cannot parse.
        """
        open_spans = {
            p: _Span(held.start, held.end, held.start)
            for p, held in spans.items()
            if held.start < held.end
        }
        if not open_spans:
            return
        self._consumer.assign([self._tp(p) for p in open_spans])
        for number, span in open_spans.items():
            self._consumer.seek(self._tp(number), span.start)
        while open_spans:
            parts = await self._gather(open_spans, max_records, max_bytes)
            if parts:
                yield parts

    async def _gather(
        self, open_spans: dict[int, _Span], max_records: int, max_bytes: int
    ) -> list[PartitionPart]:
        """Poll until a bound is reached or every span has ended; ended ones are taken out."""
        count = size_bytes = 0
        moved_at = time.monotonic()
        while open_spans and count < max_records and size_bytes < max_bytes:
            polled = await self._poll(min(_CHUNK_RECORDS, max_records - count))
            known = None if self._schemas is None else self._schemas.known
            for number, records in polled.items():
                taken = _take(open_spans.get(number), records, known)
                count += len(taken)
                size_bytes += sum(len(r.value or b"") + len(r.key or b"") for r in taken)
            moved = await self._move_on(open_spans)
            if moved or polled:
                moved_at = time.monotonic()
            elif time.monotonic() - moved_at > _STALLED_SECONDS:
                raise self._told(TimeoutError())
            if any(span.next_offset >= span.end for span in open_spans.values()):
                break
            await asyncio.sleep(0)
        return self._hand_over(open_spans)

    async def _move_on(self, open_spans: Mapping[int, _Span]) -> bool:
        """Follow the positions over holes; whether any moved."""
        moved = False
        for number, span in open_spans.items():
            position = int(await self._consumer.position(self._tp(number)))
            if position > span.next_offset:
                span.next_offset = min(position, span.end)
                moved = True
        return moved

    def _hand_over(self, open_spans: dict[int, _Span]) -> list[PartitionPart]:
        parts = []
        for number, span in [*open_spans.items()]:
            start, records = span.take()
            if span.start > start:
                last = records[-1] if records else None
                crc = record_crc32(last.key, last.value) if last else 0
                applied = LastApplied(last.offset or 0, crc) if last else None
                parts.append(PartitionPart(number, start, span.start, records, applied))
            if span.next_offset >= span.end:
                self._consumer.pause(self._tp(number))
                del open_spans[number]
        return parts

    async def _poll(self, max_records: int) -> Mapping[int, Sequence[Any]]:
        try:
            polled = await self._consumer.getmany(timeout_ms=_POLL_MS, max_records=max_records)
        except OffsetOutOfRangeError as error:
            numbers = ", ".join(str(tp.partition) for tp in error.args[0])
            raise GapError(
                f"topic {self._topic}, partition {numbers}: the log no longer holds what was to be"
                " read (retention passed meanwhile); start again from what it holds"
            ) from error
        except KafkaError as error:
            raise self._told(error) from error
        except Exception as error:
            raise ProtectionError(
                f"topic {self._topic}: a record cannot be parsed by the Kafka client"
                f" ({type(error).__name__})"
            ) from error
        if self._schemas is not None:
            await self._schemas.learn(one.value for part in polled.values() for one in part)
        return {tp.partition: records for tp, records in polled.items()}

    def _told(self, error: BaseException) -> OddslogError:
        denied = access_denied(error, self._connection)
        return denied or unreachable(self._connection, type(error).__name__)

    def _tp(self, partition: int) -> TopicPartition:
        return TopicPartition(self._topic, partition)


def _take(
    span: _Span | None, records: Sequence[Any], known: Mapping[int, bytes | str] | None
) -> list[LogRecord]:
    """Decode what lies in the span."""
    if span is None:
        return []
    taken = []
    for raw in records:
        if span.next_offset <= raw.offset < span.end:
            record = log_record(raw)
            decode_record(record, known)
            taken.append(record)
            span.next_offset = raw.offset + 1
    span.records += taken
    return taken
