"""Stamps: the times that a caller left out.

Pure but for its memory: the moment is an argument. `captured_at` increases
strictly per natural key within a process, so that two scrapes of one event are
never one key, also when the wall clock stands still or steps back.
"""

from copy import copy
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeVar

from .records import CompetitorSnapshotWriteData, SnapshotWriteData, WriteBatch

__all__ = ["Stamper", "process_stamper"]

_MICROSECOND = timedelta(microseconds=1)
# A key is forgotten an hour after its stamp: only a clock that steps back by
# more than that could then give a stamp twice. 100,000 keys are about 15 MB.
_REMEMBER = timedelta(hours=1)
_PRUNE_AT_KEYS = 100_000

_Key = tuple[int, int] | int
_Snapshot = TypeVar("_Snapshot", SnapshotWriteData, CompetitorSnapshotWriteData)


class Stamper:
    """Gives `captured_at` and `confirmed_at` to batches; one a process."""

    def __init__(self) -> None:
        self._last: dict[_Key, datetime] = {}
        self._prune_at_keys = _PRUNE_AT_KEYS

    def stamp(self, batch: WriteBatch, now: datetime) -> WriteBatch:
        """The batch with every time filled in; times that were given stay.

        Args:
            batch: as the caller made it.
            now: aware UTC.
        """
        betpawa = tuple(
            snapshot
            if snapshot.captured_at is not None
            else _stamped(snapshot, self._next((snapshot.event_id, snapshot.bookmaker_id), now))
            for snapshot in batch.changed_betpawa
        )
        competitor = tuple(
            snapshot
            if snapshot.captured_at is not None
            else _stamped(snapshot, self._next(snapshot.competitor_event_id, now))
            for snapshot in batch.changed_competitor
        )
        self._prune(now)
        return replace(
            batch,
            changed_betpawa=betpawa,
            changed_competitor=competitor,
            confirmed_at=batch.confirmed_at if batch.confirmed_at is not None else now,
        )

    def _next(self, key: _Key, now: datetime) -> datetime:
        last = self._last.get(key)
        moment = now if last is None else max(now, last + _MICROSECOND)
        self._last[key] = moment
        return moment

    def _prune(self, now: datetime) -> None:
        if len(self._last) < self._prune_at_keys:
            return
        limit = now - _REMEMBER
        self._last = {key: moment for key, moment in self._last.items() if moment > limit}
        # Where an hour really has so many keys, do not walk them at each batch.
        self._prune_at_keys = max(_PRUNE_AT_KEYS, 2 * len(self._last))


process_stamper = Stamper()
"""The one of this process: stamps increase over all its queues and direct writes."""


def _stamped(snapshot: _Snapshot, captured_at: datetime) -> _Snapshot:
    """A copy with the time; not checked again, which would walk every market."""
    stamped = copy(snapshot)
    object.__setattr__(stamped, "captured_at", captured_at)
    return stamped
