"""The caught-up time in the database: it outlives the process, and all members add to it."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ..schemas.kill_points import reached
from .database import LockWaits
from .expiry import CaughtUpTime

__all__ = ["CaughtUp"]

# One row a log. Nobody waits for the member that has it, which may be frozen.
_MAKE = text(
    "INSERT INTO oddslog_meta (name, value) VALUES (:name, 'null') ON CONFLICT (name) DO NOTHING"
)
_READ = text(
    "SELECT value, CAST(extract(epoch FROM clock_timestamp()) AS float8) AS now,"
    " EXISTS (SELECT FROM oddslog_dead_letters WHERE status = 'waiting') AS anything_waits"
    " FROM oddslog_meta WHERE name = :name FOR UPDATE SKIP LOCKED"
)
_WRITE = text(
    "UPDATE oddslog_meta SET value = CAST(:value AS jsonb), updated_at = now() WHERE name = :name"
)

# A look takes milliseconds. A backlog has to be noted, or others would go on counting; so
# it is tried some times, where another member looks at the same moment.
_BACKLOG_TRIES = 5
_TRY_SECONDS = 0.1


class CaughtUp:
    """Looks of one process at whether the log is caught up.

    Args:
        engine: of the database.
        wait_seconds: how long a letter waits.
        waits: is told which session may wait for another's locks.
    """

    def __init__(self, engine: AsyncEngine, wait_seconds: float, waits: LockWaits) -> None:
        self._engine = engine
        self._wait_seconds = wait_seconds
        self._waits = waits
        self._looked = False

    async def look(self, log_id: int, *, caught_up: bool) -> datetime | None:
        """Note a look; the moment before which a letter must have come to have waited enough.

        None where no letter has, or the log is not caught up. Where nothing waits and
        nothing is to be taken back, nothing is written. Where another member's look has
        the row, nothing is noted and the answer is None: letters wait longer.

        Raises:
            Whatever PostgreSQL, the driver or the network raises (see `classify`).
        """
        async with self._engine.connect() as connection:
            async with connection.begin():
                async with self._waits.around(connection):
                    before = await self._look(
                        connection, f"caught_up_{log_id}", caught_up=caught_up
                    )
                reached("sink.before_caught_up_commit")
            reached("sink.after_caught_up_commit")
        return before

    async def _look(
        self, connection: AsyncConnection, name: str, *, caught_up: bool
    ) -> datetime | None:
        row = await _take(connection, name, tries=1 if caught_up else _BACKLOG_TRIES)
        if row is None:
            return None
        time = CaughtUpTime(self._wait_seconds, row.value)
        before = time.look(row.now, caught_up=caught_up, first=not self._looked)
        self._looked = True
        if row.value != time.state and (row.anything_waits or not caught_up):
            await connection.execute(_WRITE, {"name": name, "value": json.dumps(time.state)})
        return None if before is None else datetime.fromtimestamp(before, UTC)


async def _take(connection: AsyncConnection, name: str, *, tries: int) -> Any | None:
    """The row, locked and made where it is missing; None where another member keeps it."""
    for number in range(tries):
        if number:
            await asyncio.sleep(_TRY_SECONDS)
        row = (await connection.execute(_READ, {"name": name})).one_or_none()
        if row is None:
            await connection.execute(_MAKE, {"name": name})
            row = (await connection.execute(_READ, {"name": name})).one_or_none()
        if row is not None:
            return row
    return None
