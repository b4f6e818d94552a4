"""The sliding window: when so many fail that the cause is not the records."""

from collections import Counter

import pytest

from oddslog.sink.errors import TooMuchPoisonError
from oddslog.sink.poison import PoisonTally, PoisonWindow, cause_of

CAUSE = "poison/22P02/markets.outcomes"


def tally(judged: int, **causes: int) -> PoisonTally:
    """A poll's; `other` is a second cause."""
    named = {"cause": CAUSE, "other": "undecodable"}
    return PoisonTally(judged, Counter({named[name]: count for name, count in causes.items()}))


def feed(window: PoisonWindow, *tallies: PoisonTally) -> None:
    """Each judged and then committed."""
    for one in tallies:
        window.check(one)
        window.add(one)


def test_one_in_a_hundred_passes_for_ever() -> None:
    """In polls of any size."""
    for size in (1, 7, 100, 1500):
        window = PoisonWindow()
        feed(window, *[tally(size, cause=int(n * size % 100 < size)) for n in range(400)])


def test_a_bad_batch_among_good_ones_passes() -> None:
    """150 snapshots of one scrape of 50 events."""
    window = PoisonWindow()
    feed(window, *[tally(150)] * 5, tally(150, cause=150), *[tally(150)] * 5)


def test_a_small_burst_at_the_start_passes() -> None:
    """There is nothing to compare it with yet."""
    feed(PoisonWindow(), tally(99, cause=99))
    feed(PoisonWindow(), *[tally(1, cause=1)] * 99)


def test_one_kind_that_fails_wholly_is_seen() -> None:
    """A third of the snapshots, in polls of 90, after good times."""
    window = PoisonWindow()
    feed(window, *[tally(1000)] * 3)
    with pytest.raises(TooMuchPoisonError):
        feed(window, *[tally(90, cause=30)] * 12)


@pytest.mark.parametrize("sizes", [[100], [1] * 100, [2000]])
def test_when_all_fail_it_stops(sizes: list[int]) -> None:
    """At the hundredth, and the top cause is named as the option takes it."""
    window = PoisonWindow()
    with pytest.raises(TooMuchPoisonError, match=f"--accept-poison {CAUSE}") as raised:
        feed(window, *[tally(size, cause=size) for size in sizes])
    assert raised.value.exit_code == 4
    assert raised.value.cause == CAUSE


def test_the_top_cause_is_named() -> None:
    """Of several."""
    with pytest.raises(TooMuchPoisonError) as raised:
        PoisonWindow().check(tally(300, cause=60, other=200))
    assert raised.value.cause == "undecodable"


def test_what_was_not_committed_does_not_count() -> None:
    """A poll that is tried ten times is judged once."""
    window = PoisonWindow()
    for _ in range(10):
        window.check(tally(90, cause=90))
    window.add(tally(90, cause=90))
    window.check(tally(9, cause=9))


def test_old_times_pass_out_of_the_window() -> None:
    """A burst is forgotten after 1,000 good ones, and good times do not hide a failure."""
    window = PoisonWindow()
    feed(window, tally(99, cause=99), *[tally(100)] * 10, tally(99, cause=99))
    window = PoisonWindow()
    feed(window, *[tally(100)] * 1000)
    with pytest.raises(TooMuchPoisonError):
        feed(window, *[tally(50, cause=50)] * 6)


@pytest.mark.parametrize("accepted", [CAUSE, "poison", "poison/22P02"])
def test_an_accepted_cause_does_not_count(accepted: str) -> None:
    """Whole, or all that begin with it; others still do."""
    window = PoisonWindow([accepted])
    feed(window, *[tally(100, cause=100)] * 20)
    with pytest.raises(TooMuchPoisonError):
        feed(window, *[tally(100, other=100)] * 20)


@pytest.mark.parametrize("accepted", ["pois", "poison/22", "undecodable", ""])
def test_another_cause_is_not_accepted(accepted: str) -> None:
    """A part of a name is none."""
    with pytest.raises(TooMuchPoisonError):
        PoisonWindow([accepted]).check(tally(100, cause=100))


def test_names_of_causes() -> None:
    """Without what is unknown; which market it was does not matter."""
    assert cause_of("undecodable", None, None, None) == "undecodable"
    assert cause_of("poison", "22P02", None, "markets[17].outcomes") == CAUSE
    assert cause_of("poison", "23514", "odds_check", "line") == "poison/23514/odds_check/line"
