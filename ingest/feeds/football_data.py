"""Real odds: the match files of football-data.co.uk as two scrapes of each match.

The first scrape is 24 hours before kick-off with the opening odds, the second
at kick-off with the closing odds. Bet365 plays BetPawa; every other bookmaker of
the file is a competitor event of the match. Odds that did not move are confirmed
by natural key.
"""

import csv
import io
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from zoneinfo import ZoneInfo

from ...schemas.records import (
    CompetitorSnapshotKey,
    CompetitorSnapshotWriteData,
    MarketWriteData,
    SnapshotKey,
    SnapshotWriteData,
    WriteBatch,
)
from .errors import FeedError
from .football_columns import Bookmaker, Columns, find_bookmakers

__all__ = ["read_football_data"]

BETPAWA_CODE, BETPAWA_ID = "B365", 1
TIME_ZONE = "Europe/London"
OPENING = timedelta(hours=24)  # before kick-off, of absolute time
TOTAL_LINE = 2.5
NEEDED = ("Date", "Time", "HomeTeam", "AwayTeam")
# Python's float() takes more: "nan", "1_000", digits of other scripts.
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def read_football_data(paths: Sequence[Path], *, batch_events: int = 50) -> Iterator[WriteBatch]:
    """Reads the files whole, then yields their scrapes in the order of time.

    Event ids count up from 1 by file and line, and so do competitor event ids, one
    for each other bookmaker in the file's header, whether it has odds or not: the
    same files in the same order give the same ids. One batch is of one moment and
    of at most `batch_events` matches; `batch_index` counts within the moment.

    Raises:
        FeedError: a file is not there or not of this form, before any batch is
            made; one line names the file, the line and what to do.
    """
    if batch_events < 1:
        raise FeedError(f"batch_events: must be at least 1, not {batch_events}")
    ids = _Ids()
    moments: defaultdict[datetime, list[_Scrape]] = defaultdict(list)
    for path in paths:
        for scrape in _read_file(path, ids):
            moments[scrape.at].append(scrape)
    return _batches(moments, batch_events)


@dataclass(slots=True)
class _Ids:
    """Runs over all files."""

    events: Iterator[int] = field(default_factory=lambda: count(1))
    competitor_events: Iterator[int] = field(default_factory=lambda: count(1))


@dataclass(slots=True)
class _Scrape:
    """What was found of one match at one moment."""

    at: datetime
    betpawa: list[SnapshotWriteData] = field(default_factory=list)
    competitor: list[CompetitorSnapshotWriteData] = field(default_factory=list)
    same_betpawa: list[SnapshotKey] = field(default_factory=list)
    same_competitor: list[CompetitorSnapshotKey] = field(default_factory=list)

    def is_empty(self) -> bool:
        return not (self.betpawa or self.competitor or self.same_betpawa or self.same_competitor)


def _batches(moments: Mapping[datetime, list[_Scrape]], batch_events: int) -> Iterator[WriteBatch]:
    for at, scrapes in sorted(moments.items()):
        found = [scrape for scrape in scrapes if not scrape.is_empty()]
        starts = range(0, len(found), batch_events)
        for index, start in enumerate(starts):
            part = found[start : start + batch_events]
            yield WriteBatch(
                changed_betpawa=tuple(one for s in part for one in s.betpawa),
                changed_competitor=tuple(one for s in part for one in s.competitor),
                unchanged_betpawa_ids=(),
                unchanged_competitor_ids=(),
                scrape_run_id=None,
                batch_index=index,
                unchanged_betpawa=tuple(one for s in part for one in s.same_betpawa),
                unchanged_competitor=tuple(one for s in part for one in s.same_competitor),
                confirmed_at=at,
                batch_count=len(starts),
            )


def _read_file(path: Path, ids: _Ids) -> Iterator[_Scrape]:
    lines = _read_lines(path)
    header_line, names = next(lines, (1, []))
    header = [name.strip() for name in names]
    where = f"{path}, line {header_line}"
    _check_header(header, where)
    bookmakers = find_bookmakers(header)
    if not bookmakers:
        raise FeedError(f"{where}: no bookmaker's columns, such as B365H, B365D and B365A")
    for number, values in lines:
        match = _Match(f"{path}, line {number}", _row(header, values, f"{path}, line {number}"))
        yield from match.scrapes(bookmakers, ids)


def _read_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The lines that are not blank, with their numbers."""
    try:
        content = path.read_bytes()
    except OSError as exc:
        raise FeedError(f"{path}: cannot be read: {exc.strerror or exc}") from exc
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = content.count(b"\n", 0, exc.start) + 1
        raise FeedError(f"{path}, line {line}: is not UTF-8; save the file as UTF-8") from exc
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for values in reader:
            if any(value.strip() for value in values):
                yield reader.line_num, values
    except csv.Error as exc:
        raise FeedError(f"{path}, line {reader.line_num}: is no CSV: {exc}") from exc


def _check_header(header: Sequence[str], where: str) -> None:
    missing = [name for name in NEEDED if name not in header]
    if missing:
        raise FeedError(
            f"{where}: no column {', '.join(missing)}; "
            "give a match file of football-data.co.uk, season 2019/20 or later"
        )
    doubled = {name for name in header if name and header.count(name) > 1}
    if doubled:
        raise FeedError(f"{where}: column {min(doubled)} is there twice")


def _row(header: Sequence[str], values: Sequence[str], where: str) -> dict[str, str]:
    surplus = values[len(header) :]
    if len(values) < len(header) or any(value.strip() for value in surplus):
        raise FeedError(f"{where}: has {len(values)} fields, but the header has {len(header)}")
    return {name: value for name, value in zip(header, values, strict=False) if name}


@dataclass(frozen=True, slots=True)
class _Betpawa:
    event_id: int

    def add(
        self, scrape: _Scrape, raw: dict[str, str], markets: tuple[MarketWriteData, ...]
    ) -> None:
        scrape.betpawa.append(
            SnapshotWriteData(self.event_id, BETPAWA_ID, None, raw, markets, scrape.at)
        )

    def confirm(self, scrape: _Scrape, captured_at: datetime) -> None:
        scrape.same_betpawa.append(SnapshotKey(self.event_id, BETPAWA_ID, captured_at))


@dataclass(frozen=True, slots=True)
class _Competitor:
    competitor_event_id: int

    def add(
        self, scrape: _Scrape, raw: dict[str, str], markets: tuple[MarketWriteData, ...]
    ) -> None:
        scrape.competitor.append(
            CompetitorSnapshotWriteData(self.competitor_event_id, None, raw, markets, scrape.at)
        )

    def confirm(self, scrape: _Scrape, captured_at: datetime) -> None:
        scrape.same_competitor.append(CompetitorSnapshotKey(self.competitor_event_id, captured_at))


@dataclass(frozen=True, slots=True)
class _Match:
    """One line of a file."""

    where: str
    row: dict[str, str]

    def scrapes(self, bookmakers: Sequence[Bookmaker], ids: _Ids) -> tuple[_Scrape, _Scrape]:
        """The opening and the closing scrape; takes the match's ids."""
        opening_at, closing_at = self._times()
        first, second = _Scrape(opening_at), _Scrape(closing_at)
        event_id = next(ids.events)
        for bookmaker in bookmakers:
            betpawa = bookmaker.code == BETPAWA_CODE
            keeper = _Betpawa(event_id) if betpawa else _Competitor(next(ids.competitor_events))
            opening = self._markets(bookmaker.opening)
            closing = self._markets(bookmaker.closing)
            if opening:
                keeper.add(first, self._raw(bookmaker.opening), opening)
            if opening and opening == closing:
                keeper.confirm(second, opening_at)
            elif closing:
                keeper.add(second, self._raw(bookmaker.closing), closing)
        return first, second

    def _raw(self, columns: Columns) -> dict[str, str]:
        return {name: self.row[name] for name in columns.own}

    def _times(self) -> tuple[datetime, datetime]:
        """Of the opening and the closing scrape, in UTC."""
        for name in NEEDED:
            if not self.row[name].strip():
                raise FeedError(f"{self.where}: {name} is missing")
        date, time = self.row["Date"].strip(), self.row["Time"].strip()
        try:
            local = datetime.strptime(f"{date} {time}", "%d/%m/%Y %H:%M").replace(
                tzinfo=ZoneInfo(TIME_ZONE)
            )
            kick_off = local.astimezone(UTC)
            return kick_off - OPENING, kick_off
        except (ValueError, OverflowError) as exc:
            raise FeedError(
                f"{self.where}: Date and Time must be like 16/08/2025 and 12:30, "
                f"not {date!r} and {time!r}"
            ) from exc

    def _markets(self, columns: Columns) -> tuple[MarketWriteData, ...]:
        """The markets that are there; none where the 1X2 is not."""
        result = self._prices(columns.result)
        total = self._prices(columns.total)
        asian = self._prices(columns.asian)
        line = self._number(columns.asian_line)
        markets = []
        if total:
            names = zip(("Over", "Under"), total, strict=True)
            markets.append(_market("5000", "Over/Under - FT", "goals", names, TOTAL_LINE))
        if asian and line is not None:
            names = zip(("1", "2"), asian, strict=True)
            markets.append(_market("3774", "Asian Handicap - FT", "handicap", names, line, "ASIAN"))
        if not result:
            return ()
        names = zip(("1", "X", "2"), result, strict=True)
        return (_market("3743", "1X2 - FT", "main", names), *markets)

    def _prices(self, columns: Sequence[str]) -> list[float] | None:
        """All prices of a market, or None where one is missing or not above 0."""
        numbers = [self._number(column) for column in columns]
        prices = [number for number in numbers if number is not None and number > 0]
        return prices if len(prices) == len(columns) else None

    def _number(self, column: str) -> float | None:
        text = self.row.get(column, "").strip()
        if not text:
            return None
        number = float(text) if NUMBER.fullmatch(text) else math.nan
        if not math.isfinite(number):
            raise FeedError(f"{self.where}: {column} must be a number, not {text!r}")
        return number


def _market(
    market_id: str,
    name: str,
    group: str,
    prices: Iterator[tuple[str, float]],
    line: float | None = None,
    handicap_type: str | None = None,
) -> MarketWriteData:
    handicap = line if handicap_type and line is not None else None
    return MarketWriteData(
        betpawa_market_id=market_id,
        betpawa_market_name=name,
        line=line,
        handicap_type=handicap_type,
        handicap_home=handicap,
        handicap_away=None if handicap is None else -handicap,
        outcomes=[{"name": name, "odds": odds, "is_active": True} for name, odds in prices],
        market_groups=["all", group],
    )
