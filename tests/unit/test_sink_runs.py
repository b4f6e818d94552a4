"""What is made of a scrape run, and of a poll's records: pure decisions."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from oddslog.schemas.records import WriteBatch
from oddslog.sink.arrivals import arrival_of_batch, arrivals_of, multirange
from oddslog.sink.items import LogRecord, decode_record
from oddslog.sink.run_states import LATE_AFTER_SECONDS, RunState, ScrapeRun, by_urgency
from tests.support.runs import of_run

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
WHOLE = ScrapeRun(7, 2, 2, 2, 20, 20, 0, 0, NOON, NOON, idle_seconds=1e6)
HALF = replace(WHOLE, batches_arrived=1)
OPEN = replace(WHOLE, batches_expected=None)


def record(value: bytes, partition: int, at: datetime | None = NOON) -> LogRecord:
    """A decoded record."""
    made = LogRecord(partition, 0, None, value, (), at)
    decode_record(made)
    return made


@pytest.mark.parametrize(
    ("run", "state"),
    [
        (WHOLE, RunState.COMPLETE),
        (replace(WHOLE, batches_arrived=3), RunState.COMPLETE),
        (HALF, RunState.LATE),
        (replace(HALF, idle_seconds=LATE_AFTER_SECONDS), RunState.ARRIVING),
        (replace(HALF, idle_seconds=-5.0), RunState.ARRIVING),  # the brokers' clock is ahead
        (OPEN, RunState.OPEN),
        (replace(OPEN, batches_arrived=1), RunState.LATE),
        (replace(OPEN, batches_arrived=1, idle_seconds=1.0), RunState.ARRIVING),
    ],
)
def test_where_a_run_stands(run: ScrapeRun, state: RunState) -> None:
    """By what has arrived, and how long ago the last did."""
    assert run.state() is state
    assert run.complete == (state is RunState.COMPLETE)


def test_late_and_marked_ones_first_then_the_newest() -> None:
    """As an operator wants to see them."""
    runs = [
        replace(WHOLE, run_id=1),
        replace(HALF, run_id=2),
        replace(WHOLE, run_id=3, last_arrival_at=NOON + timedelta(hours=2)),
        replace(WHOLE, run_id=4, dead_letters=1, last_arrival_at=NOON + timedelta(hours=1)),
        replace(HALF, run_id=5, idle_seconds=1.0, last_arrival_at=NOON + timedelta(hours=3)),
    ]
    assert [run.run_id for run in by_urgency(runs, 300.0)] == [4, 2, 5, 3, 1]
    assert [run.run_id for run in by_urgency(runs, 0.5)] == [5, 4, 2, 3, 1]


def test_a_polls_fragments_are_folded_by_batch() -> None:
    """One arrival a batch, named by the lowest partition, with the first and the last time."""
    records = [
        record(of_run(1, 3, 9, count=2), 5, NOON),
        record(of_run(2, 0, 9, count=2), 2, NOON - timedelta(hours=1)),
        record(of_run(3, 3, 9, count=2), 4, None),
        record(of_run(4, 0, 1, index=1, count=None), 3, None),
    ]
    arrivals = {arrival.batch_index: arrival for arrival in arrivals_of(records)}
    first, second = arrivals[0], arrivals[1]
    assert (first.partition, first.fragments, first.fragment_count) == (2, {0, 3}, 9)
    assert (first.first_at, first.last_at) == (NOON - timedelta(hours=1), NOON)
    assert (second.partition, second.batch_count, second.first_at) == (3, None, None)


def test_a_set_of_numbers_as_postgresql_writes_it() -> None:
    """Each as a range of its own; the server joins neighbours."""
    assert multirange({4, 0, 5}) == "{[0,1),[4,5),[5,6)}"
    assert multirange(()) == "{}"


def test_batches_without_kafka_are_told_apart_by_their_index() -> None:
    """The same one has the same name; negative ones have one, too."""

    def made(index: int, run_id: int | None = 7) -> WriteBatch:
        return WriteBatch((), (), (), (), run_id, index, batch_count=2)

    names = {index: arrival_of_batch(made(index)) for index in (0, 1, -1, 2**63 - 1, -(2**63))}
    assert len({arrival.batch_id for arrival in names.values() if arrival}) == len(names)
    assert names[1] == arrival_of_batch(made(1))
    assert arrival_of_batch(made(1, None)) is None
