"""What the tables' columns can tell before the database is asked. Pure.

The lengths of text come from reflection, so a wider column is simply a wider
limit; ids are integers as in the scraper's tables.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ..schemas.records import INFINITE_TIMES
from ..schemas.wire import Kind
from .items import ConfirmationItem, SnapshotItem
from .packed import PackedMarkets

__all__ = ["ColumnLimits", "Problem", "check_confirmation", "check_snapshot"]

INT4_MAX = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Problem:
    """A value that its column cannot hold."""

    field: str
    message: str


@dataclass(frozen=True)
class ColumnLimits:
    """The limits of one kind's tables.

    `text_lengths` has the characters a column of the market table takes (absent:
    unlimited); `parents` the tables that a column of the snapshots refers to.
    """

    text_lengths: Mapping[str, int]
    parents: Mapping[str, str]


def check_snapshot(snapshot: SnapshotItem, limits: ColumnLimits) -> Problem | None:
    """The first thing in a snapshot that its tables cannot hold, or None."""
    data = snapshot.data
    problem = _check_key(snapshot) or _check_int("scrape_run_id", data["scrape_run_id"])
    if problem is not None:
        return problem
    lengths = limits.text_lengths
    id_length = lengths.get("betpawa_market_id", _UNLIMITED)
    name_length = lengths.get("betpawa_market_name", _UNLIMITED)
    type_length = lengths.get("handicap_type", _UNLIMITED)
    markets = data["markets"]
    if isinstance(markets, PackedMarkets):
        # Their numbers are finite; no text has more characters than bytes.
        id_bytes, name_bytes, type_bytes = markets.longest
        if id_bytes <= id_length and name_bytes <= name_length and type_bytes <= type_length:
            return None
    for index, market in enumerate(markets):
        # Each market of each snapshot comes by here: no call unless one is too long.
        handicap_type = market["handicap_type"]
        # One sum for three numbers: it is finite unless one of them is not.
        number = (
            (market["line"] or 0.0)
            + (market["handicap_home"] or 0.0)
            + (market["handicap_away"] or 0.0)
        )
        if number - number != 0.0 and (problem := _not_finite(index, dict(market))):
            return problem
        if (
            len(market["betpawa_market_id"]) > id_length
            or len(market["betpawa_market_name"]) > name_length
            or (handicap_type is not None and len(handicap_type) > type_length)
        ):
            return _too_long(index, dict(market), lengths)
    return None


def check_confirmation(confirmation: ConfirmationItem) -> Problem | None:
    """The first id of a confirmation that its tables cannot hold, or None."""
    return _check_key(confirmation)


_UNLIMITED = 2**31


def _check_key(item: SnapshotItem | ConfirmationItem) -> Problem | None:
    event = "event_id" if item.kind is Kind.BETPAWA else "competitor_event_id"
    problem = _check_int(event, item.key.event_id)
    problem = problem or _check_int("bookmaker_id", item.key.bookmaker_id)
    if problem is None and item.key.captured_at in INFINITE_TIMES:
        return Problem("captured_at", "captured_at is a time that is stored as infinity")
    return problem


def _check_int(field: str, value: int | None) -> Problem | None:
    if value is None or -INT4_MAX - 1 <= value <= INT4_MAX:
        return None
    return Problem(field, f"{field} {value} is out of the range of an integer column")


def _not_finite(index: int, market: Mapping[str, object]) -> Problem | None:
    for column in ("line", "handicap_home", "handicap_away"):
        value = market[column]
        if isinstance(value, float) and not math.isfinite(value):
            return Problem(f"markets[{index}].{column}", f"{column} is {value}, not a number")
    return None


def _too_long(index: int, market: Mapping[str, object], lengths: Mapping[str, int]) -> Problem:
    for column, length in lengths.items():
        value = market.get(column)
        if isinstance(value, str) and len(value) > length:
            return Problem(
                f"markets[{index}].{column}",
                f"{column} has {len(value)} characters, its column takes {length}",
            )
    raise AssertionError("only called for a market that is too long")
