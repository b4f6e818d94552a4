"""The torture: feed and sinks under faults, and the proof that nothing was lost.

1. servers, a topic and a database of its own; a proxy before each server for each
   process
2. a feeder and the sinks, started again whenever they end; faults by seed; some
   rows that snapshots refer to come late, and some never
3. the faults end; where they were many, each kind that nothing came of comes once more,
   alone; and a sink stands still until others end its backend;
   the feeder drains, the last rows come, the sinks must catch up by themselves,
   are stopped, and one more runs `--until-caught-up`
4. the conservation check
"""

import asyncio
import shutil
import tempfile
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TextIO

from sqlalchemy.ext.asyncio import AsyncEngine

from ...sink import migrate
from .. import signals
from ..belongings import Belongings
from ..console import Out
from ..database import open_engine
from ..kafka import read_log
from ..settings import Settings
from ..sinking import records_to_read
from .cast import Cast
from .check import check_conserved
from .faults import Faults
from .guard import Guard, guarding
from .parents import LateParents, make_parents
from .place import Ground, Place
from .result import Plan, Progress, TortureResult
from .schedule import Fault, Step, Surroundings, certain, pace, steps
from .sessions import refuse_some

__all__ = ["torture"]

_TICK_SECONDS = 0.5
_START_SECONDS = 60.0
# Shorter ones are for a look: not every kind has to come in them.
_EACH_KIND_MINUTES = 1.0
_LAG_EVERY_SECONDS = 2.0
# A rebalance may take a minute; without any progress for longer, they are stuck.
_STUCK_SECONDS = 120.0
# More of them tell nothing new.
_MOST_FINDINGS = 5


def torture(settings: Settings, plan: Plan, out: Out, *, keep: bool) -> TortureResult:
    """Run it, and take away what was made.

    Whatever happens on the way, an interrupt too, no process, topic, database or
    server of it is left (after SIGKILL: a topic and a database on given servers,
    containers). With `keep` servers and data stay up after the end. The
    folder with journals and logs stays where something was found.

    Raises:
        OddslogError: the servers cannot be had, or do not come back.
        KeyboardInterrupt: after everything was taken away.
    """
    folder = Path(tempfile.mkdtemp(prefix="oddslog-torture-"))
    with guarding(folder) as guard:
        return _torture(_Kit(settings, plan, folder, out, guard), plan, out, keep=keep)


def _torture(kit: "_Kit", plan: Plan, out: Out, *, keep: bool) -> TortureResult:
    result: TortureResult | None = None
    try:
        result = signals.run(kit.run())
    except KeyboardInterrupt:
        out.note(f"oddslog: torture interrupted; its seed was {plan.seed}")
        raise
    finally:
        if keep and result is not None:
            kit.say_where()
        else:
            with signals.shielded("oddslog: cleaning up; once more leaves everything as it is"):
                kit.clean_up(keep_logs=result is not None and not result.fine)
    return result


class _Kit:
    """One torture."""

    def __init__(
        self, settings: Settings, plan: Plan, folder: Path, out: Out, guard: Guard
    ) -> None:
        self._guard = guard
        self._settings = settings
        self._plan = plan
        self._folder = folder
        self._out = out
        self._ground = Ground(settings, folder, plan.sinks + 1)
        self._belongings: Belongings | None = None
        self._place: Place | None = None
        self._progress = Progress()

    async def run(self) -> TortureResult:
        """Everything between the beginning and the clean-up."""
        plan, out = self._plan, self._out
        out.note(f"Torture with seed {plan.seed}")
        async with self._ground.opened(lambda line: out.note(f"  {line}")) as place:
            self._place = place
            for line in place.left_out():
                out.warn(line)
            belongings = Belongings("torture", place.servers, self._settings, out)
            self._belongings = belongings
            await belongings.make()
            async with open_engine(belongings.settings, "torture") as engine:
                await make_parents(engine)
                await migrate(engine)
                await refuse_some(engine)
                cast = Cast(
                    self._folder, plan, place, belongings.settings, self._progress, self._guard
                )
                out.note(f"A feeder, {plan.sinks} sinks, faults for {plan.minutes:g} minutes")
                started = time.monotonic()
                parents = LateParents(engine, self._folder, plan.seed)
                await _flat(self._storm(engine, cast, parents))
                seconds = time.monotonic() - started
                with out.busy("Catching up with one sink"):
                    await cast.catch_up()
                with out.busy("Checking every row against what was fed"):
                    settings = belongings.settings
                    log = await read_log(settings.kafka(), settings.topic, settings.group)
                    conserved = await check_conserved(engine, self._folder, plan.seed, log)
        return TortureResult(
            plan,
            seconds,
            conserved,
            self._progress,
            cast.restarts,
            len(parents.inserted),
            cast.fenced,
            cast.peak_bytes,
            place.left_out(),
            self._folder,
        )

    def clean_up(self, *, keep_logs: bool) -> None:
        """Take away everything but, where asked for, journals and logs."""
        if self._belongings is not None and self._settings.stack == "env":
            self._belongings.clean_up()  # elsewhere the whole server goes
        self._out.note("Taking the servers down")
        self._ground.destroy()
        if keep_logs:
            self._out.note(f"Journals and logs are in {self._folder}")
        else:
            shutil.rmtree(self._folder, ignore_errors=True)

    def say_where(self) -> None:
        """For `--keep`."""
        if self._belongings is not None:
            self._belongings.say_where()
        self._out.say(f"Journals and logs are in {self._folder}")
        if self._place is not None and self._place.own is not None:
            self._out.say(
                "To take it away: ODDSLOG_STACK=local oddslog stack down --destroy --directory"
                f" {self._folder / 'stack'}"
            )

    async def _storm(self, engine: AsyncEngine, cast: Cast, parents: LateParents) -> None:
        """Steps 2 and 3 up to the sinks' end."""
        async with asyncio.TaskGroup() as group:
            for member in cast.members:
                group.create_task(member.keep(), name=f"torture-{member.name}")
            watching = [
                group.create_task(self._watch(cast), name="torture-watch"),
                group.create_task(self._watch_lag(engine, parents), name="torture-lag"),
            ]
            coming = group.create_task(parents.run(), name="torture-parents")
            faults = Faults(cast.targets(), self._progress)
            started = await self._wait_at_work(cast)
            surroundings = self._surroundings()
            await self._inject(group, faults, surroundings, pace(started, self._plan.minutes * 60))
            cast.calm()
            if self._plan.minutes >= _EACH_KIND_MINUTES:
                await self._complete(faults, surroundings)
                cast.calm()
            await self._leave_zombie(faults, cast)
            await cast.feeder.member.stop()
            await cast.drain_spool()
            coming.cancel()
            await parents.finish()
            await self._wait_level()
            await asyncio.gather(*(seat.member.stop() for seat in cast.sinks))
            for task in watching:
                task.cancel()

    async def _wait_at_work(self, cast: Cast) -> float:
        """Wait until each sink is at work, for a minute at most; the seconds that it took."""
        self._progress.phase = "the sinks start"
        began = time.monotonic()
        while (passed := time.monotonic() - began) < _START_SECONDS:
            if all(seat.member.at_work for seat in cast.sinks):
                break
            await asyncio.sleep(_TICK_SECONDS)
        self._progress.phase = ""
        return passed

    def _surroundings(self) -> Surroundings:
        place = self._place
        assert place is not None  # noqa: S101 - it was opened
        own = place.own is not None
        return Surroundings(self._plan.sinks, kafka_proxy=own, own_servers=own)

    async def _complete(self, faults: Faults, surroundings: Surroundings) -> None:
        """Each kind that has not happened, one after the other while nothing else is broken."""
        faults.over.clear()
        for kind in Fault:
            if kind in surroundings.left_out() or self._progress.faults[kind.value]:
                continue
            if len(self._progress.findings) >= _MOST_FINDINGS:
                break
            self._progress.phase = f"still to come: {kind.value}"
            await faults.inject(certain(self._plan.seed, kind, surroundings))
        faults.over.set()

    async def _inject(
        self,
        group: asyncio.TaskGroup,
        faults: Faults,
        surroundings: Surroundings,
        slower: float,
    ) -> None:
        """The faults, each in a task of its own; returns when the last is over."""
        began = time.monotonic()
        self._progress.ends_at = began + self._plan.minutes * 60
        running: set[asyncio.Task[None]] = set()
        with (self._folder / "faults.log").open("w", encoding="utf-8", buffering=1) as log:
            for step in steps(self._plan.seed, surroundings):
                left = self._progress.seconds_left()
                pause_seconds = step.pause_seconds * slower
                await asyncio.sleep(min(left, pause_seconds))
                if left <= pause_seconds or len(self._progress.findings) >= _MOST_FINDINGS:
                    break
                work = _inject(faults, step, began, log)
                task = group.create_task(work, name=f"torture-{step.fault}")
                running.add(task)
                task.add_done_callback(running.discard)
            self._progress.phase = "the last faults end"
            faults.over.set()
            if running:
                await asyncio.wait(running)
        self._progress.lag_at_end = self._progress.lag_last_seen

    async def _leave_zombie(self, faults: Faults, cast: Cast) -> None:
        """One more sink stands still, in mid-transaction: the others have to end its backend."""
        if len(cast.sinks) == 1:
            return
        self._progress.phase = "a sink stands still"
        number = self._plan.seed % len(cast.sinks)
        fenced = cast.fenced
        ended = await faults.freeze_until(cast.sinks[number], lambda: cast.fenced > fenced)
        if ended is False:
            self._progress.find(
                f"sink-{number} stood still in mid-transaction for minutes, and no other sink"
                " ended its backend"
            )

    async def _wait_level(self) -> None:
        """Wait until the sinks have written everything; a finding where they are stuck.

        Everything: the log up to its end, and the letters whose parent has come.
        """
        progress = self._progress
        progress.phase = "catching up"
        since = time.monotonic()
        best: int | None = None
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            left = progress.left_to_write if progress.lag_seen_at > since else None
            if left == 0:
                return
            if left is not None and (best is None or left < best):
                best, since = left, progress.lag_seen_at
            elif time.monotonic() - since > _STUCK_SECONDS:
                progress.find(
                    f"the sinks are stuck: {progress.lag_last_seen} records behind,"
                    f" {progress.letters_to_sweep} letters wait though their parent has come, no"
                    f" progress in {_STUCK_SECONDS:.0f} s without faults"
                )
                return

    async def _watch(self, cast: Cast) -> None:
        with self._out.live("torture") as show:
            while True:
                show(f"{self._progress.line()}, seed {self._plan.seed}")
                for member in cast.members:
                    member.look_after(time.monotonic())
                await asyncio.sleep(_TICK_SECONDS)

    async def _watch_lag(self, engine: AsyncEngine, parents: LateParents) -> None:
        assert self._belongings is not None  # noqa: S101 - they were made
        while True:
            asked_at = time.monotonic()
            lag = await records_to_read(engine, self._belongings.settings)
            # After the lag: what a record leaves behind is there before its offset is.
            self._progress.see_lag(lag, await parents.letters_to_sweep(), asked_at)
            await asyncio.sleep(_LAG_EVERY_SECONDS)


async def _inject(faults: Faults, step: Step, began: float, log: TextIO) -> None:
    log.write(f"{time.monotonic() - began:8.2f} s  {step}\n")
    if await faults.inject(step):
        log.write(f"{time.monotonic() - began:8.2f} s      done: {step.fault}\n")


async def _flat(work: Coroutine[Any, Any, None]) -> None:
    """Raise what went wrong in a task group by itself, not as a group of one."""
    try:
        await work
    except ExceptionGroup as group:
        error: Exception = group
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        raise error from group
