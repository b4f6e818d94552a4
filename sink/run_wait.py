"""Waiting for a scrape run instead of sleeping."""

import asyncio
import time
from collections.abc import Callable

from sqlalchemy.ext.asyncio import AsyncSession

from .classify import ErrorClass, classify, sqlstate_of
from .errors import NotMigratedError, RunIncompleteError
from .run_states import ScrapeRun
from .runs import read_run

__all__ = ["wait_for_run"]

SessionFactory = Callable[[], AsyncSession]

# How often the database is asked: at first soon, for who waits for the last moment of a
# run; then less often. One look reads a run's rows by key: milliseconds.
_FIRST_SECONDS = 0.1
_GROWTH = 1.5
_MOST_SECONDS = 2.0
# What one look may take: a connection that the network has lost in silence says nothing
# for minutes. Another is made for the next look.
_LOOK_SECONDS = 5.0
# What the last look may take, also where the time is up.
_LAST_LOOK_SECONDS = 1.0
# What giving back a session may take, where its connection does not answer.
_CLOSE_SECONDS = 1.0
_LOOKS: "set[asyncio.Task[ScrapeRun | None]]" = set()  # until their connection is closed
_MIGRATE = "the database is not migrated; run: oddslog migrate"
_NOT_MIGRATED = ("42P01", "42703")  # no such table, no such column


async def wait_for_run(
    session_factory: SessionFactory, run_id: int, *, timeout_seconds: float
) -> ScrapeRun:
    """Wait until everything of a scrape run has arrived; returns what has.

    The rows of a run are then there to be read, but for its dead letters: look at
    `marked`, `dead_letters` and `waiting`. It is asked for at once, then every 0.1 s,
    and ever less often up to every 2 s; no connection is held in between, and one that
    is lost, or does not answer for 5 s, is tried again with another. At least one look
    is taken; where the database does not answer, the last one may end up to 2 s after the
    time is up (1 s for the answer, 1 s for giving up its connection).

    Args:
        session_factory: makes sessions on the database, as `async_sessionmaker` does.
        run_id: the `scrape_run_id` of the run's batches.
        timeout_seconds: how long to wait at most.

    Raises:
        NotMigratedError: the tables are not those of this version.
        RunIncompleteError: it was not complete in time (also a TimeoutError); its `run`
            says how far it was. A run whose batches do not say their `batch_count` is
            never complete.
        Whatever else PostgreSQL or the driver raises, where waiting does not mend it.
    """
    deadline = time.monotonic() + timeout_seconds
    run: ScrapeRun | None = None
    trouble: Exception | None = None
    pause_seconds = _FIRST_SECONDS
    while True:
        try:
            left_seconds = max(deadline - time.monotonic(), _LAST_LOOK_SECONDS)
            run = await _look(session_factory, run_id, min(left_seconds, _LOOK_SECONDS))
            trouble = None
        except Exception as error:
            if sqlstate_of(error) in _NOT_MIGRATED:
                raise NotMigratedError(_MIGRATE) from error
            if classify(error) is not ErrorClass.TRANSIENT:
                raise
            trouble = error
        if run is not None and run.complete and trouble is None:
            return run
        left_seconds = deadline - time.monotonic()
        if left_seconds <= 0:
            raise RunIncompleteError(
                _text(run_id, run, timeout_seconds, trouble), run_id, run
            ) from trouble
        await asyncio.sleep(min(pause_seconds, left_seconds))
        pause_seconds = min(pause_seconds * _GROWTH, _MOST_SECONDS)


async def _look(session_factory: SessionFactory, run_id: int, seconds: float) -> ScrapeRun | None:
    """One look, in a task of its own: giving up a dead connection may take longer than it may."""
    looking = asyncio.create_task(_read(session_factory, run_id), name="oddslog-run-look")
    _LOOKS.add(looking)
    looking.add_done_callback(_ended)
    try:
        done, _ = await asyncio.wait({looking}, timeout=seconds)
        if not done:
            looking.cancel()
            await asyncio.wait({looking}, timeout=_CLOSE_SECONDS)
            raise TimeoutError(f"no answer within {seconds:g} s")
    finally:
        looking.cancel()
    return looking.result()


async def _read(session_factory: SessionFactory, run_id: int) -> ScrapeRun | None:
    async with session_factory() as session:
        connection = await session.connection()
        try:
            return await read_run(connection, run_id)
        except asyncio.CancelledError:
            await connection.invalidate()  # it may be dead: nobody gets it again
            raise


def _ended(looking: "asyncio.Task[ScrapeRun | None]") -> None:
    """Of a look that was given up nobody hears any more."""
    _LOOKS.discard(looking)
    if not looking.cancelled():
        looking.exception()


def _text(
    run_id: int, run: ScrapeRun | None, timeout_seconds: float, trouble: Exception | None
) -> str:
    start = f"scrape run {run_id} is not complete after {timeout_seconds:g} s:"
    if trouble is not None:
        return f"{start} the database does not answer ({type(trouble).__name__})"
    if run is None:
        return f"{start} nothing of it has arrived"
    fragments = f"{run.fragments_arrived} of {run.fragments_expected} fragments of those begun"
    if run.batches_expected is None:
        return (
            f"{start} its batches do not say how many there are (batch_count);"
            f" {run.batches_arrived} have arrived, {fragments}"
        )
    return f"{start} {run.batches_arrived} of {run.batches_expected} batches, {fragments}"
