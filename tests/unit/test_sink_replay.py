"""Which writes a replay takes, and what it refuses before it asks a server."""

import json
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from oddslog.schemas.errors import ConfigurationError
from oddslog.schemas.wire import Kind
from oddslog.sink.items import Key, LogRecord, PartitionPart, decode_record, items_of
from oddslog.sink.positions import Gap, LastApplied, LogRange
from oddslog.sink.replay_filters import ReplayFilter, count, parse_event
from oddslog.sink.replay_opening import ReplayRequest
from oddslog.sink.replay_progress import KindCounts, ReplayCounts, ReplayState, Span
from oddslog.sink.replay_scratch import Scratch
from oddslog.sink.replay_spans import SpanChoice, adopted_gaps, choose_spans, wanted_partitions
from tests.support.batches import NOON, snapshot
from tests.support.fragments import confirming, holding, ids, record

LATER = NOON + timedelta(hours=1)
HELD = {0: LogRange(0, 100), 1: LogRange(20, 50)}


def log_record(value: bytes) -> LogRecord:
    """A decoded record of this value."""
    made = LogRecord(0, 0, b"key", value, (), None)
    decode_record(made)
    return made


def taken(where: ReplayFilter, *values: bytes) -> int:
    """How many of the writes pass."""
    return count(where.select(items_of([log_record(value) for value in values])))


def test_nothing_asked_for_takes_everything() -> None:
    """Also what names no event and no time."""
    values = (holding(record()), confirming(NOON, LATER), ids(1, 2))
    assert taken(ReplayFilter(), *values) == 5
    assert ReplayFilter().takes_record(log_record(b""))


def test_a_snapshots_own_run_counts_before_its_batchs() -> None:
    """The row has that one."""
    value = holding(record(snapshot(scrape_run_id=4)))
    assert taken(ReplayFilter(runs=frozenset({4})), value) == 1
    assert taken(ReplayFilter(runs=frozenset({5})), value) == 0


def test_plain_ids_pass_no_question_that_they_cannot_answer() -> None:
    """They name neither event nor time."""
    assert taken(ReplayFilter(events=frozenset({(Kind.BETPAWA, 1)})), ids(1)) == 0
    assert taken(ReplayFilter(captured_from=NOON), ids(1)) == 0


def test_bounds_are_from_inclusive_to_exclusive() -> None:
    """So that days do not overlap."""
    value = confirming(NOON, LATER)
    assert taken(ReplayFilter(captured_from=NOON), value) == 2
    assert taken(ReplayFilter(captured_to=LATER), value) == 1
    assert taken(ReplayFilter(captured_from=LATER), value) == 1


def test_a_fragment_has_arrived_where_all_of_it_passes() -> None:
    """Of one that is taken in part, the run is not complete in this database."""
    value = holding(record(snapshot()), record(snapshot(at=LATER)))
    both, broken = log_record(value), LogRecord(0, 1, b"betpawa:7", None, (), None)
    found = items_of([both])
    for where, whole in (
        (ReplayFilter(), [both, broken]),
        (ReplayFilter(captured_from=NOON), [both]),
        (ReplayFilter(captured_from=LATER), []),
        (ReplayFilter(events=frozenset({(Kind.BETPAWA, 7)})), [broken]),
    ):
        assert where.whole([both, broken], found, where.select(found)) == whole


@pytest.mark.parametrize("text", ["betpawa", "betpawa:", "betpawa:x", "ids:1", "1", "betpawa:-1"])
def test_no_event(text: str) -> None:
    """What one looks like is said."""
    with pytest.raises(ConfigurationError, match="betpawa:123"):
        parse_event(text)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (
            {"choice": SpanChoice(from_offset=1, from_time=NOON)},
            "--from-offset and --from-time",
        ),
        ({"choice": SpanChoice(to_offset=1, to_time=NOON)}, "--to-offset and --to-time"),
        ({"choice": SpanChoice(from_offset=5, to_offset=5)}, "--from-offset must be before"),
        ({"choice": SpanChoice(from_time=LATER, to_time=NOON)}, "--from-time must be before"),
        (
            {"where": ReplayFilter(captured_from=LATER, captured_to=NOON)},
            "--captured-from must be before",
        ),
        ({"resume": "x", "dry_run": True}, "--resume goes on with what was asked for"),
        ({"resume": "x", "choice": SpanChoice((1,))}, "--resume goes on"),
        ({"adopt": True, "where": ReplayFilter(runs=frozenset({1}))}, "--adopt takes the whole"),
        ({"adopt": True, "dry_run": True}, "leave --dry-run out"),
        ({"accept_gap": True}, "only goes with --adopt"),
    ],
)
def test_what_does_not_go_together(asked: dict[str, Any], says: str) -> None:
    """Before any server is asked."""
    with pytest.raises(ConfigurationError, match=says):
        ReplayRequest(**asked).check()


def test_spans() -> None:
    """Bounded by what the log holds."""
    assert choose_spans(SpanChoice(), HELD, {}, {}) == HELD
    chosen = choose_spans(SpanChoice(from_offset=40, to_offset=60), HELD, {}, {})
    assert chosen == {0: LogRange(40, 60), 1: LogRange(40, 50)}
    timed = SpanChoice(from_time=NOON, to_time=LATER)
    chosen = choose_spans(timed, HELD, {0: 7, 1: None}, {0: 9, 1: None})
    assert chosen == {0: LogRange(7, 9), 1: LogRange(50, 50)}
    # Of all partitions some may end before.
    chosen = choose_spans(SpanChoice(from_offset=70), HELD, {}, {})
    assert chosen == {0: LogRange(70, 100), 1: LogRange(50, 50)}


@pytest.mark.parametrize(
    ("choice", "says"),
    [
        (SpanChoice(from_offset=10), "partition 1 begins at offset 20"),
        (SpanChoice((0, 1), from_offset=60), "partition 1 ends at offset 50, there is no 60"),
    ],
)
def test_spans_that_are_not_there(choice: SpanChoice, says: str) -> None:
    """Nothing that was asked for is left out without a word."""
    with pytest.raises(ConfigurationError, match=says):
        choose_spans(choice, HELD, {}, {})


def test_partitions_that_are_not_there() -> None:
    """The topic's are named."""
    assert wanted_partitions(SpanChoice((2, 0, 2)), 3) == [0, 2]
    with pytest.raises(ConfigurationError, match="no partition 3; it has 3, from 0 to 2"):
        wanted_partitions(SpanChoice((3,)), 3)


def test_gaps_of_an_adopted_log() -> None:
    """Noted where somebody accepts them."""
    found = adopted_gaps(HELD, HELD, partition_count=2, accept_gap=True)
    assert found == {1: Gap(0, 20)}


def test_a_state_survives_json() -> None:
    """What is written into the database is what a resumed replay reads."""
    state = ReplayState(
        "id",
        "owner",
        "cluster",
        "topic",
        3,
        ReplayFilter(NOON, None, frozenset({(Kind.COMPETITOR, 2)}), frozenset({8})),
        {0: Span(5, 10, 5), 1: Span(0, 4, 0)},
    )
    counts = ReplayCounts(records=2, filtered=1, dead_letters=Counter(poison=2))
    counts.kinds[Kind.COMPETITOR] = KindCounts(1, 2, 3, 4, 5)
    part = PartitionPart(0, 5, 10, [], LastApplied(9, 77))
    after = state.after([part], counts, {0: {"records": 2}})
    assert ReplayState.from_json(json.loads(json.dumps(after.to_json()))) == after
    assert (after.step, after.done, after.finished) == (1, False, False)
    assert after.remaining() == {1: LogRange(0, 4)}
    assert (after.offsets_done, after.offsets_total) == (5, 9)
    assert (state.step, state.offsets_done, state.counts.records) == (0, 0, 0)
    last = after.after([PartitionPart(1, 0, 4, [], None)], counts, {})
    assert (last.finished, last.counts.kinds[Kind.COMPETITOR].conflicts) == (True, 6)


def test_the_scratch_keeps_exact_keys() -> None:
    """What was inserted, and whose confirmation waits."""
    scratch = Scratch()
    first, second = Key(1, 2, NOON), Key(1, 2, NOON + timedelta(microseconds=1))
    scratch.note_inserted(Kind.BETPAWA, [(first, -(2**63)), (first, 5)])
    assert scratch.inserted_among(Kind.BETPAWA, [first, second]) == [(first, -(2**63))]
    assert scratch.inserted_among(Kind.COMPETITOR, [first]) == []
    scratch.note_waiting(Kind.BETPAWA, [first, second, first], [])
    assert scratch.waiting_keys() == 2
    scratch.note_waiting(Kind.BETPAWA, [], [first])
    scratch.note_waiting(Kind.COMPETITOR, [], [second])
    assert scratch.waiting_keys() == 1
    scratch.close()
