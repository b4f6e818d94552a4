"""Child processes that need not import: forks of a server that has done it once.

A process like any other - its own memory, environment, folder, streams, exit code and
signals - but for the start of the interpreter, which a few tests pay for on purpose.
The handle is as `subprocess.Popen`'s, as far as the tests need it.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import connection, reduction
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from oddslog.deploy.entry import main

__all__ = ["Forked", "fork", "fork_oddslog"]

BUDGET_SECONDS = 90.0
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.support.preloaded"])


class Forked:
    """A process that runs; `stdout` and `stderr` are text streams of what it says."""

    def __init__(self, process: Any, stdout: IO[str] | None, stderr: IO[str] | None) -> None:
        self._process = process
        self.pid: int = process.pid
        self.stdout = stdout
        self.stderr = stderr

    @property
    def returncode(self) -> int | None:
        """The exit code, minus the signal's number where one ended it; None: it runs."""
        return self.poll()

    def poll(self) -> int | None:
        """As `returncode`, which looks too."""
        code: int | None = self._process.exitcode
        return code

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; raises TimeoutExpired."""
        connection.wait([self._process.sentinel], timeout)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired(str(self._process.name), timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once, if it still runs."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Read both streams to their end, and wait; raises TimeoutExpired."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with ThreadPoolExecutor(2) as threads:
            reads = [threads.submit(stream.read) for stream in self._streams() if stream]
            try:
                for read in reads:
                    read.result(None if deadline is None else max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                self.kill()  # else the threads would read on
                raise subprocess.TimeoutExpired(str(self._process.name), timeout or 0.0) from None
        self.wait(BUDGET_SECONDS)
        said = [read.result() for read in reads]
        return said[0], said[1] if len(said) > 1 else ""

    def __enter__(self) -> "Forked":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for stream in self._streams():
            if stream is not None:
                stream.close()
        self.wait()

    def _streams(self) -> tuple[IO[str] | None, IO[str] | None]:
        return self.stdout, self.stderr


def fork(
    run: Callable[..., None],
    *arguments: Any,
    name: str,
    env: Mapping[str, str],
    cwd: Path | None = None,
    stdin: IO[Any] | None = None,
    joined: bool = False,
) -> Forked:
    """Run a function of a module in a process of its own; `joined`: stderr goes to stdout.

    Blocks until it has started. Its standard input is empty unless a file is given.
    """
    out, out_written = os.pipe()
    err, err_written = (-1, out_written) if joined else os.pipe()
    with stdin or Path(os.devnull).open("rb") as taken:
        streams = [_Descriptor(one) for one in (taken.fileno(), out_written, err_written)]
        process = _context.Process(
            target=_become,
            name=name,
            args=(streams, dict(env), str(cwd or Path.cwd()), run, arguments),
        )
        process.start()
    for end in {out_written, err_written}:
        os.close(end)
    return Forked(process, os.fdopen(out), None if joined else os.fdopen(err))


def fork_oddslog(
    arguments: Sequence[str],
    env: Mapping[str, str],
    cwd: Path | None = None,
    stdin: IO[Any] | None = None,
) -> Forked:
    """Run the `oddslog` command as `fork` does."""
    return fork(_oddslog, arguments, name="oddslog", env=env, cwd=cwd, stdin=stdin)


def _oddslog(arguments: Sequence[str]) -> None:
    sys.argv[:] = ["oddslog", *arguments]
    main()


class _Descriptor:
    """A file descriptor that is the child's own once it has arrived there."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[Callable[[Any], int], tuple[Any]]:
        return _detach, (reduction.DupFd(self.number),)


def _detach(sent: Any) -> int:
    number: int = sent.detach()
    return number


def _become(
    streams: Sequence[int],
    env: Mapping[str, str],
    cwd: str,
    run: Callable[..., None],
    arguments: Sequence[Any],
) -> None:
    """Be what a new interpreter would be after its imports; `run` may end it by SystemExit."""
    for wanted, number in enumerate(streams):
        os.dup2(number, wanted)
    for number in set(streams):
        os.close(number)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    run(*arguments)
