"""Stamps: strictly increasing per key, whatever the wall clock does."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oddslog.schemas import stamp
from oddslog.schemas.records import (
    CompetitorSnapshotKey,
    CompetitorSnapshotWriteData,
    SnapshotWriteData,
    WriteBatch,
)
from oddslog.schemas.stamp import Stamper

from .test_schemas_strategies import BATCHES, CHECKED

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

# (is BetPawa's, event, bookmaker): few, so that they come again.
KEYS = st.tuples(st.booleans(), st.integers(1, 3), st.integers(1, 2))
# How the clock goes from batch to batch: back, standing still, a little, far.
STEPS = st.sampled_from([-3600, -1, 0, 0, 0.000001, 0.5, 86400]).map(
    lambda seconds: timedelta(seconds=seconds)
)


def batch_of(keys: list[tuple[bool, int, int]], captured_at: datetime | None = None) -> WriteBatch:
    """A batch with one snapshot a key."""
    return WriteBatch(
        tuple(
            SnapshotWriteData(event_id, bookmaker_id, None, None, (), captured_at)
            for betpawa, event_id, bookmaker_id in keys
            if betpawa
        ),
        tuple(
            CompetitorSnapshotWriteData(event_id, None, None, (), captured_at)
            for betpawa, event_id, _ in keys
            if not betpawa
        ),
        (),
        (),
        None,
        0,
    )


def stamps_of(batch: WriteBatch) -> list[tuple[tuple[int, ...], datetime]]:
    """Each snapshot's key and stamp."""
    stamped: list[tuple[tuple[int, ...], datetime | None]] = [
        *(((one.event_id, one.bookmaker_id), one.captured_at) for one in batch.changed_betpawa),
        *(((one.competitor_event_id,), one.captured_at) for one in batch.changed_competitor),
    ]
    assert all(captured_at is not None for _, captured_at in stamped)
    return [(key, moment) for key, moment in stamped if moment is not None]


@CHECKED
@given(st.lists(st.tuples(STEPS, st.lists(KEYS, max_size=4)), min_size=2, max_size=12))
def test_stamps_of_a_key_strictly_increase(
    cycles: list[tuple[timedelta, list[tuple[bool, int, int]]]],
) -> None:
    """Within a batch and between them; never before the clock, and as close as can be."""
    stamper = Stamper()
    now = NOON
    last: dict[tuple[int, ...], datetime] = {}
    for step, keys in cycles:
        now += step
        for key, captured_at in stamps_of(stamper.stamp(batch_of(keys), now)):
            expected = now if key not in last else max(now, last[key] + MICROSECOND)
            assert captured_at == expected
            last[key] = captured_at


@CHECKED
@given(BATCHES)
def test_times_that_were_given_stay(batch: WriteBatch) -> None:
    """All of a batch that has its times: it comes back equal."""
    assert Stamper().stamp(batch, NOON) == batch


def test_a_batch_that_was_stamped_stays_as_it_is() -> None:
    """It can be enqueued again after a failed receipt."""
    stamper = Stamper()
    stamped = stamper.stamp(batch_of([(True, 1, 1), (False, 1, 1)]), NOON)
    assert stamper.stamp(stamped, NOON + timedelta(hours=3)) == stamped


def test_the_moment_of_confirmation_is_filled_in() -> None:
    """In UTC, with the moment of the batch."""
    tokyo = NOON.astimezone(timezone(timedelta(hours=9)))
    stamped = Stamper().stamp(batch_of([(True, 1, 1)]), tokyo)
    assert stamped.confirmed_at == NOON
    assert stamped.confirmed_at.tzinfo is UTC
    (one,) = stamped.changed_betpawa
    assert one.captured_at == NOON


def test_all_else_of_a_batch_stays() -> None:
    """Ids, keys, numbers."""
    rival = CompetitorSnapshotKey(5, NOON)
    batch = WriteBatch((), (), (1, 2), (3,), 7, 4, (), (rival,), None, 26)
    stamped = Stamper().stamp(batch, NOON)
    assert stamped == WriteBatch((), (), (1, 2), (3,), 7, 4, (), (rival,), NOON, 26)


def test_betpawa_and_competitors_do_not_share_keys() -> None:
    """Event 1 of each: two keys, one moment."""
    stamper = Stamper()
    stamped = stamper.stamp(batch_of([(True, 1, 1), (True, 1, 2), (False, 1, 1)]), NOON)
    assert {captured_at for _, captured_at in stamps_of(stamped)} == {NOON}


def test_memory_is_pruned_and_what_is_recent_is_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A key is forgotten an hour after its stamp, and not earlier."""
    monkeypatch.setattr(stamp, "_PRUNE_AT_KEYS", 10)
    stamper = Stamper()
    stamper.stamp(batch_of([(True, event_id, 1) for event_id in range(8)]), NOON)
    later = NOON + timedelta(minutes=59)
    stamper.stamp(batch_of([(False, event_id, 1) for event_id in range(8)]), later)
    assert len(stamper._last) == 16
    after = NOON + timedelta(hours=1)
    stamper.stamp(batch_of([(True, event_id, 2) for event_id in range(24)]), after)
    assert len(stamper._last) == 32
    back = stamper.stamp(batch_of([(False, 3, 1)]), NOON)
    assert stamps_of(back) == [((3,), later + MICROSECOND)]


def test_pruning_does_not_walk_at_each_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an hour really has so many keys, the next walk is at twice as many."""
    monkeypatch.setattr(stamp, "_PRUNE_AT_KEYS", 10)
    stamper = Stamper()
    for number in range(100):
        stamper.stamp(batch_of([(True, number, 1)]), NOON)
    assert stamper._prune_at_keys == 160
    stamper.stamp(batch_of([(True, 1, 1)]), NOON)
    assert len(stamper._last) == 100
    later = NOON + timedelta(hours=2)
    stamper.stamp(batch_of([(False, number, 1) for number in range(60)]), later)
    assert len(stamper._last) == 60
    assert stamper._prune_at_keys == 120
