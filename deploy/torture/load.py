"""What is fed under torture: made by seed, so that it is known afterwards. Pure.

A feeder that is killed is started again as its next *life*. All lives feed the same
events at times of their own, but for a few that each has for itself (`lateness`).
The batch of a life and a number is always the same; some hold snapshots that the
tables must refuse, and some are followed by a record that nobody can decode.
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from random import Random
from typing import NamedTuple, TypeVar

from ...ingest.feeds.settings import SimulateSettings
from ...ingest.feeds.simulate import simulate
from ...schemas.codec import EventWrites, encode
from ...schemas.framing import frame
from ...schemas.records import CompetitorSnapshotWriteData, SnapshotWriteData, WriteBatch
from ...schemas.wire import Kind
from .lateness import BATCH_EVENTS, CYCLES, EVENTS, FIRST_RUN, Family

__all__ = ["REFUSED", "REFUSED_RUN", "BatchId", "FedBatch", "batch_of", "batches", "garbage_key"]

REFUSED = "refused"
"""A handicap type that the kit's tables refuse by a constraint."""

REFUSED_RUN = -13
"""And a scrape run."""

_LIFE = timedelta(days=10)  # more than the cycles of a life take, a minute each
_FIRST = datetime(2026, 1, 1, tzinfo=UTC)
_POISONED_BATCHES = 0.12  # with one of 24 snapshots of each kind: about 1 in 100
_GARBAGE_BATCHES = 0.06
_MOST_MARKETS = 12
_WHOLE_SNAPSHOTS = 0.03

_Snapshot = TypeVar("_Snapshot", SnapshotWriteData, CompetitorSnapshotWriteData)


class BatchId(NamedTuple):
    """Which batch: the `number` of a feeder's `life`, both from 0."""

    life: int
    number: int


@dataclass(frozen=True, slots=True)
class FedBatch:
    """One batch with what is wrong about it.

    Attributes:
        id: which one.
        batch: as it is enqueued.
        good: the same without the snapshots that never get into the tables.
        poisoned: only those of them that the tables refuse.
        orphaned: only those whose parent never comes.
        garbage: bytes of a record to be sent behind it, None for most.
    """

    id: BatchId
    batch: WriteBatch
    good: WriteBatch
    poisoned: WriteBatch
    orphaned: WriteBatch
    garbage: bytes | None


def batches(seed: int, life: int) -> Iterator[FedBatch]:
    """The batches of a life, in order."""
    settings = SimulateSettings(
        events=EVENTS,
        cycles=CYCLES,
        changed_share=0.4,
        raw_response_bytes=600,
        seed=seed,
        batch_events=BATCH_EVENTS,
        started_at=_FIRST + life * _LIFE,
        first_run_id=FIRST_RUN,
    )
    family = Family(seed, life)
    for number, batch in enumerate(simulate(settings)):
        yield _fed(seed, BatchId(life, number), family.rename(batch), family)


def batch_of(seed: int, wanted: BatchId) -> FedBatch:
    """One batch; makes all before it in its life."""
    return next(islice(batches(seed, wanted.life), wanted.number, None))


def garbage_key(of: BatchId) -> bytes:
    """The Kafka key by which a record of garbage is known again."""
    return b"torture:%d:%d" % of


def _fed(seed: int, name: BatchId, batch: WriteBatch, family: Family) -> FedBatch:
    chance = Random(f"torture/{seed}/{name.life}/{name.number}")  # noqa: S311 - no secret
    betpawa = [_smaller(one, chance) for one in batch.changed_betpawa]
    competitor = [_smaller(one, chance) for one in batch.changed_competitor]
    # What waits for ever is never tried by the tables that would refuse it.
    lost_betpawa = {n for n, one in enumerate(betpawa) if family.waits_for_ever(one)}
    lost_competitor = {n for n, one in enumerate(competitor) if family.waits_for_ever(one)}
    bad_betpawa = _some(len(betpawa), chance) - lost_betpawa
    bad_competitor = _some(len(competitor), chance) - lost_competitor
    for number in bad_betpawa:
        betpawa[number] = _poisoned(betpawa[number], chance)
    for number in bad_competitor:
        competitor[number] = _poisoned(competitor[number], chance)
    garbage = _garbage(chance) if chance.random() < _GARBAGE_BATCHES else None
    whole = replace(batch, changed_betpawa=tuple(betpawa), changed_competitor=tuple(competitor))
    return FedBatch(
        name,
        whole,
        _only(
            whole,
            set(range(len(betpawa))) - bad_betpawa - lost_betpawa,
            set(range(len(competitor))) - bad_competitor - lost_competitor,
        ),
        _bare(_only(whole, bad_betpawa, bad_competitor)),
        _bare(_only(whole, lost_betpawa, lost_competitor)),
        garbage,
    )


def _only(batch: WriteBatch, betpawa: set[int], competitor: set[int]) -> WriteBatch:
    """The batch with only these of its snapshots."""
    return replace(
        batch,
        changed_betpawa=tuple(s for n, s in enumerate(batch.changed_betpawa) if n in betpawa),
        changed_competitor=tuple(
            s for n, s in enumerate(batch.changed_competitor) if n in competitor
        ),
    )


def _bare(batch: WriteBatch) -> WriteBatch:
    """The batch without its confirmations."""
    return replace(batch, unchanged_betpawa=(), unchanged_competitor=())


def _smaller(snapshot: _Snapshot, chance: Random) -> _Snapshot:
    """With a few of its markets, so that there can be many snapshots."""
    count = chance.randrange(_MOST_MARKETS + 1)
    if chance.random() < _WHOLE_SNAPSHOTS:
        count = len(snapshot.markets)
    return replace(snapshot, markets=snapshot.markets[:count])


def _some(count: int, chance: Random) -> set[int]:
    """Which of so many are poisoned: mostly none."""
    drawn = chance.random()
    return {chance.randrange(count)} if count and drawn < _POISONED_BATCHES / 2 else set()


def _poisoned(snapshot: _Snapshot, chance: Random) -> _Snapshot:
    """What the tables refuse: two ways that the schema tells, two that only they know."""
    way = chance.randrange(4)
    if way == 0:
        return replace(snapshot, scrape_run_id=2**31 + 13)
    if way == 1:
        return replace(snapshot, scrape_run_id=REFUSED_RUN)
    if not snapshot.markets:
        return replace(snapshot, scrape_run_id=2**31)
    bad: int = chance.randrange(len(snapshot.markets))
    market = snapshot.markets[bad]
    if way == 2:
        worse = replace(market, betpawa_market_name="too long" * 50)
    else:
        worse = replace(market, handicap_type=REFUSED)
    markets = (*snapshot.markets[:bad], worse, *snapshot.markets[bad + 1 :])
    return replace(snapshot, markets=markets)


def _garbage(chance: Random) -> bytes:
    whole = encode(
        EventWrites(uuid.UUID(int=1), 0, None, 0, 1, None, Kind.BETPAWA, 1, (), None, (), ())
    )
    return chance.choice(
        (
            b"",
            b"no frame",
            b"\xc3\x01" + b"\x00" * 8,  # a schema that nobody shipped
            frame() + b"\xff" * 60,
            whole[:-3],
            whole + b"more",
        )
    )
