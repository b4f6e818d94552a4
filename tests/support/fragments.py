"""Fragments made by hand: also such as no scraper could have built."""

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from oddslog.schemas import CompetitorSnapshotWriteData, SnapshotWriteData
from oddslog.schemas.codec import (
    ConfirmationRecord,
    EventWrites,
    MarketRecord,
    SnapshotRecord,
    encode,
    snapshot_part,
)
from oddslog.schemas.wire import Kind
from tests.support.batches import NOON, competitor, snapshot

__all__ = ["confirming", "good", "holding", "ids", "record", "with_market"]

_BATCH = uuid.UUID("12345678-1234-5678-1234-567812345678")


def record(
    one: SnapshotWriteData | CompetitorSnapshotWriteData | None = None, **changes: Any
) -> SnapshotRecord:
    """The Avro form of a snapshot, with any of its fields changed."""
    made = dict(snapshot_part(one or snapshot()).record)
    return SnapshotRecord(**{**made, **changes})  # type: ignore[typeddict-item]


def with_market(one: SnapshotRecord, number: int = 0, **changes: Any) -> SnapshotRecord:
    """The snapshot with fields of one market changed."""
    markets = list(one["markets"])
    markets[number] = MarketRecord(**{**markets[number], **changes})  # type: ignore[typeddict-item]
    return SnapshotRecord(**{**one, "markets": markets})


def holding(*snapshots: SnapshotRecord, event_id: int = 1, kind: Kind = Kind.BETPAWA) -> bytes:
    """The value of a record that holds these snapshots."""
    return encode(_writes(kind, event_id, snapshots=snapshots))


def confirming(
    *keys: datetime,
    event_id: int = 1,
    bookmaker_id: int | None = 1,
    kind: Kind = Kind.BETPAWA,
    at: datetime = NOON + timedelta(minutes=1),
) -> bytes:
    """The value of a record that confirms the snapshots captured at these times."""
    named = [
        ConfirmationRecord(
            bookmaker_id=bookmaker_id if kind is Kind.BETPAWA else None, captured_at=key
        )
        for key in keys
    ]
    return encode(_writes(kind, event_id, confirmed_at=at, confirmations=named))


def ids(
    *plain_ids: int, kind: Kind = Kind.BETPAWA, at: datetime = NOON + timedelta(minutes=1)
) -> bytes:
    """The value of a record that confirms by plain id."""
    return encode(_writes(kind, None, confirmed_at=at, unchanged_ids=plain_ids))


def good(event_id: int, at: datetime = NOON, kind: Kind = Kind.BETPAWA) -> bytes:
    """The value of a record with one ordinary snapshot."""
    made = snapshot(event_id, at) if kind is Kind.BETPAWA else competitor(event_id, at)
    return holding(record(made), event_id=event_id, kind=kind)


def _writes(
    kind: Kind,
    event_id: int | None,
    *,
    snapshots: Sequence[SnapshotRecord] = (),
    confirmed_at: datetime | None = None,
    confirmations: Sequence[ConfirmationRecord] = (),
    unchanged_ids: Sequence[int] = (),
) -> EventWrites:
    return EventWrites(
        _BATCH,
        0,
        None,
        0,
        1,
        None,
        kind,
        event_id,
        snapshots,
        confirmed_at,
        confirmations,
        unchanged_ids,
    )
