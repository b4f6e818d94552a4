"""Running a sink: its signals, its progress, its end."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from ..schemas.errors import OddslogError
from ..sink import Sink, SinkOptions, SinkSource, SinkTotals, open_sink
from ..sink.serving import serve
from ..sink.site import Site
from .console import Meter, Out
from .database import asking
from .kafka import read_log
from .letter_topic import SendingLetters, open_letter_topic
from .logs import let_libraries_log
from .looking import read_overview
from .queries import read_database
from .settings import Settings

__all__ = ["SinkRun", "records_to_read", "run_sink", "serve_status"]

log = structlog.get_logger("oddslog.sink")

_METER_SECONDS = 0.2
_REPORT_SECONDS = 30.0


@dataclass(frozen=True)
class SinkRun:
    """How a run ended; `signal_number` is None where no signal ended it."""

    totals: SinkTotals
    seconds: float
    signal_number: int | None = None


async def run_sink(
    engine: AsyncEngine,
    settings: Settings,
    options: SinkOptions,
    out: Out,
    *,
    signals: bool = True,
    site: AbstractAsyncContextManager[Site | None] | None = None,
) -> SinkRun:
    """Run a sink until a signal ends it, or the log's end where that was asked for.

    The first SIGTERM or SIGINT lets the transaction in hand finish; a second one
    ends the process at once, which loses nothing either.

    Args:
        engine: on the database.
        settings: where the log is.
        options: how the sink works.
        out: shows the progress, where there is an end.
        signals: whether the signals are ours to take.
        site: the HTTP port for as long as the sink runs, as `serve_status` makes it.

    Raises:
        OddslogError: as `open_sink` and `Sink.run` say.
    """
    started = time.perf_counter()
    stopper = _Stopper()
    if signals:
        stopper.listen()
    async with site or nullcontext() as answering, open_letter_topic(settings) as letters:
        totals = await _run(engine, settings, options, out, stopper, answering, letters)
    return SinkRun(totals, time.perf_counter() - started, stopper.signal_number)


def serve_status(
    settings: Settings, *, required: bool
) -> AbstractAsyncContextManager[Site | None] | None:
    """The sink's HTTP port as the settings have it; None where it is switched off.

    Args:
        settings: where it is, and which servers its page asks.
        required: whether a port that cannot be had is an error (on entering), or a
            warning.
    """

    async def overview() -> dict[str, Any]:
        return (await read_overview(settings, rates=False)).as_json()

    endpoint = settings.http_endpoint()
    return None if endpoint is None else serve(*endpoint, overview=overview, required=required)


async def _run(
    engine: AsyncEngine,
    settings: Settings,
    options: SinkOptions,
    out: Out,
    stopper: "_Stopper",
    site: Site | None,
    letters: SendingLetters | None,
) -> SinkTotals:
    source = SinkSource(
        settings.kafka(),
        settings.topic,
        settings.group,
        session_timeout_seconds=settings.session_timeout_seconds,
        # One that ends by itself would push the service of that name out of the group.
        group_instance_id=None if options.until_caught_up else settings.group_instance_id,
    )
    opening = asyncio.ensure_future(open_sink(engine, source, options, letters))
    sink = await stopper.unless_stopped(opening)
    if sink is None:
        return SinkTotals()
    let_libraries_log()
    stopper.sink = sink
    if site is not None:
        site.sink = sink
        # Not before: a sink that cannot be opened says just why.
        log.info("http_listening", address=site.address)
    if options.until_caught_up:
        total = await records_to_read(engine, settings)
        with out.meter("sink", total, "records") as meter:
            async with _aside(_move(sink, meter)):
                totals = await sink.run()
            meter.move_to(totals.records)
    else:
        async with _aside(_log_totals(sink)):
            totals = await sink.run()
    return totals


async def records_to_read(engine: AsyncEngine, settings: Settings) -> int | None:
    """How many offsets lie between the ledger and the log's end; None where unknown."""
    try:
        state = await read_log(settings.kafka(), settings.topic, settings.group)
        with asking(engine):
            async with engine.connect() as connection:
                database = await read_database(connection)
    except OddslogError:
        return None
    known = database.newest_log(settings.topic, state.topic.cluster_id)
    total = 0
    for partition, held in state.ranges.items():
        row = None if known is None else known.rows.get(partition)
        total += held.end - (held.start if row is None else max(held.start, row.next_offset))
    return max(0, total)


class _Stopper:
    """What the signals do."""

    def __init__(self) -> None:
        self.sink: Sink | None = None
        self.signal_number: int | None = None
        self._asked = asyncio.Event()

    def listen(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            if signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, self._stop, number)

    def _stop(self, number: int) -> None:
        if self.signal_number is not None:
            os._exit(128 + number)
        self.signal_number = number
        log.info("sink_stopping", signal=signal.Signals(number).name)
        self._asked.set()
        if self.sink is not None:
            self.sink.stop()

    async def unless_stopped(self, opening: "asyncio.Future[Sink]") -> Sink | None:
        """What was opened, or None where a signal came first."""
        asked = asyncio.create_task(self._asked.wait())
        waiting: set[asyncio.Future[object]] = {opening, asked}  # type: ignore[arg-type]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            asked.cancel()
            if not opening.done():
                opening.cancel()
        if self._asked.is_set():
            await asyncio.wait({opening})
            return None
        return await opening


@asynccontextmanager
async def _aside(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Let something run beside the block, and end it with the block."""
    task = asyncio.create_task(work, name="oddslog-report")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


async def _move(sink: Sink, meter: Meter) -> None:
    while True:
        await asyncio.sleep(_METER_SECONDS)
        meter.move_to(sink.totals.records)


async def _log_totals(sink: Sink) -> None:
    said = -1
    while True:
        await asyncio.sleep(_REPORT_SECONDS)
        totals = sink.totals
        if totals.records != said:
            said = totals.records
            log.info(
                "sink_progress",
                records=totals.records,
                snapshots=totals.snapshots,
                markets=totals.markets,
                confirmations=totals.confirmations,
                dead_letters=totals.dead_letters,
                retries=totals.retries,
            )
