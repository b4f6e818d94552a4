"""Waiting counts only while the log was caught up."""

from oddslog.sink.expiry import CaughtUpTime


def test_a_refill_does_not_use_up_the_wait() -> None:
    """After five hours of backlog the whole wait is still to come."""
    caught_up = CaughtUpTime(100.0)
    assert caught_up.look(0.0, caught_up=False) is None
    for now in range(18000, 18100, 10):
        assert caught_up.look(float(now), caught_up=True) is None
    assert caught_up.look(18100.0, caught_up=True) == 100.0


def test_an_interruption_makes_the_wait_longer_by_itself() -> None:
    """What was caught up before it counts; what lies next to it does not."""
    caught_up = CaughtUpTime(30.0)
    looks = [(0, True), (20, True), (30, False), (40, True)]
    assert [caught_up.look(float(n), caught_up=yes) for n, yes in looks] == [None] * 4
    assert caught_up.look(55.0, caught_up=True) == 50.0  # 15 s, and 15 s before second 20
    assert caught_up.look(80.0, caught_up=True) == 30.0  # all of it since second 40
    assert caught_up.look(90.0, caught_up=False) is None


def test_a_process_that_stood_still_has_not_waited() -> None:
    """Between two looks far apart anything may have been."""
    caught_up = CaughtUpTime(30.0)
    assert caught_up.look(0.0, caught_up=True) is None
    assert caught_up.look(7200.0, caught_up=True) is None
    assert caught_up.look(7230.0, caught_up=True) == 30.0


def test_no_wait_at_all() -> None:
    """Dead at the first look that finds the log caught up."""
    caught_up = CaughtUpTime(0.0)
    assert caught_up.look(0.0, caught_up=False) is None
    assert caught_up.look(5.0, caught_up=True) == 0.0
