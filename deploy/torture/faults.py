"""Doing the faults: each begins as soon as there is something to break.

What lasts goes on beside the next ones; but of what ends or stops a process there is one
at a time for each, and only when it is at work: else nobody would get to work on a busy
machine. One that finds nothing for a minute (a process that never comes to its point,
connections that are not there) comes to nothing.
Whatever a fault has done to a proxy, a process or a server it takes back by itself,
also when it is cancelled.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from ...schemas.errors import OddslogError
from ..stack import LocalStack
from .members import Member
from .proxy import Proxy
from .result import Progress
from .schedule import LOCKED_MARKERS, Fault, Step
from .sessions import lock_table, terminate_backend
from .zombies import ZombieWatch

__all__ = ["Faults", "Seat", "Targets"]

_LOOK_SECONDS = 0.1
_MOST_LOOKS = 600  # a minute
# A process that was to come to a point is often killed on the way by another fault.
_MOST_ARMS = 3
_MOST_TRIES = 20
_TRY_SECONDS = 1.0


@dataclass(frozen=True)
class Seat:
    """One process with the proxies that it goes through; None where it has none."""

    member: Member
    kafka: Proxy | None
    postgres: Proxy | None


@dataclass(frozen=True)
class Targets:
    """Everything that can be broken.

    Attributes:
        feeder: the process that feeds.
        sinks: the members of the group.
        stack: the servers, where they are ours to restart.
        database_url: of the database, past every proxy.
    """

    feeder: Seat
    sinks: Sequence[Seat]
    stack: LocalStack | None
    database_url: str = field(repr=False)

    def seat(self, number: int) -> Seat:
        """A sink by number; -1 is the feeder."""
        return self.feeder if number < 0 else self.sinks[number]


class Faults:
    """Injects steps and counts what really happened, by kind.

    Args:
        targets: what can be broken.
        progress: is told of each fault, zombie and finding.

    Attributes:
        over: to be set when the time of the faults is over: what has not begun to
            last by then does not begin any more.
    """

    def __init__(self, targets: Targets, progress: Progress) -> None:
        self._targets = targets
        self._progress = progress
        self.over = asyncio.Event()
        # One at a time: the stack starts and stops one, and the other would stay away
        # until that is done.
        self._restarting = asyncio.Lock()
        self._freezing = asyncio.Lock()
        seats = (targets.feeder, *targets.sinks)
        self._turns = {seat.member.name: asyncio.Lock() for seat in seats}
        self._ways: dict[Fault, Callable[[Step, Seat], Awaitable[bool]]] = {
            Fault.SINK_KILLED: self._kill,
            Fault.SINK_KILLED_AT_POINT: self._kill_at,
            Fault.SINK_STOPPED: self._stop,
            Fault.SINK_FROZEN: self._freeze,
            Fault.SINK_FROZEN_AT_POINT: self._freeze_at,
            Fault.SINK_FROZEN_LONG: self._freeze_long,
            Fault.FEEDER_KILLED: self._kill,
            Fault.FEEDER_KILLED_AT_POINT: self._kill_at,
            Fault.FEEDER_STOPPED: self._stop,
            Fault.FEEDER_FROZEN: self._freeze,
            Fault.POSTGRES_CUT: self._cut,
            Fault.POSTGRES_STALLED: self._stall,
            Fault.POSTGRES_DELAYED: self._delay,
            Fault.POSTGRES_REFUSED: self._refuse,
            Fault.COMMIT_UNSENT: self._cut_commit,
            Fault.COMMIT_REPLY_LOST: self._cut_commit,
            Fault.BACKEND_TERMINATED: self._terminate,
            Fault.TABLE_LOCKED: self._lock,
            Fault.KAFKA_CUT: self._cut,
            Fault.KAFKA_STALLED: self._stall,
            Fault.KAFKA_DELAYED: self._delay,
            Fault.KAFKA_REFUSED: self._refuse,
            Fault.KAFKA_RESTARTED: self._restart_kafka,
            Fault.POSTGRES_RESTARTED: self._restart_postgres,
        }

    async def inject(self, step: Step) -> bool:
        """Do it and take it back; counted, and true, where there was something to break.

        Raises:
            OddslogError: a server that was taken down does not come up again.
        """
        done = await self._ways[step.fault](step, self._targets.seat(step.seat))
        if done:
            self._progress.faults[step.fault.value] += 1
        return done

    # Processes.

    async def _kill(self, _step: Step, seat: Seat) -> bool:
        async with self._turn(seat) as ready:
            return ready and seat.member.send(signal.SIGKILL)

    async def _kill_at(self, step: Step, seat: Seat) -> bool:
        """Counted by the member, when it dies there."""
        before = seat.member.deaths_at_point
        async with self._turn(seat) as ready:
            if ready:
                point = f"{step.detail}:{step.count}"
                await self._arm(seat, point, lambda: seat.member.deaths_at_point > before)
        return False

    async def _stop(self, _step: Step, seat: Seat) -> bool:
        async with self._turn(seat) as ready:
            # One that stands still would only hear of it afterwards.
            if not ready or seat.member.stopped:
                return False
            await seat.member.ask_to_end()
            return True

    async def _freeze(self, step: Step, seat: Seat) -> bool:
        await self._comes(lambda: seat.member.alive)
        frozen = seat.member.freeze()
        if not frozen:
            return False
        try:
            await asyncio.sleep(step.seconds)
        finally:
            seat.member.thaw(frozen)
        return True

    async def _freeze_at(self, step: Step, seat: Seat) -> bool:
        """The next process stops itself at the point; it is woken up some time later."""
        point = f"{step.detail}:{step.count}:STOP"
        async with self._turn(seat) as ready:
            if not ready:
                return False
            try:
                if await self._arm(seat, point, lambda: seat.member.at_point):
                    await asyncio.sleep(step.seconds)
                    return True
                seat.member.calm()
                return False
            finally:
                seat.member.go_on()

    @asynccontextmanager
    async def _turn(self, seat: Seat) -> AsyncIterator[bool]:
        """Nobody else ends or stops this process; the block is told whether it is at work."""
        member = seat.member
        of_feeder = seat is self._targets.feeder
        async with self._turns[member.name]:
            ready = await self._comes(lambda: member.alive if of_feeder else member.at_work)
            yield ready and not self.over.is_set()

    async def _arm(self, seat: Seat, point: str, came: Callable[[], bool]) -> bool:
        """Let the next process come to a point; one that died on the way has a successor."""
        arms = 0
        for _ in range(_MOST_LOOKS):
            if came() or self.over.is_set():
                break
            if not (arms and seat.member.armed):
                if arms == _MOST_ARMS:
                    break
                arms += 1
                seat.member.kill_at(point)
            await asyncio.sleep(_LOOK_SECONDS)
        return came()

    async def _freeze_long(self, step: Step, seat: Seat) -> bool:
        """It stops in mid-transaction, for so long that others must end its backend."""
        # One at a time, or nobody is left who could.
        proxy = seat.postgres
        if proxy is None:
            return False
        async with self._freezing, self._turn(seat) as ready:
            if not ready:
                return False
            async with _standing_still(seat, step.detail.encode()) as stands:
                if not await self._comes(stands):
                    return False
                await self._watch_zombie(step, seat, proxy)
                return True

    async def _watch_zombie(self, step: Step, seat: Seat, proxy: Proxy) -> None:
        watch = ZombieWatch(self._targets.database_url, proxy.backend_pids, self._living_pids)
        try:
            verdict = await watch.watch(step.seconds)
        finally:
            await watch.close()
        self._progress.zombies += verdict.blocked
        if verdict.too_long_seconds is not None:
            self._progress.find(
                f"{seat.member.name} stood still in mid-transaction, and another sink waits for"
                f" it since {verdict.too_long_seconds:.0f} s without ending its backend"
            )

    def _living_pids(self) -> list[int]:
        return [
            pid
            for seat in self._targets.sinks
            if seat.postgres is not None and seat.member.alive and not seat.member.stopped
            for pid in seat.postgres.backend_pids
        ]

    async def freeze_until(self, seat: Seat, over: Callable[[], bool]) -> bool | None:
        """Stop a sink in mid-transaction until something has happened, while nothing is broken.

        Counted as a long freeze. Returns whether it has happened; None where the sink
        came to no transaction.
        """
        async with _standing_still(seat, LOCKED_MARKERS[0].encode()) as stands:
            if not await _comes(stands, lambda: False):
                return None
            self._progress.faults[Fault.SINK_FROZEN_LONG.value] += 1
            return await _comes(over, lambda: False, most_looks=3 * _MOST_LOOKS)

    # The network.

    async def _cut(self, step: Step, seat: Seat) -> bool:
        proxy = _proxy(step, seat)
        if proxy is None or not await self._comes(lambda: bool(proxy.connections)):
            return False
        proxy.cut()
        return True

    async def _stall(self, step: Step, seat: Seat) -> bool:
        proxy = _proxy(step, seat)
        if proxy is None or not await self._comes(lambda: bool(proxy.connections)):
            return False
        proxy.stall()
        try:
            await asyncio.sleep(step.seconds)
        finally:
            proxy.flow()
        return True

    async def _delay(self, step: Step, seat: Seat) -> bool:
        proxy = _proxy(step, seat)
        if proxy is None:
            return False
        proxy.delay_seconds = step.delay_seconds
        try:
            await asyncio.sleep(step.seconds)
        finally:
            proxy.delay_seconds = 0.0
        return True

    async def _refuse(self, step: Step, seat: Seat) -> bool:
        proxy = _proxy(step, seat)
        if proxy is None:
            return False
        proxy.refuse = True
        proxy.cut()
        try:
            await asyncio.sleep(step.seconds)
        finally:
            proxy.refuse = False
        return True

    async def _cut_commit(self, step: Step, seat: Seat) -> bool:
        proxy = seat.postgres
        if proxy is None:
            return False
        cut = proxy.cut_at(b"COMMIT", forward=step.fault is Fault.COMMIT_REPLY_LOST)
        try:
            return await self._comes(cut.happened.is_set)
        finally:
            proxy.disarm(cut)

    # Inside PostgreSQL.

    async def _terminate(self, _step: Step, _seat: Seat) -> bool:
        return await self._try(lambda: terminate_backend(self._targets.database_url))

    async def _lock(self, step: Step, _seat: Seat) -> bool:
        url = self._targets.database_url
        return await self._try(lambda: lock_table(url, step.detail, step.seconds))

    async def _try(self, attempt: Callable[[], Awaitable[bool]]) -> bool:
        """Whether it works within some tries."""
        for _ in range(_MOST_TRIES):
            if self.over.is_set():
                break
            if await attempt():
                return True
            await asyncio.sleep(_TRY_SECONDS)
        return False

    async def _comes(self, what: Callable[[], bool]) -> bool:
        return await _comes(what, self.over.is_set)

    # Servers.

    async def _restart_kafka(self, step: Step, _seat: Seat) -> bool:
        stack = self._targets.stack
        if stack is None:
            return False
        async with self._restarting:
            if self.over.is_set():
                return False
            await _again(
                lambda: stack.stop_kafka(signal.Signals[step.detail]), stack.start_kafka, step
            )
        return True

    async def _restart_postgres(self, step: Step, _seat: Seat) -> bool:
        stack = self._targets.stack
        if stack is None:
            return False
        async with self._restarting:
            if self.over.is_set():
                return False
            await _again(
                lambda: stack.stop_postgres(signal.Signals[step.detail]), stack.start_postgres, step
            )
        return True


@asynccontextmanager
async def _standing_still(seat: Seat, marker: bytes) -> AsyncIterator[Callable[[], bool]]:
    """A sink that stops when it is about to send these bytes; it goes on after the block.

    The block is given what tells whether it has.
    """
    proxy = seat.postgres
    assert proxy is not None  # noqa: S101 - each process has one
    frozen = 0

    def freeze() -> None:
        nonlocal frozen
        frozen = seat.member.freeze()

    hold = proxy.hold_at(marker, freeze)
    try:
        yield hold.happened.is_set
    finally:
        proxy.release(hold)
        seat.member.thaw(frozen)


async def _comes(
    what: Callable[[], bool], give_up: Callable[[], bool], *, most_looks: int = _MOST_LOOKS
) -> bool:
    """Whether it comes in so many looks (a minute), and before there is a reason to give up."""
    for _ in range(most_looks):
        if what() or give_up():
            break
        await asyncio.sleep(_LOOK_SECONDS)
    return what()


async def _again(stop: Callable[[], None], start: Callable[[], None], step: Step) -> None:
    """Stop a server, leave it away for a while, start it. In threads: both may take seconds."""
    await asyncio.to_thread(stop)
    await asyncio.sleep(step.seconds / 2)
    try:
        await asyncio.to_thread(start)
    except OddslogError:
        await asyncio.to_thread(start)


def _proxy(step: Step, seat: Seat) -> Proxy | None:
    return seat.kafka if step.fault.value.startswith("kafka") else seat.postgres
