"""What a batch weighs and what is in it, told without encoding it. Pure."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from ..schemas.records import CompetitorSnapshotWriteData, SnapshotWriteData, WriteBatch

__all__ = ["batch_counts", "batch_details", "estimate_steps"]

# Encoded bytes, by the real shape of odds: a market with its outcomes as JSON is
# 100 to 250 bytes. Encoding only to weigh would cost `enqueue` half a second.
_MARKET_BYTES = 200
_SNAPSHOT_BYTES = 100
_CONFIRMATION_BYTES = 24
_ID_BYTES = 10

# A look at one raw response: at most so deep, and into dicts of so many members
# (one path of some 30 values, about 10 microseconds).
_LOOK_DEPTH = 8
_LOOK_MEMBERS = 32
_SCALAR_BYTES = 8
_UNSEEN_BYTES = 16


def estimate_steps(batch: WriteBatch) -> Iterator[int]:
    """Roughly what the encoded batch takes, as numbers to be summed, one a snapshot.

    The sum grows with every snapshot, market, confirmation and id. The Python
    objects of a batch take several times as much memory.
    """
    yield _CONFIRMATION_BYTES * (len(batch.unchanged_betpawa) + len(batch.unchanged_competitor))
    yield _ID_BYTES * (len(batch.unchanged_betpawa_ids) + len(batch.unchanged_competitor_ids))
    for snapshot in _changed(batch):
        size = _SNAPSHOT_BYTES + _MARKET_BYTES * len(snapshot.markets)
        if snapshot.raw_response is not None:
            size += _look(snapshot.raw_response, _LOOK_DEPTH)
        yield size


def _look(document: Any, depth: int) -> int:
    """Weigh a JSON document by its longest branch; cost does not grow with its size."""
    if isinstance(document, str):
        return len(document) + 3
    if not isinstance(document, (dict, list)) or not document:
        return _SCALAR_BYTES
    if depth == 0:
        return _UNSEEN_BYTES * len(document)
    if isinstance(document, list):
        # Members of a list are alike; the first one stands for all.
        return len(document) * _look(document[0], depth - 1)
    if len(document) > _LOOK_MEMBERS:
        first = next(iter(document.values()))
        return len(document) * (_UNSEEN_BYTES + _look(first, depth - 1))
    total = 0
    branch: Any = None
    for member in document.values():
        total += _UNSEEN_BYTES
        if isinstance(member, str):
            total += len(member)
        elif isinstance(member, (dict, list)):
            total += _UNSEEN_BYTES * len(member)
            if branch is None or len(member) > len(branch):
                branch = member
    return total if branch is None else total + _look(branch, depth - 1)


def batch_counts(batch: WriteBatch) -> dict[str, object]:
    """The fields that scrapers' dashboards know."""
    return {
        "batch_index": batch.batch_index,
        "changed_bp": len(batch.changed_betpawa),
        "changed_comp": len(batch.changed_competitor),
        "unchanged_bp": len(batch.unchanged_betpawa) + len(batch.unchanged_betpawa_ids),
        "unchanged_comp": len(batch.unchanged_competitor) + len(batch.unchanged_competitor_ids),
    }


def batch_details(batch: WriteBatch) -> dict[str, object]:
    """All that names the content of a batch, for the log line of its failure."""
    return {
        **batch_counts(batch),
        "scrape_run_id": batch.scrape_run_id,
        "confirmed_at": _text(batch.confirmed_at),
        "event_ids": _distinct(member.event_id for member in batch.changed_betpawa),
        "competitor_event_ids": _distinct(
            member.competitor_event_id for member in batch.changed_competitor
        ),
        "confirmed_event_ids": _distinct(member.event_id for member in batch.unchanged_betpawa),
        "confirmed_competitor_event_ids": _distinct(
            member.competitor_event_id for member in batch.unchanged_competitor
        ),
        "unchanged_betpawa_ids": list(batch.unchanged_betpawa_ids),
        "unchanged_competitor_ids": list(batch.unchanged_competitor_ids),
        "markets": sum(len(snapshot.markets) for snapshot in _changed(batch)),
    }


def _changed(batch: WriteBatch) -> Iterator[SnapshotWriteData | CompetitorSnapshotWriteData]:
    yield from batch.changed_betpawa
    yield from batch.changed_competitor


def _distinct(ids: Iterable[int]) -> list[int]:
    return list(dict.fromkeys(ids))


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
