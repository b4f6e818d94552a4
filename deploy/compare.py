"""Compare what was fed with what is in the tables, content included.

The expected state is worked out from the batches alone, without the codec and
the write path that it judges: the first snapshot of a key counts, a confirmation
is a maximum. It is kept as a digest a snapshot, so memory grows by about 200
bytes a snapshot.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from hashlib import blake2b
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ..schemas.records import (
    CompetitorSnapshotWriteData,
    MarketWriteData,
    SnapshotWriteData,
    WriteBatch,
)

__all__ = ["Comparison", "compare"]

# Kind, event, bookmaker (0 for a competitor), captured_at.
_Key = tuple[str, int, int, datetime]
_PAGE_SNAPSHOTS = 500

_TABLES = {
    "betpawa": ("odds_snapshots", "market_odds", "event_id", "bookmaker_id"),
    "competitor": (
        "competitor_odds_snapshots",
        "competitor_market_odds",
        "competitor_event_id",
        "0",
    ),
}


@dataclass(slots=True)
class Comparison:
    """What a comparison came to.

    `snapshots`, `markets` and `confirmations` were expected. `missing` counts fed
    snapshots that are not there as they were fed, `unexpected` rows that nobody
    fed so (snapshots, second copies, orphaned market rows); one that is there with
    another content is in both, and in `different`.
    """

    snapshots: int = 0
    markets: int = 0
    confirmations: int = 0
    missing: int = 0
    different: int = 0
    unexpected: int = 0
    first_difference: str | None = None

    @property
    def equal(self) -> bool:
        """Whether the tables hold exactly what was fed."""
        return not (self.missing or self.unexpected)

    def note(self, difference: str) -> None:
        """Keep the first difference."""
        self.first_difference = self.first_difference or difference


@dataclass(slots=True)
class _Expected:
    """One snapshot as it has to be."""

    digest: bytes
    markets: int
    confirmed_at: datetime


@dataclass(slots=True)
class _State:
    snapshots: dict[_Key, _Expected] = field(default_factory=dict)
    confirmations: dict[_Key, datetime] = field(default_factory=dict)


async def compare(
    engine: AsyncEngine, batches: Iterable[WriteBatch], *, raw_response: bool = True
) -> Comparison:
    """Compare the tables with the batches that were fed, all of them stamped.

    Args:
        engine: of the database; it is only read.
        batches: every batch that was fed, in order.
        raw_response: whether the raw responses were to be stored.
    """
    state = _expected_state(batches, raw_response)
    result = Comparison(
        snapshots=len(state.snapshots),
        markets=sum(expected.markets for expected in state.snapshots.values()),
        confirmations=len(state.confirmations),
    )
    for key, confirmed_at in state.confirmations.items():
        expected = state.snapshots.get(key)
        if expected is not None:
            expected.confirmed_at = max(expected.confirmed_at, confirmed_at)
    async with engine.connect() as connection:
        for kind in _TABLES:
            await _compare_kind(connection, kind, state, result)
    # What is there with another content is both: the fed one missing, and one too many.
    result.missing = len(state.snapshots) + result.different
    result.unexpected += result.different
    for key in state.snapshots:
        result.note(f"missing: {_name(key)}")
        break
    return result


def _expected_state(batches: Iterable[WriteBatch], raw_response: bool) -> _State:
    state = _State()
    for batch in batches:
        for key, snapshot in _snapshots(batch):
            if key not in state.snapshots:
                state.snapshots[key] = _Expected(
                    _snapshot_digest(snapshot, raw_response), len(snapshot.markets), key[3]
                )
        for key in _confirmed_keys(batch):
            if batch.confirmed_at is None:
                raise ValueError("a batch without confirmed_at was not stamped")
            held = state.confirmations.get(key, batch.confirmed_at)
            state.confirmations[key] = max(held, batch.confirmed_at)
    return state


def _snapshots(
    batch: WriteBatch,
) -> Iterator[tuple[_Key, SnapshotWriteData | CompetitorSnapshotWriteData]]:
    for one in batch.changed_betpawa:
        if one.captured_at is None:
            raise ValueError("a snapshot without captured_at was not stamped")
        yield ("betpawa", one.event_id, one.bookmaker_id, one.captured_at), one
    for other in batch.changed_competitor:
        if other.captured_at is None:
            raise ValueError("a snapshot without captured_at was not stamped")
        yield ("competitor", other.competitor_event_id, 0, other.captured_at), other


def _confirmed_keys(batch: WriteBatch) -> Iterator[_Key]:
    for one in batch.unchanged_betpawa:
        yield "betpawa", one.event_id, one.bookmaker_id, one.captured_at
    for other in batch.unchanged_competitor:
        yield "competitor", other.competitor_event_id, 0, other.captured_at


async def _compare_kind(
    connection: AsyncConnection, kind: str, state: _State, result: Comparison
) -> None:
    snapshots_table, markets_table, event, bookmaker = _TABLES[kind]
    last_id = -1
    while True:
        page = (
            await connection.execute(
                text(
                    f"SELECT id, {event} AS event_id, {bookmaker} AS bookmaker_id, captured_at,"  # noqa: S608
                    " scrape_run_id, raw_response::text AS raw_response, last_confirmed_at"
                    f" FROM {snapshots_table} WHERE content_hash IS NOT NULL AND id > :last_id"
                    " ORDER BY id LIMIT :page"
                ),
                {"last_id": last_id, "page": _PAGE_SNAPSHOTS},
            )
        ).all()
        if not page:
            break
        last_id = page[-1].id
        markets = await _markets(connection, markets_table, [row.id for row in page])
        for row in page:
            _compare_row(kind, row, markets.get(row.id, []), state, result)
    orphans = await connection.execute(
        text(
            f"SELECT count(*) FROM {markets_table} AS m WHERE NOT EXISTS"  # noqa: S608
            f" (SELECT FROM {snapshots_table} AS s WHERE s.id = m.snapshot_id)"
        )
    )
    if orphaned := orphans.scalar_one():
        result.unexpected += orphaned
        result.note(f"{orphaned} rows of {markets_table} have no snapshot")


async def _markets(
    connection: AsyncConnection, table: str, ids: list[int]
) -> dict[int, list[list[Any]]]:
    rows = await connection.execute(
        text(
            "SELECT snapshot_id, betpawa_market_id, betpawa_market_name, line, handicap_type,"  # noqa: S608
            " handicap_home, handicap_away, outcomes::text AS outcomes,"
            " market_groups::text AS market_groups, captured_at"
            f" FROM {table} WHERE snapshot_id = ANY(CAST(:ids AS bigint[])) ORDER BY id"
        ),
        {"ids": ids},
    )
    # Each market's eight fields, and behind them its captured_at.
    markets: dict[int, list[list[Any]]] = {}
    for row in rows:
        markets.setdefault(row.snapshot_id, []).append([*row[1:10]])
    return markets


def _compare_row(
    kind: str, row: Any, markets: list[list[Any]], state: _State, result: Comparison
) -> None:
    key = (kind, row.event_id, row.bookmaker_id, row.captured_at)
    expected = state.snapshots.pop(key, None)
    if expected is None:  # never fed, or a second copy of one that was
        result.unexpected += 1
        result.note(f"unexpected: {_name(key)} (id {row.id})")
        return
    raw = None if row.raw_response is None else _plain(row.raw_response)
    if len(markets) != expected.markets:
        result.different += 1
        result.note(f"different: {_name(key)}: {len(markets)} markets, not {expected.markets}")
    elif any(market.pop() != row.captured_at for market in markets):
        result.different += 1
        result.note(f"different: {_name(key)}: captured_at of its markets (id {row.id})")
    elif _digest(markets, row.scrape_run_id, raw) != expected.digest:
        result.different += 1
        result.note(f"different: {_name(key)}: its content (id {row.id})")
    elif row.last_confirmed_at != expected.confirmed_at:
        result.different += 1
        result.note(
            f"different: {_name(key)}: last_confirmed_at is {row.last_confirmed_at},"
            f" not {expected.confirmed_at}"
        )


def _snapshot_digest(
    snapshot: SnapshotWriteData | CompetitorSnapshotWriteData, raw_response: bool
) -> bytes:
    raw = None
    if raw_response and snapshot.raw_response is not None:
        raw = _plain(json.dumps(snapshot.raw_response))
    return _digest([_fields(m) for m in snapshot.markets], snapshot.scrape_run_id, raw)


def _fields(market: MarketWriteData) -> list[Any]:
    return [
        market.betpawa_market_id,
        market.betpawa_market_name,
        market.line,
        market.handicap_type,
        market.handicap_home,
        market.handicap_away,
        _text_of(market.outcomes),
        None if market.market_groups is None else _text_of(market.market_groups),
    ]


# A `json` column keeps a document's text as it was sent; to compare texts saves
# reading half a million documents of a demo back.
_text_of = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _plain(document: str) -> Any:
    """A document with numbers as `jsonb` keeps them: by value, not by spelling."""
    return json.loads(document, parse_float=_number, parse_int=_number)


def _number(text_of_number: str) -> str:
    return f"number {Decimal(text_of_number).normalize()}"


def _digest(markets: list[list[Any]], run: int | None, raw: Any) -> bytes:
    document = json.dumps([markets, run, raw], sort_keys=True, separators=(",", ":"))
    return blake2b(document.encode(), digest_size=16).digest()


def _name(key: _Key) -> str:
    kind, event_id, bookmaker_id, captured_at = key
    bookmaker = f" bookmaker {bookmaker_id}" if kind == "betpawa" else ""
    return f"{kind}:{event_id}{bookmaker} captured at {captured_at.isoformat()}"
