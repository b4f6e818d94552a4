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

__all__ = ["Comparison", "SnapshotId", "compare", "confirmed_ids", "snapshots_by_id"]

SnapshotId = tuple[str, int, int, datetime]
"""Kind, event, bookmaker (0 for a competitor), captured_at."""
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
    snapshots that are not there as they were fed, and confirmations that are
    neither applied nor pending; `unexpected` rows that nobody fed so (snapshots,
    second copies, orphaned market rows, pending confirmations). A snapshot that is
    there with another content is in both, and in `different`; a second copy also
    in `duplicates`.
    """

    snapshots: int = 0
    markets: int = 0
    confirmations: int = 0
    missing: int = 0
    duplicates: int = 0
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
    """One snapshot as it has to be; `sure` if it has to be there at all."""

    digest: bytes
    markets: int
    sure: bool
    copies: int = 0


@dataclass(slots=True)
class _State:
    snapshots: dict[SnapshotId, _Expected] = field(default_factory=dict)
    confirmations: dict[SnapshotId, datetime] = field(default_factory=dict)
    maybe_confirmed: dict[SnapshotId, set[datetime]] = field(default_factory=dict)

    def allows(self, key: SnapshotId, confirmed_at: datetime, at_least: datetime | None) -> bool:
        """Whether this is what the confirmations of a key may come to."""
        sure = self.confirmations.get(key, at_least)
        lowest = sure if at_least is None or sure is None else max(sure, at_least)
        if confirmed_at == lowest:
            return True
        later = lowest is None or confirmed_at > lowest
        return later and confirmed_at in self.maybe_confirmed.get(key, ())

    def is_there(self, key: SnapshotId) -> bool:
        """Whether the tables have this snapshot; once they were read."""
        expected = self.snapshots.get(key)
        return expected is not None and expected.copies > 0


async def compare(
    engine: AsyncEngine,
    batches: Iterable[WriteBatch],
    *,
    maybe: Iterable[WriteBatch] = (),
    raw_response: bool = True,
) -> Comparison:
    """Compare the tables with the batches that were fed, all of them stamped.

    Args:
        engine: of the database; it is only read.
        batches: every batch that was fed, in order.
        maybe: batches whose receipt nobody saw: each of their parts may be there,
            as it was fed, or not.
        raw_response: whether the raw responses were to be stored.
    """
    state = _State()
    for batch in batches:
        _expect(state, batch, raw_response)
    for batch in maybe:
        _allow(state, batch, raw_response)
    sure = [expected for expected in state.snapshots.values() if expected.sure]
    result = Comparison(
        snapshots=len(sure),
        markets=sum(expected.markets for expected in sure),
        confirmations=len(state.confirmations),
    )
    async with engine.connect() as connection:
        for kind in _TABLES:
            await _compare_kind(connection, kind, state, result)
        await _compare_pending(connection, state, result)
    _count_missing(state, result)
    return result


def _count_missing(state: _State, result: Comparison) -> None:
    # What is there with another content is both: the fed one missing, and one too many.
    result.missing += result.different
    result.unexpected += result.different
    for key, expected in state.snapshots.items():
        if expected.sure and not expected.copies:
            result.missing += 1
            result.note(f"missing: {_name(key)}")


def _expect(state: _State, batch: WriteBatch, raw_response: bool) -> None:
    for key, snapshot in snapshots_by_id(batch):
        if key not in state.snapshots:
            digest = _snapshot_digest(snapshot, raw_response)
            state.snapshots[key] = _Expected(digest, len(snapshot.markets), sure=True)
    for key in confirmed_ids(batch):
        confirmed_at = _confirmed_at(batch)
        state.confirmations[key] = max(state.confirmations.get(key, confirmed_at), confirmed_at)


def _allow(state: _State, batch: WriteBatch, raw_response: bool) -> None:
    for key, snapshot in snapshots_by_id(batch):
        if key not in state.snapshots:
            digest = _snapshot_digest(snapshot, raw_response)
            state.snapshots[key] = _Expected(digest, len(snapshot.markets), sure=False)
    for key in confirmed_ids(batch):
        state.maybe_confirmed.setdefault(key, set()).add(_confirmed_at(batch))


def _confirmed_at(batch: WriteBatch) -> datetime:
    if batch.confirmed_at is None:
        raise ValueError("a batch without confirmed_at was not stamped")
    return batch.confirmed_at


def snapshots_by_id(
    batch: WriteBatch,
) -> Iterator[tuple[SnapshotId, SnapshotWriteData | CompetitorSnapshotWriteData]]:
    """The snapshots of a stamped batch with their natural keys."""
    for one in batch.changed_betpawa:
        if one.captured_at is None:
            raise ValueError("a snapshot without captured_at was not stamped")
        yield ("betpawa", one.event_id, one.bookmaker_id, one.captured_at), one
    for other in batch.changed_competitor:
        if other.captured_at is None:
            raise ValueError("a snapshot without captured_at was not stamped")
        yield ("competitor", other.competitor_event_id, 0, other.captured_at), other


def confirmed_ids(batch: WriteBatch) -> Iterator[SnapshotId]:
    """The natural keys that a batch confirms."""
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


async def _compare_pending(connection: AsyncConnection, state: _State, result: Comparison) -> None:
    """Confirmations whose snapshot is not in the tables wait, and no others."""
    rows = await connection.execute(
        text(
            "SELECT kind, event_id, bookmaker_id, captured_at, confirmed_at"
            " FROM oddslog_pending_confirmations"
        )
    )
    waiting = set()
    for row in rows:
        key = (row.kind, row.event_id, row.bookmaker_id, row.captured_at)
        waiting.add(key)
        if state.is_there(key) or not state.allows(key, row.confirmed_at, None):
            result.unexpected += 1
            result.note(f"unexpected: pending confirmation of {_name(key)} at {row.confirmed_at}")
    for key in state.confirmations:
        expected = state.snapshots.get(key)
        if expected is not None and (expected.copies or expected.sure):
            continue  # looked at with its snapshot, or missing with it
        if key not in waiting:
            result.missing += 1
            result.note(f"missing: the confirmation of {_name(key)}")


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
    expected = state.snapshots.get(key)
    if expected is None:
        result.unexpected += 1
        result.note(f"unexpected: {_name(key)} (id {row.id})")
        return
    expected.copies += 1
    if expected.copies > 1:
        result.duplicates += 1
        result.unexpected += 1
        result.note(f"duplicate: {_name(key)} (id {row.id})")
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
    elif row.last_confirmed_at is None or not state.allows(
        key, row.last_confirmed_at, row.captured_at
    ):
        result.different += 1
        wanted = max(state.confirmations.get(key, row.captured_at), row.captured_at)
        result.note(
            f"different: {_name(key)}: last_confirmed_at is {row.last_confirmed_at}, not {wanted}"
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


def _name(key: SnapshotId) -> str:
    kind, event_id, bookmaker_id, captured_at = key
    bookmaker = f" bookmaker {bookmaker_id}" if kind == "betpawa" else ""
    return f"{kind}:{event_id}{bookmaker} captured at {captured_at.isoformat()}"
