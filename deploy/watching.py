"""`status --watch`: the sides are asked again and again, each for itself, and shown.

One that hangs keeps neither the other nor the picture waiting.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from rich.live import Live

from .console import Out
from .looking import Looks
from .overview import Overview
from .settings import Settings
from .status_view import Size, fitted, plain_line

__all__ = ["watch"]

# A picture is painted at least so often: ages grow, and a terminal may change its size.
_PAINT_SECONDS = 1.0

Show = Callable[[Overview], None]


async def watch(settings: Settings, out: Out, *, every_seconds: float) -> None:
    """Show the overview, until cancelled.

    On a terminal a picture that is renewed in its place; elsewhere a line a refresh,
    and with `--json` an object a line.

    Raises:
        ConfigurationError: no database is configured.
    """
    settings.require_database_url()
    picture = out.terminal is not None and not out.as_json
    async with Looks(settings) as looks, _asking(looks, every_seconds) as asking:
        if picture:
            await _paint(looks, out, asking, every_seconds)
        else:
            await _print(looks, _lines(out), asking, every_seconds)


def _lines(out: Out) -> Show:
    if out.as_json:
        return lambda overview: out.line(json.dumps(overview.as_json(), default=str))
    return lambda overview: out.line(plain_line(overview))


async def _paint(
    looks: Looks, out: Out, asking: "asyncio.Task[None]", every_seconds: float
) -> None:
    console = out.terminal
    if console is None:
        raise AssertionError("only called on a terminal")

    def picture() -> object:
        size = Size(console.size.width, console.size.height)
        return fitted(looks.overview(), size, every_seconds=every_seconds)

    try:
        with Live(console=console, screen=True, auto_refresh=False, transient=True) as live:
            while not asking.done():
                live.update(picture(), refresh=True)  # type: ignore[arg-type]
                await asyncio.wait({asking}, timeout=min(every_seconds, _PAINT_SECONDS))
    finally:
        console.print(picture())  # the last of it stays to be read
    await asking


async def _print(
    looks: Looks, show: Show, asking: "asyncio.Task[None]", every_seconds: float
) -> None:
    # The first line waits for both sides: it would say nothing.
    while not asking.done():
        overview = looks.overview()
        if overview.kafka is None or overview.database is None:
            await asyncio.wait({asking}, timeout=0.05)
            continue
        show(overview)
        await asyncio.wait({asking}, timeout=every_seconds)
    await asking


@asynccontextmanager
async def _asking(looks: Looks, every_seconds: float) -> AsyncIterator["asyncio.Task[None]"]:
    """Ask beside the block; a task that ends says why, and the block ends with it."""

    async def log() -> None:
        await looks.look_at_log()
        await looks.look_at_ages()

    sides = (looks.look_at_tables, log, looks.look_at_spool)
    loops = [asyncio.create_task(_again(side, every_seconds)) for side in sides]
    asking = asyncio.ensure_future(_first(loops))
    try:
        yield asking
    finally:
        for task in (*loops, asking):
            task.cancel()
        await asyncio.wait({*loops, asking})


async def _first(loops: "list[asyncio.Task[None]]") -> None:
    done, _ = await asyncio.wait(loops, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()


async def _again(look: Callable[[], Awaitable[None]], every_seconds: float) -> None:
    """Look, and again `every_seconds` after the last look began, or at once where it was longer."""
    loop = asyncio.get_running_loop()
    while True:
        began = loop.time()
        await look()
        await asyncio.sleep(max(0.05, began + every_seconds - loop.time()))
