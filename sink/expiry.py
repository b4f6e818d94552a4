"""How long letters have waited, counting only while the log was caught up. Pure."""

from collections.abc import Mapping
from typing import Any

__all__ = ["CaughtUpTime"]

# Between two looks that are further apart, a process stood still or could not look;
# and so much counts at most between the lives of two.
_LONGEST_GAP_SECONDS = 60.0
# More than that are put together: the shorter ones, into the oldest of them.
_MOST_SPANS = 1000


class CaughtUpTime:
    """Adds up the time between looks that both found the log caught up.

    Its state outlives the process, so that sinks that are started often, or run only
    until they have caught up, let letters expire too. A letter's wait may get longer by
    it, never shorter: what lies between the last look of one life and the first of the
    next may have been an outage or a restore, and counts as a minute at most.

    Its state is bounded. Of many short spans (a sink that is started every few minutes)
    neighbours become one, which has their time from the start of the first: for a letter
    that came in between, some of it no longer counts, at most 4 / `most_spans` of the
    wait. So a letter has waited enough after that much more caught-up time at the latest.

    Args:
        wait_seconds: how long a letter waits.
        state: as `state` gave it; what cannot be read begins anew.
        most_spans: from how many on they are put together, at least 4.
    """

    def __init__(
        self, wait_seconds: float, state: object = None, *, most_spans: int = _MOST_SPANS
    ) -> None:
        self._wait_seconds = wait_seconds
        self._most_spans = most_spans
        # Caught-up spans (start, end), the newest last; none that no wait needs.
        self._spans: list[tuple[float, float]] = []
        self._last: float | None = None  # when a look last found it caught up
        if isinstance(state, Mapping):
            self._take(state)

    @property
    def state(self) -> dict[str, Any]:
        """To go on with, as JSON."""
        return {"last": self._last, "spans": [list(span) for span in self._spans]}

    def look(self, now: float, *, caught_up: bool, first: bool = False) -> float | None:
        """Note a look; the moment before which a letter must have come to have waited enough.

        Args:
            now: by the clock that the letters' times are of.
            caught_up: whether the tables have the log up to its end.
            first: the first one of a process.

        Returns:
            None where no letter has, or the log is not caught up now.
        """
        last, self._last = self._last, now if caught_up else None
        self._forget_after(now)
        if not caught_up:
            return None
        if last is not None and last < now:
            if now <= last + _LONGEST_GAP_SECONDS:
                self._add(last, now)
            elif first:
                # Where the last look was: letters that have come since have not waited.
                self._add(last, last + _LONGEST_GAP_SECONDS)
        return self._moment(now)

    def _take(self, state: Mapping[str, Any]) -> None:
        try:
            spans = [(float(start), float(end)) for start, end in state["spans"]]
            last = None if state["last"] is None else float(state["last"])
        except (KeyError, TypeError, ValueError):
            return
        self._spans, self._last = spans, last

    def _forget_after(self, now: float) -> None:
        """The clock went back: what is later than now would count for newer letters."""
        self._spans = [(start, min(end, now)) for start, end in self._spans if start < now]

    def _add(self, start: float, end: float) -> None:
        if self._spans and self._spans[-1][1] == start:
            start = self._spans.pop()[0]
        self._spans.append((start, end))
        if len(self._spans) > self._most_spans:
            self._merge()

    def _merge(self) -> None:
        """Put short neighbours together, the later one's time earlier: a wait gets longer.

        Any two neighbours that stay hold more than 4 / `most_spans` of the wait. So all
        of them hold more than the wait, or no more than about half of them stay.
        """
        most_seconds = 4 * self._wait_seconds / self._most_spans
        merged: list[tuple[float, float]] = []
        for start, end in self._spans:
            if merged:
                first, until = merged[-1]
                if (until - first) + (end - start) <= most_seconds:
                    merged[-1] = (first, until + (end - start))
                    continue
            merged.append((start, end))
        self._spans = merged

    def _moment(self, now: float) -> float | None:
        left = self._wait_seconds
        if left <= 0:
            self._spans.clear()
            return now
        for number in range(len(self._spans) - 1, -1, -1):
            start, end = self._spans[number]
            if end - start >= left:
                del self._spans[:number]  # older than any wait
                return end - left
            left -= end - start
        return None
