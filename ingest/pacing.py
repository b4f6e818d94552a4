"""Pacing: long work in the event loop, in slices."""

import asyncio
import time
from collections.abc import Callable

__all__ = ["Pacer"]

# Whoever waits in the loop waits for a turn of each of ours (encoding, compressing,
# sending) twice: its timer runs out in one turn, and it is resumed in the next. With
# one step of work (up to 1 ms) on top of each slice that stays under the 10 ms for
# which ingest may hold up the loop.
SLICE_SECONDS = 0.001


class Pacer:
    """Yields to the event loop whenever a slice of time has been used up."""

    def __init__(
        self,
        slice_seconds: float = SLICE_SECONDS,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._slice_seconds = slice_seconds
        self._clock = clock
        self._since = clock()

    async def pause(self) -> None:
        """Call between two steps of work: lets others run if it is time."""
        if self._clock() - self._since >= self._slice_seconds:
            await asyncio.sleep(0)
            self._since = self._clock()
