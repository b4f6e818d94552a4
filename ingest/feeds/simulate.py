"""Scrapes made up by seed, in the shape of the real load.

Each event has one BetPawa snapshot of 170 markets and two competitor snapshots
of 100 and 70. The first cycle brings all of them; in each later one a share of
the snapshots has changed (drifted odds, suspended and removed markets) and the
rest are confirmed by natural key. The same settings give the same batches,
field for field, on every machine.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any

from ...schemas.records import (
    CompetitorSnapshotKey,
    CompetitorSnapshotWriteData,
    MarketWriteData,
    SnapshotKey,
    SnapshotWriteData,
    WriteBatch,
)
from .events import Event, make_event
from .pool import MarketPool
from .raw import betpawa_response, competitor_response
from .settings import SNAPSHOTS_AN_EVENT, SPACING_MICROSECONDS, SimulateSettings

__all__ = ["simulate"]

BETPAWA_ID = 1
PARTS = 1_000_000  # `changed_share` in whole numbers, so that the count is exact


def simulate(settings: SimulateSettings) -> Iterator[WriteBatch]:
    """Yields the batches cycle by cycle, in the order in which a scraper makes them.

    Every `captured_at` and `confirmed_at` is set. `batch_index` counts within a
    cycle. Batches share their markets, which must not be changed. Making a batch of
    50 events takes some 30 ms of Python, 0.3 s with raw responses of 50 KB, and the
    first batches, which build the markets, as long: feed them from a thread where an
    event loop must not wait.
    """
    scraper = _Scraper(settings)
    for cycle in range(settings.cycles):
        yield from scraper.scrape(cycle)


@dataclass(slots=True)
class _Found:
    """What one batch brings."""

    betpawa: list[SnapshotWriteData] = field(default_factory=list)
    competitor: list[CompetitorSnapshotWriteData] = field(default_factory=list)
    same_betpawa: list[SnapshotKey] = field(default_factory=list)
    same_competitor: list[CompetitorSnapshotKey] = field(default_factory=list)


class _Scraper:
    """Remembers what every event looked like at its last scrape."""

    def __init__(self, settings: SimulateSettings) -> None:
        self._settings = settings
        self._pool = MarketPool(settings.seed)
        self._events: list[Event] = []  # made in the first cycle
        self._changed_parts = round(settings.changed_share * PARTS)
        self._phase = 0  # where the even spread begins; another in each cycle

    def scrape(self, cycle: int) -> Iterator[WriteBatch]:
        """The batches of one cycle; to be called cycle by cycle."""
        settings = self._settings
        run_id = None if settings.first_run_id is None else settings.first_run_id + cycle
        starts = range(0, settings.events, settings.batch_events)
        self._phase = Random(f"{settings.seed}/cycle/{cycle}").randrange(PARTS)  # noqa: S311
        for batch_index, start in enumerate(starts):
            found = _Found()
            for number in range(start, min(start + settings.batch_events, settings.events)):
                self._scrape_event(found, cycle, number, run_id)
            yield WriteBatch(
                changed_betpawa=tuple(found.betpawa),
                changed_competitor=tuple(found.competitor),
                unchanged_betpawa_ids=(),
                unchanged_competitor_ids=(),
                scrape_run_id=run_id,
                batch_index=batch_index,
                unchanged_betpawa=tuple(found.same_betpawa),
                unchanged_competitor=tuple(found.same_competitor),
                confirmed_at=settings.cycle_time(cycle),
                batch_count=len(starts),
            )

    def _scrape_event(self, found: _Found, cycle: int, number: int, run_id: int | None) -> None:
        if cycle == 0:
            self._events.append(make_event(self._settings, number))
        event = self._events[number]
        for n, board in enumerate(event.boards):
            snapshot = number * SNAPSHOTS_AN_EVENT + n
            changed = cycle == 0 or self._changes(snapshot)
            if changed and cycle > 0:
                board.move(cycle, self._random(event, n, cycle))
            at = self._captured_at(board.last_changed, snapshot)
            if changed:
                self._add_changed(found, event, n, at, run_id)
            else:
                _add_same(found, event, n, at)

    def _add_changed(
        self, found: _Found, event: Event, n: int, at: datetime, run_id: int | None
    ) -> None:
        markets = event.markets(event.boards[n], self._pool)
        raw = self._raw_response(event, n, markets, at)
        if n == 0:
            found.betpawa.append(
                SnapshotWriteData(event.info.event_id, BETPAWA_ID, run_id, raw, markets, at)
            )
        else:
            found.competitor.append(
                CompetitorSnapshotWriteData(_competitor_id(event, n), run_id, raw, markets, at)
            )

    def _raw_response(
        self, event: Event, n: int, markets: tuple[MarketWriteData, ...], at: datetime
    ) -> dict[str, Any] | None:
        size = self._settings.raw_response_bytes
        if size == 0:
            return None
        # Ids of prices count up over all snapshots, as a bookmaker's sequence does.
        cycle = event.boards[n].last_changed
        first_id = 4_000_000_000 + ((cycle * 1_000_003 + event.info.event_id) * 3 + n) * 1_009
        respond = betpawa_response if n == 0 else competitor_response
        return respond(event.info, markets, at, size, first_id)

    def _changes(self, snapshot: int) -> bool:
        """Whether this snapshot is among the cycle's share, which is spread evenly."""
        before = snapshot * self._changed_parts + self._phase
        return (before + self._changed_parts) // PARTS > before // PARTS

    def _captured_at(self, cycle: int, snapshot: int) -> datetime:
        offset = snapshot * SPACING_MICROSECONDS + snapshot * 5 % 7
        return self._settings.cycle_time(cycle) + timedelta(microseconds=offset)

    def _random(self, event: Event, n: int, cycle: int) -> Random:
        name = f"{self._settings.seed}/move/{event.info.event_id}/{n}/{cycle}"
        return Random(name)  # noqa: S311 - odds, no secrets


def _add_same(found: _Found, event: Event, n: int, at: datetime) -> None:
    if n == 0:
        found.same_betpawa.append(SnapshotKey(event.info.event_id, BETPAWA_ID, at))
    else:
        found.same_competitor.append(CompetitorSnapshotKey(_competitor_id(event, n), at))


def _competitor_id(event: Event, n: int) -> int:
    return 2 * event.info.event_id - 2 + n
