"""The ways that are compared: the same rows into the same tables, transaction by transaction.

One object a row is how a scraper writes by itself; bare COPY, of rows that are ready and
have their ids, is as fast as one session of PostgreSQL takes them.
"""

import json
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime
from sqlalchemy.dialects.postgresql import JSON, JSONB
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from ...schemas import WriteBatch
from ...schemas.codec import snapshot_part
from ...sink.sql import MARKET_COLUMNS

__all__ = ["copy_way", "orm_way"]


class Base(DeclarativeBase):
    """The models of the ORM way, written as a scraper would."""

    type_annotation_map = {dict[str, Any]: JSON, datetime: DateTime(timezone=True)}  # noqa: RUF012


class OddsSnapshot(Base):
    """A row of `odds_snapshots`."""

    __tablename__ = "odds_snapshots"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    event_id: Mapped[int]
    bookmaker_id: Mapped[int]
    captured_at: Mapped[datetime]
    raw_response: Mapped[Any] = mapped_column(JSONB)
    last_confirmed_at: Mapped[datetime]


class CompetitorSnapshot(Base):
    """A row of `competitor_odds_snapshots`."""

    __tablename__ = "competitor_odds_snapshots"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    competitor_event_id: Mapped[int]
    captured_at: Mapped[datetime]
    raw_response: Mapped[Any] = mapped_column(JSON)
    last_confirmed_at: Mapped[datetime]


class _Market:
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    snapshot_id: Mapped[int] = mapped_column(BigInteger)
    betpawa_market_id: Mapped[str]
    betpawa_market_name: Mapped[str]
    line: Mapped[float | None]
    handicap_type: Mapped[str | None]
    handicap_home: Mapped[float | None]
    handicap_away: Mapped[float | None]
    outcomes: Mapped[Any] = mapped_column(JSON)
    market_groups: Mapped[Any] = mapped_column(JSON)


class Market(_Market, Base):
    """A row of `market_odds`."""

    __tablename__ = "market_odds"


class CompetitorMarket(_Market, Base):
    """A row of `competitor_market_odds`."""

    __tablename__ = "competitor_market_odds"


def _chunks(batches: Sequence[WriteBatch], snapshots: int) -> Iterator[list[Any]]:
    """The snapshots of the batches in transactions of one size."""
    chunk: list[Any] = []
    for batch in batches:
        for snapshot in (*batch.changed_betpawa, *batch.changed_competitor):
            chunk.append(snapshot)
            if len(chunk) == snapshots:
                yield chunk
                chunk = []
    if chunk:
        yield chunk


async def orm_way(
    engine: AsyncEngine, batches: Sequence[WriteBatch], per_transaction: int
) -> float:
    """One object a row, flush for the ids, commit. Returns seconds."""
    sessions = async_sessionmaker(engine, expire_on_commit=False)
    started = time.perf_counter()
    for chunk in _chunks(batches, per_transaction):
        async with sessions() as session, session.begin():
            rows = [(snapshot, _orm_snapshot(snapshot)) for snapshot in chunk]
            session.add_all([row for _, row in rows])
            await session.flush()
            for snapshot, row in rows:
                kind = Market if isinstance(row, OddsSnapshot) else CompetitorMarket
                session.add_all(
                    [
                        kind(
                            snapshot_id=row.id,
                            betpawa_market_id=m.betpawa_market_id,
                            betpawa_market_name=m.betpawa_market_name,
                            line=m.line,
                            handicap_type=m.handicap_type,
                            handicap_home=m.handicap_home,
                            handicap_away=m.handicap_away,
                            outcomes=m.outcomes,
                            market_groups=m.market_groups,
                        )
                        for m in snapshot.markets
                    ]
                )
    return time.perf_counter() - started


def _orm_snapshot(snapshot: Any) -> OddsSnapshot | CompetitorSnapshot:
    times = {"captured_at": snapshot.captured_at, "last_confirmed_at": snapshot.captured_at}
    if hasattr(snapshot, "event_id"):
        return OddsSnapshot(
            event_id=snapshot.event_id,
            bookmaker_id=snapshot.bookmaker_id,
            raw_response=snapshot.raw_response,
            **times,
        )
    return CompetitorSnapshot(
        competitor_event_id=snapshot.competitor_event_id,
        raw_response=snapshot.raw_response,
        **times,
    )


async def copy_way(
    engine: AsyncEngine, batches: Sequence[WriteBatch], per_transaction: int
) -> float:
    """Bare asyncpg: rows made beforehand, ids given, only COPY is timed. Returns seconds."""
    transactions = _copy_transactions(batches, per_transaction)
    async with engine.connect() as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        started = time.perf_counter()
        for tables in transactions:
            async with driver.transaction():
                for table, (columns, rows) in tables.items():
                    if rows:
                        await driver.copy_records_to_table(table, records=rows, columns=columns)
        return time.perf_counter() - started


def _copy_transactions(
    batches: Sequence[WriteBatch], per_transaction: int
) -> list[dict[str, tuple[Sequence[str], list[Any]]]]:
    transactions = []
    next_id = 0
    for chunk in _chunks(batches, per_transaction):
        tables: dict[str, tuple[Sequence[str], list[Any]]] = {
            "odds_snapshots": (
                ("id", "event_id", "bookmaker_id", "captured_at", "raw_response",
                 "last_confirmed_at", "content_hash"),
                [],
            ),
            "competitor_odds_snapshots": (
                ("id", "competitor_event_id", "captured_at", "raw_response",
                 "last_confirmed_at", "content_hash"),
                [],
            ),
            "market_odds": (MARKET_COLUMNS, []),
            "competitor_market_odds": (MARKET_COLUMNS, []),
        }  # fmt: skip
        for snapshot in chunk:
            next_id += 1
            _add_copy_rows(tables, snapshot, next_id)
        transactions.append(tables)
    return transactions


def _add_copy_rows(
    tables: dict[str, tuple[Sequence[str], list[Any]]], snapshot: Any, row_id: int
) -> None:
    record = snapshot_part(snapshot).record
    at, raw = snapshot.captured_at, json.dumps(snapshot.raw_response)
    if hasattr(snapshot, "event_id"):
        betpawa = (row_id, snapshot.event_id, snapshot.bookmaker_id, at, raw, at)
        tables["odds_snapshots"][1].append((*betpawa, record["content_hash"]))
        markets = tables["market_odds"][1]
    else:
        competitor = (row_id, snapshot.competitor_event_id, at, raw, at)
        tables["competitor_odds_snapshots"][1].append((*competitor, record["content_hash"]))
        markets = tables["competitor_market_odds"][1]
    markets.extend(
        (
            row_id, at, m["betpawa_market_id"], m["betpawa_market_name"], m["line"],
            m["handicap_type"], m["handicap_home"], m["handicap_away"], m["outcomes"],
            m["market_groups"],
        )
        for m in record["markets"]
    )  # fmt: skip
