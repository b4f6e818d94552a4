"""Signals: one that ends the process lets it clean up first.

Ctrl-C already does, as KeyboardInterrupt; here SIGTERM and SIGHUP become the
same, in and outside an event loop. The first of them counts for the exit code.
"""

import asyncio
import signal
import sys
from collections.abc import Coroutine, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

__all__ = ["INTERRUPTED", "Ended", "exit_code", "install", "interruptible", "run", "shielded"]

T = TypeVar("T")

INTERRUPTED = 128 + signal.SIGINT

_ENDING = (signal.SIGTERM, signal.SIGHUP)


class Ended(KeyboardInterrupt):
    """A signal asked the process to end."""


class _Received:
    """The first signal that came, for the exit code."""

    number: int | None = None


def install() -> None:
    """Let SIGTERM and SIGHUP interrupt, unless the caller ignores them (nohup)."""
    for number in _ENDING:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _interrupt)


def exit_code() -> int:
    """The exit code of a process that was interrupted: 128 and the signal."""
    return 128 + (_Received.number or signal.SIGINT)


def _interrupt(number: int, _frame: FrameType | None) -> None:
    _Received.number = _Received.number or number
    raise Ended


def run(work: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run`, where the ending signals cancel the work so that it cleans up.

    Raises:
        Ended: a signal came.
    """
    ended = False

    async def main() -> T:
        nonlocal ended
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()

        def end(number: int) -> None:
            nonlocal ended
            _Received.number = _Received.number or number
            ended = True
            if task is not None:
                task.cancel()

        taken = [n for n in _ENDING if signal.getsignal(n) is _interrupt]
        for number in taken:
            loop.add_signal_handler(number, end, number)
        try:
            return await work
        finally:
            for number in taken:
                loop.remove_signal_handler(number)
            install()

    try:
        return asyncio.run(main())
    except asyncio.CancelledError:
        if ended:
            raise Ended from None
        raise


def interruptible(items: Iterable[T]) -> Iterator[T]:
    """The items, until this task is cancelled: for a reader that does not await."""
    task = asyncio.current_task()
    for item in items:
        if task is not None and task.cancelling():
            raise asyncio.CancelledError
        yield item


@contextmanager
def shielded(patience: str) -> Iterator[None]:
    """Do not let one more signal interrupt a clean-up; a second one does.

    Args:
        patience: what to tell whoever sends a signal meanwhile.
    """
    told = False

    def tell(number: int, _frame: FrameType | None) -> None:
        nonlocal told
        if told:
            raise Ended
        told = True
        _Received.number = _Received.number or number
        sys.stderr.write(f"{patience}\n")

    before = {
        number: signal.signal(number, tell)
        for number in (signal.SIGINT, *_ENDING)
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
