"""PostgreSQL's side of `status`: ledger, dead letters, what waits, and the size."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ..schemas.errors import UnreachableError
from ..sink.database_url import masked_url
from ..sink.migrate import check_migrated
from .database import asking, open_engine
from .queries import (
    Cause,
    DatabaseState,
    KnownLog,
    dead_letter_causes,
    dead_letter_counts,
    known_logs,
)
from .settings import Settings, variable

__all__ = ["DatabaseLook", "DatabaseView"]

LOOK_SECONDS = 10.0
_CLOSE_SECONDS = 2.0
# What has to count whole tables is asked for no more often.
_SLOW_SECONDS = 10.0
_MOST_CAUSES = 20

_WAITING = text(
    "SELECT count(*) AS letters, min(first_seen_at) AS oldest_at FROM oddslog_dead_letters"
    " WHERE status = 'waiting'"
)
_PENDING = text(
    "SELECT count(*) AS confirmations, min(created_at) AS oldest_at"
    " FROM oddslog_pending_confirmations"
)
_UNPUBLISHED = text(
    "SELECT count(*) AS letters, min(last_seen_at) AS oldest_at FROM oddslog_dead_letters"
    " WHERE status = 'dead' AND published_at IS NULL"
)
_SIZE = text("SELECT pg_database_size(current_database())")


@dataclass(frozen=True)
class _Slow:
    dead_letters: Sequence[tuple[str, str, int]]
    causes: Sequence[Cause]
    waiting: int
    oldest_waiting_at: datetime | None
    pending: int
    oldest_pending_at: datetime | None
    unpublished: int
    oldest_unpublished_at: datetime | None
    size_bytes: int


@dataclass(frozen=True)
class DatabaseView:
    """What PostgreSQL said of one look.

    `causes` are those of letters that are dead or wait, the most frequent first;
    `unpublished_letters` those that did not go to a dead-letter topic.
    """

    state: DatabaseState
    causes: Sequence[Cause]
    waiting_letters: int
    oldest_waiting_at: datetime | None
    oldest_pending_at: datetime | None
    unpublished_letters: int = 0
    oldest_unpublished_at: datetime | None = None


class DatabaseLook:
    """Looks at one database, with a connection that stays open between looks."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._open = AsyncExitStack()
        self._engine: AsyncEngine | None = None
        self._slow: _Slow | None = None
        self._slow_at = 0.0

    async def read(self) -> DatabaseView:
        """Look once.

        Raises:
            UnreachableError: PostgreSQL does not answer, or not in 10 s.
            ConfigurationError: it is not migrated, or refuses the user.
        """
        if self._engine is None:
            self._engine = await self._open.enter_async_context(
                open_engine(self._settings, "status")
            )
        try:
            with asking(self._engine):
                async with asyncio.timeout(LOOK_SECONDS), self._engine.connect() as connection:
                    return await self._read(connection)
        except TimeoutError as error:
            url = masked_url(self._settings.require_database_url())
            raise UnreachableError(
                f"PostgreSQL at {url} does not answer (no answer in time): start it, or mend"
                f" {variable('database_url')}"
            ) from error

    async def close(self) -> None:
        """Close the connection, within seconds."""
        opened, self._open, self._engine = self._open, AsyncExitStack(), None
        closing = asyncio.ensure_future(opened.aclose())
        await asyncio.wait({closing}, timeout=_CLOSE_SECONDS)
        if not closing.done():  # a server that hangs
            closing.cancel()
            await asyncio.wait({closing}, timeout=_CLOSE_SECONDS)

    async def _read(self, connection: AsyncConnection) -> DatabaseView:
        await check_migrated(connection)
        logs = await known_logs(connection)
        if self._slow is None or time.monotonic() - self._slow_at >= _SLOW_SECONDS:
            self._slow, self._slow_at = await _read_slow(connection), time.monotonic()
        return _view(logs, self._slow)


def _view(logs: Sequence[KnownLog], slow: _Slow) -> DatabaseView:
    return DatabaseView(
        DatabaseState(logs, slow.dead_letters, slow.pending, slow.size_bytes),
        slow.causes,
        slow.waiting,
        slow.oldest_waiting_at,
        slow.oldest_pending_at,
        slow.unpublished,
        slow.oldest_unpublished_at,
    )


async def _read_slow(connection: AsyncConnection) -> _Slow:
    waiting = (await connection.execute(_WAITING)).one()
    pending = (await connection.execute(_PENDING)).one()
    unpublished = (await connection.execute(_UNPUBLISHED)).one()
    causes: list[Cause] = []
    for status in ("dead", "waiting"):
        causes += await dead_letter_causes(
            connection, status=status, reason=None, limit=_MOST_CAUSES
        )
    return _Slow(
        await dead_letter_counts(connection),
        sorted(causes, key=lambda cause: -cause.letters),
        waiting.letters,
        waiting.oldest_at,
        pending.confirmations,
        pending.oldest_at,
        unpublished.letters,
        unpublished.oldest_at,
        (await connection.execute(_SIZE)).scalar_one(),
    )
