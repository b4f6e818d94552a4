"""Waiting counts only while the log was caught up."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oddslog.sink.expiry import CaughtUpTime


def test_a_refill_does_not_use_up_the_wait() -> None:
    """After five hours of backlog the whole wait is still to come."""
    caught_up = CaughtUpTime(100.0)
    assert caught_up.look(0.0, caught_up=False) is None
    for now in range(18000, 18100, 10):
        assert caught_up.look(float(now), caught_up=True) is None
    assert caught_up.look(18100.0, caught_up=True) == 18000.0


def test_an_interruption_makes_the_wait_longer_by_itself() -> None:
    """What was caught up before it counts; what lies next to it does not."""
    caught_up = CaughtUpTime(30.0)
    looks = [(0, True), (20, True), (30, False), (40, True)]
    assert [caught_up.look(float(n), caught_up=yes) for n, yes in looks] == [None] * 4
    assert caught_up.look(55.0, caught_up=True) == 5.0  # 15 s, and 15 s before second 20
    assert caught_up.look(80.0, caught_up=True) == 50.0  # all of it since second 40
    assert caught_up.look(90.0, caught_up=False) is None


def test_a_process_that_stood_still_has_not_waited() -> None:
    """Between two looks far apart anything may have been."""
    caught_up = CaughtUpTime(30.0)
    assert caught_up.look(0.0, caught_up=True) is None
    assert caught_up.look(7200.0, caught_up=True) is None
    assert caught_up.look(7230.0, caught_up=True) == 7200.0


def test_no_wait_at_all() -> None:
    """Dead at the first look that finds the log caught up."""
    caught_up = CaughtUpTime(0.0)
    assert caught_up.look(0.0, caught_up=False) is None
    assert caught_up.look(5.0, caught_up=True) == 5.0


def restarted(caught_up: CaughtUpTime, wait_seconds: float = 100.0) -> CaughtUpTime:
    """The next life of a process, with what the database has of the last."""
    return CaughtUpTime(wait_seconds, json.loads(json.dumps(caught_up.state)))


def test_a_sink_that_is_started_again_and_again_lets_letters_expire() -> None:
    """Each life shorter than the wait, some of one look."""
    caught_up = CaughtUpTime(100.0)
    for life in range(5):
        caught_up = restarted(caught_up)
        assert caught_up.look(20.0 * life, caught_up=True, first=True) is None
        assert caught_up.look(20.0 * life + 10, caught_up=True) is None
    caught_up = restarted(caught_up)
    assert caught_up.look(100.0, caught_up=True, first=True) == 0.0


def test_between_two_lives_a_minute_counts_at_most() -> None:
    """What lies between may have been an outage; letters that came since have not waited."""
    caught_up = CaughtUpTime(100.0)
    assert caught_up.look(1000.0, caught_up=True, first=True) is None
    caught_up = restarted(caught_up)
    assert caught_up.look(9000.0, caught_up=True, first=True) is None
    caught_up = restarted(caught_up)
    # 60 s since second 1000, and 40 s since second 9000: those that came by 1020.
    assert caught_up.look(9999.0, caught_up=True, first=True) == 1020.0


def test_a_backlog_at_the_end_of_a_life_breaks_the_wait() -> None:
    """The next life does not count from before it."""
    caught_up = CaughtUpTime(30.0)
    assert caught_up.look(0.0, caught_up=True, first=True) is None
    assert caught_up.look(5.0, caught_up=False) is None
    caught_up = restarted(caught_up, 30.0)
    assert caught_up.look(40.0, caught_up=True, first=True) is None
    assert caught_up.state["spans"] == []


def test_a_clock_that_went_back_counts_nothing_twice() -> None:
    """Spans that are still to come would count for letters that are new."""
    caught_up = CaughtUpTime(30.0)
    for now in (7200, 7220, 7240):
        caught_up.look(float(now), caught_up=True)
    assert caught_up.look(7210.0, caught_up=True) is None
    assert caught_up.look(100.0, caught_up=True) is None
    assert caught_up.state["spans"] == []
    assert caught_up.look(130.0, caught_up=True) == 100.0


@pytest.mark.parametrize("state", [None, 5, {}, {"last": "x", "spans": 3}, {"spans": [[1]]}])
def test_a_state_that_cannot_be_read_begins_anew(state: object) -> None:
    """Someone has edited it: the wait is longer."""
    assert CaughtUpTime(30.0, state).state == {"last": None, "spans": []}


LOOKS = st.lists(st.tuples(st.floats(0.1, 200), st.booleans(), st.booleans()), max_size=60)


@given(LOOKS)
def test_no_letter_expires_too_early(looks: list[tuple[float, bool, bool]]) -> None:
    """Whatever the course: never before the wait is over, nor without so much caught-up time."""
    caught_up, now, credit, last = CaughtUpTime(100.0), 0.0, 0.0, False
    for seconds, yes, new_life in looks:
        now += seconds
        if new_life:
            caught_up = restarted(caught_up)
        if yes and last:
            credit += min(seconds, 60.0)
        last = yes
        before = caught_up.look(now, caught_up=yes, first=new_life)
        if before is not None:
            assert yes
            assert now - before >= 100.0 - 1e-6
            assert credit >= 100.0 - 1e-6


SHORT_LOOKS = st.lists(st.tuples(st.floats(1, 15), st.booleans()), min_size=100, max_size=200)


@given(SHORT_LOOKS)
def test_a_bounded_state_makes_waits_a_little_longer(looks: list[tuple[float, bool]]) -> None:
    """Never earlier than with every span kept; at the latest after half as much again here."""
    bounded = CaughtUpTime(100.0, most_spans=8)
    exact = CaughtUpTime(100.0, most_spans=10**9)
    longer = CaughtUpTime(150.0, most_spans=10**9)  # 4 / 8 of the wait
    now = 0.0
    for seconds, yes in looks:
        now += seconds
        moments = [each.look(now, caught_up=yes) for each in (longer, bounded, exact)]
        late, moment, early = (-1.0 if each is None else each for each in moments)
        assert late <= moment + 1e-6
        assert moment <= early + 1e-6
        assert len(bounded.state["spans"]) <= 9


def test_a_sink_that_is_started_every_five_minutes_ends_a_wait_of_a_day() -> None:
    """Far more spans than are kept; 70 s of each five minutes count."""
    caught_up, wait_seconds = CaughtUpTime(86_400.0), 86_400.0
    lives = int(wait_seconds * (1 + 4 / 1000) / 70) + 2
    found = []
    for life in range(lives):
        found.append(caught_up.look(300.0 * life, caught_up=True, first=True))
        found.append(caught_up.look(300.0 * life + 10, caught_up=True))
    assert found[-1] is not None
    assert len(caught_up.state["spans"]) <= 1001
