"""Named points where a test may end the process.

`reached(name)` is one comparison with None where nothing is armed. A test arms
it through the environment of a child process: `ODDSLOG_KILL_POINT=<name>[:<n>]`
kills the process by SIGKILL the n-th time it comes there, `<name>:<n>:STOP` stops it
by SIGSTOP (until a SIGCONT wakes it). Armed at import of the
module that reads the environment (the `oddslog` command), never by a library.
"""

import os
import signal
from collections.abc import Callable

__all__ = ["arm", "arm_from_environment", "reached"]

ENVIRONMENT_NAME = "ODDSLOG_KILL_POINT"

_armed: Callable[[str], None] | None = None


def reached(name: str) -> None:
    """Say that the process has come to a named point."""
    if _armed is not None:
        _armed(name)


def arm(action: Callable[[str], None] | None) -> None:
    """Call `action` with the name of each point reached; None ends that."""
    global _armed  # noqa: PLW0603 - one hook a process, that is its purpose
    _armed = action


def arm_from_environment() -> None:
    """Arm the signal that the environment asks for, if it does."""
    wanted = os.environ.get(ENVIRONMENT_NAME)
    if not wanted:
        return
    name, _, rest = wanted.partition(":")
    nth, _, how = rest.partition(":")
    left = int(nth or 1)
    signal_number = signal.SIGSTOP if how == "STOP" else signal.SIGKILL

    def kill(reached_name: str) -> None:
        nonlocal left
        if reached_name == name:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal_number)

    arm(kill)
