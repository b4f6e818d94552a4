"""A process that outlives the kit's sudden end, and takes away what that would leave.

`python -m oddslog.deploy.torture.guard FOLDER` reads standard input, which the kit
holds open: a line for each process that was started. At its end without the word
`done` the kit was killed: the processes are killed too, the local stack below FOLDER
is destroyed, and FOLDER removed. (A topic and a database on given servers stay.)

A process that was started and not told of yet is known by its environment, which
names FOLDER; where there is no /proc, that moment stays a gap.
"""

import contextlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..stack import LocalStack
from ..stack.processes import Identity, end, identify

__all__ = ["MARK", "Guard", "guarding"]

MARK = "_ODDSLOG_TORTURE"
"""The variable by which a child names its folder."""

_DONE = "done"
_END_SECONDS = 10.0


class Guard:
    """The kit's end of the pipe."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def watch(self, pid: int) -> None:
        """Have a child of ours ended if we are killed."""
        identity = identify(pid)
        if identity.started:  # else it has ended already
            self._say(f"{identity.pid} {identity.started}")

    def _say(self, line: str) -> None:
        # A guard that was killed guards nothing, and is no reason to stop.
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.write(line + "\n")
                self._process.stdin.flush()

    def dismiss(self) -> None:
        """Everything was taken away."""
        self._say(_DONE)
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        self._process.wait()


@contextmanager
def guarding(folder: Path) -> Iterator[Guard]:
    """A guard over what is done in the block."""
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", __name__, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        text=True,
    )
    guard = Guard(process)
    try:
        yield guard
    finally:
        guard.dismiss()


def main(folder: Path) -> None:
    """Wait for the kit's end."""
    watched = []
    for line in sys.stdin:
        if line.strip() == _DONE:
            return
        pid, _, started = line.strip().partition(" ")
        watched.append(Identity(int(pid), started))
    for identity in (*watched, *_marked(folder)):
        with contextlib.suppress(OSError):
            end(identity, [(signal.SIGKILL, _END_SECONDS)])
    LocalStack(folder / "stack").destroy()
    shutil.rmtree(folder, ignore_errors=True)


def _marked(folder: Path) -> Iterator[Identity]:
    """Processes of ours whose environment names the folder."""
    mark = f"{MARK}={folder}".encode()
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # another user's, or gone
            if mark in path.read_bytes().split(b"\0"):
                yield identify(int(path.parent.name))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
