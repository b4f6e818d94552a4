"""The sink: a member of the group that writes the log into PostgreSQL.

The order that everything rests on:

1. poll and decode, record by record, in our own code
2. one transaction holds the rows, the dead letters and the ledger
3. the group's offsets, after the transaction; never the other way round

The next poll is decoded while the database works on this one. Three tasks do the
work, each owned by `run`: poller, writer, and the placer, which gives assigned
partitions their position; others sweep, end zombies, look how things stand, and copy
dead letters to their topic. The end of one ends all.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from ..schemas.errors import ConfigurationError
from ..schemas.kill_points import reached
from ..schemas.wire import Kind
from .attempts import Attempts, Commit
from .checks import ColumnLimits
from .classify import ErrorClass, classify
from .consumer import LogConsumer, LogReadError
from .errors import WrongLogError
from .fencing import Fence
from .halving import PollHalves
from .health import Standing
from .items import PartitionPart
from .ledger import LogIdentity
from .looking import is_log_written, ledger_rows
from .options import SinkOptions
from .outbox import LetterTopic, Outbox
from .placing import place_partitions
from .poller import Partitions, Poll, Poller
from .sweeper import Sweeper
from .together import every, run_together
from .totals import SinkTotals, log_poll
from .tracing import trace_transaction
from .trouble import back_off, fatal, unless_stopped
from .watcher import Held, Watcher

__all__ = ["Sink"]

log = structlog.get_logger("oddslog.sink")

# What a stop leaves the transaction in hand; Kubernetes kills after 30.
_STOP_SECONDS = 20.0
# How long a cancelled one may take to roll back: its connection may be dead.
_CANCEL_SECONDS = 5.0
_SIDE_SECONDS = 60.0
_SWEEP_SECONDS = 5.0
_REFUSALS_BEFORE_STOP = 3


class Sink:
    """One member of the group. `run` once; `stop` from a signal handler."""

    def __init__(
        self,
        engine: AsyncEngine,
        consumer: LogConsumer,
        identity: LogIdentity,
        limits: Mapping[Kind, ColumnLimits],
        options: SinkOptions,
        letters: LetterTopic | None = None,
    ) -> None:
        self._engine = engine
        self._consumer = consumer
        self._identity = identity
        self._limits = limits
        self._options = options
        self._partitions = Partitions()
        self._poller = Poller(
            consumer,
            self._partitions,
            poll_records=options.poll_records,
            poll_bytes=options.poll_bytes,
        )
        self._stopping = asyncio.Event()
        self._log_id: int | None = None
        # The poll in hand, from its taking to its offsets' commit; the revoke
        # callback waits for it.
        self._in_hand: asyncio.Task[None] | None = None
        # Whose offsets may be committed: from an assignment to the end of the
        # revoke callback, so longer than `_partitions` has them.
        self._owned: set[int] = set()
        # How far the ledger was of partitions whose row is behind that now.
        self._reached: dict[int, int] = {}
        # Where the ledger of partitions that were read stood at last, as far as we know.
        self._written: dict[int, int] = {}
        self._first_poll_at: float | None = None  # monotonic
        self._writing: Poll | None = None  # what `_in_hand` writes, for the watcher
        self.totals = SinkTotals()
        self.watcher = Watcher(engine, consumer, self._held)
        self._attempts = Attempts(
            engine, limits, options, self._stopping, self.totals, self._poller.turn
        )
        waits = self._attempts.waits
        self._fence = Fence(engine, waits, options, self.totals)
        self._sweeper = Sweeper(
            engine, limits, options, self._stopping, waits, self._fence, self.totals
        )
        self._outbox = None if letters is None else Outbox(engine, letters, self.totals)

    def stop(self) -> None:
        """Finish the transaction in hand, commit its offsets, leave. Returns at once."""
        self._stopping.set()

    @property
    def publishes(self) -> bool:
        """Whether dead letters go to a dead-letter topic."""
        return self._outbox is not None

    def standing(self) -> Standing:
        """What this member is about now. May be asked from any thread."""
        placing, troubles = self._partitions.placing, dict(self.totals.observed.troubles)
        joined, stopping = self._partitions.assigned, self._stopping.is_set()
        return Standing(joined, stopping, len(self._partitions), len(placing), troubles)

    def _held(self) -> Held:
        offsets = {p.number: self._written[p.number] for p in self._partitions.active}
        in_hand = () if self._writing is None else [part for _, part in self._writing.parts]
        return Held(self._identity.partition_count, offsets, in_hand)

    async def run(self) -> SinkTotals:
        """Write until stopped, or until caught up where that was asked for.

        Raises:
            UnreachableError: no broker answers at the start.
            ProtectionError: a gap, a wrong log, a database that refuses.
        """
        try:
            # Joining a group may take minutes: a stop does not wait for it.
            if await unless_stopped(self._stopping, self._consumer.start(self)):
                await self._run_tasks()
        finally:
            await self._consumer.stop()
        return self.totals

    async def _run_tasks(self) -> None:
        work = {
            "oddslog-poller": self._poll_loop(),
            "oddslog-writer": self._write_loop(),
            "oddslog-placer": self._place_loop(),
            "oddslog-sweep": self._sweep_loop(),
            "oddslog-fence": self._fence.run(self._stopping),
            "oddslog-watcher": self.watcher.run(self._stopping),
        }
        if self._outbox is not None:
            work["oddslog-letters"] = self._outbox.run(self._stopping)
        await run_together(
            self._stopping, work, stop_seconds=_STOP_SECONDS, cancel_seconds=2 * _CANCEL_SECONDS
        )

    # Rebalance: called by the group's protocol, see RebalanceListener.

    async def revoked(self, partitions: Iterable[int]) -> None:
        """Drop what is decoded; let the running transaction end, or cancel it."""
        self.totals.rebalances += 1
        self._partitions.revoke()
        self._poller.drop_queued()
        in_hand = self._in_hand
        if in_hand is not None:
            if self._attempts.waiting_to_retry:
                in_hand.cancel()
            await asyncio.wait({in_hand}, timeout=self._options.revoke_seconds)
            if not in_hand.done():
                log.warning("transaction_cancelled", reason="rebalance")
                in_hand.cancel()
        self._owned.clear()
        log.info("partitions_revoked", partitions=sorted(partitions))

    def assigned(self, partitions: Iterable[int]) -> None:
        """Take the partitions; the placer finds their positions."""
        numbers = sorted(partitions)
        self._partitions.assign(numbers)
        self._owned = set(numbers)
        for number in numbers:
            # A paused partition without a position would make a poll raise.
            self._consumer.seek(number, 0)
        self._consumer.pause(numbers)
        self._poller.replaced.set()
        log.info("partitions_assigned", partitions=numbers)

    # Step 1: poll and decode.

    async def _poll_loop(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            before = time.perf_counter()
            try:
                await self._poller.next_poll()
                failures = 0
                self.totals.observed.succeeded("poll")
                if self._first_poll_at is None and not self._poller.polls.empty():
                    self._first_poll_at = before
            except LogReadError as error:
                failures += 1
                self._give_up_on(error, failures)
                self._replace_all(error)
                self.totals.retried("poll", error)
                await back_off(self._stopping, failures, error, "poll")
            if self._options.until_caught_up and await self._is_caught_up():
                return

    def _give_up_on(self, error: LogReadError, failures: int) -> None:
        if not error.retriable and failures > _REFUSALS_BEFORE_STOP:
            raise ConfigurationError(
                f"Kafka refuses to read topic {self._identity.topic}: {error}"
            ) from error

    def _replace_all(self, error: LogReadError) -> None:
        """After an error of a poll, records may have been passed over: place anew."""
        log.warning("poll_failed", reason=str(error))
        self._poller.drop_queued()
        if not self._partitions.assigned:
            return  # the next assignment places them
        self.assigned([p.number for p in (*self._partitions.active, *self._partitions.placing)])

    async def _is_caught_up(self) -> bool:
        """Whether the tables have the log up to its end."""
        if not self._partitions.assigned or self._partitions.placing:
            return False
        if self._in_hand is not None or not self._poller.polls.empty():
            return False
        if any(partition.check is not None for partition in self._partitions.active):
            return False
        return await self._is_log_written()

    async def _is_log_written(self) -> bool:
        return self._log_id is not None and await is_log_written(
            self._engine, self._consumer, self._log_id, self._identity.partition_count
        )

    # Steps 2 and 3: one transaction, then the group's offsets.

    async def _write_loop(self) -> None:
        while not self._stopping.is_set():
            poll = await self._poller.wait_poll()
            if poll is None:
                continue
            in_hand = asyncio.create_task(self._write(poll), name="oddslog-transaction")
            self._in_hand, self._writing = in_hand, poll
            self._poller.taken()
            try:
                await asyncio.wait({in_hand})
            finally:
                if in_hand.cancel():  # this task itself is cancelled: roll back first
                    await asyncio.wait({in_hand}, timeout=_CANCEL_SECONDS)
                self._in_hand = self._writing = None
            if not in_hand.cancelled():
                in_hand.result()

    async def _write(self, poll: Poll) -> None:
        """Steps 2 and 3 of one poll; tries again for ever while the trouble passes."""
        owners = {part.partition: partition for partition, part in poll.parts}

        def is_live(part: PartitionPart) -> bool:
            return self._is_live(owners[part.partition])

        self.totals.took(poll)
        plan = PollHalves([part for _, part in poll.parts])
        while self._log_id is not None:
            commit = await self._attempts.write_next(self._log_id, plan, is_live)
            if commit is None:
                return
            await self._committed(commit)

    async def _committed(self, commit: Commit) -> None:
        """Step 3 of one transaction, and what its result says of the partitions."""
        result = commit.result
        now = commit.started + commit.seconds
        self.totals.active_seconds = now - (self._first_poll_at or commit.started)
        self.totals.add(result, commit.seconds)
        self.watcher.progress.wrote(commit.parts)
        log_poll(result, commit.seconds)
        starts = {part.partition: part.start for part in commit.parts}
        for number in result.went_back:
            log.warning("ledger_went_back", partition=number)
            self._reached[number] = max(self._reached.get(number, 0), starts[number])
            self._replace(number)
        self._written |= result.next_offsets
        reached("sink.before_offsets")
        if not await self._consumer.commit(self._still_assigned(result.next_offsets)):
            self.totals.offset_commit_failures += 1
        reached("sink.after_offsets")
        trace_transaction(commit.parts, result, commit.seconds)

    def _is_live(self, partition: object) -> bool:
        return any(partition is current for current in self._partitions.active)

    def _still_assigned(self, offsets: Mapping[int, int]) -> dict[int, int]:
        return {p: offset for p, offset in offsets.items() if p in self._owned}

    def _replace(self, number: int) -> None:
        if self._partitions.replace(number):
            self._consumer.pause([number])
            self._poller.replaced.set()

    # Positions.

    async def _place_loop(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            try:
                async with asyncio.timeout(0.25):
                    await self._poller.replaced.wait()
            except TimeoutError:
                continue
            self._poller.replaced.clear()
            try:
                async with asyncio.timeout(_SIDE_SECONDS):
                    await self._place()
                failures = 0
                self.totals.observed.succeeded("placing")
            except Exception as error:
                if not isinstance(error, LogReadError) and (
                    classify(error) is not ErrorClass.TRANSIENT
                ):
                    raise fatal(error) from error
                failures += 1
                if isinstance(error, LogReadError):
                    self._give_up_on(error, failures)
                self._poller.replaced.set()
                self.totals.retried("placing", error)
                await back_off(self._stopping, failures, error, "placing")

    async def _place(self) -> None:
        # Also with nothing to place: such a member has to notice a topic that is gone.
        waiting = self._partitions.placing
        # Asked anew: another member may have seen sooner that the topic has grown.
        known = await self._consumer.partition_count()
        if known == 0:
            raise WrongLogError(
                f"topic {self._identity.topic} is gone from the cluster: what was not written of it"
                " is lost. Make it anew (oddslog topics --create), then: oddslog ledger adopt"
            )
        count = max(known, self._identity.partition_count)
        identity = LogIdentity(self._identity.cluster_id, self._identity.topic, count)
        reached_offsets = dict(self._reached)
        placed = await place_partitions(
            self._engine, self._consumer, identity, self._options.placing, reached_offsets
        )
        for number, offset in reached_offsets.items():
            if self._reached.get(number) == offset:
                del self._reached[number]
        self._identity = identity
        self._log_id = placed.log_id
        for partition in waiting:
            if not self._partitions.is_current(partition):
                continue  # a rebalance came in between; its own placing follows
            placement = placed.placements[partition.number]
            partition.activate(placement)
            self._written[partition.number] = placement.next_offset
            self._consumer.seek(partition.number, placement.seek_to)
            self._consumer.resume([partition.number])
            log.info(
                "partition_placed",
                partition=partition.number,
                next_offset=placement.next_offset,
                checked=placement.check is not None,
            )

    # The sweep.

    async def _sweep_loop(self) -> None:
        await every(self._stopping, _SWEEP_SECONDS, self._sweep)
        # Once more at the end, so that a run until caught up leaves nothing behind.
        await self._sweep()
        if self._outbox is not None:
            self._outbox.settled.set()

    async def _look_at_ledger(self, log_id: int) -> None:
        """Notice a database that was restored while nothing was to be written."""
        expected = dict(self._written)  # before the look: a write may move on meanwhile
        rows = await ledger_rows(self._engine, log_id)
        for partition in self._partitions.active:
            known = expected.get(partition.number, 0)
            if partition.number not in rows or rows[partition.number].next_offset < known:
                self.totals.went_back += 1
                log.warning("ledger_went_back", partition=partition.number)
                self._reached[partition.number] = known
                self._replace(partition.number)

    async def _sweep(self) -> None:
        if self._log_id is None:
            return
        try:
            await self._look_at_ledger(self._log_id)
            await self._sweeper.sweep(self._log_id, expire=await self._is_log_written())
        except Exception as error:
            if classify(error) is not ErrorClass.TRANSIENT:
                raise fatal(error) from error
            await self._sweeper.wait_after(error)
