"""How long letters have waited, counting only while the log was caught up. Pure."""

__all__ = ["CaughtUpTime"]

# Between two looks that are further apart, a process stood still or could not look.
_LONGEST_GAP_SECONDS = 60.0


class CaughtUpTime:
    """Adds up the time between looks that both found the log caught up.

    It begins anew with the process, so a letter's wait may get longer, never shorter.

    Args:
        wait_seconds: how long a letter waits.
    """

    def __init__(self, wait_seconds: float) -> None:
        self._wait_seconds = wait_seconds
        # Caught-up spans (start, end), the newest last; none that no wait needs.
        self._spans: list[tuple[float, float]] = []
        self._last: float | None = None  # when a look last found it caught up

    def look(self, now: float, *, caught_up: bool) -> float | None:
        """Note a look; the age from which a letter has waited long enough.

        Args:
            now: monotonic.
            caught_up: whether the tables have the log up to its end.

        Returns:
            None where no letter has, or the log is not caught up now.
        """
        last, self._last = self._last, now if caught_up else None
        if not caught_up:
            return None
        if last is not None and last < now <= last + _LONGEST_GAP_SECONDS:
            self._add(last, now)
        return self._age(now)

    def _add(self, start: float, end: float) -> None:
        if self._spans and self._spans[-1][1] == start:
            start = self._spans.pop()[0]
        self._spans.append((start, end))

    def _age(self, now: float) -> float | None:
        left = self._wait_seconds
        if left <= 0:
            return 0.0
        for number in range(len(self._spans) - 1, -1, -1):
            start, end = self._spans[number]
            if end - start >= left:
                del self._spans[:number]  # older than any wait
                return now - (end - left)
            left -= end - start
        return None
