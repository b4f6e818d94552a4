"""Which parents come late and which never: by seed, for each life of the feeder. Pure.

Most events and scrape runs are in the database before anything is fed. A life has
some of its own beside them, under ids that no other life has: their rows come when
snapshots of them are waiting already, or never.
"""

from dataclasses import dataclass, replace
from random import Random
from typing import NamedTuple

from ...schemas.records import (
    CompetitorSnapshotWriteData,
    SnapshotWriteData,
    WriteBatch,
)

__all__ = [
    "BATCH_EVENTS",
    "CYCLES",
    "EVENTS",
    "FIRST_RUN",
    "LATE_SHARE",
    "NEVER_SHARE",
    "Family",
    "Late",
    "Parent",
    "early_parents",
]

EVENTS = 48
BATCH_EVENTS = 8
CYCLES = 10_000
FIRST_RUN = 1
LATE_SHARE = 1 / 6
NEVER_SHARE = 1 / 100

_BATCHES_A_CYCLE = EVENTS // BATCH_EVENTS
_COMPETITORS_AN_EVENT = 2
_LATE_RUNS = 1 / 12
_SECONDS = (2.0, 25.0)
# More than there are of them in a life.
_OWN_EVENTS = 1000
_OWN_RUNS = 100_000

Snapshot = SnapshotWriteData | CompetitorSnapshotWriteData


class Parent(NamedTuple):
    """A row that snapshots refer to."""

    table: str
    id: int


@dataclass(frozen=True, slots=True)
class Late:
    """When a parent comes.

    Attributes:
        batch: the first of its life whose snapshots may refer to it.
        seconds: after that one was acknowledged.
    """

    batch: int
    seconds: float


def early_parents() -> dict[str, range]:
    """The ids of each table that are there before anything is fed."""
    return {
        "bookmakers": range(1, 2),
        "events": range(1, EVENTS + 1),
        "competitor_events": range(1, EVENTS * _COMPETITORS_AN_EVENT + 1),
        "scrape_runs": range(FIRST_RUN, FIRST_RUN + CYCLES),
    }


class Family:
    """The parents that a life has for itself.

    Attributes:
        late: whose rows come late.
        never: whose rows never come.
    """

    def __init__(self, seed: int, life: int) -> None:
        self.late: dict[Parent, Late] = {}
        self.never: set[Parent] = set()
        self._life = life
        chance = Random(f"torture/{seed}/{life}/parents")  # noqa: S311 - no secret
        self._events = self._own_events("events", 1, chance)
        self._competitors = self._own_events("competitor_events", _COMPETITORS_AN_EVENT, chance)
        self._runs = self._own_runs(chance)

    def rename(self, batch: WriteBatch) -> WriteBatch:
        """The batch with the ids of this life's own parents.

        The run of the batch itself, which no row has to be there for, is of this life
        alone too: so the batches of a run are those that were fed as its.
        """
        events, competitors, runs = self._events, self._competitors, self._runs
        return replace(
            batch,
            changed_betpawa=tuple(
                replace(
                    one,
                    event_id=events.get(one.event_id, one.event_id),
                    scrape_run_id=runs.get(one.scrape_run_id or 0, one.scrape_run_id),
                )
                for one in batch.changed_betpawa
            ),
            changed_competitor=tuple(
                replace(
                    one,
                    competitor_event_id=competitors.get(
                        one.competitor_event_id, one.competitor_event_id
                    ),
                    scrape_run_id=runs.get(one.scrape_run_id or 0, one.scrape_run_id),
                )
                for one in batch.changed_competitor
            ),
            unchanged_betpawa=tuple(
                replace(one, event_id=events.get(one.event_id, one.event_id))
                for one in batch.unchanged_betpawa
            ),
            unchanged_competitor=tuple(
                replace(
                    one,
                    competitor_event_id=competitors.get(
                        one.competitor_event_id, one.competitor_event_id
                    ),
                )
                for one in batch.unchanged_competitor
            ),
            scrape_run_id=self._life * CYCLES + (batch.scrape_run_id or 0),
        )

    def waits(self, snapshot: Snapshot) -> bool:
        """Whether a parent of it comes late."""
        return any(parent in self.late for parent in _parents(snapshot))

    def waits_for_ever(self, snapshot: Snapshot) -> bool:
        """Whether a parent of it never comes."""
        return any(parent in self.never for parent in _parents(snapshot))

    def _own_events(self, table: str, an_event: int, chance: Random) -> dict[int, int]:
        own: dict[int, int] = {}
        for number in range(EVENTS * an_event):
            drawn, seconds = chance.random(), chance.uniform(*_SECONDS)
            if drawn >= LATE_SHARE + NEVER_SHARE:
                continue
            parent = Parent(table, (self._life + 1) * _OWN_EVENTS + number + 1)
            own[number + 1] = parent.id
            if drawn < NEVER_SHARE:
                self.never.add(parent)
            else:
                self.late[parent] = Late(number // an_event // BATCH_EVENTS, seconds)
        return own

    def _own_runs(self, chance: Random) -> dict[int, int]:
        own: dict[int, int] = {}
        for cycle in range(CYCLES):
            drawn, seconds = chance.random(), chance.uniform(*_SECONDS)
            if drawn >= _LATE_RUNS:
                continue
            parent = Parent("scrape_runs", (self._life + 1) * _OWN_RUNS + FIRST_RUN + cycle)
            own[FIRST_RUN + cycle] = parent.id
            self.late[parent] = Late(cycle * _BATCHES_A_CYCLE, seconds)
        return own


def _parents(snapshot: Snapshot) -> list[Parent]:
    event = (
        Parent("events", snapshot.event_id)
        if isinstance(snapshot, SnapshotWriteData)
        else Parent("competitor_events", snapshot.competitor_event_id)
    )
    return [event, Parent("scrape_runs", snapshot.scrape_run_id or 0)]
