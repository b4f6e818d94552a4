"""How far behind the tables are: lag in records and in seconds, told without asking again."""

from datetime import UTC, datetime

from oddslog.sink.items import LogRecord, PartitionPart
from oddslog.sink.observed import Observed
from oddslog.sink.progress import Progress


def part(start: int, end: int, appended_at: float) -> PartitionPart:
    """Records `start` to `end` of partition 0, one a second from that moment (Unix time)."""
    records = [
        LogRecord(0, offset, None, b"", (), datetime.fromtimestamp(appended_at + n, UTC))
        for n, offset in enumerate(range(start, end))
    ]
    return PartitionPart(0, start, end, records, None)


def test_nothing_is_known_before_the_first_look() -> None:
    """And nothing is made up."""
    view = Progress().view(0, 5, [])
    assert (view.lag_records, view.oldest_at) == (None, None)


def test_a_level_partition_has_no_lag() -> None:
    """Neither in records nor in time."""
    progress = Progress()
    progress.look({0: 5}, now=100.0)
    view = progress.view(0, 5, [])
    assert (view.lag_records, view.oldest_at) == (0, None)


def test_the_age_counts_from_the_first_sight_of_what_is_unwritten() -> None:
    """Later records do not make it younger, and what is written does not keep it old."""
    progress = Progress()
    progress.look({0: 5}, now=100.0)
    progress.look({0: 8}, now=105.0)
    progress.look({0: 20}, now=110.0)
    assert progress.view(0, 5, []).oldest_at == 105.0
    assert progress.view(0, 6, []).oldest_at == 105.0
    assert progress.view(0, 8, []).oldest_at == 110.0
    assert progress.view(0, 8, []).lag_records == 12


def test_what_is_in_hand_tells_its_own_time() -> None:
    """The first record that the ledger does not have yet."""
    progress = Progress()
    progress.look({0: 10}, now=500.0)
    assert progress.view(0, 0, [part(0, 10, appended_at=50.0)]).oldest_at == 50.0
    assert progress.view(0, 3, [part(0, 10, appended_at=50.0)]).oldest_at == 53.0


def test_the_end_is_not_before_what_is_in_hand() -> None:
    """Records that came since the last look count."""
    progress = Progress()
    progress.look({0: 10}, now=500.0)
    assert progress.view(0, 10, [part(10, 14, appended_at=501.0)]).lag_records == 4


def test_an_old_backlog_is_about_as_old_as_what_was_written_of_it_last() -> None:
    """Seen for the first time at the start, it did not come then."""
    progress = Progress()
    progress.look({0: 1000}, now=500.0)
    progress.wrote([part(0, 10, appended_at=50.0)])
    assert progress.view(0, 10, []).oldest_at == 59.0


def test_a_partition_that_comes_back_is_not_judged_by_old_looks() -> None:
    """Another member had it meanwhile."""
    progress = Progress()
    progress.look({0: 10}, now=100.0)
    progress.keep([1])
    progress.keep([0])
    assert progress.view(0, 5, []).oldest_at is None


def test_a_long_outage_does_not_take_memory_for_ever() -> None:
    """The oldest moment stays."""
    progress = Progress()
    for second in range(5000):
        progress.look({0: 10 + second}, now=float(second))
    assert progress.view(0, 0, []).oldest_at == 0.0
    assert len(progress._marks[0].ends) <= 1000


def test_labels_do_not_grow_for_ever() -> None:
    """What is too much counts as other, and no count is lost."""
    observed = Observed()
    for number in range(2000):
        observed.failed("poll", f"Error{number}", None, now=0.0)
    assert sum(observed.retries.values()) == 2000
    assert len(observed.retries) <= 501
    assert observed.retries[("poll", "other", "")] == 1500
