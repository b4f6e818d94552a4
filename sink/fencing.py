"""Fencing: ending the backend of a zombie that holds the ledger's rows.

A process that is stopped (SIGSTOP, a frozen machine) in mid-COPY keeps its
transaction and its locks for ever, whatever the server's time-outs. The group has
given its partitions away; their new owner waits for the ledger's rows, and after the
rebalance time-out, the longest that a living owner may go on, ends that backend.
Nothing of its transaction stays; when the process wakes, it finds itself fenced.
"""

import asyncio

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from .classify import ErrorClass, classify
from .database import LedgerWaits
from .options import SinkOptions
from .totals import SinkTotals
from .trouble import fatal

__all__ = ["Fence"]

log = structlog.get_logger("oddslog.sink")

_LOOK_SECONDS = 5.0
_END_SECONDS = 20.0

# Only what blocks our own session, of our role, database and name; older than the
# rebalance time-out; and not one that waits for a lock itself, which has a time-out.
_END_ZOMBIES = text(
    """
    SELECT z.pid, round(extract(epoch FROM clock_timestamp() - z.xact_start), 1) AS seconds,
           pg_terminate_backend(z.pid) AS ended
    FROM unnest(pg_blocking_pids(CAST(:pid AS int))) AS b(pid)
    JOIN pg_stat_activity AS z ON z.pid = b.pid
    WHERE z.usename = current_user AND z.datname = current_database()
      AND z.application_name = current_setting('application_name')
      AND z.xact_start < clock_timestamp() - make_interval(secs => :seconds)
      AND z.wait_event_type IS DISTINCT FROM 'Lock'
    """
)


class Fence:
    """Looks every few seconds whether a zombie keeps our session from the ledger."""

    def __init__(
        self, engine: AsyncEngine, waits: LedgerWaits, options: SinkOptions, totals: SinkTotals
    ) -> None:
        self._engine = engine
        self._waits = waits
        self._older_than_seconds = options.rebalance_timeout_seconds
        self._totals = totals

    async def run(self, stopping: asyncio.Event) -> None:
        """Look until stopped.

        Raises:
            ProtectionError: PostgreSQL refuses for a reason that no waiting mends.
        """
        while not stopping.is_set():
            try:
                async with asyncio.timeout(min(_LOOK_SECONDS, self._older_than_seconds / 4)):
                    await stopping.wait()
            except TimeoutError:
                await self._look()

    async def _look(self) -> None:
        if self._waits.pid is None:
            return
        try:
            await self._end_zombies(self._waits.pid)
        except Exception as error:
            if classify(error) is not ErrorClass.TRANSIENT:
                raise fatal(error) from error

    async def _end_zombies(self, pid: int) -> None:
        parameters = {"pid": pid, "seconds": self._older_than_seconds}
        async with asyncio.timeout(_END_SECONDS), self._engine.connect() as connection:
            rows = (await connection.execute(_END_ZOMBIES, parameters)).all()
        for row in (row for row in rows if row.ended):
            self._totals.fenced_backends += 1
            log.warning("zombie_terminated", pid=row.pid, transaction_seconds=float(row.seconds))
