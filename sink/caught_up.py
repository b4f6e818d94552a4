"""The caught-up time in the database: it outlives the process, and all members add to it."""

import json

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ..schemas.kill_points import reached
from .database import LockWaits
from .expiry import CaughtUpTime

__all__ = ["CaughtUp"]

# One row a log. A member that looks at the same moment waits for it.
_MAKE = text(
    "INSERT INTO oddslog_meta (name, value) VALUES (:name, 'null') ON CONFLICT (name) DO NOTHING"
)
_READ = text(
    "SELECT value, CAST(extract(epoch FROM clock_timestamp()) AS float8) AS now,"
    " EXISTS (SELECT FROM oddslog_dead_letters WHERE status = 'waiting') AS anything_waits"
    " FROM oddslog_meta WHERE name = :name FOR UPDATE"
)
_WRITE = text(
    "UPDATE oddslog_meta SET value = CAST(:value AS jsonb), updated_at = now() WHERE name = :name"
)


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

    async def look(self, log_id: int, *, caught_up: bool) -> float | None:
        """Note a look; the age from which a letter has waited long enough, or None.

        Where nothing waits and nothing is to be taken back, nothing is written.

        Raises:
            Whatever PostgreSQL, the driver or the network raises (see `classify`).
        """
        async with self._engine.connect() as connection:
            async with connection.begin():
                async with self._waits.around(connection):
                    age = await self._look(connection, f"caught_up_{log_id}", caught_up=caught_up)
                reached("sink.before_caught_up_commit")
            reached("sink.after_caught_up_commit")
        self._looked = True
        return age

    async def _look(
        self, connection: AsyncConnection, name: str, *, caught_up: bool
    ) -> float | None:
        row = (await connection.execute(_READ, {"name": name})).one_or_none()
        if row is None:
            await connection.execute(_MAKE, {"name": name})
            row = (await connection.execute(_READ, {"name": name})).one()
        time = CaughtUpTime(self._wait_seconds, row.value)
        age = time.look(row.now, caught_up=caught_up, first=not self._looked)
        if row.value != time.state and (row.anything_waits or not caught_up):
            await connection.execute(_WRITE, {"name": name, "value": json.dumps(time.state)})
        return age
