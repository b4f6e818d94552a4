"""The sweeper: every few seconds, what polls alone do not mend."""

import asyncio
import time
from collections.abc import Mapping

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from ..schemas.wire import Kind
from .caught_up import CaughtUp
from .checks import ColumnLimits
from .classify import ErrorClass, classify, sqlstate_of
from .database import LockWaits
from .fencing import Fence
from .halving import is_overload
from .options import SinkOptions
from .runs import prune_runs
from .sweep import sweep_pending
from .totals import SinkTotals
from .trouble import back_off, error_name
from .waiting import Expiry, SweptLetters, sweep_waiting

__all__ = ["Sweeper"]

log = structlog.get_logger("oddslog.sink")

_PENDING_SECONDS = 60.0
_LETTERS_SECONDS = 300.0
_PRUNE_SECONDS = 60.0
_PRUNE_EVERY_SECONDS = 3600.0
_MOST_DIVISOR = 1 << 24  # of a page's bytes, one is left


class Sweeper:
    """Pending confirmations, waiting letters and old scrape runs of one database."""

    def __init__(
        self,
        engine: AsyncEngine,
        limits: Mapping[Kind, ColumnLimits],
        options: SinkOptions,
        stopping: asyncio.Event,
        waits: LockWaits,
        fence: Fence,
        totals: SinkTotals,
    ) -> None:
        self._engine = engine
        self._limits = limits
        self._options = options
        self._stopping = stopping
        self._waits = waits
        self._fence = fence
        self._totals = totals
        self._caught_up = CaughtUp(engine, options.parent_wait_seconds, waits)
        self._divisor = 1  # of a page's size
        self._failures = 0
        self._prune_at = 0.0  # monotonic

    async def sweep(self, log_id: int, *, expire: bool) -> None:
        """Apply, write and, where `expire`, end the waiting of what is too old.

        While there is a backlog nothing may expire: what is waited for may be in it.

        Raises:
            Whatever PostgreSQL raises, and TimeoutError.
        """
        retention_seconds = self._options.retention_seconds if expire else None
        async with asyncio.timeout(_PENDING_SECONDS):
            before = await self._caught_up.look(log_id, caught_up=expire)
            pending = await sweep_pending(
                self._engine, log_id, retention_seconds, waits=self._waits
            )
        if pending.applied or pending.expired:
            log.info("pending_swept", applied=pending.applied, expired=pending.expired)
        letters = await self._sweep_letters(None if before is None else Expiry(log_id, before))
        self._failures = 0
        self._totals.swept(
            pending_applied=pending.applied,
            pending_expired=pending.expired,
            waiting_written=letters.written,
            waiting_refused=letters.refused,
            waiting_expired=letters.expired,
        )
        if letters.written or letters.refused or letters.expired:
            log.info(
                "waiting_swept",
                written=letters.written,
                refused=letters.refused,
                expired=letters.expired,
            )
        if letters.elsewhere:
            await self._fence.end_sweeping()
        if expire:
            await self._prune_runs()

    async def wait_after(self, error: Exception) -> None:
        """Count and log a sweep that failed, and wait before the next, or until stopped."""
        self._totals.retried("sweep", error)
        self._failures += 1
        await back_off(self._stopping, self._failures, error, "sweep")

    async def _prune_runs(self) -> None:
        """Forget old runs, once an hour; in a backlog they may be arriving again.

        Where that fails, the sweep has succeeded all the same: it is logged, and tried
        again in an hour.

        Raises:
            What waiting does not mend.
        """
        now = time.monotonic()
        if now < self._prune_at:
            return
        self._prune_at = now + _PRUNE_EVERY_SECONDS
        try:
            async with asyncio.timeout(_PRUNE_SECONDS):
                pruned = await prune_runs(self._engine, self._options.run_retention_seconds)
        except Exception as error:
            if classify(error) is not ErrorClass.TRANSIENT:
                raise
            log.warning("prune_failed", reason=error_name(error), sqlstate=sqlstate_of(error))
            return
        if pruned:
            log.info("runs_pruned", runs=pruned)

    async def _sweep_letters(self, expiry: Expiry | None) -> SweptLetters:
        """One sweep of letters; after one that was too much in pages of half the size."""
        # A stop ends a sweep at its next page; the last one, after the stop, goes as far
        # as the time that a stop leaves.
        ending = self._stopping.is_set()
        clock = asyncio.timeout(_LETTERS_SECONDS)
        try:
            async with clock:
                letters = await sweep_waiting(
                    self._engine,
                    self._limits,
                    expiry,
                    store_raw=self._options.store_raw,
                    stopping=lambda: self._stopping.is_set() and not ending,
                    divisor=self._divisor,
                    waits=self._waits,
                )
        except Exception as error:
            if is_overload(sqlstate_of(error), timed_out=clock.expired()):
                self._divisor = min(2 * self._divisor, _MOST_DIVISOR)
            raise
        self._divisor = 1
        return letters
