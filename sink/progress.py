"""How far behind the tables are, by partition: in records, and in time. Pure.

The oldest unwritten record's own time is known while it is in hand; else it is told
by when the log's end was first seen beyond it, to the time between two looks.
"""

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from .items import PartitionPart

__all__ = ["PartitionView", "Progress"]

_MOST_MARKS = 1000  # of a partition: an hour and more of looks


@dataclass(frozen=True, slots=True)
class PartitionView:
    """One partition; `end` is None before the first look.

    `oldest_at`: when the oldest unwritten record was appended (Unix time), None where
    there is none, or nothing is known of it.
    """

    number: int
    next_offset: int
    end: int | None
    oldest_at: float | None

    @property
    def lag_records(self) -> int | None:
        """Offsets up to the log's end."""
        return None if self.end is None else max(0, self.end - self.next_offset)


class _Marks:
    """When the log's end was first seen where, oldest first, as far as that is unwritten."""

    def __init__(self) -> None:
        self.ends: deque[tuple[int, float]] = deque()
        self.first_end: int | None = None
        self.written_at: float | None = None  # the last written record's own time

    def look(self, end: int, now: float) -> None:
        if self.first_end is None:
            self.first_end = end
        if not self.ends or end > self.ends[-1][0]:
            self.ends.append((end, now))
        if len(self.ends) > _MOST_MARKS:
            del self.ends[1]  # a little less exact in the middle; the oldest stays

    def oldest_at(self, next_offset: int) -> float | None:
        while self.ends and self.ends[0][0] <= next_offset:
            self.ends.popleft()
        if not self.ends:
            return None
        seen_at = self.ends[0][1]
        if self.first_end is not None and next_offset < self.first_end and self.written_at:
            # It was there before the first look: about as old as the one before it.
            return min(seen_at, self.written_at)
        return seen_at


class Progress:
    """Of the partitions that one member has."""

    def __init__(self) -> None:
        self._marks: dict[int, _Marks] = {}
        self._ends: dict[int, int] = {}

    def keep(self, numbers: Collection[int]) -> None:
        """Forget all other partitions: what is known of them grows old."""
        self._marks = {n: marks for n, marks in self._marks.items() if n in numbers}
        self._ends = {n: end for n, end in self._ends.items() if n in numbers}

    def look(self, ends: Mapping[int, int], now: float) -> None:
        """Note where the log ends; `now` is Unix time, here and below."""
        for number, end in ends.items():
            self._ends[number] = end
            self._marks.setdefault(number, _Marks()).look(end, now)

    def wrote(self, parts: Sequence[PartitionPart]) -> None:
        """Note what was committed."""
        for part in parts:
            last = part.records[-1].appended_at if part.records else None
            if last is not None:
                self._marks.setdefault(part.partition, _Marks()).written_at = last.timestamp()

    def view(
        self, number: int, next_offset: int, in_hand: Sequence[PartitionPart]
    ) -> PartitionView:
        """Where a partition stands, whose ledger is at `next_offset`."""
        marks = self._marks.get(number)
        oldest_at = None if marks is None else marks.oldest_at(next_offset)
        end = self._ends.get(number)
        for part in in_hand:
            if part.partition == number:
                oldest_at = _appended_at(part, next_offset) or oldest_at
                end = max(end or 0, part.end)  # newer than the last look
        return PartitionView(number, next_offset, end, oldest_at)


def _appended_at(part: PartitionPart, next_offset: int) -> float | None:
    for record in part.records:
        if record.offset is not None and record.offset >= next_offset:
            return None if record.appended_at is None else record.appended_at.timestamp()
    return None
