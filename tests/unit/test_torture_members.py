"""How a child process may end, and how not."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from oddslog.deploy.torture.members import Member, Program, run_once, unexplained
from tests.support.waiting import until

KILL, TERM = signal.SIGKILL, signal.SIGTERM


@pytest.mark.parametrize(
    ("code", "asked", "armed", "at_work"),
    [
        (-KILL, {KILL}, False, True),
        (-KILL, set(), True, True),  # it died at its kill point
        (0, {TERM}, False, True),
        (128 + TERM, {TERM}, False, False),
        (-TERM, {TERM}, False, False),
        (3, set(), False, False),  # a server was away when it started
        (3, {TERM}, False, False),
        (0, {TERM, signal.SIGSTOP, signal.SIGCONT}, True, True),
    ],
)
def test_ends_that_we_have_caused(
    code: int, asked: set[signal.Signals], armed: bool, at_work: bool
) -> None:
    """By a signal, a kill point, or a server that was away at the start."""
    assert unexplained(code, asked, armed=armed, at_work=at_work) is None


@pytest.mark.parametrize(
    ("code", "asked", "armed", "at_work"),
    [
        (-KILL, set(), False, True),  # who else? the system, out of memory
        (0, set(), False, True),  # a service that ends by itself
        (1, set(), False, False),
        (1, {TERM}, False, True),
        (2, set(), False, False),
        (3, set(), False, True),  # an outage ends no sink
        (4, set(), True, True),
        (-TERM, set(), False, True),
        (-signal.SIGSEGV, {TERM}, False, True),
    ],
)
def test_ends_that_are_findings(
    code: int, asked: set[signal.Signals], armed: bool, at_work: bool
) -> None:
    """Whatever we did not ask for."""
    problem = unexplained(code, asked, armed=armed, at_work=at_work)
    assert problem is not None
    assert str(code) in problem


class Watched:
    """A member that is kept, and what it reported."""

    def __init__(self, folder: Path, module: str, *arguments: str) -> None:
        self.pids: list[int] = []
        self.points = 0
        self.findings: list[str] = []
        self.program = Program(module, lambda _: list(arguments), {})
        self.member = Member(
            "child",
            self.program,
            folder / "child.log",
            on_start=self.pids.append,
            on_point=self._point,
            on_finding=self.findings.append,
        )

    def _point(self) -> None:
        self.points += 1

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[Member]:
        keeping = asyncio.create_task(self.member.keep())
        await until(lambda: self.member.alive, "the first start")
        try:
            yield self.member
        finally:
            keeping.cancel()
            await asyncio.wait({keeping})
        assert not self.member.alive


def waiting(folder: Path) -> Watched:
    """A child that waits for ever."""
    return Watched(folder, "http.server", "--bind", "127.0.0.1", "0")


async def test_a_child_that_was_killed_is_started_again(tmp_path: Path) -> None:
    """That is no finding; stopped for good, it stays away."""
    watched = waiting(tmp_path)
    async with watched.kept() as member:
        assert member.send(signal.SIGKILL)
        await until(lambda: member.starts == 2 and member.alive, "the next start")
        await member.stop()
        await until(lambda: not member.alive, "the end")
        assert not member.send(signal.SIGKILL)
    assert len(set(watched.pids)) == 2
    assert (watched.findings, watched.points) == ([], 0)


async def test_a_child_that_ends_by_itself_is_a_finding(tmp_path: Path) -> None:
    """With its exit code and its last words; it is started again all the same."""
    watched = Watched(tmp_path, "http.server", "--no-such-option")
    async with watched.kept() as member:
        await until(lambda: member.starts > 1, "the next start")
    assert "child ended with exit code 2" in watched.findings[0]
    assert "--no-such-option" in watched.findings[0]


async def test_a_freeze_is_not_ended_by_another(tmp_path: Path) -> None:
    """It goes on when the last one is over; what is over for an earlier process is nothing."""
    async with waiting(tmp_path).kept() as member:
        first, second = member.freeze(), member.freeze()
        await until(lambda: member.stopped, "standing still")
        member.thaw(second)
        member.go_on()
        assert member.stopped
        member.thaw(first)
        await until(lambda: not member.stopped, "going on")
        member.send(signal.SIGKILL)
        await until(lambda: member.starts == 2 and member.alive, "the next start")
        frozen = member.freeze()
        await until(lambda: member.stopped, "standing still")
        member.thaw(first)
        assert member.stopped
        member.thaw(frozen)
        await until(lambda: not member.stopped, "going on")


async def test_a_child_is_armed_until_it_has_come_to_its_point(tmp_path: Path) -> None:
    """Also while the one that is to come has not been started; its successor is not."""
    async with waiting(tmp_path).kept() as member:
        before = member.armed
        member.kill_at("no.such.point:1:STOP")
        assert (before, member.armed) == (False, True)
        await until(lambda: member.starts == 2 and member.armed, "the next start")
        # Standing still for another reason is not the point.
        frozen = member.freeze()
        await until(lambda: member.stopped, "standing still")
        assert not member.at_point
        member.thaw(frozen)
        member.send(signal.SIGKILL)
        await until(lambda: member.starts == 3 and not member.armed, "the start after that")
        assert member.deaths_at_point == 0


async def test_a_child_that_stands_still_is_woken_when_nobody_waits_for_it(tmp_path: Path) -> None:
    """Or the end of the torture would wait for it."""
    async with waiting(tmp_path).kept() as member:
        member.send(signal.SIGSTOP)
        await until(lambda: member.stopped, "standing still")
        for now in (0.0, 40.0, 69.0):
            member.look_after(now)
            assert member.stopped
        member.look_after(71.0)
        await until(lambda: not member.stopped, "going on")


async def test_a_program_that_does_not_end_is_killed(tmp_path: Path) -> None:
    """And one that does tells its code."""
    pids: list[int] = []
    program = waiting(tmp_path).program
    assert await run_once(program, tmp_path / "log", 0.3, pids.append) is None
    ending = Program("http.server", lambda _: ["--no-such-option"], {})
    assert await run_once(ending, tmp_path / "log", 60.0, pids.append) == 2
    assert len(pids) == 2
