"""Whose turn the loop is: the transaction in hand, or decoding the next poll.

Both share one loop. An answer of the database that comes while records are decoded is
seen when those are done, and meanwhile the database has nothing to do; a transaction
has twenty short statements. So decoding stands back from one short statement to the
next, and goes on while the database has long work: INSERT of snapshots, COPY, COMMIT.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["Turn", "commit_follows", "long_statement"]

# What lasts longer is no short statement: a lock that is waited for, a busy server.
# Reading goes on, if slowly, as a member that does not poll is thrown out of the group.
_MOST_SECONDS = 0.01

# Of the task that writes the sink's polls; others' statements are nobody's business here.
_current: ContextVar["Turn | None"] = ContextVar("oddslog_turn", default=None)


class Turn:
    """Shared by the poller, which waits for its turn, and by the task that writes."""

    def __init__(self) -> None:
        self.decoding = asyncio.Event()  # set: the loop may be held for some ms
        self.decoding.set()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Around a transaction of the running task: decoding stands back."""
        token = _current.set(self)
        self.decoding.clear()
        try:
            yield
        finally:
            self.decoding.set()
            _current.reset(token)

    async def wait(self) -> None:
        """Until decoding may go on; at most 10 ms."""
        if self.decoding.is_set():
            return
        try:
            async with asyncio.timeout(_MOST_SECONDS):
                await self.decoding.wait()
        except TimeoutError:
            pass


@contextmanager
def long_statement() -> Iterator[None]:
    """Around a statement that keeps the database busy for long: decoding goes on."""
    turn = _current.get()
    if turn is None:
        yield
        return
    turn.decoding.set()
    try:
        yield
    finally:
        turn.decoding.clear()


def commit_follows() -> None:
    """Of this transaction nothing is left but its COMMIT: decoding goes on."""
    turn = _current.get()
    if turn is not None:
        turn.decoding.set()
