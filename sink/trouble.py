"""What the sink does about an error: wait and try again, or end with one line."""

import asyncio
import random
from collections.abc import Coroutine

import structlog

from ..schemas.backoff import backoff_seconds
from ..schemas.errors import OddslogError
from .classify import sqlstate_of
from .consumer import LogReadError
from .errors import FatalDatabaseError

__all__ = ["back_off", "error_name", "fatal", "unless_stopped"]

log = structlog.get_logger("oddslog.sink")

_BACKOFF_BASE_SECONDS = 0.2
_BACKOFF_CAP_SECONDS = 15.0


async def unless_stopped(stopping: asyncio.Event, work: Coroutine[None, None, None]) -> bool:
    """Do the work to its end; False where the stop comes first, and it is cancelled.

    Raises:
        Whatever the work raises.
    """
    working = asyncio.create_task(work, name="oddslog-unless-stopped")
    stop = asyncio.create_task(stopping.wait(), name="oddslog-stop")
    try:
        await asyncio.wait({working, stop}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stop.cancel()
        if not working.done():
            working.cancel()
            await asyncio.wait({working})
    if working.cancelled():
        return False
    working.result()
    return True


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
        reason=error_name(error),
        sqlstate=sqlstate_of(error),
        seconds=round(seconds, 2),
    )
    try:
        async with asyncio.timeout(seconds):
            await stopping.wait()
    except TimeoutError:
        pass


def error_name(error: BaseException) -> str:
    """The class of an error: the client's own, where SQLAlchemy or we have wrapped it."""
    if isinstance(error, LogReadError):
        return str(error)
    original = getattr(error, "orig", None)
    if original is None:
        return type(error).__name__
    return type(original.__cause__ or original).__name__


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
