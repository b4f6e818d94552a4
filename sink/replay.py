"""Replay: a part of the log through the sink's write path once more, beside the sink.

Never moves the ledger, unless it adopts. Each transaction also holds how far the
replay is: one that was interrupted at any line goes on behind its last commit. The
next part is read and decoded while the database works on this one.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from ..schemas.errors import UnreachableError
from .classify import ErrorClass, classify, is_stale_plan, sqlstate_of
from .database import TRANSACTION_TIMEOUT_SECONDS
from .halving import PollHalves, is_overload
from .items import PartitionPart
from .log_reader import LogReader
from .poison import PoisonWindow
from .replay_progress import ReplayState
from .replay_store import remove_state
from .replay_transaction import ReplayTarget, write_replayed
from .trouble import back_off, fatal

__all__ = ["Replay", "ReplayOptions"]

# The server ends what takes too long; this is for a server that does not answer.
_WRITE_SECONDS = TRANSACTION_TIMEOUT_SECONDS + 30.0
# A restart or a failover is over well before; then a person should know.
_GIVE_UP_SECONDS = 600.0
_FORGET_SECONDS = 20.0


@dataclass(frozen=True)
class ReplayOptions:
    """How a replay works; `max_rate` is in records a second, None: as fast as it goes."""

    poll_records: int = 500
    poll_bytes: int = 16 * 1024 * 1024
    max_rate: int | None = None
    accept_poison: tuple[str, ...] = ()


class Replay:
    """One replay, or the rest of one. `run` once; `stop` from a signal handler.

    `state` is what is committed (of a dry run: what was tried).
    """

    def __init__(
        self, target: ReplayTarget, reader: LogReader, state: ReplayState, options: ReplayOptions
    ) -> None:
        self._target = target
        self._reader = reader
        self._options = options
        self._window = PoisonWindow(options.accept_poison, command="the same with")
        self._stopping = asyncio.Event()
        self.state = state
        self.retries = 0

    def stop(self) -> None:
        """Finish the transaction in hand, and end. Returns at once."""
        self._stopping.set()

    async def run(self) -> ReplayState:
        """Write what remains, or until stopped; `finished` tells which.

        Raises:
            GapError: the log no longer holds what was to be read.
            UnreachableError: Kafka for a minute, or PostgreSQL for ten, does not answer.
            ProtectionError: too much poison, another owner, or PostgreSQL refuses.
        """
        options = self._options
        records = options.poll_records
        if options.max_rate is not None:
            records = max(1, min(records, options.max_rate))
        reading = self._reader.read(
            self.state.remaining(), max_records=records, max_bytes=options.poll_bytes
        )
        async with aclosing(reading):
            await self._write_all(reading)
        if not self.state.finished and self.state.done and not self._stopping.is_set():
            await self._write([])  # there was nothing to read: end it all the same
        if self.state.finished and not self._target.dry_run:
            await self._forget()
        return self.state

    async def _forget(self) -> None:
        """Take the finished state away; where it stays, nobody looks at it."""
        try:
            async with asyncio.timeout(_FORGET_SECONDS), self._target.engine.begin() as connection:
                await remove_state(connection, self.state)
        except Exception as error:
            if classify(error) is not ErrorClass.TRANSIENT:
                raise fatal(error) from error

    async def _write_all(self, reading: AsyncIterator[list[PartitionPart]]) -> None:
        pace = _Pace(self._options.max_rate)
        following = asyncio.create_task(_next(reading), name="oddslog-replay-reader")
        try:
            while parts := await self._unless_stopped(following):
                following = asyncio.create_task(_next(reading), name="oddslog-replay-reader")
                await self._write(parts)
                await pace.keep(sum(len(part.records) for part in parts), self._stopping)
        finally:
            following.cancel()
            await asyncio.wait({following})

    async def _unless_stopped(
        self, following: "asyncio.Task[list[PartitionPart]]"
    ) -> list[PartitionPart]:
        """What is to be written next; nothing at the end, or after a stop."""
        stop = asyncio.create_task(self._stopping.wait(), name="oddslog-replay-stop")
        try:
            await asyncio.wait({following, stop}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
        return [] if self._stopping.is_set() else following.result()

    async def _write(self, parts: Sequence[PartitionPart]) -> None:
        """Write the parts, in halves where they are too much; tries again after trouble."""
        plan = PollHalves(parts)
        attempt = 0
        last_was_stale = False
        failing_since: float | None = None
        while (group := plan.next_group()) is not None:
            clock = asyncio.timeout(_WRITE_SECONDS)
            try:
                async with clock:
                    self.state, tally = await write_replayed(
                        self._target, self.state, group, self._window.check
                    )
            except Exception as error:
                stale = is_stale_plan(error)
                if classify(error) is not ErrorClass.TRANSIENT or (stale and last_was_stale):
                    raise fatal(error) from error
                last_was_stale = stale
                attempt += 1
                failing_since = failing_since or time.monotonic()
                if is_overload(sqlstate_of(error), timed_out=clock.expired()) and plan.overloaded():
                    attempt, failing_since = 1, None  # smaller parts, which have not failed yet
                await self._back_off(attempt, error, failing_since)
                if self._stopping.is_set():
                    return
            else:
                plan.settled()
                self._window.add(tally)
                attempt, failing_since = 0, None

    async def _back_off(self, attempt: int, error: Exception, since: float | None) -> None:
        if since is not None and time.monotonic() - since > _GIVE_UP_SECONDS:
            raise UnreachableError(
                f"PostgreSQL has not taken anything for {_GIVE_UP_SECONDS / 60:.0f} minutes"
                f" ({type(getattr(error, 'orig', None) or error).__name__})"
            ) from error
        self.retries += 1
        await back_off(self._stopping, attempt, error, "transaction")


class _Pace:
    """Keeps the records a second below a bound."""

    def __init__(self, max_rate: int | None) -> None:
        self._max_rate = max_rate
        self._free_at = time.monotonic()

    async def keep(self, records: int, stopping: asyncio.Event) -> None:
        """Wait as long as these records have to take, or until stopped."""
        if self._max_rate is None:
            return
        # Time that was lost to trouble is not made up for.
        self._free_at = max(self._free_at + records / self._max_rate, time.monotonic() - 1.0)
        left_seconds = self._free_at - time.monotonic()
        if left_seconds > 0:
            try:
                async with asyncio.timeout(left_seconds):
                    await stopping.wait()
            except TimeoutError:
                pass


async def _next(reading: AsyncIterator[list[PartitionPart]]) -> list[PartitionPart]:
    """The next parts; none at the end."""
    return await anext(reading, [])
