"""The sweeper: every few seconds, what polls alone do not mend."""

import asyncio
from collections.abc import Mapping

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from ..schemas.wire import Kind
from .checks import ColumnLimits
from .options import SinkOptions
from .sweep import sweep_pending
from .waiting import sweep_waiting

__all__ = ["Sweeper"]

log = structlog.get_logger("oddslog.sink")

_PENDING_SECONDS = 60.0
_LETTERS_SECONDS = 300.0


class Sweeper:
    """Pending confirmations and waiting letters of one database."""

    def __init__(
        self,
        engine: AsyncEngine,
        limits: Mapping[Kind, ColumnLimits],
        options: SinkOptions,
        stopping: asyncio.Event,
    ) -> None:
        self._engine = engine
        self._limits = limits
        self._options = options
        self._stopping = stopping

    async def sweep(self, log_id: int, *, expire: bool) -> None:
        """Apply, write and, where `expire`, end the waiting of what is too old.

        While there is a backlog nothing may expire: what is waited for may be in it.

        Raises:
            Whatever PostgreSQL raises, and TimeoutError.
        """
        retention_seconds = self._options.retention_seconds if expire else None
        async with asyncio.timeout(_PENDING_SECONDS):
            pending = await sweep_pending(self._engine, log_id, retention_seconds)
        if pending.applied or pending.expired:
            log.info("pending_swept", applied=pending.applied, expired=pending.expired)
        # A stop ends a sweep at its next page; the last one, after the stop, goes as far
        # as the time that a stop leaves.
        ending = self._stopping.is_set()
        async with asyncio.timeout(_LETTERS_SECONDS):
            letters = await sweep_waiting(
                self._engine,
                self._limits,
                self._options.parent_wait_seconds if expire else None,
                store_raw=self._options.store_raw,
                stopping=lambda: self._stopping.is_set() and not ending,
            )
        if letters.written or letters.refused or letters.expired:
            log.info(
                "waiting_swept",
                written=letters.written,
                refused=letters.refused,
                expired=letters.expired,
            )
