"""How fast the log is written, and how fast it grows: from looks at offsets. Pure."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["OffsetSeries", "Pace"]


class OffsetSeries:
    """Offsets of partitions as they were seen one look after the other.

    Args:
        window_seconds: how far back the looks count; two always do.
    """

    def __init__(self, window_seconds: float) -> None:
        self._window_seconds = window_seconds
        self._looks: deque[tuple[float, Mapping[int, int]]] = deque()

    def add(self, seconds: float, offsets: Mapping[int, int]) -> None:
        """Note a look; offsets that went back (a restored database) begin a new series."""
        if self._looks:
            before = self._looks[-1][1]
            if any(offset < before.get(number, 0) for number, offset in offsets.items()):
                self._looks.clear()
        self._looks.append((seconds, offsets))
        while len(self._looks) > 2 and self._looks[1][0] <= seconds - self._window_seconds:
            self._looks.popleft()

    def clear(self) -> None:
        """Begin a new series: what comes next is not of the same stretch of time."""
        self._looks.clear()

    def per_second(self) -> dict[int, float]:
        """The rate of each partition that the first and the last look have."""
        if len(self._looks) < 2:
            return {}
        (start, first), (end, last) = self._looks[0], self._looks[-1]
        if end <= start:
            return {}
        return {
            number: (offset - first[number]) / (end - start)
            for number, offset in last.items()
            if number in first
        }


@dataclass(frozen=True, slots=True)
class Pace:
    """Records a second by partition: what is written, and what arrives."""

    written: Mapping[int, float] = field(default_factory=dict)
    appended: Mapping[int, float] = field(default_factory=dict)

    @property
    def written_total(self) -> float | None:
        """Of all partitions; None where there were not two looks yet."""
        return sum(self.written.values()) if self.written else None

    @property
    def appended_total(self) -> float | None:
        """Of all partitions; None where there were not two looks yet."""
        return sum(self.appended.values()) if self.appended else None

    def catch_up_seconds(self, lag_records: int, partition: int | None = None) -> float | None:
        """How long until the lag is gone if all goes on like this; None where it never is."""
        if lag_records == 0:
            return 0.0
        if partition is None:
            written, appended = self.written_total, self.appended_total
        else:
            written, appended = self.written.get(partition), self.appended.get(partition)
        if written is None or written <= (appended or 0.0):
            return None
        return lag_records / (written - (appended or 0.0))
