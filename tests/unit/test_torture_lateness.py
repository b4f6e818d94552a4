"""Which parents come late, and which never: known from the seed alone."""

from collections import Counter
from itertools import islice

import pytest

from oddslog.deploy.compare import confirmed_ids, snapshots_by_id
from oddslog.deploy.torture.lateness import Family, Late, Parent, early_parents
from oddslog.deploy.torture.load import FedBatch, batches
from oddslog.schemas.records import SnapshotWriteData, WriteBatch

SEED = 7
LIVES = range(5)


def named(batch: WriteBatch) -> set[Parent]:
    """Every parent that the snapshots of a batch refer to."""
    found = set()
    for _, one in snapshots_by_id(batch):
        if isinstance(one, SnapshotWriteData):
            found |= {Parent("events", one.event_id), Parent("bookmakers", one.bookmaker_id)}
        else:
            found.add(Parent("competitor_events", one.competitor_event_id))
        found.add(Parent("scrape_runs", one.scrape_run_id or 0))
    return found


@pytest.fixture(name="fed", scope="module")
def fed_batches() -> dict[int, list[FedBatch]]:
    """Some cycles of some lives."""
    return {life: list(islice(batches(SEED, life), 24)) for life in LIVES}


def test_each_parent_comes_first_late_or_never(fed: dict[int, list[FedBatch]]) -> None:
    """And none is two of them, or another life's; poison is left out: its run is no run."""
    early = {Parent(table, number) for table, ids in early_parents().items() for number in ids}
    seen: set[Parent] = set()
    for life, some in fed.items():
        family = Family(SEED, life)
        own = {*family.late, *family.never}
        assert not family.late.keys() & family.never
        assert not own & (early | seen)
        seen |= own
        for one in some:
            assert named(one.good) <= early | family.late.keys()
            assert all(family.waits_for_ever(s) for _, s in snapshots_by_id(one.orphaned))
            assert not any(family.waits_for_ever(s) for _, s in snapshots_by_id(one.good))


def test_a_late_parent_is_named_from_its_batch_on(fed: dict[int, list[FedBatch]]) -> None:
    """Not before; events right then, in the first cycle."""
    for life, some in fed.items():
        late = Family(SEED, life).late
        first: dict[Parent, int] = {}
        for one in some:
            for parent in named(one.batch) & late.keys():
                first.setdefault(parent, one.id.number)
        assert first
        for parent, number in first.items():
            assert isinstance(late[parent], Late)
            assert late[parent].batch <= number < late[parent].batch + 6, parent
            assert parent.table == "scrape_runs" or late[parent].batch == number
            assert 2 <= late[parent].seconds <= 25
        unnamed = {parent for parent in late.keys() - first.keys() if late[parent].batch < 18}
        assert not {parent for parent in unnamed if parent.table != "scrape_runs"}


def test_one_in_six_events_comes_late_and_one_in_a_hundred_never() -> None:
    """And one in twelve runs late; over many lives."""
    families = [Family(SEED, life) for life in range(60)]
    late = Counter(parent.table for family in families for parent in family.late)
    never = Counter(parent.table for family in families for parent in family.never)
    for table, count in (("events", 48), ("competitor_events", 96)):
        assert late[table] / len(families) / count == pytest.approx(1 / 6, abs=0.03)
        assert never[table] / len(families) / count == pytest.approx(0.01, abs=0.006)
    assert late["scrape_runs"] / len(families) / 10_000 == pytest.approx(1 / 12, abs=0.01)
    assert "scrape_runs" not in never


def test_confirmations_name_the_event_as_its_snapshots_do(fed: dict[int, list[FedBatch]]) -> None:
    """A confirmation of something else would be pending for ever."""
    for some in fed.values():
        written = {key for one in some for key, _ in snapshots_by_id(one.batch)}
        assert {key for one in some for key in confirmed_ids(one.batch)} <= written
