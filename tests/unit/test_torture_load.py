"""What is fed under torture: the same for a seed, with the poison that is told."""

from itertools import islice

import pytest

from oddslog.deploy.compare import SnapshotId, confirmed_ids, snapshots_by_id
from oddslog.deploy.torture.load import BatchId, FedBatch, batches, garbage_key
from oddslog.schemas.codec import decode
from oddslog.schemas.errors import DecodeError


def some(life: int = 0, count: int = 150, seed: int = 1) -> list[FedBatch]:
    """The first batches of a life."""
    return list(islice(batches(seed, life), count))


@pytest.fixture(name="fed", scope="module")
def fed_batches() -> list[FedBatch]:
    """Enough of them that everything occurs."""
    return some(count=400)


def ids(fed: FedBatch) -> set[SnapshotId]:
    """The keys of all of its snapshots."""
    return {key for key, _ in snapshots_by_id(fed.batch)}


def test_a_seed_and_a_life_give_the_same_batches() -> None:
    """The check makes them once more."""
    assert some(life=2, count=40) == some(life=2, count=40)
    assert some(count=5, seed=1) != some(count=5, seed=2)


def test_good_poisoned_and_orphaned_together_are_the_batch(fed: list[FedBatch]) -> None:
    """No snapshot is in two or in none of them; confirmations are good ones."""
    for one in fed:
        good, bad, lost = (dict(snapshots_by_id(b)) for b in (one.good, one.poisoned, one.orphaned))
        assert len(good) + len(bad) + len(lost) == len(ids(one))
        assert good | bad | lost == dict(snapshots_by_id(one.batch))
        assert list(confirmed_ids(one.good)) == list(confirmed_ids(one.batch))
        assert not list(confirmed_ids(one.poisoned))
        assert not list(confirmed_ids(one.orphaned))


def test_about_one_in_a_hundred_is_poisoned_in_each_of_the_ways(fed: list[FedBatch]) -> None:
    """Two that the schema tells, two that only the tables know."""
    bad = [snapshot for one in fed for _, snapshot in snapshots_by_id(one.poisoned)]
    share = len(bad) / sum(len(ids(one)) for one in fed)
    assert 0.005 < share < 0.02
    assert any((snapshot.scrape_run_id or 0) > 2**31 for snapshot in bad)
    assert any(snapshot.scrape_run_id == -13 for snapshot in bad)
    markets = [market for snapshot in bad for market in snapshot.markets]
    assert any(len(market.betpawa_market_name) > 255 for market in markets)
    assert any(market.handicap_type == "refused" for market in markets)


def test_lives_share_events_and_no_snapshot() -> None:
    """But for the few events that each has for itself, and whose rows come late or never."""
    first, second = ({key for one in some(life) for key in ids(one)} for life in (0, 1))
    assert not first & second
    shared = {key[1] for key in first} & {key[1] for key in second}
    assert len(shared) > 60
    assert shared <= {*range(1, 97)}
    assert all(key[1] > 1000 for key in first | second if key[1] not in shared and key[1] > 96)
    assert not {k[1] for k in first if k[1] > 96} & {k[1] for k in second if k[1] > 96}


def test_garbage_cannot_be_decoded_and_has_a_name(fed: list[FedBatch]) -> None:
    """A few batches are followed by some."""
    garbage = [one.garbage for one in fed if one.garbage is not None]
    assert 10 < len(garbage) < 60
    for value in garbage:
        with pytest.raises(DecodeError):
            decode(value)
    assert garbage_key(BatchId(3, 14)) == b"torture:3:14"
