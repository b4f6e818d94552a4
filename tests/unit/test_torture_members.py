"""How a child process may end, and how not."""

import signal

import pytest

from oddslog.deploy.torture.members import unexplained

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
