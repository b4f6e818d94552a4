"""The reading half of the sink's loop: poll, decode, hand over.

Polls always, also with nothing assigned and while the writer is busy (a member
that does not poll is thrown out of the group). At most two decoded polls are in
memory, bounded in records and bytes.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import structlog

from .consumer import LogConsumer, OutOfRangeError
from .dead_letters import utc_from_millis
from .errors import WrongLogError
from .items import LogRecord, PartitionPart, decode_record, record_crc32
from .positions import LastApplied, Placement
from .turn import Turn

__all__ = ["Partition", "Partitions", "Poll", "Poller", "log_record"]

log = structlog.get_logger("oddslog.sink")

# How long a poll waits for records, and so how long a stop may take to be seen.
_POLL_TIMEOUT_MS = 250
# Records of one getmany. Decoding 8 of 170 markets holds the loop up for 2 ms: so long,
# at most, the writer waits to go on with its transaction.
_CHUNK_RECORDS = 8
# What a poll has at least when it is handed over early, to a writer that waits for one:
# about 7,000 market rows, 60 ms of the database, which the next one is decoded in.
_EARLY_RECORDS = 64
# A poll waits a quarter of a second: one that takes so much longer was frozen with
# its process, long enough for a topic to be deleted and made anew.
_AWAY_SECONDS = 2.0
_AWAY_AGAIN_SECONDS = 30.0
# Pausing drops what was fetched, so it is kept for a database that is really away.
_PAUSE_AFTER_SECONDS = 5.0


class PartitionStatus(Enum):
    """A partition is read only after it was placed."""

    PLACING = "placing"
    ACTIVE = "active"


@dataclass(slots=True, eq=False)
class Partition:
    """One assigned partition; a new object for each assignment or placing.

    Written by the rebalance callback and the placing task; `next_offset` and
    `check` by the poller. A poll whose `Partition` is no longer the current one
    must not be written.
    """

    number: int
    status: PartitionStatus = PartitionStatus.PLACING
    next_offset: int = 0
    check: LastApplied | None = None

    def activate(self, placement: Placement) -> None:
        """Read on from a placement."""
        self.status = PartitionStatus.ACTIVE
        self.next_offset = placement.next_offset
        self.check = placement.check


class Partitions:
    """The assigned partitions by number."""

    def __init__(self) -> None:
        self._current: dict[int, Partition] = {}
        # False from a revocation to the next assignment, and before the first.
        self.assigned = False

    def assign(self, numbers: Iterable[int]) -> None:
        """These, all to be placed, and no others."""
        self._current = {number: Partition(number) for number in numbers}
        self.assigned = True

    def revoke(self) -> None:
        """None; the group is about to share them out again."""
        self._current = {}
        self.assigned = False

    def replace(self, number: int) -> bool:
        """Place this one anew; False where it is not assigned."""
        if number not in self._current:
            return False
        self._current[number] = Partition(number)
        return True

    def is_current(self, partition: Partition) -> bool:
        """Whether this object still stands for its partition."""
        return self._current.get(partition.number) is partition

    def get(self, number: int) -> Partition | None:
        """The partition of that number, if it is assigned."""
        return self._current.get(number)

    def with_status(self, status: PartitionStatus) -> list[Partition]:
        """The partitions in a status."""
        return [p for p in self._current.values() if p.status is status]

    @property
    def active(self) -> list[Partition]:
        """The partitions that are read."""
        return self.with_status(PartitionStatus.ACTIVE)

    @property
    def placing(self) -> list[Partition]:
        """The partitions that wait for their position."""
        return self.with_status(PartitionStatus.PLACING)

    def __len__(self) -> int:
        return len(self._current)


@dataclass(slots=True)
class Poll:
    """Decoded records by partition, ready for one transaction."""

    parts: list[tuple[Partition, PartitionPart]]
    records: int
    bytes: int


@dataclass(slots=True)
class _Gathering:
    """A poll that grows: by partition, what was decoded so far."""

    records: dict[Partition, list[LogRecord]] = field(default_factory=dict)
    starts: dict[Partition, int] = field(default_factory=dict)
    count: int = 0
    bytes: int = 0


class Poller:
    """Fills a queue with decoded polls; run by one task."""

    def __init__(
        self,
        consumer: LogConsumer,
        partitions: Partitions,
        *,
        poll_records: int,
        poll_bytes: int,
    ) -> None:
        self._consumer = consumer
        self._partitions = partitions
        self._poll_records = poll_records
        self._poll_bytes = poll_bytes
        # One decoded poll waits while one is written.
        self.polls: asyncio.Queue[Poll] = asyncio.Queue(maxsize=1)
        self._wanted = False  # whether somebody waits for one
        self._room = asyncio.Event()
        self._room.set()
        self._paused = False
        self._away_at = -_AWAY_AGAIN_SECONDS  # monotonic: when a poll took too long, last
        self._record_bytes = 0.0  # what a record had on average, lately
        self.turn = Turn()
        self.replaced = asyncio.Event()  # set when a partition has to be placed anew

    async def wait_poll(self) -> Poll | None:
        """The next poll, handed over early as somebody waits for it; None after a moment."""
        self._wanted = True
        try:
            async with asyncio.timeout(_POLL_TIMEOUT_MS / 1000):
                return await self.polls.get()
        except TimeoutError:
            return None
        finally:
            self._wanted = False

    def taken(self) -> None:
        """Tell that a poll was taken out of the queue."""
        self._room.set()

    async def next_poll(self) -> None:
        """Poll once and queue what there is, when the queue has room.

        Raises:
            WrongLogError: the last applied record is another one than remembered.
        """
        if not await self._has_room():
            self._pause()
            # For the membership. All are paused, but the placer may resume one
            # while we wait: what comes then has to be read again.
            for number, records in (await self._poll(1)).items():
                self._consumer.seek(number, records[0].offset)
            return
        self._resume()
        poll = await self._gather()
        if poll is not None:
            self.polls.put_nowait(poll)
            self._room.clear()

    def drop_queued(self) -> None:
        """Throw away what is decoded and not yet taken."""
        while not self.polls.empty():
            self.polls.get_nowait()
        self._room.set()

    async def _has_room(self) -> bool:
        if self._room.is_set():
            return True
        try:
            async with asyncio.timeout(0.25 if self._paused else _PAUSE_AFTER_SECONDS):
                await self._room.wait()
        except TimeoutError:
            return False
        return True

    def _pause(self) -> None:
        # Again at each poll: a rebalance forgets what was paused.
        self._consumer.pause(p.number for p in self._partitions.active)
        if not self._paused:
            log.info("polling_paused", reason="the database takes nothing")
        self._paused = True

    def _resume(self) -> None:
        if self._paused:
            self._consumer.resume(p.number for p in self._partitions.active)
            self._paused = False
            log.info("polling_resumed")

    async def _gather(self) -> Poll | None:
        """Poll until the bounds are reached, nothing more is there at once, or it is wanted."""
        gathering = _Gathering()
        timeout_ms = _POLL_TIMEOUT_MS
        while gathering.count < self._poll_records and gathering.bytes < self._poll_bytes:
            await self.turn.wait()
            polled = await self._poll(self._chunk_records(gathering), timeout_ms)
            if not polled:
                break
            for number, records in polled.items():
                self._take(gathering, number, records)
            if self._wanted and gathering.count >= _EARLY_RECORDS:
                break
            timeout_ms = 0
            await asyncio.sleep(0)  # let the writer and the fetcher go on
        return await self._finish(gathering)

    def _chunk_records(self, gathering: _Gathering) -> int:
        """How many records to ask for: fewer where they are so large that the bound is near."""
        if gathering.count:
            self._record_bytes = gathering.bytes / gathering.count
        fitting = int((self._poll_bytes - gathering.bytes) / max(self._record_bytes, 1.0))
        return max(1, min(_CHUNK_RECORDS, self._poll_records - gathering.count, fitting))

    async def _poll(self, max_records: int, timeout_ms: int = 250) -> Mapping[int, Sequence[Any]]:
        before = time.monotonic()
        try:
            polled = await self._consumer.poll(max_records=max_records, timeout_ms=timeout_ms)
        except OutOfRangeError as error:
            for number in error.partitions:
                self._replace(number)
            return {}
        if self._was_away(before):
            # What stands at our position now may be another log's: check it first.
            log.info("positions_checked_anew")
            self.drop_queued()
            for partition in self._partitions.active:
                self._replace(partition.number)
            return {}
        return polled

    def _was_away(self, before: float) -> bool:
        """Whether the log may have been replaced unseen: we were stopped, or cut off."""
        now = time.monotonic()
        lost = self._consumer.lost_connection()
        # Not again and again: where every poll is slow, reading has to go on.
        stopped = now - before > _AWAY_SECONDS and now - self._away_at > _AWAY_AGAIN_SECONDS
        if stopped:
            self._away_at = now
        return lost or stopped

    def _replace(self, number: int) -> None:
        """Discard all that was decoded of a partition and take its position anew."""
        if self._partitions.replace(number):
            self._consumer.pause([number])
            self.replaced.set()

    def _take(self, gathering: _Gathering, number: int, records: Sequence[Any]) -> None:
        partition = self._partitions.get(number)
        if partition is None or partition not in self._partitions.active:
            return
        gathering.starts.setdefault(partition, partition.next_offset)
        taken = gathering.records.setdefault(partition, [])
        known = self._consumer.known_schemas
        for raw in records:
            if partition.check is not None:
                _check_last_applied(partition.number, partition.check, raw)
                partition.check = None
            if raw.offset < partition.next_offset:
                continue
            record = log_record(raw)
            decode_record(record, known)
            taken.append(record)
            partition.next_offset = raw.offset + 1
            gathering.count += 1
            gathering.bytes += len(raw.value or b"") + len(raw.key or b"")

    async def _finish(self, gathering: _Gathering) -> Poll | None:
        """The gathered parts, with positions that also pass over holes in the log."""
        parts = []
        for partition in self._partitions.active:
            start = gathering.starts.get(partition, partition.next_offset)
            position = await self._consumer.position(partition.number)
            if not self._partitions.is_current(partition):
                continue
            if partition.check is not None:
                # Nothing is written before the check. A position beyond it: where the
                # last applied record was there is none (of a transaction's marks).
                if position is not None and position > partition.check.offset:
                    raise WrongLogError(_other_record_text(partition.number, partition.check))
                continue
            if position is not None and position > partition.next_offset:
                partition.next_offset = position
            if partition.next_offset == start:
                continue
            records = gathering.records.get(partition, [])
            part = PartitionPart(
                partition.number, start, partition.next_offset, records, _last_applied(records)
            )
            parts.append((partition, part))
        return Poll(parts, gathering.count, gathering.bytes) if parts else None


def _last_applied(records: Sequence[LogRecord]) -> LastApplied | None:
    """What the ledger will remember of a part; of one without records nothing new."""
    if not records or (offset := records[-1].offset) is None:
        return None
    return LastApplied(offset, record_crc32(records[-1].key, records[-1].value))


def _check_last_applied(number: int, check: LastApplied, raw: Any) -> None:
    """Compare the first record of a partition with the one the ledger remembers."""
    if raw.offset == check.offset and record_crc32(raw.key, raw.value) == check.crc32:
        return
    raise WrongLogError(_other_record_text(number, check))


def _other_record_text(number: int, check: LastApplied) -> str:
    return (
        f"partition {number}: the record at offset {check.offset} is not the one that was written"
        " to this database: the topic was made anew or is another one. If the log was moved on"
        " purpose, see: oddslog ledger adopt --help"
    )


def log_record(raw: Any) -> LogRecord:
    """A consumer's record as ours, not decoded yet."""
    return LogRecord(
        raw.partition,
        raw.offset,
        raw.key,
        raw.value,
        raw.headers,
        utc_from_millis(raw.timestamp),
    )
