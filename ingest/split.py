"""Splitting a stamped batch into fragments: one Kafka record each. Pure.

All snapshots and confirmations by key of one event of one kind go together, in
the order of the batch, events in the order in which they are first seen. Above
the limit a fragment is split between snapshots, never inside one. Confirmations
by plain id name no event and come last, in fragments of their own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar
from uuid import UUID

from ..schemas.codec import ConfirmationRecord, EventWrites, SnapshotPart, SnapshotRecord
from ..schemas.records import WriteBatch
from ..schemas.wire import Kind

__all__ = ["CONFIRMATION_BYTES", "FRAGMENT_FRAME_BYTES", "ID_BYTES", "presence", "split"]

# Upper bounds of the encoded sizes. The frame: 10 bytes of Avro header, the UUID
# (37 as text), 8 longs or timestamps of at most 10 bytes, branches and array ends.
FRAGMENT_FRAME_BYTES = 200
CONFIRMATION_BYTES = 24  # an optional long (11), a timestamp (10)
ID_BYTES = 10  # a long

_Event = tuple[Kind, int]
_Member = TypeVar("_Member")


@dataclass(slots=True)
class _Writes:
    """What a batch writes to one event."""

    parts: list[SnapshotPart] = field(default_factory=list)
    confirmations: list[ConfirmationRecord] = field(default_factory=list)


def split(
    batch: WriteBatch, parts: Sequence[SnapshotPart], *, batch_id: UUID, limit_bytes: int
) -> list[EventWrites]:
    """Plan the fragments of a batch.

    Every part, confirmation and plain id is in exactly one fragment. No fragment's
    encoded value exceeds `limit_bytes`, except one that holds a single member.

    Args:
        batch: stamped; its confirmations are taken from here.
        parts: its changed snapshots, encoded, in its order.
        batch_id: of every fragment.
        limit_bytes: of an encoded value.
    """
    room = limit_bytes - FRAGMENT_FRAME_BYTES
    planned: list[EventWrites] = []
    for (kind, event_id), writes in _by_event(batch, parts).items():
        for snapshots, confirmations in _packed(writes, room):
            planned.append(
                _fragment(
                    batch,
                    batch_id,
                    kind,
                    event_id,
                    snapshots=snapshots,
                    confirmations=confirmations,
                )
            )
    for kind, ids in (
        (Kind.BETPAWA, batch.unchanged_betpawa_ids),
        (Kind.COMPETITOR, batch.unchanged_competitor_ids),
    ):
        planned.extend(
            _fragment(batch, batch_id, kind, None, unchanged_ids=chunk)
            for chunk in _chunks(ids, max(1, room // ID_BYTES))
        )
    return [
        replace(fragment, fragment_index=index, fragment_count=len(planned))
        for index, fragment in enumerate(planned)
    ]


def presence(batch: WriteBatch, *, batch_id: UUID) -> list[EventWrites]:
    """The one fragment, without writes, of a batch that has none; nobody waits for others.

    A scrape run of so many batches would never be complete without it.
    """
    if batch.scrape_run_id is None or batch.batch_count is None:
        return []
    writes = _fragment(batch, batch_id, Kind.BETPAWA, None)
    return [replace(writes, fragment_count=1)]


def _by_event(batch: WriteBatch, parts: Sequence[SnapshotPart]) -> dict[_Event, _Writes]:
    events: dict[_Event, _Writes] = {}
    for part in parts:
        events.setdefault((part.kind, part.event_id), _Writes()).parts.append(part)
    for key in batch.unchanged_betpawa:
        writes = events.setdefault((Kind.BETPAWA, key.event_id), _Writes())
        writes.confirmations.append(
            {"bookmaker_id": key.bookmaker_id, "captured_at": key.captured_at}
        )
    for rival in batch.unchanged_competitor:
        writes = events.setdefault((Kind.COMPETITOR, rival.competitor_event_id), _Writes())
        writes.confirmations.append({"bookmaker_id": None, "captured_at": rival.captured_at})
    return events


def _packed(
    writes: _Writes, room: int
) -> Iterator[tuple[list[SnapshotRecord], list[ConfirmationRecord]]]:
    """Fill one fragment after the other: snapshots first, then confirmations."""
    snapshots: list[SnapshotRecord] = []
    used = 0
    for part in writes.parts:
        if snapshots and used + part.size_bytes > room:
            yield snapshots, []
            snapshots, used = [], 0
        snapshots.append(part.record)
        used += part.size_bytes
    fit = max(0, room - used) // CONFIRMATION_BYTES
    first = writes.confirmations[:fit]
    if snapshots or first:
        yield snapshots, first
    for chunk in _chunks(writes.confirmations[len(first) :], max(1, room // CONFIRMATION_BYTES)):
        yield [], list(chunk)


def _chunks(members: Sequence[_Member], size: int) -> Iterator[Sequence[_Member]]:
    for start in range(0, len(members), size):
        yield members[start : start + size]


def _fragment(
    batch: WriteBatch,
    batch_id: UUID,
    kind: Kind,
    event_id: int | None,
    *,
    snapshots: Sequence[SnapshotRecord] = (),
    confirmations: Sequence[ConfirmationRecord] = (),
    unchanged_ids: Sequence[int] = (),
) -> EventWrites:
    return EventWrites(
        batch_id=batch_id,
        batch_index=batch.batch_index,
        batch_count=batch.batch_count,
        fragment_index=0,  # numbered when all are planned
        fragment_count=0,
        scrape_run_id=batch.scrape_run_id,
        kind=kind,
        event_id=event_id,
        snapshots=snapshots,
        confirmed_at=batch.confirmed_at if confirmations or unchanged_ids else None,
        confirmations=confirmations,
        unchanged_ids=unchanged_ids,
    )
