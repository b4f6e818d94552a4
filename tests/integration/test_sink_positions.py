"""Where a sink reads on: each row of the table of positions, on real Kafka."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from oddslog.deploy.stack import Servers
from oddslog.schemas import KafkaConnection
from oddslog.sink.database import make_engine
from oddslog.sink.errors import GapError, WrongLogError
from oddslog.sink.placing import PlacingOptions
from tests.fixtures.servers import create_database, drop_database
from tests.fixtures.sinks import RunSink
from tests.support.batches import NOON
from tests.support.fragments import confirming, good, ids
from tests.support.kafka import (
    add_partitions,
    committed_offsets,
    delete_records,
    make_anew,
    produce,
    produce_in_transaction,
    set_committed,
)
from tests.support.polls import letters, one, rows

EVENTS = "SELECT event_id FROM odds_snapshots ORDER BY event_id"
LEDGER = "SELECT next_offset FROM oddslog_ledger ORDER BY partition"


async def events(engine: AsyncEngine) -> list[int]:
    """The events in the tables, each as often as it is there."""
    return [row.event_id for row in await rows(engine, EVENTS)]


async def ledger(engine: AsyncEngine) -> list[int]:
    """The ledger's next offsets."""
    return [row.next_offset for row in await rows(engine, LEDGER)]


async def execute(engine: AsyncEngine, statement: str) -> None:
    """Run one statement."""
    async with engine.begin() as connection:
        await connection.exec_driver_sql(statement)


async def test_an_empty_topic_is_caught_up(
    kafka: KafkaConnection, topic: str, run_sink: RunSink, engine: AsyncEngine
) -> None:
    """Its rows are made, nothing is written, and the run ends."""
    totals = await run_sink()
    assert (totals.records, totals.polls) == (0, 0)
    assert await ledger(engine) == [0, 0, 0]


async def test_a_log_that_does_not_begin_at_0(
    kafka: KafkaConnection, topic: str, run_sink: RunSink, engine: AsyncEngine
) -> None:
    """A gap that is named; `accept_gap` notes it and goes on behind it."""
    await produce(kafka, topic, [good(event) for event in range(1, 6)], partition=1)
    await delete_records(kafka, topic, {1: 3})
    with pytest.raises(GapError, match=r"partition 1: offsets 0 to 2 are gone"):
        await run_sink()
    assert await rows(engine, LEDGER) == []
    totals = await run_sink(placing=PlacingOptions(accept_gap=True))
    assert totals.snapshots == 2
    assert await events(engine) == [4, 5]
    gaps = await rows(
        engine, "SELECT accepted_gaps, start_offset FROM oddslog_ledger WHERE partition = 1"
    )
    assert [tuple(row) for row in gaps] == [([{"from": 0, "to": 3}], 3)]


@pytest.mark.parametrize(("start", "expected"), [("earliest", [4, 5]), ("latest", [])])
async def test_an_explicit_start(
    kafka: KafkaConnection,
    topic: str,
    run_sink: RunSink,
    engine: AsyncEngine,
    start: str,
    expected: list[int],
) -> None:
    """Once, and no gap; it does not hold for what is written or added afterwards."""
    await produce(kafka, topic, [good(event) for event in range(1, 6)])
    await delete_records(kafka, topic, {0: 3})
    options = PlacingOptions(start=start)
    await run_sink(placing=options)
    assert await events(engine) == expected
    assert await one(engine, "SELECT accepted_gaps FROM oddslog_ledger WHERE partition = 0") == []
    await produce(kafka, topic, [good(6)])
    await add_partitions(kafka, topic, 4)
    await produce(kafka, topic, [good(7)], partition=3)
    await run_sink(placing=options)
    assert await events(engine) == [*expected, 6, 7]
    assert await ledger(engine) == [6, 0, 0, 1]


async def test_ledger_ahead_of_and_behind_the_group(
    kafka: KafkaConnection, topic: str, run_sink: RunSink, engine: AsyncEngine
) -> None:
    """Positions come from the ledger; behind the group, that is said."""
    await produce(kafka, topic, [good(1), good(2)])
    await run_sink()
    assert await committed_offsets(kafka, topic, topic) == [2, None, None]
    await set_committed(kafka, topic, topic, {0: 0})  # a crash between 2 and 3
    await produce(kafka, topic, [good(3)])
    totals = await run_sink()
    assert (totals.records, totals.snapshots, totals.duplicates) == (1, 1, 0)
    assert await committed_offsets(kafka, topic, topic) == [3, None, None]
    await execute(
        engine, "UPDATE oddslog_ledger SET next_offset = 1, last_offset = NULL WHERE partition = 0"
    )
    with structlog.testing.capture_logs() as logged:
        totals = await run_sink()
    assert (totals.records, totals.duplicates) == (2, 2)
    behind = [entry for entry in logged if entry["event"] == "ledger_behind_group"]
    assert [(e["partition"], e["next_offset"], e["group_offset"]) for e in behind] == [(0, 1, 3)]
    assert await events(engine) == [1, 2, 3]


async def test_the_next_record_is_gone(
    kafka: KafkaConnection, topic: str, run_sink: RunSink, engine: AsyncEngine
) -> None:
    """Retention passed the ledger: a gap; accepted, it is noted, once."""
    await produce(kafka, topic, [good(1), good(2)])
    await run_sink()
    await produce(kafka, topic, [good(event) for event in range(3, 8)])
    await delete_records(kafka, topic, {0: 5})
    with pytest.raises(GapError, match=r"partition 0: offsets 2 to 4 are gone"):
        await run_sink()
    assert (await ledger(engine), await events(engine)) == ([2, 0, 0], [1, 2])
    for _ in range(2):
        await run_sink(placing=PlacingOptions(accept_gap=True))
    assert await events(engine) == [1, 2, 6, 7]
    noted = await one(engine, "SELECT accepted_gaps FROM oddslog_ledger WHERE partition = 0")
    assert noted == [{"from": 2, "to": 5}]


async def test_retention_took_the_last_applied_record(
    kafka: KafkaConnection, topic: str, run_sink: RunSink, engine: AsyncEngine
) -> None:
    """The next one is there: go on, and say that the position was not checked."""
    await produce(kafka, topic, [good(1), good(2)])
    await run_sink()
    await delete_records(kafka, topic, {0: 2})
    await produce(kafka, topic, [good(3)])
    with structlog.testing.capture_logs() as logged:
        totals = await run_sink()
    assert (totals.records, totals.snapshots) == (1, 1)
    assert [e["offset"] for e in logged if e["event"] == "position_unchecked"] == [2]


async def test_a_topic_made_anew(
    kafka: KafkaConnection, topic: str, run_sink: RunSink, engine: AsyncEngine
) -> None:
    """Shorter than the ledger; of fewer partitions; grown past it: each is another log."""
    await produce(kafka, topic, [good(1), good(2)])
    await run_sink()
    await make_anew(kafka, topic)
    with pytest.raises(WrongLogError, match=r"partition 0: the ledger is at offset 2.*ends at 0"):
        await run_sink()
    await produce(kafka, topic, [good(5), good(6)])
    with pytest.raises(WrongLogError, match=r"partition 0: the record at offset 1 is not the one"):
        await run_sink()
    await produce(kafka, topic, [good(7), good(8)])
    with pytest.raises(WrongLogError, match=r"partition 0: the record at offset 1 is not the one"):
        await run_sink()
    await make_anew(kafka, topic, partitions=2)
    with pytest.raises(WrongLogError, match="has 2 partitions and had 3"):
        await run_sink()
    assert (await ledger(engine), await events(engine)) == ([2, 0, 0], [1, 2])


async def test_a_topic_made_anew_with_a_mark_where_the_last_record_was(
    kafka: KafkaConnection, topic: str, run_sink: RunSink, engine: AsyncEngine
) -> None:
    """No record at all at the remembered offset is another log, too."""
    await produce(kafka, topic, [good(1), good(2)])
    await run_sink()
    await make_anew(kafka, topic)
    await produce_in_transaction(kafka, topic, [([good(5)], False), ([good(6)], False)])
    with pytest.raises(WrongLogError, match=r"partition 0: the record at offset 1 is not the one"):
        await run_sink()
    assert (await ledger(engine), await events(engine)) == ([2, 0, 0], [1, 2])


async def test_another_cluster(
    kafka: KafkaConnection, topic: str, run_sink: RunSink, engine: AsyncEngine
) -> None:
    """The same topic of another cluster did not fill this database."""
    await produce(kafka, topic, [good(1)])
    await run_sink()
    await execute(engine, "UPDATE oddslog_logs SET cluster_id = 'elsewhere'")
    with pytest.raises(WrongLogError, match="was filled from cluster elsewhere"):
        await run_sink()
    assert await ledger(engine) == [1, 0, 0]


async def test_partitions_are_added(
    kafka: KafkaConnection, topic: str, run_sink: RunSink, engine: AsyncEngine
) -> None:
    """The new ones are read from their beginning, the old ones go on."""
    await produce(kafka, topic, [good(1)])
    await run_sink()
    await add_partitions(kafka, topic, 5)
    await produce(kafka, topic, [good(2)], partition=4)
    totals = await run_sink()
    assert (totals.records, await events(engine)) == (1, [1, 2])
    assert await ledger(engine) == [1, 0, 0, 0, 1]
    assert await one(engine, "SELECT partition_count FROM oddslog_logs") == 5


async def test_transactions_leave_holes(
    kafka: KafkaConnection, topic: str, run_sink: RunSink, engine: AsyncEngine
) -> None:
    """Aborted records are not read; the ledger passes over marks up to the log's end."""
    await produce_in_transaction(
        kafka,
        topic,
        [([good(1)], True), ([good(90), good(91)], False), ([good(2)], True), ([good(92)], False)],
    )
    totals = await run_sink()
    assert (totals.records, await events(engine)) == (2, [1, 2])
    # 5 records and 4 marks; behind the last record there are a record and two marks.
    assert await ledger(engine) == [9, 0, 0]
    assert await one(engine, "SELECT last_offset FROM oddslog_ledger WHERE partition = 0") == 5
    await produce_in_transaction(kafka, topic, [([good(93)], False), ([good(3)], True)])
    totals = await run_sink()
    assert (totals.records, totals.duplicates, await events(engine)) == (1, 0, [1, 2, 3])
    assert await ledger(engine) == [13, 0, 0]
    assert await committed_offsets(kafka, topic, topic) == [13, None, None]


class Backups:
    """Copies of the test's database, as a dump is one."""

    def __init__(self, servers: Servers, name: str) -> None:
        self._servers = servers
        self._name = name
        self.made: list[tuple[str, AsyncEngine]] = []

    async def take(self, engine: AsyncEngine) -> AsyncEngine:
        """Copy the database as it is; returns an engine on the copy."""
        await engine.dispose()  # a template must have no sessions
        name = f"{self._name}_b{len(self.made)}"
        copy = make_engine(await create_database(self._servers, name, self._name))
        self.made.append((name, copy))
        return copy

    async def drop(self) -> None:
        """Drop all copies."""
        for name, engine in self.made:
            await engine.dispose()
            await drop_database(self._servers, name)


@pytest.fixture
async def backups(servers: Servers, new_name: str, engine: AsyncEngine) -> AsyncIterator[Backups]:
    """Takes copies of the test's database."""
    backups = Backups(servers, new_name)
    yield backups
    await backups.drop()


async def test_a_database_restored_from_a_backup_is_refilled(
    kafka: KafkaConnection, topic: str, run_sink: RunSink, engine: AsyncEngine, backups: Backups
) -> None:
    """Taken mid-way and before the first batch: each refills itself, ids are not guessed."""
    before_first = await backups.take(engine)
    await produce(kafka, topic, [good(1), good(2)])
    await run_sink()
    mid_way = await backups.take(engine)
    await produce(kafka, topic, [good(3), good(4)], partition=1)
    # Ids as the database gave them before it was lost; 3 was event 3 or 4.
    await produce(kafka, topic, [ids(2), ids(3)], partition=2)
    await run_sink()

    # Mid-way: two of four snapshots are there, ids up to 2 are what they were.
    await produce(kafka, topic, [good(5)])
    totals = await run_sink(into=mid_way)
    assert await events(mid_way) == [1, 2, 3, 4, 5]
    assert (totals.snapshots, totals.duplicates, totals.unstable_ids) == (3, 0, 1)
    assert totals.confirmations == 1
    assert await one(mid_way, "SELECT value FROM oddslog_meta WHERE name = 'id_floors'") == {
        "betpawa": 2,
        "competitor": 0,
    }
    ids_valid_from = "SELECT ids_valid_from FROM oddslog_ledger ORDER BY partition"
    assert [row[0] for row in await rows(mid_way, ids_valid_from)] == [3, 2, 2]

    # Before the first batch: nothing is there, no older id can be trusted.
    totals = await run_sink(into=before_first)
    assert await events(before_first) == [1, 2, 3, 4, 5]
    assert (totals.snapshots, totals.unstable_ids, totals.confirmations) == (5, 2, 0)
    assert [row[0] for row in await rows(before_first, ids_valid_from)] == [3, 2, 2]
    # From now on ids name rows of this database again.
    await produce(kafka, topic, [ids(3)], partition=2)
    totals = await run_sink(into=before_first)
    assert (totals.confirmations, totals.unstable_ids) == (1, 0)
    assert await letters(mid_way) == await letters(before_first) == []


async def test_a_backup_taken_in_the_middle_of_the_first_fill(
    kafka: KafkaConnection, topic: str, run_sink: RunSink, engine: AsyncEngine, backups: Backups
) -> None:
    """It went back, too: ids that were given out since then are not trusted."""
    await produce(kafka, topic, [good(event) for event in range(1, 5)])
    await run_sink()
    # As it was when only the first record was written.
    await execute(engine, "DELETE FROM odds_snapshots WHERE id > 1")
    await execute(
        engine, "UPDATE oddslog_ledger SET next_offset = 1, last_offset = NULL WHERE partition = 0"
    )
    backup = await backups.take(engine)
    await produce(kafka, topic, [ids(4)], partition=1)
    totals = await run_sink(into=backup)
    assert await events(backup) == [1, 2, 3, 4]
    assert (totals.confirmations, totals.unstable_ids) == (0, 1)


async def test_late_confirmations_survive_a_refill(
    kafka: KafkaConnection, topic: str, run_sink: RunSink, engine: AsyncEngine, backups: Backups
) -> None:
    """A confirmation by natural key of a snapshot that the backup does not have."""
    empty = await backups.take(engine)
    late = NOON + timedelta(hours=5)
    await produce(kafka, topic, [confirming(NOON, at=late)], partition=0)
    await produce(kafka, topic, [good(1)], partition=2)
    await run_sink()
    await run_sink(into=empty)
    for database in (engine, empty):
        confirmed = await one(database, "SELECT last_confirmed_at FROM odds_snapshots")
        assert confirmed == late
        assert await one(database, "SELECT count(*) FROM oddslog_pending_confirmations") == 0
