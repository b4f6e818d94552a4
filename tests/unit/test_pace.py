"""Rates from looks at offsets, and numbers in words."""

import pytest

from oddslog.deploy.pace import OffsetSeries, Pace
from oddslog.deploy.words import bytes_words, duration_words, number_words, numbers_words


def test_a_rate_needs_two_looks() -> None:
    """And is that of the partitions which both have."""
    series = OffsetSeries(20.0)
    assert series.per_second() == {}
    series.add(100.0, {0: 10})
    assert series.per_second() == {}
    series.add(104.0, {0: 30, 1: 5})
    assert series.per_second() == {0: 5.0}


def test_looks_outside_the_window_do_not_count() -> None:
    """A sink that was fast an hour ago is not fast now."""
    series = OffsetSeries(10.0)
    for second, offset in ((0.0, 0), (10.0, 1000), (20.0, 1010)):
        series.add(second, {0: offset})
    assert series.per_second() == {0: 1.0}


def test_two_looks_count_however_far_apart() -> None:
    """`--every 60` has rates too."""
    series = OffsetSeries(10.0)
    for second, offset in ((0.0, 0), (60.0, 60), (120.0, 240)):
        series.add(second, {0: offset})
    assert series.per_second() == {0: 3.0}


def test_offsets_that_went_back_begin_anew() -> None:
    """A restored database writes nothing backwards."""
    series = OffsetSeries(20.0)
    series.add(0.0, {0: 1000})
    series.add(2.0, {0: 10})
    assert series.per_second() == {}
    series.add(4.0, {0: 50})
    assert series.per_second() == {0: 20.0}


@pytest.mark.parametrize(
    ("written", "appended", "lag", "seconds"),
    [
        ({0: 30.0, 1: 20.0}, {0: 10.0}, 400, 10.0),
        ({0: 30.0}, {}, 300, 10.0),
        ({0: 30.0}, {0: 30.0}, 300, None),
        ({0: 0.0}, {0: 0.0}, 300, None),
        ({}, {}, 300, None),
        ({}, {}, 0, 0.0),
    ],
)
def test_the_time_to_catch_up_is_by_what_remains_of_the_rate(
    written: dict[int, float], appended: dict[int, float], lag: int, seconds: float | None
) -> None:
    """None where the lag never goes away like this, or nobody knows."""
    assert Pace(written, appended).catch_up_seconds(lag) == seconds


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "-"),
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 m 00 s"),
        (3599.4, "59 m 59 s"),
        (3600.0, "1 h 00 m"),
        (86399.0, "23 h 59 m"),
        (90000.0, "1 d 1 h"),
    ],
)
def test_durations_in_words(seconds: float | None, words: str) -> None:
    """Two units at most."""
    assert duration_words(seconds) == words


def test_numbers_in_words() -> None:
    """As short as they may be."""
    assert [number_words(n) for n in (None, 0, 7, 0.25, 9.96, 1234.5)] == [
        "-",
        "0",
        "7",
        "0.2",
        "10",
        "1,234",
    ]
    assert [bytes_words(n) for n in (0, 999, 1000, 3_500_000, 5 * 1024**4)] == [
        "0 B",
        "999 B",
        "1.0 KiB",
        "3.3 MiB",
        "5.0 TiB",
    ]
    assert numbers_words([3, 0, 1, 2, 7]) == "0-3, 7"
    assert numbers_words([]) == "none"
