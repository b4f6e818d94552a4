"""Running a replay: its servers, its signals, its progress."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass

import structlog

from ..schemas.errors import OddslogError
from ..sink.ledger import LogIdentity
from ..sink.log_reader import open_log_reader
from ..sink.opening import check_database
from ..sink.replay import Replay, ReplayOptions
from ..sink.replay_opening import OpenedReplay, ReplayRequest, open_replay
from ..sink.replay_progress import ReplayState
from ..sink.replay_scratch import Scratch
from .console import Meter, Out
from .database import asking, open_engine, safe_url
from .kafka import usable_topic
from .logs import let_libraries_log
from .settings import Settings

__all__ = ["ReplayRun", "run_replay"]

log = structlog.get_logger("oddslog.replay")

_METER_SECONDS = 0.2
_MASK = "***"  # SQLAlchemy's, in a URL


@dataclass(frozen=True)
class ReplayRun:
    """How a run ended.

    `state` is None where a signal came before anything was begun; `signal_number` is
    None where none came. `adopted` is None where that was not asked for.
    """

    state: ReplayState | None
    seconds: float
    retries: int = 0
    adopted: bool | None = None
    signal_number: int | None = None


async def run_replay(
    settings: Settings,
    request: ReplayRequest,
    options: ReplayOptions,
    out: Out,
    resume_command: Callable[[str], str],
) -> ReplayRun:
    """Replay until done, or until a signal lets the transaction in hand be the last.

    A second signal ends the process at once, which loses nothing either.

    Args:
        settings: where the log and the database are.
        request: what is replayed.
        options: how.
        out: shows plan and progress, and after an interruption how to go on.
        resume_command: the command that goes on with the replay of this id.

    Raises:
        OddslogError: as `open_replay` and `Replay.run` say.
    """
    started = time.perf_counter()
    stopper = _Stopper(asyncio.current_task())
    stopper.listen()
    try:
        async with _opened(settings, request, options) as (replay, opened):
            wanted = opened.state.adopt
            let_libraries_log()
            _tell(out, settings, request, opened, resume_command)
            stopper.replay = replay
            try:
                await _run(replay, out)
            except OddslogError as error:
                for words in _how_to_go_on(request, replay.state, resume_command):
                    error.add_note(words)
                raise
            for words in _how_to_go_on(request, replay.state, resume_command):
                out.note(f"Interrupted. {words}", style="bold")
            return ReplayRun(
                replay.state,
                time.perf_counter() - started,
                replay.retries,
                replay.state.adopt if wanted else None,
                stopper.signal_number,
            )
    except asyncio.CancelledError:
        if stopper.signal_number is None:
            raise
        seconds = time.perf_counter() - started
        return ReplayRun(None, seconds, signal_number=stopper.signal_number)


@asynccontextmanager
async def _opened(
    settings: Settings, request: ReplayRequest, options: ReplayOptions
) -> AsyncIterator[tuple[Replay, OpenedReplay]]:
    """A replay on its servers, all of them let go of at the end."""
    async with open_engine(settings, "replay") as engine:
        limits = await check_database(engine)
        topic = await usable_topic(settings.kafka(), settings.topic)
        identity = LogIdentity(topic.cluster_id, topic.topic, topic.partitions)
        fetch_bytes = max(options.poll_bytes, topic.max_message_bytes)
        async with open_log_reader(
            settings.kafka(), settings.topic, fetch_bytes=fetch_bytes
        ) as reader:
            with closing(Scratch()) as scratch:
                with asking(engine):
                    opened = await open_replay(engine, limits, reader, identity, request, scratch)
                yield Replay(opened.target, reader, opened.state, options), opened


async def _run(replay: Replay, out: Out) -> None:
    done_before = replay.state.offsets_done
    total = replay.state.offsets_total - done_before
    with out.meter("replay", total, "records") as meter:
        moving = asyncio.create_task(_move(replay, meter, done_before), name="oddslog-meter")
        try:
            await replay.run()
        finally:
            moving.cancel()
            await asyncio.wait({moving})
            meter.move_to(replay.state.offsets_done - done_before)


async def _move(replay: Replay, meter: Meter, done_before: int) -> None:
    while True:
        await asyncio.sleep(_METER_SECONDS)
        meter.move_to(replay.state.offsets_done - done_before)


def _tell(
    out: Out,
    settings: Settings,
    request: ReplayRequest,
    opened: OpenedReplay,
    resume_command: Callable[[str], str],
) -> None:
    """What is going to happen."""
    state = opened.state
    for other in opened.others:
        if not request.dry_run:
            out.note(
                f"Replay {other.state.replay_id} in this database was not ended (its last write:"
                f" {other.updated_at:%Y-%m-%d %H:%M:%S} UTC). To go on with it:"
                f" {resume_command(other.state.replay_id)}"
            )
    spans = ", ".join(
        f"{partition} ({held.start} to {held.end - 1})"
        for partition, held in state.remaining().items()
    )
    left = state.offsets_total - state.offsets_done
    how = "Dry run, nothing will stay" if request.dry_run else f"Replay {state.replay_id}"
    out.note(
        f"{how}: {left:,} records of topic {state.topic} into"
        f" {safe_url(settings.require_database_url())}; partitions: {spans or 'none'}"
    )


def _how_to_go_on(
    request: ReplayRequest, state: ReplayState, resume_command: Callable[[str], str]
) -> list[str]:
    """In one line, where there is more to do."""
    if request.dry_run or state.finished:
        return []
    command = resume_command(state.replay_id)
    masked = f" (with the database's password in place of {_MASK})" if _MASK in command else ""
    return [f"What is written stays. To go on with it{masked}: {command}"]


class _Stopper:
    """What the signals do."""

    def __init__(self, task: "asyncio.Task[object] | None") -> None:
        self._task = task
        self.replay: Replay | None = None
        self.signal_number: int | None = None

    def listen(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, self._stop, number)

    def _stop(self, number: int) -> None:
        if self.signal_number is not None:
            os._exit(128 + number)
        self.signal_number = number
        log.info("replay_stopping", signal=signal.Signals(number).name)
        if self.replay is not None:
            self.replay.stop()
        elif self._task is not None:
            self._task.cancel()
