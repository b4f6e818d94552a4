"""What the sink does about an error: wait and try again, or end with one line."""

import asyncio
import random

import structlog

from ..schemas.backoff import backoff_seconds
from ..schemas.errors import OddslogError
from .classify import sqlstate_of
from .errors import FatalDatabaseError

__all__ = ["back_off", "fatal"]

log = structlog.get_logger("oddslog.sink")

_BACKOFF_BASE_SECONDS = 0.2
_BACKOFF_CAP_SECONDS = 15.0


async def back_off(stopping: asyncio.Event, attempt: int, error: BaseException, doing: str) -> None:
    """Log the failure and wait before the next attempt, or until stopped.

    Args:
        stopping: ends the wait.
        attempt: how often it has failed in a row, from 1.
        error: what was raised.
        doing: what is tried, for the log.
    """
    seconds = backoff_seconds(
        attempt,
        base=_BACKOFF_BASE_SECONDS,
        cap=_BACKOFF_CAP_SECONDS,
        jitter=random.random(),  # noqa: S311 - spreads retries, guards nothing
    )
    log.warning(
        "retrying",
        doing=doing,
        attempt=attempt,
        reason=type(getattr(error, "orig", None) or error).__name__,
        sqlstate=sqlstate_of(error),
        seconds=round(seconds, 2),
    )
    try:
        async with asyncio.timeout(seconds):
            await stopping.wait()
    except TimeoutError:
        pass


def fatal(error: BaseException) -> BaseException:
    """The error that ends the sink: our own as it is, PostgreSQL's in one line."""
    if isinstance(error, OddslogError):
        return error
    sqlstate = sqlstate_of(error)
    if sqlstate is None:
        return error
    original = getattr(error, "orig", None) or error
    line = (str(original).splitlines() or [type(original).__name__])[0]
    return FatalDatabaseError(f"PostgreSQL refused the write (SQLSTATE {sqlstate}): {line}")
