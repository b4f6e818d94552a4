"""Builders for the tests of `ingest`, and a test that they build what they say."""

import asyncio
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from oddslog.schemas.records import (
    CompetitorSnapshotWriteData,
    MarketWriteData,
    SnapshotWriteData,
    WriteBatch,
)

NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
BUDGET_SECONDS = 20.0


def market(number: int = 0, outcomes: Any = None) -> MarketWriteData:
    """One market with outcomes, line and groups."""
    if outcomes is None:
        outcomes = [{"name": "Über", "odds": 1.5 + number}, {"name": "X", "odds": 4}]
    return MarketWriteData(
        f"{3743 + number}", "Total goals", number + 0.5, "asian", -0.25, 0.25, outcomes, ["main"]
    )


def betpawa(
    event_id: int,
    *,
    markets: int = 2,
    raw: Any = None,
    captured_at: datetime | None = None,
    run: int | None = 7,
) -> SnapshotWriteData:
    """A BetPawa snapshot."""
    members = tuple(market(number) for number in range(markets))
    return SnapshotWriteData(event_id, 1, run, raw, members, captured_at)


def competitor(
    event_id: int, *, markets: int = 2, raw: Any = None, captured_at: datetime | None = None
) -> CompetitorSnapshotWriteData:
    """A competitor snapshot."""
    members = tuple(market(number) for number in range(markets))
    return CompetitorSnapshotWriteData(event_id, 7, raw, members, captured_at)


def batch(
    *,
    betpawa: Iterable[SnapshotWriteData] = (),
    competitor: Iterable[CompetitorSnapshotWriteData] = (),
    betpawa_ids: Iterable[int] = (),
    competitor_ids: Iterable[int] = (),
    index: int = 0,
    **more: Any,
) -> WriteBatch:
    """A batch of scrape run 7."""
    return WriteBatch(
        tuple(betpawa),
        tuple(competitor),
        tuple(betpawa_ids),
        tuple(competitor_ids),
        7,
        index,
        **more,
    )


def small(index: int = 0) -> WriteBatch:
    """A batch of one snapshot, of the event of its own number."""
    return batch(betpawa=[betpawa(index + 1)], index=index)


def broken_betpawa(event_id: int, captured_at: datetime | None = None) -> SnapshotWriteData:
    """A snapshot whose outcomes are no JSON, which only encoding finds out."""
    members = (market(0, [{"odds": object()}]),)
    return SnapshotWriteData(event_id, 1, 7, None, members, captured_at)


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until something is so, or fail after one budget."""
    async with asyncio.timeout(BUDGET_SECONDS):
        while not condition():
            await asyncio.sleep(0)


async def turns(count: int = 50) -> None:
    """Let everything run that can run without waiting for a timer or a socket."""
    for _ in range(count):
        await asyncio.sleep(0)


def test_a_small_batch_has_one_unstamped_snapshot() -> None:
    """The builders leave the times to the queue."""
    built = small(4)
    assert [snapshot.event_id for snapshot in built.changed_betpawa] == [5]
    assert built.changed_betpawa[0].captured_at is None
    assert built.batch_index == 4
