"""aiokafka's log, limited: the first line of a kind, then one an interval."""

import logging

import aiokafka.conn  # noqa: F401 - its logger must be there
import pytest

from oddslog.ingest import limit_aiokafka_log
from oddslog.ingest.quiet import _Limit


def line(number: int, level: int = logging.ERROR, text: str = "away: %s") -> logging.LogRecord:
    """A record of the logging call in that line."""
    return logging.LogRecord("aiokafka", level, "client.py", number, text, ("x",), None)


def test_each_kind_passes_once_an_interval_and_counts_the_rest() -> None:
    """By the place of the call, whatever its arguments; what only informs always passes."""
    now = [0.0]
    limit = _Limit(10.0, lambda: now[0])
    assert limit.filter(line(1))
    assert not limit.filter(line(1))
    assert not limit.filter(line(1))
    assert limit.filter(line(2))
    assert limit.filter(line(1, logging.INFO))
    now[0] = 10.0
    later = line(1)
    assert limit.filter(later)
    assert later.getMessage() == "away: x (2 more like this)"


def test_it_reaches_the_loggers_below_aiokafka(caplog: pytest.LogCaptureFixture) -> None:
    """And a second call replaces the first."""
    loggers = [logging.getLogger("aiokafka"), logging.getLogger("aiokafka.conn")]
    before = [list(logger.filters) for logger in loggers]
    try:
        limit_aiokafka_log(60)
        limit_aiokafka_log(60)
        for _ in range(3):
            for logger in loggers:
                logger.error("away")
        assert len(caplog.records) == 1
        assert all(len(logger.filters) == 1 for logger in loggers)
    finally:
        for logger, filters in zip(loggers, before, strict=True):
            logger.filters[:] = filters
