"""What every destination keeps, and the memory destination's run of it."""

from typing import Any, Protocol

import pytest

from oddslog.ingest import Destination, MemoryDestination, RejectedPartsError
from oddslog.schemas.records import (
    CompetitorSnapshotKey,
    SnapshotKey,
    WriteBatch,
)
from tests.unit.test_ingest_builders import (
    NOON,
    batch,
    betpawa,
    broken_betpawa,
    competitor,
)

DEADLINE_SECONDS = 20.0


class Opened(Protocol):
    """A destination under test, and what it has stored."""

    @property
    def destination(self) -> Destination: ...

    async def stored(self) -> tuple[list[Any], list[Any], list[tuple[str, int]]]:
        """Snapshots, keys confirmed, plain ids confirmed: each once per storing."""
        ...


class DestinationContract:
    """The suite. A subclass gives the fixture `opened`: started, and stopped afterwards."""

    async def test_all_of_a_batch_is_stored_when_the_attempt_returns(self, opened: Opened) -> None:
        """Snapshots field by field, confirmations by key and by id."""
        key = SnapshotKey(8, 1, NOON)
        rival = CompetitorSnapshotKey(9, NOON)
        stamped = batch(
            betpawa=[betpawa(1, raw={"ä": [1.0, None]}, captured_at=NOON)],
            competitor=[competitor(2, captured_at=NOON)],
            betpawa_ids=[3, 4],
            competitor_ids=[5],
            unchanged_betpawa=(key,),
            unchanged_competitor=(rival,),
            confirmed_at=NOON,
        )
        delivery = await opened.destination.prepare(stamped)
        assert delivery.describe()["unacknowledged"]
        await delivery.attempt(DEADLINE_SECONDS)
        assert not delivery.describe()["unacknowledged"]
        snapshots, keys, ids = await opened.stored()
        assert snapshots == [*stamped.changed_betpawa, *stamped.changed_competitor]
        assert keys == [key, rival]
        assert ids == [("betpawa", 3), ("betpawa", 4), ("competitor", 5)]

    async def test_batches_are_stored_in_order(self, opened: Opened) -> None:
        """Of one event, whatever is prepared ahead."""
        batches = [made(1, number) for number in range(5)]
        deliveries = [await opened.destination.prepare(stamped) for stamped in batches]
        for delivery in deliveries:
            await delivery.attempt(DEADLINE_SECONDS)
        snapshots, _, _ = await opened.stored()
        assert [snapshot.scrape_run_id for snapshot in snapshots] == list(range(5))

    async def test_an_empty_batch_is_stored_at_once(self, opened: Opened) -> None:
        """There is nothing to do, and that is no failure."""
        delivery = await opened.destination.prepare(batch(confirmed_at=NOON))
        await delivery.attempt(DEADLINE_SECONDS)
        assert await opened.stored() == ([], [], [])

    async def test_what_cannot_be_stored_is_told_after_the_rest_is_stored(
        self, opened: Opened
    ) -> None:
        """The error names the event; the neighbours are there."""
        stamped = batch(
            betpawa=[betpawa(1, captured_at=NOON), broken_betpawa(2, NOON)],
            competitor=[competitor(3, captured_at=NOON)],
            confirmed_at=NOON,
        )
        delivery = await opened.destination.prepare(stamped)
        with pytest.raises(RejectedPartsError, match="betpawa event 2"):
            await delivery.attempt(DEADLINE_SECONDS)
        snapshots, _, _ = await opened.stored()
        assert snapshots == [stamped.changed_betpawa[0], *stamped.changed_competitor]

    async def test_it_can_be_stopped_twice(self, opened: Opened) -> None:
        """The fixture stops it a third time."""
        await opened.destination.stop()
        await opened.destination.stop()


def made(event_id: int, run: int) -> WriteBatch:
    """A stamped batch of one snapshot."""
    return batch(betpawa=[betpawa(event_id, run=run, captured_at=NOON)], confirmed_at=NOON)


class OpenedMemory:
    """The memory destination and its list."""

    def __init__(self) -> None:
        self.destination = MemoryDestination()

    async def stored(self) -> tuple[list[Any], list[Any], list[tuple[str, int]]]:
        snapshots: list[Any] = []
        keys: list[Any] = []
        ids: list[tuple[str, int]] = []
        for kept in self.destination.batches:
            snapshots += [*kept.changed_betpawa, *kept.changed_competitor]
            keys += [*kept.unchanged_betpawa, *kept.unchanged_competitor]
            ids += [("betpawa", member) for member in kept.unchanged_betpawa_ids]
            ids += [("competitor", member) for member in kept.unchanged_competitor_ids]
        return snapshots, keys, ids


class TestMemoryDestination(DestinationContract):
    """The contract, in memory."""

    @pytest.fixture
    def opened(self) -> Opened:
        return OpenedMemory()
