"""Comparing a snapshot of the log with its rows, field by field. Pure.

Documents are compared as text first, as the `json` columns keep them; where that
differs, by value, with numbers exact: a column that became `jsonb` holds the same.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from ..schemas.codec import MarketRecord
from ..schemas.records import INFINITE_TIMES
from .checks import INT4_MAX
from .items import Key
from .verify_logs import Source

__all__ = [
    "FieldDifference",
    "StoredMarkets",
    "StoredRow",
    "differing_field",
    "fits_tables",
    "same_document",
]

_MOST_SHOWN = 80


@dataclass(frozen=True, slots=True)
class StoredRow:
    """A snapshot's row, without its raw response; `events` are of the natural key."""

    id: int
    key: Key
    scrape_run_id: int | None
    last_confirmed_at: datetime | None
    content_hash: int | None
    source: Source


class StoredMarkets(NamedTuple):
    """The market rows of a snapshot in the order of their ids, column by column."""

    betpawa_market_id: Sequence[Any] = ()
    betpawa_market_name: Sequence[Any] = ()
    line: Sequence[Any] = ()
    handicap_type: Sequence[Any] = ()
    handicap_home: Sequence[Any] = ()
    handicap_away: Sequence[Any] = ()
    outcomes: Sequence[Any] = ()
    market_groups: Sequence[Any] = ()
    captured_at: Sequence[Any] = ()


_FIELDS = StoredMarkets._fields[:8]
_DOCUMENTS = ("outcomes", "market_groups")


@dataclass(frozen=True, slots=True)
class FieldDifference:
    """A field that is not what the log says."""

    field: str
    what: str


def fits_tables(key: Key) -> bool:
    """Whether a row could have this key: the driver refuses to look for others."""
    return (
        -INT4_MAX - 1 <= key.event_id <= INT4_MAX
        and -INT4_MAX - 1 <= key.bookmaker_id <= INT4_MAX
        and key.captured_at not in INFINITE_TIMES
    )


def differing_field(
    markets: Sequence[MarketRecord], stored: StoredMarkets, captured_at: datetime
) -> FieldDifference | None:
    """The first thing in which the market rows are not those of the record, or None."""
    count = len(stored.betpawa_market_id)
    if count != len(markets):
        return _other_count(markets, stored)
    for name in _FIELDS:
        values: Sequence[Any] = getattr(stored, name)
        wanted = [market[name] for market in markets]  # type: ignore[literal-required]
        if values == wanted:
            continue
        found = _first(name, wanted, values)
        if found is not None:
            number, one, other = found
            market = markets[number]["betpawa_market_id"]
            return FieldDifference(
                f"markets[{number}].{name}",
                f"{name} of market {market} (number {number}) is {_shown(one)} in the log,"
                f" {_shown(other)} in the table",
            )
    for number, value in enumerate(stored.captured_at):
        if value != captured_at:
            return FieldDifference(
                f"markets[{number}].captured_at",
                f"captured_at of market row number {number} is {_shown(value)} in the table",
            )
    return None


def _other_count(markets: Sequence[MarketRecord], stored: StoredMarkets) -> FieldDifference:
    wanted = [market["betpawa_market_id"] for market in markets]
    there = list(stored.betpawa_market_id)
    counts = f"{len(wanted)} in the log, {len(there)} in the table"
    for number in range(max(len(wanted), len(there))):
        one = wanted[number] if number < len(wanted) else None
        other = there[number] if number < len(there) else None
        if one != other:
            name = (
                f"the first that differs is market {_shown(one)}"
                if one is not None
                else f"market {_shown(other)} is one too many"
            )
            return FieldDifference("markets", f"markets: {counts}; {name}")
    return FieldDifference("markets", f"markets: {counts}")


def _first(name: str, wanted: Sequence[Any], values: Sequence[Any]) -> tuple[int, Any, Any] | None:
    for number, (one, other) in enumerate(zip(wanted, values, strict=True)):
        if one != other and not (name in _DOCUMENTS and same_document(one, other)):
            return number, one, other
    return None


def same_document(one: str | None, other: str | None) -> bool:
    """Whether two JSON texts say the same; numbers by their exact value."""
    if one is None or other is None:
        return one is other
    if one == other:
        return True
    try:
        return bool(_parsed(one) == _parsed(other))
    except (ValueError, RecursionError, ArithmeticError):
        return False


def _parsed(text: str) -> Any:
    # A tuple, so that 1 is not True.
    return json.loads(text, parse_float=_number, parse_int=_number, parse_constant=_constant)


def _number(text: str) -> tuple[str, Decimal]:
    return "number", Decimal(text)


def _constant(text: str) -> tuple[str, str]:
    return "constant", text


def _shown(value: object) -> str:
    text = value.isoformat() if isinstance(value, datetime) else repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."
