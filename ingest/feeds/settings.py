"""What can be chosen about a simulation, checked before it starts."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ...schemas.errors import ConfigurationError

__all__ = ["SNAPSHOTS_AN_EVENT", "SPACING_MICROSECONDS", "SimulateSettings"]

SNAPSHOTS_AN_EVENT = 3  # one of BetPawa, two of competitors

# Snapshots are taken one after the other, 5 to 17 µs apart: each its own microsecond.
SPACING_MICROSECONDS = 11

MAX_ID = 2**31 - 1  # what the scraper's `int` columns hold


@dataclass(frozen=True, kw_only=True)
class SimulateSettings:
    """What to simulate.

    Attributes:
        events: how many events; each has three snapshots a cycle.
        cycles: how many scrapes of all events.
        changed_share: the share (0 to 1) of snapshots that changed in each cycle
            after the first. Exact to one snapshot a cycle.
        raw_response_bytes: about how large each raw response is as compact JSON
            (its envelope of 500 bytes at least); 0 for none.
        seed: another seed, other odds, teams and changes.
        batch_events: events in a batch. The data of an event do not depend on it.
        started_at: the time of the first cycle, aware.
        cycle_seconds: seconds from cycle to cycle; a cycle's snapshots must fit in
            (33 µs an event).
        first_event_id: events are numbered from here; event N has the
            competitor events 2N-1 and 2N.
        first_run_id: the `scrape_run_id` of the first cycle, counted up by cycle;
            None for no runs.

    Raises:
        ConfigurationError: naming the option that is out of bounds.
    """

    events: int = 1300
    cycles: int = 2
    changed_share: float = 0.15
    raw_response_bytes: int = 2048
    seed: int = 1
    batch_events: int = 50
    started_at: datetime
    cycle_seconds: float = 60.0
    first_event_id: int = 1
    first_run_id: int | None = None

    def __post_init__(self) -> None:
        for name, lowest in _LOWEST.items():
            _check_whole(name, getattr(self, name), lowest)
        if self.raw_response_bytes > MOST_RAW_RESPONSE_BYTES:
            raise ConfigurationError(
                f"raw_response_bytes: must be at most {MOST_RAW_RESPONSE_BYTES}, "
                f"not {self.raw_response_bytes}"
            )
        if self.first_run_id is not None:
            _check_whole("first_run_id", self.first_run_id, 1)
            _check_ids("first_run_id", self.first_run_id + self.cycles - 1)
        _check_ids("first_event_id", 2 * (self.first_event_id + self.events - 1))
        _check_number("changed_share", self.changed_share, 0.0, 1.0)
        _check_number("cycle_seconds", self.cycle_seconds, 1e-6, 1e9)
        object.__setattr__(self, "started_at", _as_utc("started_at", self.started_at))
        self._check_times()

    def cycle_time(self, cycle: int) -> datetime:
        """The moment of a cycle, counted from 0; its snapshots follow it within the cycle."""
        return self.started_at + timedelta(seconds=cycle * self.cycle_seconds)

    def _check_times(self) -> None:
        scrape_seconds = self.events * SNAPSHOTS_AN_EVENT * SPACING_MICROSECONDS / 1e6
        if self.cycles > 1 and self.cycle_seconds < scrape_seconds:
            raise ConfigurationError(
                f"cycle_seconds: must be at least {scrape_seconds:g} for {self.events} events, "
                f"not {self.cycle_seconds:g}"
            )
        try:
            self.cycle_time(self.cycles) + timedelta(days=30)
        except OverflowError:
            raise ConfigurationError(
                "started_at: the cycles run past the year 9999; start earlier"
            ) from None


# One record takes 10 MiB by default; a real response has 50 KB.
MOST_RAW_RESPONSE_BYTES = 8 * 1024 * 1024
_LOWEST = {
    "events": 1,
    "cycles": 1,
    "raw_response_bytes": 0,
    "seed": 0,
    "batch_events": 1,
    "first_event_id": 1,
}


def _check_whole(name: str, value: object, lowest: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigurationError(f"{name}: must be a whole number, not {value!r}")
    if value < lowest:
        raise ConfigurationError(f"{name}: must be at least {lowest}, not {value}")


def _as_utc(name: str, value: object) -> datetime:
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise ConfigurationError(f"{name}: must be a time with a time zone, not {value!r}")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ConfigurationError(f"{name}: is outside the years 1 to 9999 in UTC") from None


def _check_ids(name: str, highest: int) -> None:
    if highest > MAX_ID:
        raise ConfigurationError(f"{name}: ids would reach {highest}; the highest is {MAX_ID}")


def _check_number(name: str, value: object, lowest: float, highest: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ConfigurationError(f"{name}: must be a number, not {value!r}")
    if not lowest <= value <= highest:
        raise ConfigurationError(f"{name}: must be from {lowest:g} to {highest:g}, not {value:g}")
