"""Small batches for tests."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from oddslog.schemas import (
    CompetitorSnapshotWriteData,
    MarketWriteData,
    SnapshotKey,
    SnapshotWriteData,
    WriteBatch,
)

NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)


def market(number: int = 1, **changes: Any) -> MarketWriteData:
    """A market like real ones; any field can be given."""
    fields: dict[str, Any] = {
        "betpawa_market_id": str(5000 + number),
        "betpawa_market_name": "Over/Under: całość",
        "line": 2.5,
        "handicap_type": None,
        "handicap_home": None,
        "handicap_away": None,
        "outcomes": [{"name": "Over", "odds": 1.9}, {"name": "Under", "odds": 1.95}],
        "market_groups": ["Goals", "Main"],
    }
    return MarketWriteData(**{**fields, **changes})


def snapshot(event_id: int = 1, at: datetime = NOON, **changes: Any) -> SnapshotWriteData:
    """A BetPawa snapshot with two markets."""
    fields: dict[str, Any] = {
        "event_id": event_id,
        "bookmaker_id": 1,
        "scrape_run_id": None,
        "raw_response": {"id": event_id, "price": 1.5},
        "markets": (market(1), market(2)),
        "captured_at": at,
    }
    return SnapshotWriteData(**{**fields, **changes})


def competitor(
    event_id: int = 1, at: datetime = NOON, **changes: Any
) -> CompetitorSnapshotWriteData:
    """A competitor snapshot with two markets."""
    fields: dict[str, Any] = {
        "competitor_event_id": event_id,
        "scrape_run_id": None,
        "raw_response": {"id": event_id},
        "markets": (market(1), market(2)),
        "captured_at": at,
    }
    return CompetitorSnapshotWriteData(**{**fields, **changes})


def batch(
    betpawa: Sequence[SnapshotWriteData] = (),
    competitors: Sequence[CompetitorSnapshotWriteData] = (),
    **changes: Any,
) -> WriteBatch:
    """A batch of these snapshots; confirmations through the fields' names."""
    fields: dict[str, Any] = {
        "changed_betpawa": tuple(betpawa),
        "changed_competitor": tuple(competitors),
        "unchanged_betpawa_ids": (),
        "unchanged_competitor_ids": (),
        "scrape_run_id": None,
        "batch_index": 0,
        "confirmed_at": NOON + timedelta(minutes=1),
    }
    return WriteBatch(**{**fields, **changes})


def key_of(one: SnapshotWriteData) -> SnapshotKey:
    """The natural key of a stamped snapshot."""
    assert one.captured_at is not None
    return SnapshotKey(one.event_id, one.bookmaker_id, one.captured_at)
