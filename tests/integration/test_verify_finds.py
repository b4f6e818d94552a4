"""What a verification finds, where it says it is, and how it is mended."""

import random
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from oddslog.schemas import KafkaConnection
from oddslog.sink.errors import WrongLogError
from oddslog.sink.verify_findings import Explained
from tests.fixtures.sinks import RunSink
from tests.support.batches import NOON
from tests.support.fragments import confirming, good
from tests.support.kafka import make_anew, produce
from tests.support.polls import one
from tests.support.table_changes import COLUMNS, change_one
from tests.support.verifying import LATE_EVENT, change, contents, fill_messy, verified

# What is changed, and the difference that is found first: kind, offset, field.
FINDS = {
    "a deleted snapshot": (
        "DELETE FROM odds_snapshots WHERE event_id = 2",
        ("missing", 1, None),
    ),
    "a deleted market row": (
        "DELETE FROM market_odds WHERE id = (SELECT max(m.id) FROM market_odds AS m"
        " JOIN odds_snapshots AS s ON s.id = m.snapshot_id WHERE s.event_id = 3)",
        ("different", 2, "markets"),
    ),
    "one altered odd": (
        "UPDATE market_odds SET outcomes = replace(outcomes::text, '1.95', '1.96')::json"
        " WHERE id = (SELECT min(m.id) FROM market_odds AS m"
        " JOIN odds_snapshots AS s ON s.id = m.snapshot_id WHERE s.event_id = 3)",
        ("different", 2, "markets[0].outcomes"),
    ),
    "an added snapshot": (
        "INSERT INTO odds_snapshots (event_id, bookmaker_id, captured_at, content_hash, log_id,"
        " log_partition, log_offset) VALUES (77, 1, now(), 5, 1, 0, 2)",
        ("unexpected", 2, None),
    ),
    "an added snapshot without a hash": (
        "INSERT INTO odds_snapshots (event_id, bookmaker_id) VALUES (77, 1)",
        ("unexpected", None, None),
    ),
    "a second copy of a snapshot": (
        "INSERT INTO odds_snapshots (event_id, bookmaker_id, captured_at, log_id, log_partition,"
        " log_offset) SELECT event_id, bookmaker_id, captured_at, log_id, log_partition, log_offset"
        " FROM odds_snapshots WHERE id = 1",
        ("unexpected", 0, None),
    ),
    "an added market row": (
        "INSERT INTO market_odds (snapshot_id, betpawa_market_id, betpawa_market_name, outcomes,"
        " captured_at) SELECT id, 'x', 'x', '[]', captured_at FROM odds_snapshots"
        " WHERE event_id = 3",
        ("different", 2, "markets"),
    ),
    "an orphaned market row": (
        "INSERT INTO market_odds (snapshot_id, betpawa_market_id, betpawa_market_name, outcomes)"
        " VALUES (4711, '1', '1X2', '[]')",
        ("orphaned", None, None),
    ),
    "an orphaned market row of no possible snapshot": (
        "INSERT INTO market_odds (snapshot_id, betpawa_market_id, betpawa_market_name, outcomes)"
        " VALUES (-4, '1', '1X2', '[]')",
        ("orphaned", None, None),
    ),
    "a lowered confirmation": (
        "UPDATE odds_snapshots SET last_confirmed_at = captured_at WHERE event_id = 1",
        ("confirmation", 4, "last_confirmed_at"),
    ),
    "a confirmation taken away": (
        "UPDATE odds_snapshots SET last_confirmed_at = NULL WHERE event_id = 3",
        ("confirmation", 2, "last_confirmed_at"),
    ),
    "a confirmation later than any": (
        "UPDATE odds_snapshots SET last_confirmed_at = last_confirmed_at + interval '1 s'"
        " WHERE event_id = 1",
        ("confirmation", 0, "last_confirmed_at"),
    ),
    "a lost pending confirmation": (
        "DELETE FROM oddslog_pending_confirmations",
        ("confirmation", 5, "last_confirmed_at"),
    ),
    "a lost dead letter of a snapshot": (
        "DELETE FROM oddslog_dead_letters WHERE log_offset = 6",
        ("missing", 6, None),
    ),
    "a lost dead letter of a record": (
        "DELETE FROM oddslog_dead_letters WHERE item = -1",
        ("missing", 7, None),
    ),
    "a row from another log": (
        "UPDATE odds_snapshots SET log_id = 99 WHERE event_id = 2",
        ("other_log", 1, "log_id"),
    ),
    "a row that no log has": (
        "INSERT INTO odds_snapshots (event_id, bookmaker_id, captured_at, content_hash, log_id,"
        " log_partition, log_offset) VALUES (77, 1, now(), 5, 99, 0, 2)",
        ("other_log", 2, None),
    ),
}


async def test_each_difference_is_found_and_mended(
    kafka: KafkaConnection, topic: str, engine: AsyncEngine, run_sink: RunSink
) -> None:
    """Named with offset and field; after its repair the tables are as they were, and clean."""
    at = NOON + timedelta(minutes=1)
    await run_sink()
    values = [
        *(good(n) for n in (1, 2, 3)),
        confirming(NOON, event_id=2, at=at),
        confirming(NOON, event_id=1, at=at),
        confirming(NOON, event_id=9),
        good(2**31),
        b"junk",
    ]
    await produce(kafka, topic, values)
    await run_sink()
    before = await contents(engine)
    for name, (statement, expected) in FINDS.items():
        await change(engine, statement)
        for options in ({}, {"repair": True, "delete_unexpected": True}):
            found = (await verified(engine, kafka, topic, **options)).findings
            assert found.differences, name
            first = found.differences[0]
            assert (first.found.value, first.offset, first.field) == expected, (name, first)
            assert first.offset is None or first.partition == 0, name
            assert first.line().startswith(expected[0])
        again = (await verified(engine, kafka, topic)).findings
        assert again.equal, (name, again.differences)
        assert await contents(engine) == before, name


async def test_any_change_is_found(
    kafka: KafkaConnection, topic: str, parents_engine: AsyncEngine, run_sink: RunSink
) -> None:
    """Each column of each table once, rows deleted and copied; each mended again."""
    await find_changes(kafka, topic, parents_engine, run_sink, seed=1, turns=len(COLUMNS) + 8)
    await check_a_swept_row(kafka, topic, parents_engine)


async def check_a_swept_row(kafka: KafkaConnection, topic: str, engine: AsyncEngine) -> None:
    """It has a dead letter, that was written: what the hash does not cover is mended there too."""
    before = await contents(engine)
    await change(
        engine, "UPDATE odds_snapshots SET raw_response = '{}' WHERE event_id = :id", id=LATE_EVENT
    )
    found = (await verified(engine, kafka, topic, repair=True)).findings
    assert [one.field for one in found.differences] == ["raw_response"]
    assert (await verified(engine, kafka, topic)).findings.equal
    assert await contents(engine) == before


@pytest.mark.faults
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(2, 6))
async def test_many_changes_are_found(
    kafka: KafkaConnection, topic: str, parents_engine: AsyncEngine, run_sink: RunSink, seed: int
) -> None:
    """The same with other rows and values."""
    await find_changes(kafka, topic, parents_engine, run_sink, seed=seed, turns=150)


async def find_changes(
    kafka: KafkaConnection,
    topic: str,
    engine: AsyncEngine,
    run_sink: RunSink,
    *,
    seed: int,
    turns: int,
) -> None:
    """Change one thing after the other; each is found, mended, and not found any more."""
    await fill_messy(kafka, topic, engine, run_sink, other_writers=False)
    before = await contents(engine)
    chance = random.Random(seed)  # noqa: S311 - seeded on purpose
    for turn in range(turns):
        changed = await change_one(engine, chance, turn)
        mended = {"repair": True, "delete_unexpected": True}
        found = (await verified(engine, kafka, topic, **mended)).findings
        assert not found.equal, (turn, changed)
        again = await verified(engine, kafka, topic, **mended)
        if not again.findings.equal:  # deleted as unexpected at first, and written now
            again = await verified(engine, kafka, topic)
        assert again.findings.equal, (turn, changed, again.findings.differences)
        assert without_places(await contents(engine)) == without_places(before), (turn, changed)


def without_places(rows: list[Sequence[Any]]) -> list[Sequence[Any]]:
    """Of event 1, which is in the log several times, any of its records may stand in the row."""
    return [(*row[:8], None, None, *row[10:]) if row[0] == 1 else row for row in rows]


async def test_two_rows_of_one_id_are_found(
    kafka: KafkaConnection, topic: str, engine: AsyncEngine, run_sink: RunSink
) -> None:
    """A sequence that was set back: the market rows of both are mixed up."""
    await produce(kafka, topic, [good(1), good(2)])
    await run_sink()
    statement = (
        "INSERT INTO odds_snapshots (id, event_id, bookmaker_id, captured_at, content_hash, log_id,"
        " log_partition, log_offset) VALUES (1, 5, 1, now(), 5, 1, 0, 0)"
    )
    await change(engine, statement)
    (first, *_) = (await verified(engine, kafka, topic)).findings.differences
    assert "its id is also that of" in first.what


async def test_an_empty_database_misses_everything_and_is_filled(
    kafka: KafkaConnection, topic: str, engine: AsyncEngine, run_sink: RunSink
) -> None:
    """One difference a snapshot, its confirmations not counted again."""
    await produce(kafka, topic, [*(good(n) for n in range(1, 31)), confirming(NOON, event_id=3)])
    await run_sink()
    before = await contents(engine)
    await change(engine, "TRUNCATE odds_snapshots, market_odds")
    found = await verified(engine, kafka, topic, keep=3, repair=True)
    assert found.findings.counts == {"missing": 30}
    assert [d.offset for d in found.findings.differences] == [0, 1, 2]
    assert (found.repaired["written"], found.repaired["confirmed"]) == (30, 1)
    assert await contents(engine) == before
    assert (await verified(engine, kafka, topic)).findings.equal


async def test_a_part_of_the_log_is_compared_alone(
    kafka: KafkaConnection, topic: str, engine: AsyncEngine, run_sink: RunSink
) -> None:
    """By partition, event and time; then unexpected rows are not looked for."""
    for partition in (0, 1):
        await produce(kafka, topic, [good(n + partition * 10) for n in (1, 2)], partition=partition)
    await run_sink()
    await change(engine, "DELETE FROM odds_snapshots WHERE event_id IN (2, 11)")

    async def missing(**options: object) -> list[int | None]:
        found = (await verified(engine, kafka, topic, **options)).findings
        assert set(found.counts) <= {"missing", "orphaned"}
        return [d.partition for d in found.differences if d.found.value == "missing"]

    assert await missing() == [0, 1]
    assert await missing(partitions=frozenset({1})) == [1]
    assert await missing(event=("betpawa", 2)) == [0]
    assert await missing(event=("betpawa", 1)) == []
    assert await missing(from_time=NOON) == [0, 1]
    assert await missing(to_time=NOON) == []


async def test_another_log_of_the_same_name_is_refused(
    kafka: KafkaConnection, topic: str, engine: AsyncEngine, run_sink: RunSink
) -> None:
    """The topic was made anew: shorter, or grown beyond the ledger since."""
    await produce(kafka, topic, [good(1), good(2)])
    await run_sink()
    await make_anew(kafka, topic)
    with pytest.raises(WrongLogError, match="the ledger is at offset 2"):
        await verified(engine, kafka, topic)
    await produce(kafka, topic, [good(3), good(4), good(5)])
    with pytest.raises(WrongLogError, match="is not the one that was written last"):
        await verified(engine, kafka, topic)
    assert await one(engine, "SELECT count(*) FROM odds_snapshots") == 2


async def test_another_writer_may_confirm_later(
    kafka: KafkaConnection, topic: str, engine: AsyncEngine, run_sink: RunSink
) -> None:
    """Where rows were written without Kafka, a later confirmation is no difference."""
    await produce(kafka, topic, [good(1), good(2)])
    await run_sink()
    await change(engine, "UPDATE odds_snapshots SET last_confirmed_at = now() WHERE event_id = 1")
    await change(
        engine,
        "UPDATE odds_snapshots SET log_id = NULL, log_partition = NULL, log_offset = NULL"
        " WHERE event_id = 2",
    )
    found = (await verified(engine, kafka, topic)).findings
    assert found.equal, found.differences
    assert found.explained[Explained.CONFIRMED_ELSEWHERE] == 1
