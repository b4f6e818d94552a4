"""Whether a sink that stands still keeps others waiting for longer than it may.

PostgreSQL's processes for it are known by its proxy. The others have to end its
backend: one of them that lives, and yet waits and waits for it, is a finding.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from ...sink.classify import ErrorClass, classify
from ...sink.database import make_engine

__all__ = ["Verdict", "ZombieWatch"]

# The fence looks every 2.5 s of the torture's time-outs; what the other faults take from
# that (a stall, a freeze of the one that waits) is less than half of this.
_MOST_WAITING_SECONDS = 25.0
# Less than what the members' own watch takes for forgotten (70 s).
_MOST_SECONDS = 60.0
_LOOK_SECONDS = 1.0
_LOOK_DEADLINE_SECONDS = 4.0

_WAITING = text(
    "SELECT extract(epoch FROM max(clock_timestamp() - l.waitstart)) AS seconds"
    " FROM pg_locks AS l"
    " WHERE NOT l.granted AND l.pid = ANY(CAST(:living AS int[]))"
    " AND pg_blocking_pids(l.pid) && CAST(:frozen AS int[])"
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a watch.

    Attributes:
        blocked: whether a living sink was seen to wait for the frozen one.
        too_long_seconds: for how long one waits, where that is too long; else None.
    """

    blocked: bool
    too_long_seconds: float | None


class ZombieWatch:
    """Looks at the locks, past every proxy; close it.

    Args:
        database_url: of the database.
        frozen: PostgreSQL's processes for the sink that stands still.
        living: those for the sinks that live at that moment.
        most_waiting_seconds: for how long one of these may wait for that one.
    """

    def __init__(
        self,
        database_url: str,
        frozen: Sequence[int],
        living: Callable[[], Sequence[int]],
        *,
        most_waiting_seconds: float = _MOST_WAITING_SECONDS,
    ) -> None:
        self._engine: AsyncEngine = make_engine(database_url, application_name="oddslog torture")
        self._frozen = list(frozen)
        self._living = living
        self._most_waiting_seconds = most_waiting_seconds

    async def close(self) -> None:
        """Close its connection."""
        await self._engine.dispose()

    async def watch(self, seconds: float) -> Verdict:
        """Watch for so long, and on while somebody waits; about a minute at most."""
        began = time.monotonic()
        blocked = False
        while (passed := time.monotonic() - began) < _MOST_SECONDS:
            waiting = await self.waiting_seconds()
            blocked = blocked or waiting is not None
            if waiting is not None and waiting > self._most_waiting_seconds:
                return Verdict(blocked, waiting)
            if waiting is None and passed >= seconds:
                break
            await asyncio.sleep(_LOOK_SECONDS)
        return Verdict(blocked, None)

    async def waiting_seconds(self) -> float | None:
        """For how long a living sink has waited; None where none does, or nobody can tell."""
        pids = {"frozen": self._frozen, "living": list(self._living())}
        try:
            async with asyncio.timeout(_LOOK_DEADLINE_SECONDS), self._engine.connect() as database:
                found = (await database.execute(_WAITING, pids)).scalar_one()
        except Exception as error:
            if classify(error) is not ErrorClass.TRANSIENT:
                raise
            return None
        return None if found is None else float(found)
