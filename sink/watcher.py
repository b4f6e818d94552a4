"""The watcher: asks both servers every few seconds how things stand, for the metrics.

It writes nothing, and nothing waits for it.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from .consumer import LogReadError
from .health import Answers
from .items import PartitionPart
from .placing import LogEnds
from .progress import PartitionView, Progress
from .run_states import RunState
from .runs import read_runs
from .together import every
from .trouble import error_name

__all__ = ["Held", "Watcher"]

log = structlog.get_logger("oddslog.sink")

_VIEW_SECONDS = 1.0
_ASK_SECONDS = 5.0
_PING_SECONDS = 5.0
_COUNT_SECONDS = 60.0
_LONGEST_COUNT_SECONDS = 20.0
# Older ones are late for good: whoever was told of them can do no more.
_LATE_WITHIN_SECONDS = 3600.0
_LEAVE_SECONDS = 1.0

_PING = text("SELECT 1")
_COUNTS = text(
    "SELECT (SELECT count(*) FROM oddslog_pending_confirmations) AS pending,"
    " count(*) FILTER (WHERE status = 'waiting') AS waiting,"
    " count(*) FILTER (WHERE status = 'dead') AS dead,"
    " count(*) FILTER (WHERE status = 'dead' AND published_at IS NULL) AS unpublished"
    " FROM oddslog_dead_letters"
)


@dataclass(frozen=True, slots=True)
class Held:
    """What a member has: where the ledger of each partition stands, and what is being written."""

    partition_count: int
    next_offsets: Mapping[int, int]
    in_hand: Sequence[PartitionPart] = ()


@dataclass(slots=True)
class Watcher:
    """Looks until it is cancelled; what it saw may be read from any thread.

    Attributes:
        views: of this member's partitions, at most a second old.
        log_partitions: how many the log has, None before the first look.
        pending: confirmations in the database that wait, None before the first count.
        letters: its dead letters by status.
        unpublished: those that did not go to a dead-letter topic yet, None before.
        late_runs: its scrape runs that became late within an hour, None before the first count.
    """

    engine: AsyncEngine
    log_ends: LogEnds
    held: Callable[[], Held]
    progress: Progress = field(default_factory=Progress)
    kafka: Answers = field(default_factory=lambda: Answers("Kafka"))
    database: Answers = field(default_factory=lambda: Answers("PostgreSQL"))
    views: Sequence[PartitionView] = ()
    log_partitions: int | None = None
    pending: int | None = None
    letters: Mapping[str, int] = field(default_factory=dict)
    unpublished: int | None = None
    late_runs: int | None = None
    _ends: Mapping[int, int] = field(default_factory=dict)  # of the log's partitions
    _counted_at: float | None = None  # monotonic

    async def run(self, stopping: asyncio.Event) -> None:
        """Look until stopped. A server that is away is noted, and nothing else."""
        looks = {
            asyncio.create_task(every(stopping, seconds, look), name=f"oddslog{look.__name__}")
            for look, seconds in (
                (self._look_at_partitions, _VIEW_SECONDS),
                (self._ask_kafka, _ASK_SECONDS),
                (self._ask_database, _ASK_SECONDS),
            )
        }
        stop = asyncio.create_task(stopping.wait(), name="oddslog-watcher-stop")
        try:
            done, _ = await asyncio.wait({stop, *looks}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # A stop waits for no answer; a ping of a dead connection may hang for longer.
            for task in (stop, *looks):
                task.cancel()
            await asyncio.wait(looks, timeout=_LEAVE_SECONDS)
        for task in done & looks:
            task.result()

    async def _look_at_partitions(self) -> None:
        held = self.held()
        self.log_partitions = held.partition_count
        mine = held.next_offsets
        self.progress.keep(mine)
        # Also for partitions that came since: they were there when Kafka was asked.
        self.progress.look({n: end for n, end in self._ends.items() if n in mine}, time.time())
        self.views = [
            self.progress.view(number, next_offset, held.in_hand)
            for number, next_offset in sorted(mine.items())
        ]

    async def _ask_kafka(self) -> None:
        held = self.held()
        try:
            # All of them: also a member that has none has to see whether Kafka is there.
            ranges = await self.log_ends.ranges(range(held.partition_count))
        except LogReadError as error:
            self.kafka.failed(time.monotonic(), str(error))
            return
        self.kafka.answered(time.monotonic())
        self._ends = {number: held_range.end for number, held_range in ranges.items()}

    async def _ask_database(self) -> None:
        now = time.monotonic()
        count = self._counted_at is None or now - self._counted_at >= _COUNT_SECONDS
        try:
            async with asyncio.timeout(_PING_SECONDS), self.engine.connect() as connection:
                await connection.execute(_PING)
        except Exception as error:
            # Which error it is decides nothing here: the writer meets it, too.
            self.database.failed(time.monotonic(), error_name(error))
            return
        self.database.answered(time.monotonic())
        if count:
            self._counted_at = now
            await self._count()

    async def _count(self) -> None:
        try:
            async with asyncio.timeout(_LONGEST_COUNT_SECONDS), self.engine.connect() as connection:
                row = (await connection.execute(_COUNTS)).one()
                runs = await read_runs(connection, within_seconds=_LATE_WITHIN_SECONDS)
        except Exception as error:
            self.pending, self.letters = None, {}
            self.unpublished = self.late_runs = None
            log.info("count_failed", reason=error_name(error))
            return
        self.pending = row.pending
        self.letters = {"dead": row.dead, "waiting": row.waiting}
        self.unpublished = row.unpublished
        self.late_runs = sum(run.state() is RunState.LATE for run in runs)
