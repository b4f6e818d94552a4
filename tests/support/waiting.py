"""Waiting for a condition, with one budget for all tests."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable

__all__ = ["BUDGET_SECONDS", "until"]

# Far above what anything takes on a busy machine: only a failing test waits so long.
BUDGET_SECONDS = 60.0
_STEP_SECONDS = 0.02


async def until(
    condition: Callable[[], object | Awaitable[object]],
    what: str,
    *,
    budget_seconds: float = BUDGET_SECONDS,
) -> None:
    """Wait until the condition holds; fail with `what` when the budget is spent.

    Args:
        condition: asked again and again; may be a coroutine function.
        what: what is waited for, for the failure.
        budget_seconds: how long.
    """
    deadline = time.monotonic() + budget_seconds
    while True:
        answer = condition()
        if inspect.iscoroutine(answer):
            answer = await answer
        if answer:
            return
        if time.monotonic() > deadline:
            raise AssertionError(f"after {budget_seconds} s still waiting for: {what}")
        await asyncio.sleep(_STEP_SECONDS)
