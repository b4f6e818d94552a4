"""Attempts: one poll into PostgreSQL, whatever it takes.

Tries again for ever while the trouble passes; in halves where a poll is too much;
once more where a prepared statement is from before a migration.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncEngine

from ..schemas.wire import Kind
from .checks import ColumnLimits
from .classify import ErrorClass, classify, is_stale_plan, sqlstate_of
from .database import TRANSACTION_TIMEOUT_SECONDS, LockWaits
from .halving import PollHalves, is_overload
from .items import PartitionPart
from .options import SinkOptions
from .poison import PoisonWindow
from .totals import SinkTotals
from .transaction import PollResult, write_poll
from .trouble import back_off, fatal
from .turn import Turn

__all__ = ["Attempts", "Commit"]

# The server ends what takes too long; this is for a server that does not answer.
_WRITE_SECONDS = TRANSACTION_TIMEOUT_SECONDS + 30.0


@dataclass(frozen=True, slots=True)
class Commit:
    """What one committed transaction held, when it began (perf_counter), how long it took."""

    parts: Sequence[PartitionPart]
    result: PollResult
    started: float
    seconds: float


class Attempts:
    """Writes polls, one at a time; used by the writer's task only.

    `waiting_to_retry` says that no transaction is open between two attempts;
    `waits` which session of ours may wait for a lock.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        limits: Mapping[Kind, ColumnLimits],
        options: SinkOptions,
        stopping: asyncio.Event,
        totals: SinkTotals,
        turn: Turn,
    ) -> None:
        self._engine = engine
        self._limits = limits
        self._options = options
        self._stopping = stopping
        self._totals = totals
        self._turn = turn
        self._window = PoisonWindow(options.accept_poison)
        self.waits = LockWaits()
        self.waiting_to_retry = False

    async def write_next(
        self, log_id: int, plan: PollHalves, is_live: Callable[[PartitionPart], bool]
    ) -> Commit | None:
        """Commit what is next of a poll; None where nothing is left, or after a stop.

        Parts that are not live (any more) are left out.

        Raises:
            ProtectionError: too much poison, or a refusal that no waiting mends.
        """
        attempt = 0
        last_was_stale = False
        while (group := plan.next_group()) is not None:
            parts = [part for part in group if is_live(part)]
            if not parts:
                plan.settled()
                continue
            started = time.perf_counter()
            clock = asyncio.timeout(_WRITE_SECONDS)
            try:
                async with clock:
                    result = await self._write(log_id, parts)
            except Exception as error:
                stale = is_stale_plan(error)
                if classify(error) is not ErrorClass.TRANSIENT or (stale and last_was_stale):
                    raise fatal(error) from error
                last_was_stale = stale
                attempt += 1
                if is_overload(sqlstate_of(error), timed_out=clock.expired()) and plan.overloaded():
                    self._totals.halvings += 1
                    attempt = 1  # a smaller poll, which has not failed yet
                await self._wait(attempt, error)
                if self._stopping.is_set():
                    return None
            else:
                plan.settled()
                self._window.add(result.tally)
                return Commit(parts, result, started, time.perf_counter() - started)
        return None

    async def _write(self, log_id: int, parts: Sequence[PartitionPart]) -> PollResult:
        with self._turn.transaction():
            return await write_poll(
                self._engine,
                log_id,
                parts,
                self._limits,
                store_raw=self._options.store_raw,
                waits=self.waits,
                judge=self._window.check,
            )

    async def _wait(self, attempt: int, error: Exception) -> None:
        self._totals.retried("transaction", error)
        self.waiting_to_retry = True
        try:
            await back_off(self._stopping, attempt, error, "transaction")
        finally:
            self.waiting_to_retry = False
