"""A view of the servers that is asked for at most every few seconds, whoever looks."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Recent", "Seen"]

_FRESH_SECONDS = 4.0
# A look at servers that are away takes up to half a minute; the page does not wait so long.
_WAIT_SECONDS = 4.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen, and how long ago; `value` is None where nothing was seen yet."""

    value: Mapping[str, Any] | None = None
    age_seconds: float | None = None
    error: str | None = None


class Recent:
    """Looks when asked, one look at a time; used on the event loop's thread only.

    Args:
        look: the look, which may take long.
        fresh_seconds: how long what was seen is good.
        wait_seconds: how long who asks waits for a look, before it gets what was last seen.
    """

    def __init__(
        self,
        look: Callable[[], Awaitable[Mapping[str, Any]]],
        *,
        fresh_seconds: float = _FRESH_SECONDS,
        wait_seconds: float = _WAIT_SECONDS,
    ) -> None:
        self._look = look
        self._fresh_seconds = fresh_seconds
        self._wait_seconds = wait_seconds
        self._value: Mapping[str, Any] | None = None
        self._seen_at: float | None = None  # monotonic
        self._error: str | None = None
        self._looking: asyncio.Task[None] | None = None

    async def get(self) -> Seen:
        """What was seen last, new where that is old. Never raises for the look."""
        if self._seen_at is None or time.monotonic() - self._seen_at > self._fresh_seconds:
            if self._looking is None or self._looking.done():
                self._looking = asyncio.create_task(self._see(), name="oddslog-status")
            await asyncio.wait({self._looking}, timeout=self._wait_seconds)
        age = None if self._seen_at is None else time.monotonic() - self._seen_at
        return Seen(self._value, age, self._error)

    async def close(self) -> None:
        """End the look that goes on; waits at most a second for that."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait({self._looking}, timeout=1.0)

    async def _see(self) -> None:
        try:
            value = await self._look()
        except Exception as error:
            self._error = f"{type(error).__name__}: {error}"
        else:
            self._value, self._error = value, None
        self._seen_at = time.monotonic()
