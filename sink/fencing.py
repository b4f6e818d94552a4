"""Fencing: ending the backend of a zombie that holds what others wait for.

A process that is stopped (SIGSTOP, a frozen machine) in mid-COPY keeps its
transaction and its locks for ever, whatever the server's time-outs: the ledger's rows,
natural keys, the sweep's lock. The group has given its partitions away; who waits for
its locks ends that backend when it has waited for its client for longer than the
rebalance time-out, the longest that a living owner may go on. Nothing of its
transaction stays; when the process wakes, it finds itself fenced. The same holds for a
command that writes beside the sink: it does a lost transaction again.
"""

import asyncio

import structlog
from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncEngine

from .classify import ErrorClass, classify
from .database import LockWaits
from .options import SinkOptions
from .totals import SinkTotals
from .trouble import fatal

__all__ = ["Fence"]

log = structlog.get_logger("oddslog.sink")

_LOOK_SECONDS = 5.0
_END_SECONDS = 20.0

# Only what keeps our own sessions, of our role and database, and of our name or that of a
# command which writes snapshots too; that waits for its client; and whose transaction and
# statement are older than the rebalance time-out: a living member, however long its sweep,
# goes from statement to statement.
_END_ZOMBIES = """
    WITH RECURSIVE b(pid) AS ({keepers})
    SELECT z.pid, round(extract(epoch FROM clock_timestamp() - z.xact_start), 1) AS seconds,
           pg_terminate_backend(z.pid) AS ended
    FROM b
    JOIN pg_stat_activity AS z ON z.pid = b.pid
    WHERE z.usename = current_user AND z.datname = current_database()
      AND z.application_name IN (current_setting('application_name'), 'oddslog replay',
                                 'oddslog verify')
      AND greatest(z.xact_start, z.state_change)
          < clock_timestamp() - make_interval(secs => :seconds)
      AND z.wait_event_type = 'Client'
"""
_END_BLOCKING = text(
    _END_ZOMBIES.format(
        # Also behind others that wait: a backend does so on when its process is dead.
        keepers="SELECT unnest(pg_blocking_pids(own.pid))"
        " FROM unnest(CAST(:pids AS int[])) AS own(pid)"
        " UNION SELECT unnest(pg_blocking_pids(b.pid)) FROM b"
    )
)
# pg_locks shows the lock's two numbers as unsigned ones.
_END_SWEEPING = text(
    _END_ZOMBIES.format(
        keepers="SELECT l.pid FROM pg_locks AS l"
        " JOIN pg_database AS own ON own.oid = l.database AND own.datname = current_database()"
        " WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2"
        " AND CAST(l.classid AS bigint) = 1868850295 AND CAST(l.objid AS bigint)"
        " = (CAST(hashtext(current_schema()) AS bigint) & 4294967295)"
    )
)


class Fence:
    """Looks every few seconds whether a zombie keeps our sessions from what they wait for."""

    def __init__(
        self, engine: AsyncEngine, waits: LockWaits, options: SinkOptions, totals: SinkTotals
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
        if not self._waits.pids:
            return
        try:
            await self._end_zombies(_END_BLOCKING, pids=list(self._waits.pids))
        except Exception as error:
            if classify(error) is not ErrorClass.TRANSIENT:
                raise fatal(error) from error

    async def end_sweeping(self) -> None:
        """End a zombie that holds the sweep's lock; asked when that lock is another's.

        Raises:
            Whatever PostgreSQL raises, and TimeoutError.
        """
        await self._end_zombies(_END_SWEEPING)

    async def _end_zombies(self, statement: TextClause, **keepers: object) -> None:
        parameters = {**keepers, "seconds": self._older_than_seconds}
        async with asyncio.timeout(_END_SECONDS), self._engine.connect() as connection:
            rows = (await connection.execute(statement, parameters)).all()
        for row in (row for row in rows if row.ended):
            self._totals.fenced_backends += 1
            log.warning("zombie_terminated", pid=row.pid, transaction_seconds=float(row.seconds))
