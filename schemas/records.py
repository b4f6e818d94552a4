"""The records a scraper hands over: frozen, checked when they are built.

A value that PostgreSQL could not hold, or that would come back as another, is
refused here with an error that names the field, so that one bad record fails
where it is made and not hours later in a batch of good ones. The JSON documents
(`outcomes`, `market_groups`, `raw_response`) are checked when they are encoded:
walking them twice would cost the scraper's event loop more than all else.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from .errors import InvalidRecordError

__all__ = [
    "CompetitorSnapshotKey",
    "CompetitorSnapshotWriteData",
    "MarketWriteData",
    "SnapshotKey",
    "SnapshotWriteData",
    "WriteBatch",
]

INT64_MIN = -(2**63)
INT64_MAX = 2**63 - 1
# The first and the last moment that a datetime can hold: PostgreSQL's driver takes
# them for -infinity and infinity, and gives them back without a time zone.
INFINITE_TIMES = frozenset({datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)})

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class MarketWriteData:
    """One market of a snapshot: one row of `market_odds` or `competitor_market_odds`.

    `line` and the handicaps become floats (-0.0 becomes 0.0). `outcomes` and
    `market_groups` are JSON documents; once the batch is enqueued they must not
    be changed.

    Raises:
        InvalidRecordError: naming the field that cannot be stored.
    """

    betpawa_market_id: str
    betpawa_market_name: str
    line: float | None
    handicap_type: str | None
    handicap_home: float | None
    handicap_away: float | None
    outcomes: list[Any] | dict[str, Any]
    market_groups: list[str] | None

    def __post_init__(self) -> None:
        _check_text("betpawa_market_id", self.betpawa_market_id)
        if not self.betpawa_market_id:
            raise InvalidRecordError("betpawa_market_id", "is empty")
        _check_text("betpawa_market_name", self.betpawa_market_name)
        if self.handicap_type is not None:
            _check_text("handicap_type", self.handicap_type)
        for name in ("line", "handicap_home", "handicap_away"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, _as_float(name, value))


@dataclass(frozen=True, slots=True)
class SnapshotWriteData:
    """The odds of one event at BetPawa at one moment.

    `captured_at` is part of the natural key `(event_id, bookmaker_id, captured_at)`;
    where it is None, `enqueue` stamps it.

    Raises:
        InvalidRecordError: naming the field that cannot be stored.
    """

    event_id: int
    bookmaker_id: int
    scrape_run_id: int | None
    raw_response: dict[str, Any] | list[Any] | None
    markets: tuple[MarketWriteData, ...]
    captured_at: datetime | None = None

    def __post_init__(self) -> None:
        _check_int("event_id", self.event_id)
        _check_int("bookmaker_id", self.bookmaker_id)
        _check_optional_int("scrape_run_id", self.scrape_run_id)
        _set_tuple(self, "markets", self.markets, MarketWriteData)
        _set_optional_time(self, "captured_at", self.captured_at)


@dataclass(frozen=True, slots=True)
class CompetitorSnapshotWriteData:
    """The odds of one event at one competitor at one moment.

    The natural key is `(competitor_event_id, captured_at)`.

    Raises:
        InvalidRecordError: naming the field that cannot be stored.
    """

    competitor_event_id: int
    scrape_run_id: int | None
    raw_response: dict[str, Any] | list[Any] | None
    markets: tuple[MarketWriteData, ...]
    captured_at: datetime | None = None

    def __post_init__(self) -> None:
        _check_int("competitor_event_id", self.competitor_event_id)
        _check_optional_int("scrape_run_id", self.scrape_run_id)
        _set_tuple(self, "markets", self.markets, MarketWriteData)
        _set_optional_time(self, "captured_at", self.captured_at)


@dataclass(frozen=True, slots=True, order=True)
class SnapshotKey:
    """Names a BetPawa snapshot, also one that is not in the database yet."""

    event_id: int
    bookmaker_id: int
    captured_at: datetime

    def __post_init__(self) -> None:
        _check_int("event_id", self.event_id)
        _check_int("bookmaker_id", self.bookmaker_id)
        _set_time(self, "captured_at", self.captured_at)


@dataclass(frozen=True, slots=True, order=True)
class CompetitorSnapshotKey:
    """Names a competitor snapshot, also one that is not in the database yet."""

    competitor_event_id: int
    captured_at: datetime

    def __post_init__(self) -> None:
        _check_int("competitor_event_id", self.competitor_event_id)
        _set_time(self, "captured_at", self.captured_at)


@dataclass(frozen=True, slots=True)
class WriteBatch:
    """What one scrape of about 50 events hands over.

    `changed_*` are new snapshots; `unchanged_*` confirm by natural key and
    `unchanged_*_ids` by a plain id read from the database that a snapshot is
    still current at `confirmed_at` (stamped by `enqueue` where it is None).
    `batch_count` is how many batches the scrape run has, where known.

    Raises:
        InvalidRecordError: naming the field that cannot be stored.
    """

    changed_betpawa: tuple[SnapshotWriteData, ...]
    changed_competitor: tuple[CompetitorSnapshotWriteData, ...]
    unchanged_betpawa_ids: tuple[int, ...]
    unchanged_competitor_ids: tuple[int, ...]
    scrape_run_id: int | None
    batch_index: int
    unchanged_betpawa: tuple[SnapshotKey, ...] = ()
    unchanged_competitor: tuple[CompetitorSnapshotKey, ...] = ()
    confirmed_at: datetime | None = None
    batch_count: int | None = None

    def __post_init__(self) -> None:
        _set_tuple(self, "changed_betpawa", self.changed_betpawa, SnapshotWriteData)
        _set_tuple(self, "changed_competitor", self.changed_competitor, CompetitorSnapshotWriteData)
        _set_tuple(self, "unchanged_betpawa", self.unchanged_betpawa, SnapshotKey)
        _set_tuple(self, "unchanged_competitor", self.unchanged_competitor, CompetitorSnapshotKey)
        _set_ids(self, "unchanged_betpawa_ids", self.unchanged_betpawa_ids)
        _set_ids(self, "unchanged_competitor_ids", self.unchanged_competitor_ids)
        _check_optional_int("scrape_run_id", self.scrape_run_id)
        _check_int("batch_index", self.batch_index)
        _check_optional_int("batch_count", self.batch_count)
        _set_optional_time(self, "confirmed_at", self.confirmed_at)


def _check_text(field: str, value: object) -> None:
    if not isinstance(value, str):
        raise InvalidRecordError(field, f"must be text, not {type(value).__name__}")
    if "\0" in value:
        raise InvalidRecordError(field, "has a NUL character, which PostgreSQL cannot hold")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidRecordError(
                field, "has a lone surrogate, which is no Unicode text"
            ) from None


def _as_float(field: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidRecordError(field, f"must be a number, not {type(value).__name__}")
    try:
        number = float(value)
    except OverflowError:
        raise InvalidRecordError(field, "is too large for a float") from None
    if not math.isfinite(number):
        raise InvalidRecordError(field, f"must be finite, not {number}")
    return number + 0.0  # turns -0.0 into 0.0


def _check_int(field: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidRecordError(field, f"must be an int, not {type(value).__name__}")
    if not INT64_MIN <= value <= INT64_MAX:
        raise InvalidRecordError(field, "does not fit 64 bits")


def _check_optional_int(field: str, value: object) -> None:
    if value is not None:
        _check_int(field, value)


def _as_tuple(field: str, values: Iterable[T]) -> tuple[T, ...]:
    try:
        return tuple(values)
    except TypeError:
        raise InvalidRecordError(
            field, f"must be a tuple or a list, not {type(values).__name__}"
        ) from None


def _set_ids(record: object, field: str, values: Iterable[int]) -> None:
    ids = _as_tuple(field, values)
    for value in ids:
        _check_int(field, value)
    object.__setattr__(record, field, ids)


def _set_tuple(record: object, field: str, values: Iterable[object], kind: type) -> None:
    members = _as_tuple(field, values)
    for member in members:
        if not isinstance(member, kind):
            raise InvalidRecordError(
                field, f"must hold {kind.__name__}, not {type(member).__name__}"
            )
    object.__setattr__(record, field, members)


def _set_optional_time(record: object, field: str, value: object) -> None:
    if value is not None:
        _set_time(record, field, value)


def _set_time(record: object, field: str, value: object) -> None:
    if not isinstance(value, datetime):
        raise InvalidRecordError(field, f"must be a datetime, not {type(value).__name__}")
    if value.tzinfo is None or value.utcoffset() is None:
        raise InvalidRecordError(
            field, "is naive; give it a time zone, e.g. datetime.now(timezone.utc)"
        )
    try:
        moment = value.astimezone(UTC)
    except OverflowError:
        raise InvalidRecordError(field, "is outside the years 1 to 9999 in UTC") from None
    if moment in INFINITE_TIMES:
        raise InvalidRecordError(field, f"is {moment.isoformat()}, which is stored as infinity")
    object.__setattr__(record, field, moment)
