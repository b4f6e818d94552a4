"""Looking at all that `status` shows: both servers at once, and the spool beside them."""

import asyncio
import time
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from ..ingest.spool_look import SpoolStatus, look_at_spool
from ..schemas.errors import ConfigurationError, OddslogError
from .database_look import DatabaseLook, DatabaseView
from .log_look import LogLook, LogView
from .overview import Overview, Places
from .pace import OffsetSeries, Pace
from .settings import Settings

__all__ = ["Looks", "read_overview"]

# How long a single `status` waits for a second look at a sink that has work to do.
_BETWEEN_LOOKS_SECONDS = 2.0
_WINDOW_SECONDS = 10.0
_SPOOL_SECONDS = 5.0


class Looks:
    """The three sides, and what was last heard of each.

    A side that fails keeps its error until it answers again. Use as a context.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._places = Places(
            settings.topic,
            settings.group,
            settings.spool_dir,
            settings.spool_bytes,
            settings.dead_letter_topic,
        )
        self._log = LogLook(settings.kafka(), settings.topic, settings.group)
        self._tables = DatabaseLook(settings)
        self._written = OffsetSeries(_WINDOW_SECONDS)
        self._appended = OffsetSeries(_WINDOW_SECONDS)
        self._kafka: LogView | OddslogError | None = None
        self._database: DatabaseView | OddslogError | None = None
        self._spool: SpoolStatus | OddslogError | None = None
        self._oldest: dict[int, datetime] = {}
        self._heard: dict[str, datetime] = {}
        self._ahead: frozenset[int] = frozenset()
        self._open = AsyncExitStack()

    async def __aenter__(self) -> "Looks":
        self._open.push_async_callback(self._log.close)
        self._open.push_async_callback(self._tables.close)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    def overview(self) -> Overview:
        """All that is known now. Asks nobody."""
        return Overview(
            self._places,
            datetime.now(UTC),
            self._kafka,
            self._database,
            self._spool,
            dict(self._oldest),
            Pace(self._written.per_second(), self._appended.per_second()),
            dict(self._heard),
            self._ahead,
        )

    async def look(self) -> None:
        """Look at all sides once, at the same time."""
        await _together(self.look_at_tables(), self.look_at_log(), self.look_at_spool())

    async def look_at_log(self) -> None:
        """Ask Kafka; what it says of ages follows the ledger as it was seen last."""
        before = {one.partition: one.ledger_next or 0 for one in self.overview().partitions()}
        try:
            view = await self._log.read()
        except OddslogError as error:
            self._kafka = error
            self._appended.clear()
            return
        self._kafka = view
        # A log only grows: what was past its end before it was asked is of another one.
        ranges = view.log.ranges
        self._ahead = frozenset(p for p, held in ranges.items() if before.get(p, 0) > held.end)
        self._heard["Kafka"] = datetime.now(UTC)
        self._appended.add(time.monotonic(), {p: held.end for p, held in view.log.ranges.items()})

    async def look_at_ages(self) -> None:
        """Ask Kafka how old the first record is that is not written, where something lags."""
        view = self._kafka
        if view is None or isinstance(view, OddslogError):
            return
        lagging = {
            state.partition: state.ledger_next or 0
            for state in self.overview().partitions()
            if state.lag_records
        }
        self._oldest = await self._log.appended_at(view, lagging) if lagging else {}

    async def look_at_tables(self) -> None:
        """Ask PostgreSQL."""
        try:
            self._database = await self._tables.read()
        except OddslogError as error:
            self._database = error
            self._written.clear()
            return
        self._heard["PostgreSQL"] = datetime.now(UTC)
        log = self.overview().log
        if log is not None:
            offsets = {number: row.next_offset for number, row in log.rows.items()}
            self._written.add(time.monotonic(), offsets)

    async def look_at_spool(self) -> None:
        """Count what is in the spool, where one is set and was ever used."""
        if self._settings.spool_dir is None:
            return
        directory = Path(self._settings.spool_dir)
        try:
            async with asyncio.timeout(_SPOOL_SECONDS):
                self._spool = await asyncio.to_thread(_spool_in, directory)
        except TimeoutError:
            self._spool = ConfigurationError(f"the spool in {directory} gives no answer in time")
        except OddslogError as error:
            self._spool = error


def _spool_in(directory: Path) -> SpoolStatus | None:
    if not (directory / "spool.sqlite").exists():
        return None
    return look_at_spool(directory, ask_lock=False)


async def read_overview(settings: Settings, *, rates: bool = True) -> Overview:
    """Ask both servers, at once; a second time where a sink is at work, for its rate.

    Args:
        settings: where they are.
        rates: whether the second look is wanted, which takes 2 s.

    Raises:
        ConfigurationError: no database is configured.
    """
    settings.require_database_url()
    async with Looks(settings) as looks:
        await looks.look()
        if looks.overview().may_be_ahead:
            await looks.look_at_log()
        first = looks.overview()
        if not first.lag_records():
            return first
        asked_at = time.monotonic()
        await looks.look_at_ages()
        view = first.log_view
        if rates and view is not None and view.group.members:
            await asyncio.sleep(max(0.0, asked_at + _BETWEEN_LOOKS_SECONDS - time.monotonic()))
            await _together(looks.look_at_tables(), looks.look_at_log())
        second = looks.overview()
        # Everything else of the first look, or an age would be of another moment than its lag.
        return replace(first, oldest=second.oldest, pace=second.pace)


async def _together(*asking: Awaitable[None]) -> None:
    """Wait for all of them; then raise what the first that failed has raised."""
    for result in await asyncio.gather(*asking, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
