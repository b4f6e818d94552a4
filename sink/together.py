"""Tasks that stand and fall together, and what one does again and again."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping

__all__ = ["every", "run_together"]


async def run_together(
    stopping: asyncio.Event,
    work: Mapping[str, Coroutine[None, None, None]],
    *,
    stop_seconds: float,
    cancel_seconds: float,
) -> None:
    """Run all of them, by name, until the first ends; that sets `stopping` for the others.

    They get `stop_seconds` to end by themselves, and `cancel_seconds` when cancelled.

    Raises:
        Whatever the one that ended first raised, else what another did.
    """
    tasks = {asyncio.create_task(each, name=name) for name, each in work.items()}
    done: set[asyncio.Task[None]] = set()
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        stopping.set()
        # The others see the stop within a poll; the writer finishes its poll.
        await asyncio.wait(tasks - done, timeout=stop_seconds)
    finally:
        for task in tasks:
            task.cancel()
        # Not for ever: a ping of a dead connection rolls back on it when cancelled.
        await asyncio.wait(tasks, timeout=cancel_seconds)
    # What ended first is why the others had to.
    for task in (*done, *(tasks - done)):
        if task.done() and not task.cancelled():
            task.result()


async def every(
    stopping: asyncio.Event, seconds: float, work: Callable[[], Awaitable[None]]
) -> None:
    """Do the work at once, and again when so long has passed since its end, until stopped.

    Raises:
        Whatever the work raises.
    """
    while not stopping.is_set():
        await work()
        try:
            async with asyncio.timeout(seconds):
                await stopping.wait()
        except TimeoutError:
            pass
