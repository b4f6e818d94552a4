"""Log lines that cannot hurt: a log call once crashed a scraper's success path."""

import contextlib

import structlog

__all__ = ["say"]


def say(level: str, event: str, **fields: object) -> None:
    """Write a structured log line; a log that cannot be written is no failure.

    Args:
        level: `debug`, `info`, `warning` or `error`.
        event: a stable name, for dashboards.
        fields: values of the line.
    """
    with contextlib.suppress(Exception):
        getattr(structlog.get_logger("oddslog.ingest"), level)(event, **fields)
