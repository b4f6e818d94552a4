"""Confirmations: maxima, pending ones, the sweep, plain ids."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from oddslog.schemas.codec import decode
from oddslog.schemas.wire import Kind
from oddslog.sink.sweep import sweep_pending
from oddslog.sink.transaction import _write_locked
from tests.support.batches import NOON
from tests.support.fragments import confirming, good, ids
from tests.support.polls import PollWriter, blocked, letters, one, rows
from tests.support.waiting import until

PENDING = "SELECT count(*) FROM oddslog_pending_confirmations"
TABLES = {Kind.BETPAWA: "odds_snapshots", Kind.COMPETITOR: "competitor_odds_snapshots"}
EARLY, LATE = NOON + timedelta(hours=1), NOON + timedelta(hours=2)
BOTH = pytest.mark.parametrize("kind", list(Kind))


async def confirmed_at(engine: AsyncEngine, kind: Kind) -> object:
    """When the only snapshot of a kind was confirmed last."""
    return await one(engine, f"SELECT last_confirmed_at FROM {TABLES[kind]}")  # noqa: S608


@BOTH
async def test_maximum_within_and_across_polls(engine: AsyncEngine, kind: Kind) -> None:
    """In whatever order they come, and never before `captured_at`."""
    writer = await PollWriter.open(engine)
    before = NOON - timedelta(days=1)
    await writer.write(good(1, kind=kind), confirming(NOON, kind=kind, at=before))
    assert await confirmed_at(engine, kind) == NOON
    result = await writer.write(
        *(confirming(NOON, kind=kind, at=at) for at in (EARLY, LATE, EARLY))
    )
    assert (result.confirmations, result.pending) == (1, 0)
    assert await confirmed_at(engine, kind) == LATE
    result = await writer.write(confirming(NOON, kind=kind, at=EARLY))
    assert (result.confirmations, result.pending) == (1, 0)
    assert await confirmed_at(engine, kind) == LATE


@BOTH
async def test_pending_ones_keep_the_maximum_until_their_snapshot(
    engine: AsyncEngine, kind: Kind
) -> None:
    """Taken up in the transaction that inserts the snapshot."""
    writer = await PollWriter.open(engine)
    other = NOON + timedelta(seconds=1)
    for at in (EARLY, LATE, EARLY):
        result = await writer.write(confirming(NOON, other, kind=kind, at=at))
        assert (result.confirmations, result.pending) == (0, 2)
    assert await one(engine, PENDING) == 2
    await writer.write(good(1, kind=kind))
    assert await confirmed_at(engine, kind) == LATE
    assert await one(engine, PENDING) == 1


@BOTH
async def test_the_sweep_finds_those_that_passed_each_other(
    engine: AsyncEngine, kind: Kind
) -> None:
    """The confirmation sees no snapshot, the snapshot no confirmation: both commit."""
    writer = await PollWriter.open(engine)
    inserting = writer.part(good(1, kind=kind), partition=0)
    async with engine.connect() as connection, connection.begin():
        await _write_locked(connection, writer.log_id, [inserting], writer.limits, True)
        # In the meantime, a transaction of another partition's owner.
        result = await writer.write(confirming(NOON, kind=kind, at=LATE), partition=1)
        assert (result.confirmations, result.pending) == (0, 1)
    assert await confirmed_at(engine, kind) == NOON
    swept = await sweep_pending(engine, writer.log_id, None)
    assert (swept.applied, swept.expired) == (1, 0)
    assert await confirmed_at(engine, kind) == LATE
    assert await one(engine, PENDING) == 0


async def test_confirmations_of_two_owners_wait_for_each_other(engine: AsyncEngine) -> None:
    """Two transactions raise one row: the later moment stays, whoever commits last."""
    writer = await PollWriter.open(engine)
    await writer.write(good(1))
    first = writer.part(confirming(NOON, at=LATE), partition=0)
    async with engine.connect() as connection, connection.begin():
        await _write_locked(connection, writer.log_id, [first], writer.limits, True)
        second = asyncio.create_task(writer.write(confirming(NOON, at=EARLY), partition=1))
        await until(lambda: blocked(engine), "the second transaction to wait")
        assert not second.done()
    assert (await second).confirmations == 1
    assert await confirmed_at(engine, Kind.BETPAWA) == LATE


@BOTH
async def test_pending_beyond_the_retention_is_one_letter_a_key(
    engine: AsyncEngine, kind: Kind
) -> None:
    """No record can bring their snapshot: `unknown_snapshot`, a fragment with the maximum."""
    writer = await PollWriter.open(engine)
    other = NOON + timedelta(seconds=1)
    await writer.write(
        confirming(NOON, other, kind=kind, at=EARLY), confirming(NOON, kind=kind, at=LATE)
    )
    await writer.write(confirming(NOON, event_id=2, kind=kind, at=EARLY))
    await execute(
        engine,
        "UPDATE oddslog_pending_confirmations SET created_at = now() - interval '31 days'"
        " WHERE event_id = 1",
    )
    month = 30 * 24 * 3600.0
    assert (await sweep_pending(engine, writer.log_id, None)).expired == 0
    assert (await sweep_pending(engine, writer.log_id, month)).expired == 2
    assert (await sweep_pending(engine, writer.log_id, month)).expired == 0
    assert await one(engine, PENDING) == 1
    found = await letters(engine)
    assert {(x.status, x.reason, x.kind, x.event_id) for x in found} == {
        ("dead", "unknown_snapshot", kind.value, 1)
    }
    kept = {
        fragment.confirmations[0]["captured_at"]: fragment.confirmed_at
        for fragment in (decode(letter.value) for letter in found)
    }
    assert kept == {NOON: LATE, other: EARLY}


async def test_a_pending_one_whose_snapshot_came_is_applied_not_expired(
    engine: AsyncEngine,
) -> None:
    """However old it is."""
    writer = await PollWriter.open(engine)
    inserting = writer.part(good(1), partition=0)
    async with engine.connect() as connection, connection.begin():
        await _write_locked(connection, writer.log_id, [inserting], writer.limits, True)
        await writer.write(confirming(NOON, at=LATE), partition=1)
    await execute(engine, "UPDATE oddslog_pending_confirmations SET created_at = '2020-01-01'")
    swept = await sweep_pending(engine, writer.log_id, 1.0)
    assert (swept.applied, swept.expired) == (1, 0)
    assert await letters(engine) == []


@BOTH
async def test_plain_ids(engine: AsyncEngine, kind: Kind) -> None:
    """Trusted: applied. Of an older record and above the floor: unstable. Without row: missing."""
    seed = await PollWriter.open(engine)
    await seed.write(good(1, kind=kind), good(2, kind=kind))
    # As after a refill: plain ids are valid from offset 2 of partition 1 on.
    await execute(engine, "UPDATE oddslog_ledger SET ids_valid_from = 2 WHERE partition = 1")
    await execute(engine, 'UPDATE oddslog_meta SET value = \'{"betpawa": 1, "competitor": 1}\'')
    old = await seed.write(ids(1, 2, 3, kind=kind, at=EARLY), partition=1)
    assert (old.confirmations, old.unstable_ids, old.missing_ids) == (1, 2, 0)
    table = TABLES[kind]
    confirmed = f"SELECT id, last_confirmed_at FROM {table} ORDER BY id"  # noqa: S608
    assert [tuple(row) for row in await rows(engine, confirmed)] == [(1, EARLY), (2, NOON)]
    # One poll on both sides of the border; the last ids of both kinds of age fold to the latest.
    both = await seed.write(
        ids(1, 2, kind=kind, at=LATE), ids(1, 2, 3, kind=kind, at=EARLY), partition=1
    )
    assert (both.confirmations, both.unstable_ids, both.missing_ids) == (2, 1, 1)
    assert [tuple(row) for row in await rows(engine, confirmed)] == [(1, LATE), (2, EARLY)]
    # The other kind's table is not touched, and has no such row.
    other = next(k for k in Kind if k is not kind)
    wrong = await seed.write(ids(1, kind=other), partition=1)
    assert (wrong.confirmations, wrong.missing_ids) == (0, 1)
    assert await letters(engine) == []


async def test_plain_ids_reach_rows_from_before_the_log(engine: AsyncEngine) -> None:
    """Rows without a hash are outside the natural keys, but their ids name them."""
    writer = await PollWriter.open(engine)
    await execute(
        engine,
        "INSERT INTO odds_snapshots (event_id, bookmaker_id, captured_at)"
        " VALUES (1, 1, '2026-03-01 12:00:00.123456Z'), (1, 1, '2026-03-01 12:00:00.123456Z')",
    )
    result = await writer.write(good(1), confirming(NOON, at=EARLY), ids(1, 2**62, at=LATE))
    assert (result.snapshots, result.confirmations, result.missing_ids) == (1, 2, 1)
    found = await rows(engine, "SELECT last_confirmed_at FROM odds_snapshots ORDER BY id")
    assert [row[0] for row in found] == [LATE, None, EARLY]


async def execute(engine: AsyncEngine, statement: str) -> None:
    """Run one statement."""
    async with engine.begin() as connection:
        await connection.exec_driver_sql(statement)


async def test_an_earlier_confirmation_counts_where_the_latest_is_refused(
    engine: AsyncEngine,
) -> None:
    """By a rule that someone put on the table: as in polls of their own."""
    writer = await PollWriter.open(engine)
    await writer.write(good(1))
    too_late = (NOON + timedelta(minutes=5)).isoformat()
    async with engine.begin() as connection:
        await connection.exec_driver_sql(
            "ALTER TABLE odds_snapshots ADD CONSTRAINT fresh"
            f" CHECK (last_confirmed_at < '{too_late}')"
        )
    minutes = [NOON + timedelta(minutes=n) for n in (1, 9, 2, 8)]
    result = await writer.write(*(confirming(NOON, at=at) for at in minutes))
    assert result.dead_letters == 2
    assert await one(engine, "SELECT last_confirmed_at FROM odds_snapshots") == minutes[2]
