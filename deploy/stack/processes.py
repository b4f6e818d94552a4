"""Detached server processes: start one, know it again, end it.

A process is remembered by its id and its start time, so that an id which the
system gave to someone else later is never signalled.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "Account",
    "Cancelled",
    "Identity",
    "alive",
    "end",
    "identify",
    "is_stopped",
    "run",
    "spawn",
    "wait_gone",
]

_POLL_SECONDS = 0.02
_HAS_PROC = Path("/proc/self/stat").exists()  # else `ps`, as on macOS


class Cancelled(Exception):  # noqa: N818 - not an error: the caller gave up
    """The work was given up because another part of the start failed or was interrupted."""


@dataclass(frozen=True)
class Identity:
    """A process of this machine, told apart from later ones with its id."""

    pid: int
    started: str


@dataclass(frozen=True)
class Account:
    """The unprivileged user that a server runs as where we are root."""

    uid: int
    gid: int


class _Detached(subprocess.Popen[bytes]):
    """A child that outlives us on purpose: no warning when we forget it."""

    def __del__(self) -> None:
        pass


# Children of this process, kept so that they can be reaped when they end;
# written by `spawn`, read by `alive`, from any thread.
_children: dict[int, _Detached] = {}


def spawn(
    command: Sequence[str],
    *,
    log: Path,
    cwd: Path,
    env: Mapping[str, str],
    account: Account | None = None,
) -> Identity:
    """Start a command in a session of its own, so that Ctrl-C does not reach it.

    Args:
        command: program and arguments.
        log: its output is appended here.
        cwd: its working directory.
        env: its whole environment.
        account: runs as this user; None is ours.

    Raises:
        OSError: the program cannot be run.
    """
    with log.open("ab") as output:
        child = _Detached(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=dict(env),
            start_new_session=True,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
    _children[child.pid] = child
    # Not reaped yet, so even a child that is dead by now still has its start time.
    return identify(child.pid)


def identify(pid: int) -> Identity:
    """The process that has this id now; its `started` is empty where there is none."""
    return Identity(pid, _looked_up(pid)[0])


def is_stopped(pid: int) -> bool:
    """Whether the process with this id stands still by SIGSTOP."""
    return _looked_up(pid)[1].startswith("T")


def run(
    command: Sequence[str],
    *,
    log: Path,
    cwd: Path,
    env: Mapping[str, str],
    cancel: threading.Event,
    account: Account | None = None,
) -> int:
    """Run a command to its end and return its exit code; it ends with `cancel`.

    Raises:
        Cancelled: `cancel` was set; the command has ended.
        OSError: the program cannot be run.
    """
    identity = spawn(command, log=log, cwd=cwd, env=env, account=account)
    child = _children[identity.pid]
    try:
        while child.poll() is None:
            if cancel.wait(_POLL_SECONDS):
                raise Cancelled
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        del _children[identity.pid]
    return int(child.returncode)


def alive(identity: Identity | None) -> bool:
    """Whether exactly this process still runs; a zombie does not."""
    if identity is None:
        return False
    started, state = _looked_up(identity.pid)
    if started == "" or started != identity.started:
        return False
    if not state.startswith("Z"):
        return True
    child = _children.pop(identity.pid, None)
    if child is not None:
        child.wait()  # reap it: its id is free now
    return False


def wait_gone(identity: Identity, seconds: float) -> bool:
    """Wait until the process has ended; False when it still runs after `seconds`."""
    deadline = time.monotonic() + seconds
    while alive(identity):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def end(identity: Identity | None, steps: Sequence[tuple[signal.Signals, float]]) -> None:
    """Signal the process step by step, waiting the given seconds after each, until it is gone.

    Raises:
        PermissionError: it belongs to another user.
        TimeoutError: it survived the last step.
    """
    for number, seconds in steps:
        if identity is None or not alive(identity):
            return
        try:
            os.kill(identity.pid, number)
        except ProcessLookupError:
            return
        if wait_gone(identity, seconds):
            return
    if identity is not None and alive(identity):
        raise TimeoutError(f"process {identity.pid} does not end")


def _looked_up(pid: int) -> tuple[str, str]:
    """Start time and state letter of a process; empty texts where there is none."""
    if _HAS_PROC:
        return _from_proc(pid)
    found = subprocess.run(  # noqa: S603
        ["ps", "-o", "lstart=,state=", "-p", str(pid)],  # noqa: S607
        capture_output=True,
        text=True,
        env={**os.environ, "LC_ALL": "C"},
        check=False,
    )
    started, _, state = found.stdout.strip().rpartition(" ")
    return started.strip(), state


def _from_proc(pid: int) -> tuple[str, str]:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return "", ""
    fields = text.rpartition(")")[2].split()  # the name before may hold anything
    # Ticks count from the boot, so a start time means nothing without it.
    return f"{boot}:{fields[19]}", fields[0]
