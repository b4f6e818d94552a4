"""Alive and ready: told from what was noted, with the reason."""

import pytest

from oddslog.sink.health import Answers, Standing, stuckness, unreadiness
from oddslog.sink.observed import Observed

NOW = 1000.0


def answering() -> Answers:
    """PostgreSQL, a second ago."""
    return Answers("PostgreSQL", answered_at=NOW - 1)


def test_a_loop_that_stands_still_is_not_alive() -> None:
    """And one that moves is."""
    assert stuckness(NOW - 29, NOW, 30.0) is None
    assert stuckness(NOW - 31, NOW, 30.0) == "the event loop has stood still for 31 s"


@pytest.mark.parametrize("assigned", [3, 0])
def test_a_member_that_joined_is_ready(assigned: int) -> None:
    """Also one that the group has no partition for."""
    assert unreadiness(Standing(joined=True, assigned=assigned), answering(), NOW) == []


@pytest.mark.parametrize(
    ("standing", "reason"),
    [
        (Standing(), "no partitions are assigned yet: the group is sharing them out"),
        (Standing(joined=True, assigned=3, placing=2), "2 partition(s) wait for their position"),
        (Standing(joined=True, assigned=3, stopping=True), "the sink is stopping"),
    ],
)
def test_a_member_that_cannot_write_says_why(standing: Standing, reason: str) -> None:
    """One reason, in one line."""
    assert unreadiness(standing, answering(), NOW) == [reason]


@pytest.mark.parametrize(
    ("database", "reason"),
    [
        (Answers("PostgreSQL"), "PostgreSQL has not answered yet"),
        (Answers("PostgreSQL", NOW - 21), "PostgreSQL has not answered for 21 s"),
        (
            Answers("PostgreSQL", NOW - 3, NOW - 1, "ConnectionRefusedError"),
            "PostgreSQL has not answered for 3 s (ConnectionRefusedError)",
        ),
    ],
)
def test_a_database_that_is_away_is_named(database: Answers, reason: str) -> None:
    """Silent for long, or refused when it was last asked."""
    assert unreadiness(Standing(joined=True, assigned=1), database, NOW) == [reason]


def test_a_failure_counts_when_it_lasts() -> None:
    """A passing one (a deadlock) does not take the member out."""
    observed = Observed()
    observed.failed("transaction", "DeadlockDetectedError", "40P01", NOW)
    observed.failed("transaction", "LockNotAvailableError", "55P03", NOW + 5)
    standing = Standing(joined=True, assigned=1, troubles=observed.troubles)
    assert unreadiness(standing, Answers("PostgreSQL", NOW + 10), NOW + 10) == []
    assert unreadiness(standing, Answers("PostgreSQL", NOW + 30), NOW + 30) == [
        "transaction has failed for 30 s, 2 time(s), last: LockNotAvailableError (55P03)"
    ]
    observed.succeeded("transaction")
    assert unreadiness(standing, Answers("PostgreSQL", NOW + 30), NOW + 30) == []
