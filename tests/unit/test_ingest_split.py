"""Splitting: nothing lost, nothing twice, in order, within the limit."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from oddslog.ingest.split import split
from oddslog.schemas.codec import (
    EventWrites,
    SnapshotPart,
    decode,
    decoded_hash,
    encode,
    snapshot_from_record,
    snapshot_part,
)
from oddslog.schemas.records import (
    CompetitorSnapshotKey,
    CompetitorSnapshotWriteData,
    MarketWriteData,
    SnapshotKey,
    SnapshotWriteData,
    WriteBatch,
)
from oddslog.schemas.wire import Kind
from tests.unit.test_ingest_builders import NOON, batch, betpawa

BATCH_ID = UUID("12345678-1234-5678-1234-567812345678")

times = st.datetimes(
    min_value=datetime(1971, 1, 1),  # noqa: DTZ001 - hypothesis wants them naive
    max_value=datetime(2200, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)
texts = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8
)
numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | texts
documents = st.lists(st.dictionaries(texts, scalars, max_size=3), max_size=3)
markets = st.builds(
    MarketWriteData,
    texts,
    texts,
    numbers,
    st.none() | texts,
    numbers,
    numbers,
    documents,
    st.none() | st.lists(texts, max_size=2),
)
market_lists = st.lists(markets, max_size=3).map(tuple)
event_ids = st.integers(1, 4)  # few, so that events have several writes
runs = st.none() | st.integers(1, 2**40)
raws = st.none() | documents
confirmed = st.lists(st.builds(SnapshotKey, event_ids, st.integers(1, 3), times), max_size=12)
batches = st.builds(
    WriteBatch,
    st.lists(
        st.builds(SnapshotWriteData, event_ids, st.integers(1, 3), runs, raws, market_lists, times),
        max_size=6,
    ),
    st.lists(
        st.builds(CompetitorSnapshotWriteData, event_ids, runs, raws, market_lists, times),
        max_size=6,
    ),
    st.lists(st.integers(1, 2**62), max_size=40),
    st.lists(st.integers(1, 2**62), max_size=40),
    runs,
    st.integers(0, 100),
    confirmed,
    st.lists(st.builds(CompetitorSnapshotKey, event_ids, times), max_size=12),
    times,
    st.none() | st.integers(1, 100),
)


def parts_of(stamped: WriteBatch) -> list[SnapshotPart]:
    """The parts of all snapshots, in order."""
    changed: tuple[Any, ...] = (*stamped.changed_betpawa, *stamped.changed_competitor)
    return [snapshot_part(snapshot) for snapshot in changed]


def planned(stamped: WriteBatch, limit_bytes: int) -> list[EventWrites]:
    """The fragments as a reader of the topic sees them."""
    fragments = split(stamped, parts_of(stamped), batch_id=BATCH_ID, limit_bytes=limit_bytes)
    return [decode(encode(fragment)) for fragment in fragments]


def members_of(fragment: EventWrites) -> int:
    """How many indivisible things a fragment holds."""
    return len(fragment.snapshots) + len(fragment.confirmations) + len(fragment.unchanged_ids)


@given(batches, st.integers(0, 3000))
def test_what_was_put_in_comes_out_equal_field_by_field(
    stamped: WriteBatch, limit_bytes: int
) -> None:
    """Nothing is lost or twice through splitting, encoding and decoding, microseconds included."""
    fragments = planned(stamped, limit_bytes)
    snapshots: dict[Kind, list[Any]] = defaultdict(list)
    keys: dict[Kind, list[tuple[Any, ...]]] = defaultdict(list)
    ids: dict[Kind, list[int]] = defaultdict(list)
    for fragment in fragments:
        event_id = fragment.event_id
        for record in fragment.snapshots:
            assert event_id is not None
            snapshots[fragment.kind].append(snapshot_from_record(fragment.kind, event_id, record))
            assert record["content_hash"] == decoded_hash(fragment.kind, event_id, record)
        for confirmation in fragment.confirmations:
            moment, bookmaker = confirmation["captured_at"], confirmation["bookmaker_id"]
            keys[fragment.kind].append((event_id, bookmaker, moment))
        ids[fragment.kind].extend(fragment.unchanged_ids)
    assert snapshots[Kind.BETPAWA] == by_event(stamped.changed_betpawa, "event_id")
    assert snapshots[Kind.COMPETITOR] == by_event(stamped.changed_competitor, "competitor_event_id")
    assert sorted(keys[Kind.BETPAWA]) == sorted(
        (key.event_id, key.bookmaker_id, key.captured_at) for key in stamped.unchanged_betpawa
    )
    assert sorted(keys[Kind.COMPETITOR]) == sorted(
        (key.competitor_event_id, None, key.captured_at) for key in stamped.unchanged_competitor
    )
    assert ids[Kind.BETPAWA] == list(stamped.unchanged_betpawa_ids)
    assert ids[Kind.COMPETITOR] == list(stamped.unchanged_competitor_ids)


def by_event(snapshots: Sequence[Any], field: str) -> list[Any]:
    """Grouped by event, events in first-seen order, each in its own order."""
    groups: dict[int, list[Any]] = {}
    for snapshot in snapshots:
        groups.setdefault(getattr(snapshot, field), []).append(snapshot)
    return [snapshot for group in groups.values() for snapshot in group]


@given(batches, st.integers(0, 3000))
def test_no_fragment_exceeds_the_limit_unless_it_holds_one_member(
    stamped: WriteBatch, limit_bytes: int
) -> None:
    """The bound holds for the encoded bytes, whatever the characters."""
    for fragment in split(stamped, parts_of(stamped), batch_id=BATCH_ID, limit_bytes=limit_bytes):
        assert len(encode(fragment)) <= limit_bytes or members_of(fragment) == 1
        assert members_of(fragment) >= 1


@given(batches, st.integers(0, 3000))
def test_fragments_are_numbered_and_carry_the_batch(stamped: WriteBatch, limit_bytes: int) -> None:
    """Index, count, batch and run are in every one; the moment where something is confirmed."""
    fragments = planned(stamped, limit_bytes)
    for index, fragment in enumerate(fragments):
        assert (fragment.fragment_index, fragment.fragment_count) == (index, len(fragments))
        assert fragment.batch_id == BATCH_ID
        assert fragment.batch_index == stamped.batch_index
        assert fragment.batch_count == stamped.batch_count
        assert fragment.scrape_run_id == stamped.scrape_run_id
        confirms = bool(fragment.confirmations or fragment.unchanged_ids)
        assert fragment.confirmed_at == (stamped.confirmed_at if confirms else None)
        assert (fragment.event_id is None) == bool(fragment.unchanged_ids)


def test_an_event_has_one_fragment_in_the_order_of_the_batch() -> None:
    """Snapshots and confirmations of one event travel together, events as first seen."""
    moment = NOON - timedelta(minutes=1)
    stamped = batch(
        betpawa=[betpawa(event, captured_at=NOON) for event in (9, 3, 9)],
        unchanged_betpawa=(SnapshotKey(3, 1, moment), SnapshotKey(5, 1, moment)),
        betpawa_ids=[1, 2],
        competitor_ids=[3],
        confirmed_at=NOON,
    )
    fragments = planned(stamped, 10**6)
    seen = [
        (part.kind.value, part.event_id, len(part.snapshots), len(part.confirmations))
        for part in fragments
    ]
    assert seen == [
        ("betpawa", 9, 2, 0),
        ("betpawa", 3, 1, 1),
        ("betpawa", 5, 0, 1),
        ("betpawa", None, 0, 0),
        ("competitor", None, 0, 0),
    ]
    assert [list(part.unchanged_ids) for part in fragments[3:]] == [[1, 2], [3]]


def test_an_event_above_the_limit_is_split_between_its_snapshots() -> None:
    """Each snapshot stays whole, and as many as fit go together."""
    snapshots = [
        betpawa(1, markets=20, captured_at=NOON + timedelta(seconds=second)) for second in range(5)
    ]
    stamped = batch(betpawa=snapshots, confirmed_at=NOON)
    size = snapshot_part(snapshots[0]).size_bytes
    fragments = planned(stamped, 2 * size + 300)
    assert [len(part.snapshots) for part in fragments] == [2, 2, 1]


def test_the_bounds_hold_for_the_longest_numbers() -> None:
    """Ids and times that take all the bytes they can."""
    last = datetime(9999, 12, 31, 23, 59, 59, 999_998, tzinfo=UTC)
    longest = 2**63 - 1
    stamped = batch(
        betpawa_ids=[longest] * 1000,
        unchanged_betpawa=(SnapshotKey(longest, longest, last),) * 1000,
        confirmed_at=last,
        batch_count=longest,
    )
    fragments = split(stamped, [], batch_id=BATCH_ID, limit_bytes=2000)
    assert sum(len(part.confirmations) for part in fragments) == 1000
    assert sum(len(part.unchanged_ids) for part in fragments) == 1000
    assert max(len(encode(part)) for part in fragments) <= 2000
    assert len(fragments) <= 30  # and not wastefully


def test_an_empty_batch_has_no_fragments() -> None:
    """There is nothing to send."""
    assert split(batch(confirmed_at=NOON), [], batch_id=BATCH_ID, limit_bytes=1000) == []
