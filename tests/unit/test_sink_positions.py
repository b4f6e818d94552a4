"""Positions as a table, and over all small cases."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oddslog.sink.errors import GapError, WrongLogError
from oddslog.sink.positions import (
    Gap,
    LastApplied,
    LedgerRow,
    LogRange,
    Placement,
    first_offset,
    place,
)

LAST = LastApplied(9, 123)
ROW = LedgerRow(0, 10, 0, LAST)


@pytest.mark.parametrize(
    ("log", "committed", "expected"),
    [
        (LogRange(0, 20), 10, Placement(9, 10, LAST)),
        (LogRange(0, 10), 10, Placement(9, 10, LAST)),  # nothing new: still checked
        (LogRange(0, 20), None, Placement(9, 10, LAST, went_back=True)),  # unknown to the group
        (LogRange(0, 20), 5, Placement(9, 10, LAST)),  # a crash between 2 and 3
        (LogRange(0, 20), 15, Placement(9, 10, LAST, went_back=True)),  # restored
        (LogRange(9, 20), 10, Placement(9, 10, LAST)),
        (LogRange(10, 20), 10, Placement(10, 10, None, unchecked=True)),
        (LogRange(10, 20), 15, Placement(10, 10, None, unchecked=True, went_back=True)),
        (LogRange(10, 10), 10, Placement(10, 10, None, unchecked=True)),  # empty by retention
    ],
)
def test_where_a_partition_is_read_on(
    log: LogRange, committed: int | None, expected: Placement
) -> None:
    """Each row of the table that goes on."""
    assert place(ROW, log, committed=committed, accept_gap=False) == expected


def test_a_gap_stops_unless_it_is_accepted() -> None:
    """The next record is gone: named with its offsets, or gone over and noted."""
    log = LogRange(13, 20)
    with pytest.raises(GapError, match="offsets 10 to 12 are gone"):
        place(ROW, log, committed=None, accept_gap=False)
    placement = place(ROW, log, committed=None, accept_gap=True)
    assert placement == Placement(13, 13, None, gap=Gap(10, 13), went_back=True)


@pytest.mark.parametrize("accept_gap", [True, False])
def test_a_log_that_ends_before_the_ledger_is_another(*, accept_gap: bool) -> None:
    """Nothing that a gap may be accepted for, also where the log begins later."""
    for log in (LogRange(0, 9), LogRange(0, 0), LogRange(9, 9)):
        with pytest.raises(WrongLogError, match="ledger adopt"):
            place(ROW, log, committed=None, accept_gap=accept_gap)


def test_first_offset() -> None:
    """Offset 0 without a word, an explicit start without a gap, anything else is one."""
    assert first_offset(0, LogRange(0, 5), accept_gap=False, start=None) == (0, None)
    assert first_offset(0, LogRange(3, 5), accept_gap=False, start=5) == (5, None)
    assert first_offset(0, LogRange(3, 5), accept_gap=True, start=None) == (3, Gap(0, 3))
    with pytest.raises(GapError, match="partition 7: offsets 0 to 2 are gone"):
        first_offset(7, LogRange(3, 5), accept_gap=False, start=None)


offsets = st.integers(0, 6)


@given(
    next_offset=offsets,
    start=offsets,
    length=offsets,
    last=st.none() | offsets,
    committed=st.none() | offsets,
    accept_gap=st.booleans(),
)
def test_nothing_is_skipped_silently(
    next_offset: int,
    start: int,
    length: int,
    last: int | None,
    committed: int | None,
    accept_gap: bool,
) -> None:
    """Read on at the ledger's offset or behind a named gap; never seek outside the log."""
    log = LogRange(start, start + length)
    remembered = None if last is None or last >= next_offset else LastApplied(last, 1)
    row = LedgerRow(0, next_offset, 0, remembered)
    try:
        placement = place(row, log, committed=committed, accept_gap=accept_gap)
    except GapError:
        assert next_offset < log.start <= log.end
        assert not accept_gap
        return
    except WrongLogError:
        assert next_offset > log.end
        return
    assert log.start <= placement.seek_to <= placement.next_offset <= log.end
    if placement.gap is None:
        assert placement.next_offset == next_offset
    else:
        assert (placement.gap.from_offset, placement.gap.to_offset) == (next_offset, log.start)
    # Nothing known of a database that was written to is taken for a restored one.
    known = 7 if committed is None and next_offset else committed or 0
    assert placement.went_back == (next_offset < known)
    if placement.check is not None:
        assert placement.seek_to == placement.check.offset
    else:
        assert placement.seek_to == placement.next_offset
    checkable = remembered is not None and placement.gap is None
    assert (placement.check is not None or placement.unchecked) == checkable
