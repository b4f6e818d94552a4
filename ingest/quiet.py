"""aiokafka's log in an outage: dozens of lines a second that say the same."""

import logging
import time
from collections.abc import Callable

__all__ = ["limit_aiokafka_log"]


def limit_aiokafka_log(interval_seconds: float = 10.0) -> None:
    """Let each kind of line of aiokafka's loggers pass once an interval.

    For entry points only; a library leaves its host's logging alone. A line that
    passes says how many like it were held back. Harmless a second time: the
    new interval holds.
    """
    limit = _Limit(interval_seconds, time.monotonic)
    names = [name for name in logging.root.manager.loggerDict if name.startswith("aiokafka.")]
    # A logger's filter sees only what is logged to it directly, not to its children.
    for name in ["aiokafka", *names]:
        logger = logging.getLogger(name)
        for old in [known for known in logger.filters if isinstance(known, _Limit)]:
            logger.removeFilter(old)
        logger.addFilter(limit)


class _Limit(logging.Filter):
    """Passes the first line of each kind in each interval."""

    def __init__(self, interval_seconds: float, clock: Callable[[], float]) -> None:
        super().__init__()
        self._interval_seconds = interval_seconds
        self._clock = clock
        # By the place of the logging call, which are some dozens.
        self._passed: dict[tuple[str, int], float] = {}
        self._held_back: dict[tuple[str, int], int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        kind, now = (record.pathname, record.lineno), self._clock()
        last = self._passed.get(kind)
        if last is not None and now - last < self._interval_seconds:
            self._held_back[kind] = self._held_back.get(kind, 0) + 1
            return False
        self._passed[kind] = now
        held_back = self._held_back.pop(kind, 0)
        if held_back:
            record.msg = f"{record.getMessage()} ({held_back} more like this)"
            record.args = None
        return True
