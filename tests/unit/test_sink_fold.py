"""Fold and isolation: what comes of a record does not depend on its neighbours."""

from datetime import timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from oddslog.schemas.wire import Kind
from oddslog.sink.fold import fold_confirmations, fold_ids, fold_snapshots, settle
from oddslog.sink.isolation import IsolationPlan
from oddslog.sink.items import ConfirmationItem, IdItem, Key, LogRecord, SnapshotItem
from tests.support.batches import NOON
from tests.support.fragments import record

DATA = record()


def log_record(offset: int) -> LogRecord:
    """The record at an offset."""
    return LogRecord(0, offset, None, None, (), None)


def key(number: int) -> Key:
    """One of a few natural keys."""
    return Key(number, 1, NOON)


# Key, content, and whether the tables can hold it.
writes = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.booleans()), max_size=12)


def items(made: list[tuple[int, int, bool]]) -> list[SnapshotItem]:
    """The writes as snapshots in log order; the hash says whether one can be written."""
    return [
        SnapshotItem(
            Kind.BETPAWA,
            key(event),
            {**DATA, "content_hash": content if storable else -1 - content},
            log_record(offset),
            0,
        )
        for offset, (event, content, storable) in enumerate(made)
    ]


def outcome_in_one_poll(snapshots: list[SnapshotItem], table: dict[Key, int]) -> dict[int, str]:
    """What comes of each offset, by the steps of the write path."""
    outcome: dict[int, str] = {}
    folded = fold_snapshots(snapshots)
    while folded.firsts:
        assert len({snapshot.key for snapshot in folded.firsts}) == len(folded.firsts)
        hashes: dict[Key, int] = {}
        for first in folded.firsts:
            offset, content = first.record.offset or 0, first.data["content_hash"]
            if first.key not in table and content < 0:
                outcome[offset] = "poison"
                continue
            held = table.setdefault(first.key, content)
            hashes[first.key] = held
            new = first.key not in before(outcome, snapshots, first)
            outcome[offset] = ("written" if new else "x") if held == content else "conflict"
        settled = settle(folded.followers, hashes)
        for one in settled.duplicates:
            outcome[one.record.offset or 0] = "duplicate"
        for one in settled.conflicts:
            outcome[one.record.offset or 0] = "conflict"
        folded = fold_snapshots(settled.left)
    return outcome


def before(outcome: dict[int, str], snapshots: list[SnapshotItem], one: SnapshotItem) -> set[Key]:
    """The keys that earlier snapshots of the poll have written."""
    return {
        s.key for s in snapshots if outcome.get(s.record.offset or 0) == "written" and s is not one
    }


@given(writes)
def test_one_poll_is_as_many_polls_of_one(made: list[tuple[int, int, bool]]) -> None:
    """Written, duplicate, conflict, poison: the same however the log is cut into polls."""
    table: dict[Key, int] = {}
    together = outcome_in_one_poll(items(made), table)
    alone: dict[Key, int] = {}
    for snapshot in items(made):
        content, held = snapshot.data["content_hash"], alone.get(snapshot.key)
        if held is None:
            wanted = "poison" if content < 0 else "written"
            if content >= 0:
                alone[snapshot.key] = content
        else:
            wanted = "duplicate" if held == content else "conflict"
        assert together[snapshot.record.offset or 0] == wanted
    assert table == alone


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), max_size=15))
def test_confirmations_become_their_maximum(made: list[tuple[int, int]]) -> None:
    """One a key, the latest; by plain id just the same."""
    confirmations = [
        ConfirmationItem(Kind.BETPAWA, key(k), NOON + timedelta(minutes=m), log_record(n), 0)
        for n, (k, m) in enumerate(made)
    ]
    by_id = [
        IdItem(Kind.BETPAWA, k, NOON + timedelta(minutes=m), log_record(n), 0)
        for n, (k, m) in enumerate(made)
    ]
    wanted = {k: NOON + timedelta(minutes=max(m for j, m in made if j == k)) for k, _ in made}
    folded = fold_confirmations(confirmations)
    assert {c.key.event_id: c.confirmed_at for c in folded} == wanted
    assert len(folded) == len(wanted)
    assert {i.id: i.confirmed_at for i in fold_ids(by_id)} == wanted


@given(st.lists(st.booleans(), max_size=200))
def test_isolation_finds_just_the_bad_ones(good: list[bool]) -> None:
    """Each good member is written once, each bad one named once, in order, in few trials."""
    plan = IsolationPlan(range(len(good)))
    written: list[int] = []
    bad: list[int] = []
    while (group := plan.next_group()) is not None:
        if all(good[member] for member in group):
            written += group
            continue
        culprit = plan.failed(group)
        if culprit is not None:
            bad.append(culprit)
    assert written == [n for n, fine in enumerate(good) if fine]
    assert bad == [n for n, fine in enumerate(good) if not fine]
    assert all(a < b for a, b in pairwise(written))
    levels = max(1, len(good)).bit_length()
    assert plan.trials <= 1 + 2 * len(bad) * levels
