"""The data transaction against a real PostgreSQL: ledger, lost replies, lost connections."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from oddslog.deploy.torture.proxy import Proxy
from oddslog.schemas.codec import decode
from oddslog.schemas.wire import Kind
from oddslog.sink.classify import ErrorClass, classify
from oddslog.sink.database import make_engine
from oddslog.sink.transaction import PollResult, _write_locked
from tests.support.batches import NOON, snapshot
from tests.support.fragments import confirming, good, holding, record, with_market
from tests.support.polls import PollWriter, blocked, one, rows
from tests.support.waiting import until

LEDGER = "SELECT next_offset, records_total, snapshots_total FROM oddslog_ledger ORDER BY partition"
COUNTS = (
    "SELECT (SELECT count(*) FROM odds_snapshots), (SELECT count(*) FROM market_odds),"
    " (SELECT max(last_confirmed_at) FROM odds_snapshots)"
)


async def retried(write: Callable[[], Awaitable[PollResult]]) -> tuple[PollResult, int]:
    """Try as the sink does: again after anything transient."""
    for failures in range(10):
        try:
            return await write(), failures
        except Exception as error:
            if classify(error) is not ErrorClass.TRANSIENT:
                raise
    raise AssertionError("10 attempts")


@pytest.fixture
async def proxy(database_url: str) -> AsyncIterator[Proxy]:
    """A proxy before the session's PostgreSQL."""
    async with Proxy.before(database_url) as proxy:
        yield proxy


@pytest.fixture
async def through(proxy: Proxy, database_url: str) -> AsyncIterator[AsyncEngine]:
    """An engine on the test's database, through the proxy."""
    engine = make_engine(proxy.url(database_url))
    yield engine
    await engine.dispose()


async def test_ledger_moves_forward_with_the_rows(engine: AsyncEngine) -> None:
    """Position, last record and totals are those of what was written."""
    writer = await PollWriter.open(engine)
    part = writer.part(good(1), good(1), b"", confirming(NOON))
    result = await writer.write_parts([part])
    assert result.next_offsets == {0: 4}
    (row,) = await rows(engine, "SELECT * FROM oddslog_ledger WHERE partition = 0")
    assert (row.next_offset, row.last_offset, row.start_offset) == (4, 3, 0)
    assert part.last is not None
    assert row.last_crc32 == part.last.crc32
    assert (row.records_total, row.snapshots_total, row.markets_total) == (4, 1, 2)
    assert (row.duplicates_total, row.dead_letters_total, row.confirmations_total) == (1, 1, 1)


async def test_what_lies_below_the_ledger_is_fenced(engine: AsyncEngine) -> None:
    """Wholly or in part: only what is above is written, and the last record stays right."""
    writer = await PollWriter.open(engine)
    await writer.write(good(1), good(2))
    fenced = await writer.write_parts([writer.part(good(1), good(2), start=0)])
    assert (fenced.fenced, fenced.records, fenced.next_offsets) == (2, 0, {0: 2})
    partly = await writer.write_parts([writer.part(good(1), good(2), good(3), start=0)])
    assert (partly.fenced, partly.records, partly.snapshots) == (2, 1, 1)
    assert (partly.duplicates, partly.next_offsets) == (0, {0: 3})


async def test_a_partition_that_went_back_is_left_out(engine: AsyncEngine) -> None:
    """Behind or gone: nothing of it is written; the other partitions of the poll are."""
    writer = await PollWriter.open(engine, partitions=3)
    async with engine.begin() as connection:
        await connection.exec_driver_sql("DELETE FROM oddslog_ledger WHERE partition = 2")
    parts = [
        writer.part(good(1), partition=0),
        writer.part(good(2), partition=1, start=5),
        writer.part(good(3), partition=2),
    ]
    result = await writer.write_parts(parts)
    assert (result.went_back, result.next_offsets, result.snapshots) == ([1, 2], {0: 1}, 1)
    assert [row.event_id for row in await rows(engine, "SELECT event_id FROM odds_snapshots")] == [
        1
    ]
    assert [row.next_offset for row in await rows(engine, LEDGER)] == [1, 0]


async def test_large_raw_responses_of_one_poll(engine: AsyncEngine) -> None:
    """More than one INSERT takes: each in its row, with what was there, and beside a bad one."""
    writer = await PollWriter.open(engine)

    def large(event_id: int, text: str | None = None) -> bytes:
        raw = json.dumps({"event": event_id, "body": "x" * 600_000}) if text is None else text
        return holding(record(snapshot(event_id), raw_response=raw), event_id=event_id)

    await writer.write(large(2))
    result = await writer.write(large(4), large(2), large(3, "{]"), large(1), large(5))
    assert (result.snapshots, result.duplicates, result.dead_letters) == (3, 1, 1)
    found = await rows(
        engine,
        "SELECT s.event_id, s.raw_response['event'] = to_jsonb(s.event_id) AS own,"
        " length(s.raw_response ->> 'body') AS length,"
        " (SELECT count(*) FROM market_odds AS m WHERE m.snapshot_id = s.id) AS markets"
        " FROM odds_snapshots AS s ORDER BY s.event_id",
    )
    assert [tuple(row) for row in found] == [(n, True, 600_000, 2) for n in (1, 2, 4, 5)]


async def test_two_owners_write_one_poll_once(engine: AsyncEngine) -> None:
    """The second waits for the first at the ledger's row, and finds itself fenced."""
    writer = await PollWriter.open(engine)
    part = writer.part(good(1), good(2))
    async with engine.connect() as connection, connection.begin():
        await _write_locked(connection, writer.log_id, [part], writer.limits, True)
        second = asyncio.create_task(writer.write_parts([part]))
        await until(
            lambda: one(engine, "SELECT count(*) FROM pg_locks WHERE NOT granted"), "the lock"
        )
    result = await second
    assert (result.fenced, result.snapshots) == (2, 0)
    assert await one(engine, "SELECT count(*) FROM market_odds") == 4


@pytest.mark.parametrize("committed", [True, False])
async def test_an_ambiguous_commit(
    engine: AsyncEngine, proxy: Proxy, through: AsyncEngine, *, committed: bool
) -> None:
    """The reply of a COMMIT is lost: done or not, the next attempt finds out."""
    writer = await PollWriter.open(through)
    cut = proxy.cut_at(b"COMMIT;", forward=committed)
    part = writer.part(good(1), good(2), confirming(NOON))
    with pytest.raises(Exception) as raised:  # noqa: PT011 - SQLAlchemy's or the driver's
        await writer.write_parts([part])
    assert classify(raised.value) is ErrorClass.TRANSIENT
    assert cut.happened.is_set()
    result, _ = await retried(lambda: writer.write_parts([part]))
    assert (result.fenced, result.snapshots) == ((3, 0) if committed else (0, 2))
    assert result.next_offsets == {0: 3}
    assert [tuple(row) for row in await rows(engine, LEDGER)] == [(3, 3, 2), (0, 0, 0)]
    ((snapshots, markets, confirmed_at),) = await rows(engine, COUNTS)
    assert (snapshots, markets) == (2, 4)
    assert confirmed_at > NOON


async def test_the_old_backend_is_still_busy(
    engine: AsyncEngine, proxy: Proxy, through: AsyncEngine
) -> None:
    """The connection is cut while PostgreSQL still works: the next attempt waits for it."""
    writer = await PollWriter.open(through)
    part = writer.part(good(1))
    async with engine.connect() as keeper, keeper.begin():
        # The old backend waits for this lock, and so does not see that it was cut off.
        await keeper.exec_driver_sql("LOCK TABLE oddslog_meta, market_odds")
        first = asyncio.create_task(writer.write_parts([part]))
        await until(lambda: blocked(engine), "the first attempt to wait")
        proxy.cut()
        with pytest.raises(Exception) as raised:  # noqa: PT011
            await first
        assert classify(raised.value) is ErrorClass.TRANSIENT
        second = asyncio.create_task(retried(lambda: writer.write_parts([part])))
        await until(lambda: blocked(engine, 2), "the second attempt to wait for the first")
    result, _ = await second
    assert result.snapshots + result.fenced == 1
    ((snapshots, markets, _),) = await rows(engine, COUNTS)
    assert (snapshots, markets) == (1, 2)


# The steps at which a connection is lost, by bytes that only they send.
STEPS = {
    "lock": b"FOR UPDATE",
    "insert": b"INTO odds_snapshots",
    "copy": b"PGCOPY",
    "ledger": b"UPDATE oddslog_ledger",
    "savepoint": b"RELEASE SAVEPOINT",
}


@pytest.mark.parametrize("step", STEPS)
async def test_a_connection_lost_at_any_step(
    engine: AsyncEngine, proxy: Proxy, through: AsyncEngine, step: str
) -> None:
    """Transient, whatever class it is raised as, and exactly once in the end."""
    writer = await PollWriter.open(through)
    cut = proxy.cut_at(STEPS[step])
    result, failures = await retried(lambda: writer.write(good(1), b"bad", good(2)))
    assert (cut.happened.is_set(), failures) == (True, 1)
    assert (result.snapshots, result.dead_letters, result.fenced) == (2, 1, 0)
    ((snapshots, markets, _),) = await rows(engine, COUNTS)
    assert (snapshots, markets) == (2, 4)


async def test_a_backend_terminated_in_mid_transaction(
    engine: AsyncEngine, through: AsyncEngine
) -> None:
    """pg_terminate_backend, as an operator or a fail-over does it."""
    writer = await PollWriter.open(through)
    async with engine.connect() as keeper, keeper.begin():
        await keeper.exec_driver_sql("LOCK TABLE market_odds")
        first = asyncio.create_task(writer.write(good(1), good(2)))
        await until(lambda: blocked(engine), "the transaction to wait")
        await one(
            engine,
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'",
        )
        with pytest.raises(Exception) as raised:  # noqa: PT011
            await first
    assert classify(raised.value) is ErrorClass.TRANSIENT
    assert await one(engine, "SELECT count(*) FROM odds_snapshots") == 0
    result, _ = await retried(lambda: writer.write(good(1), good(2)))
    assert result.snapshots == 2


async def test_cancelled_in_mid_transaction(engine: AsyncEngine) -> None:
    """As a rebalance does it: nothing stays, and the connection can be used again."""
    writer = await PollWriter.open(engine)
    async with engine.connect() as keeper, keeper.begin():
        await keeper.exec_driver_sql("LOCK TABLE market_odds")
        first = asyncio.create_task(writer.write(good(1)))
        await until(lambda: blocked(engine), "the transaction to wait")
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
    assert (await writer.write(good(1))).snapshots == 1


async def test_columns_of_another_type_are_written_by_the_driver(engine: AsyncEngine) -> None:
    """Market tables that someone changed, beside us: the same rows, and the same poison found."""
    writer = await PollWriter.open(engine)
    async with engine.begin() as connection:
        for change in (
            "ALTER TABLE market_odds ALTER COLUMN outcomes TYPE jsonb",
            "ALTER TABLE market_odds ALTER COLUMN line TYPE numeric",
            "ALTER TABLE competitor_market_odds ALTER COLUMN betpawa_market_name TYPE text",
        ):
            await connection.exec_driver_sql(change)
    bad = with_market(record(), 1, outcomes="[", betpawa_market_name="bad")
    result = await writer.write(good(1), holding(bad, event_id=2), good(3, kind=Kind.COMPETITOR))
    assert (result.snapshots, result.dead_letters) == (2, 1)
    (snapshot,) = decode(good(1)).snapshots
    found = await rows(
        engine,
        "SELECT betpawa_market_id, line, outcomes, m.captured_at = s.captured_at AS same"
        " FROM market_odds AS m JOIN odds_snapshots AS s ON s.id = snapshot_id ORDER BY m.id",
    )
    assert [tuple(row) for row in found] == [
        (m["betpawa_market_id"], m["line"], json.loads(m["outcomes"]), True)
        for m in snapshot["markets"]
    ]
