"""The child processes: each is started again when it ends, as an orchestrator does.

How one may end is told by `unexplained`: a code that nothing we did explains is a
finding. Each child runs in a session of its own, so that Ctrl-C does not reach it,
and is ended by its own process id.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ...schemas.errors import UnreachableError
from ...schemas.kill_points import ENVIRONMENT_NAME
from ..stack.processes import is_stopped

__all__ = ["Member", "Program", "peak_bytes_of", "run_once", "unexplained"]

_RESTART_SECONDS = 0.2
# A server that is away comes back sooner where nobody takes its processor.
_AWAY_RESTART_SECONDS = 2.0
# Twice what a stop should take, and the longest freeze; Kubernetes kills after 30 s.
_STOP_SECONDS = 90.0
# Longer than any freeze of the schedule.
_MOST_STOPPED_SECONDS = 70.0
_TAIL_BYTES = 4096
_TAIL_LINES = 12
_HAS_PROC = Path("/proc/self/status").exists()
# A sink that has come so far may not end any more because a server is away.
_AT_WORK = b'"partitions_assigned"'


@dataclass(frozen=True)
class Program:
    """What a child runs; `arguments` are given the count of its starts, from 0."""

    module: str
    arguments: Callable[[int], list[str]]
    environment: Mapping[str, str] = field(repr=False)  # with the database's password


def unexplained(code: int, asked: set[signal.Signals], *, armed: bool, at_work: bool) -> str | None:
    """What is wrong with the end of a process, None where it was to be expected.

    Args:
        code: its exit code; negative for a signal, as `subprocess` has it.
        asked: the signals that we sent.
        armed: whether it had a kill point to die at.
        at_work: whether it had begun its work.
    """
    if code == -signal.SIGKILL and (armed or signal.SIGKILL in asked):
        return None
    # Before its handlers are set up, the signal itself ends it.
    if signal.SIGTERM in asked and code in (0, 128 + signal.SIGTERM, -signal.SIGTERM):
        return None
    # A server that is away at the start is said by exit code 3; later it is waited for.
    if code == UnreachableError.exit_code and not at_work:
        return None
    return f"ended with exit code {code}"


class Member:
    """One child process and its successors."""

    def __init__(
        self,
        name: str,
        program: Program,
        log: Path,
        *,
        on_start: Callable[[int], None],
        on_point: Callable[[], None],
        on_finding: Callable[[str], None],
    ) -> None:
        self.name = name
        self.starts = 0
        self.slow_stops = 0
        self.deaths_at_point = 0
        self.peak_bytes: int | None = None
        self._program = program
        self._log = log
        self._on_start = on_start
        self._on_point = on_point
        self._on_finding = on_finding
        self._wanted = True
        self._process: asyncio.subprocess.Process | None = None
        self._asked: set[signal.Signals] = set()
        self._armed = False
        self._stops_at_point = False
        self._stopped_since: float | None = None
        self._freezes = 0
        self._next_point = ""
        self._log_start = 0
        self._start_at_work = 0

    def __repr__(self) -> str:
        """At a glance."""
        pid = None if self._process is None else self._process.pid
        return f"<Member {self.name} process={pid} starts={self.starts}>"

    @property
    def alive(self) -> bool:
        """Whether it runs, as far as was noticed."""
        return self._process is not None and self._process.returncode is None

    async def keep(self) -> None:
        """Run it, again and again until `stop`; cancelled, it is killed."""
        try:
            while self._wanted:
                process = await self._start()
                await process.wait()
                code = process.returncode or 0
                self._judge(code)
                if self._wanted:
                    away = code == UnreachableError.exit_code
                    await asyncio.sleep(_AWAY_RESTART_SECONDS if away else _RESTART_SECONDS)
        finally:
            await self._kill()

    def send(self, number: signal.Signals) -> bool:
        """Send a signal; False where no process is there."""
        process = self._process
        if process is None or process.returncode is not None:
            return False
        self._asked.add(number)
        # Not `send_signal`: it first asks whether the process has ended, and asyncio, which
        # waits for that end, then tells of exit code 255 instead of the true one.
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)
        return True

    @property
    def at_work(self) -> bool:
        """Whether this process has begun its work, as sinks log it."""
        if self._start_at_work != self.starts and _AT_WORK in self._said():
            self._start_at_work = self.starts
        return self.alive and self._start_at_work == self.starts

    @property
    def armed(self) -> bool:
        """Whether this process, or else the next, has a kill point to come to."""
        return bool(self._next_point) or self._armed or self._stops_at_point

    @property
    def at_point(self) -> bool:
        """Whether it has stopped itself at its kill point."""
        return self._stops_at_point and not self._freezes and self.stopped

    @property
    def stopped(self) -> bool:
        """Whether it stands still by SIGSTOP."""
        return self.alive and self._process is not None and is_stopped(self._process.pid)

    def freeze(self) -> int:
        """Stop it where it is; returns what `thaw` has to be given, 0 where no process is there."""
        if not self.send(signal.SIGSTOP):
            return 0
        self._freezes += 1
        return self.starts

    def thaw(self, frozen: int) -> None:
        """Let it go on, unless another freeze lasts; nothing where that process has ended."""
        if frozen == self.starts:
            self._freezes = max(0, self._freezes - 1)
            self.go_on()

    def go_on(self) -> None:
        """Let it go on where it stopped itself at a point, unless a freeze lasts."""
        if not self._freezes:
            self.wake()

    def kill_at(self, point: str) -> bool:
        """Let the next process end at a kill point (`name:count`); the present one is killed.

        `name:count:STOP` lets it stand still there.
        """
        self._next_point = point
        return self.send(signal.SIGKILL)

    def wake(self) -> None:
        """Let it go on, whoever has stopped it."""
        self._stopped_since = None
        self._freezes = 0
        self.send(signal.SIGCONT)

    def calm(self) -> None:
        """Take a kill point back; a process that may still stop itself at one is killed."""
        self._next_point = ""
        if self._stops_at_point:
            self.send(signal.SIGKILL)

    async def stop(self) -> None:
        """End it by SIGTERM, for good; one that does not end in time is killed."""
        self._wanted = False
        self.wake()
        await self.ask_to_end()

    async def ask_to_end(self) -> None:
        """Send SIGTERM and wait; one that does not end in time is killed, and noted."""
        process = self._process
        if process is None or not self.send(signal.SIGTERM):
            return
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            self.slow_stops += 1
            self._on_finding(
                f"{self.name} did not end in {_STOP_SECONDS:.0f} s after SIGTERM: {self.tail()}"
            )
            if process is self._process:
                self.send(signal.SIGKILL)
                await process.wait()

    def look_after(self, now: float) -> None:
        """Note its memory, and wake it where it came to its point when nobody waited any more.

        Args:
            now: on the monotonic clock.
        """
        if self._process is None or self._process.returncode is not None:
            return
        peak = peak_bytes_of(self._process.pid)
        if peak is not None:
            self.peak_bytes = max(peak, self.peak_bytes or 0)
        if not self.stopped:
            self._stopped_since = None
        elif self._stopped_since is None:
            self._stopped_since = now
        elif now - self._stopped_since > _MOST_STOPPED_SECONDS:
            self.wake()

    def tail(self) -> str:
        """The last lines that this process has logged."""
        lines = self._said()[-_TAIL_BYTES:].decode(errors="replace").splitlines()
        return "\n".join(lines[-_TAIL_LINES:])

    async def _start(self) -> asyncio.subprocess.Process:
        point, self._next_point = self._next_point, ""
        self._log_start = self._log.stat().st_size if self._log.exists() else 0
        self._process = await _spawn(self._program, self.starts, self._log, point)
        self._on_start(self._process.pid)
        self._asked = set()
        self._freezes = 0
        self._stops_at_point = point.endswith(":STOP")
        self._armed = bool(point) and not self._stops_at_point
        self.starts += 1
        return self._process

    def _judge(self, code: int) -> None:
        said = self._said()
        if self._armed and code == -signal.SIGKILL and signal.SIGKILL not in self._asked:
            self.deaths_at_point += 1
            self._on_point()
        problem = unexplained(code, self._asked, armed=self._armed, at_work=_AT_WORK in said)
        if problem is None and b"Traceback (most recent call last)" in said:
            problem = f"wrote a traceback (exit code {code})"
        if problem is not None:
            self._on_finding(f"{self.name} {problem}: {self.tail()}")

    def _said(self) -> bytes:
        if not self._log.exists():
            return b""
        with self._log.open("rb") as log:
            log.seek(self._log_start)
            return log.read()

    async def _kill(self) -> None:
        process = self._process
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()


async def run_once(
    program: Program, log: Path, deadline_seconds: float, on_start: Callable[[int], None]
) -> int | None:
    """Run a program to its end; returns its exit code, None where it had to be killed."""
    process = await _spawn(program, 0, log, "")
    on_start(process.pid)
    try:
        async with asyncio.timeout(deadline_seconds):
            return await process.wait()
    except TimeoutError:
        return None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _spawn(program: Program, start: int, log: Path, point: str) -> asyncio.subprocess.Process:
    with log.open("ab") as output:
        # Cancelled here, asyncio itself ends what it has started.
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            program.module,
            *program.arguments(start),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **program.environment, ENVIRONMENT_NAME: point},
            start_new_session=True,
        )


def peak_bytes_of(pid: int) -> int | None:
    """The most memory that a running process has had; None where that cannot be known."""
    if not _HAS_PROC:
        return None
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:  # it has ended just now
        return None
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None
