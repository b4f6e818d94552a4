"""Scrape runs in the data transaction: what has arrived is exact, whatever comes how often."""

import asyncio
import random
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from oddslog.schemas.codec import decode, encode
from oddslog.schemas.wire import HEADER_REDRIVE_OF
from oddslog.sink import handle_write_batch
from oddslog.sink.run_states import RunState
from oddslog.sink.runs import prune_runs
from oddslog.sink.transaction import _write_locked
from oddslog.sink.waiting import sweep_waiting
from tests.support.batches import batch, market, snapshot
from tests.support.fragments import good, record, with_market
from tests.support.polls import PollWriter, letters, one, rows
from tests.support.runs import batch_id_of, counts, headers_of, of_run, run_in, runs_in
from tests.support.waiting import BUDGET_SECONDS

ROWS = "SELECT count(*) FROM oddslog_run_batches"


async def execute(engine: AsyncEngine, statement: str) -> None:
    """Run one statement."""
    async with engine.begin() as connection:
        await connection.exec_driver_sql(statement)


async def test_complete_when_every_fragment_of_every_batch_is_there(engine: AsyncEngine) -> None:
    """In any order and over several partitions; not one fragment sooner."""
    writer = await PollWriter.open(engine, partitions=3)
    values = [
        of_run(10 * index + number, number, 4, index=index, count=3)
        for index in range(3)
        for number in range(4)
    ]
    random.Random(5).shuffle(values)  # noqa: S311 - a seeded test
    for number, value in enumerate(values, 1):
        await writer.write(value, partition=number % 3)
        run = await run_in(engine)
        assert (run.fragments_arrived, run.complete) == (number, number == len(values))
    assert (run.batches_arrived, run.batches_begun, run.batches_expected) == (3, 3, 3)
    assert (run.fragments_expected, run.marked, run.state()) == (12, False, RunState.COMPLETE)


async def test_a_poll_of_several_partitions_is_one_row_a_batch(engine: AsyncEngine) -> None:
    """What keeps the table small: rows of members and polls, not of fragments."""
    writer = await PollWriter.open(engine, partitions=2)
    await writer.write_parts(
        [
            writer.part(*(of_run(n, n, 8) for n in range(4)), partition=0),
            writer.part(*(of_run(n, n, 8) for n in range(4, 8)), partition=1),
        ]
    )
    assert await one(engine, ROWS) == 1
    assert counts(await run_in(engine)) == (1, 8, True)


async def test_records_without_a_run_leave_nothing(engine: AsyncEngine) -> None:
    """No row, and no run of that name."""
    writer = await PollWriter.open(engine)
    await writer.write(good(1), of_run(2, run_id=None), b"no frame")
    assert await one(engine, ROWS) == 0


async def test_what_comes_again_counts_once(engine: AsyncEngine) -> None:
    """Within a poll, in a later one, from another partition, and a poll tried again."""
    writer = await PollWriter.open(engine)
    first, second = of_run(1, 0, 3), of_run(2, 1, 3)
    part = writer.part(first, second, first)
    await writer.write_parts([part])
    before = await rows(engine, "SELECT * FROM oddslog_run_batches")
    assert (await writer.write_parts([part])).fenced == 3
    assert await rows(engine, "SELECT * FROM oddslog_run_batches") == before
    await writer.write(second, first, partition=1)
    assert counts(await run_in(engine)) == (0, 2, False)
    await writer.write(of_run(3, 2, 3), partition=1)
    assert counts(await run_in(engine)) == (1, 3, True)


async def test_a_batch_enqueued_again_is_judged_by_its_index(engine: AsyncEngine) -> None:
    """It has another id, and may be split otherwise: its own fragments must all be there."""
    writer = await PollWriter.open(engine)
    await writer.write(
        of_run(1, 0, 2, index=0, count=2, name="first try"),
        of_run(3, 0, 1, index=1, count=2),
        of_run(2, 1, 3, index=0, count=2, name="second try"),
    )
    run = await run_in(engine)
    assert (run.batches_arrived, run.batches_begun, run.complete) == (1, 2, False)
    await writer.write(
        of_run(1, 0, 3, index=0, count=2, name="second try"),
        of_run(5, 2, 3, index=0, count=2, name="second try"),
    )
    run = await run_in(engine)
    assert (run.batches_arrived, run.batches_begun, run.complete) == (2, 2, True)
    # The first try arrives whole as well, much later: still two batches.
    await writer.write(of_run(2, 1, 2, index=0, count=2, name="first try"))
    assert (await run_in(engine)).batches_arrived == 2


async def test_a_dead_letter_counts_as_arrived_and_marks_the_run(engine: AsyncEngine) -> None:
    """A snapshot that no table takes; the mark goes with the letter's status."""
    writer = await PollWriter.open(engine)
    poison = with_market(record(snapshot(2)), betpawa_market_name="x" * 300)
    await writer.write(of_run(1, 0, 2), of_run(2, 1, 2, record=poison), of_run(3, run_id=8))
    run = await run_in(engine)
    assert (counts(run), run.marked, run.dead_letters) == ((1, 2, True), True, 1)
    assert not (await run_in(engine, 8)).marked
    await execute(engine, "UPDATE oddslog_dead_letters SET status = 'written'")
    assert not (await run_in(engine)).marked


async def test_what_waits_for_its_parent_marks_until_it_is_written(
    parents_engine: AsyncEngine,
) -> None:
    """The scraper's own row may come later than its records."""
    await execute(parents_engine, "INSERT INTO bookmakers VALUES (1)")
    writer = await PollWriter.open(parents_engine)
    await writer.write(of_run(1))
    run = await run_in(parents_engine)
    assert (run.complete, run.dead_letters, run.waiting) == (True, 1, 1)
    await execute(parents_engine, "INSERT INTO events VALUES (1)")
    assert (await sweep_waiting(parents_engine, writer.limits, None)).written == 1
    run = await run_in(parents_engine)
    assert (run.complete, run.marked, run.waiting) == (True, False, 0)


async def test_an_undecodable_record_is_known_by_its_headers(engine: AsyncEngine) -> None:
    """It counts as arrived, also where nothing of its batch can be decoded, and marks."""
    writer = await PollWriter.open(engine)
    await writer.write(of_run(1, 0, 2, index=0, count=2))
    await writer.write_parts([writer.part(b"bad", headers=headers_of(0, 1, 2))])
    run = await run_in(engine)
    assert (counts(run), run.dead_letters) == ((1, 2, False), 1)
    await writer.write_parts(
        [writer.part(b"worse", partition=1, headers=headers_of("whole batch", 0, 1))]
    )
    run = await run_in(engine)
    assert (counts(run), run.dead_letters) == ((2, 3, True), 2)


ODD_HEADERS: dict[str, list[tuple[str, Any]]] = {
    "no batch": headers_of(0, 0, 1)[1:],
    "no number": [headers_of(0, 0, 1)[0], headers_of(0, 0, 1)[2]],
    "a batch that is none": [("oddslog-batch", b"\xff\0"), *headers_of(0, 0, 1)[1:]],
    "a number beyond": [*headers_of(0, 0, 1), ("oddslog-fragment", b"3/2")],
    "a number of millions": [*headers_of(0, 0, 1), ("oddslog-fragment", b"1/9999999999")],
    "no value": [*headers_of(0, 0, 1), ("oddslog-fragment", None)],
    "another run": [*headers_of(0, 0, 1), ("oddslog-run", b"99999999999999999999")],
    "a run in words": [*headers_of(0, 0, 1), ("oddslog-run", b"\xd9\xa7")],
}


@pytest.mark.parametrize("name", ODD_HEADERS)
async def test_headers_that_say_nothing_stop_nothing(engine: AsyncEngine, name: str) -> None:
    """Whatever they hold: the record is a letter, and the run waits on."""
    writer = await PollWriter.open(engine)
    part = writer.part(b"bad", headers=ODD_HEADERS[name])
    assert (await writer.write_parts([part])).dead_letters == 1
    assert await one(engine, ROWS) == 0
    assert len(await letters(engine)) == 1


async def test_the_largest_numbers_fit(engine: AsyncEngine) -> None:
    """What Avro can hold, the columns can, too."""
    writer = await PollWriter.open(engine)
    most, least = 2**63 - 1, -(2**63)
    count = 2**31 - 1
    await writer.write(
        of_run(1, count - 1, count, index=most, count=most, run_id=most),
        of_run(2, 0, count, index=least, count=0, run_id=least),
    )
    assert (await run_in(engine, most)).batches_expected == most
    assert (await run_in(engine, least)).batches_expected is None
    assert (await run_in(engine, most)).fragments_arrived == 1


@pytest.mark.parametrize("count", [2**31, 2**63 - 1])
async def test_a_count_that_no_batch_has_stops_nothing(engine: AsyncEngine, count: int) -> None:
    """The record is written like its neighbours, and is no arrival."""
    writer = await PollWriter.open(engine)
    result = await writer.write(of_run(1, 0, count), of_run(2, count - 1, count), of_run(3, 0, 2))
    assert (result.snapshots, result.dead_letters) == (3, 0)
    assert counts(await run_in(engine)) == (0, 1, False)


async def test_a_redriven_letter_is_no_fragment(engine: AsyncEngine) -> None:
    """It carries its batch's id, as the only fragment of one: nothing is complete by it."""
    writer = await PollWriter.open(engine)
    await writer.write(of_run(1, 1, 2))
    redriven = [(HEADER_REDRIVE_OF, b"1/0/0/0")]
    await writer.write_parts([writer.part(of_run(2, 0, 1), partition=1, headers=redriven)])
    assert counts(await run_in(engine)) == (0, 1, False)


async def test_without_a_count_of_batches_a_run_is_open(engine: AsyncEngine) -> None:
    """Never complete; and late only where a batch itself is not whole."""
    writer = await PollWriter.open(engine)
    await writer.write(of_run(1, 0, 1, index=0, count=None))
    run = await run_in(engine)
    assert (run.complete, run.state(0.0)) == (False, RunState.OPEN)
    await writer.write(of_run(2, 0, 2, index=1, count=None))
    run = await run_in(engine)
    assert run.state() is RunState.ARRIVING
    assert replace(run, idle_seconds=301.0).state() is RunState.LATE
    # One batch that says it is enough.
    await writer.write(of_run(3, 1, 2, index=1, count=2))
    assert (await run_in(engine)).state() is RunState.COMPLETE


async def test_times_are_those_of_the_log(engine: AsyncEngine) -> None:
    """So that a refill years later says when a run came; a missing time is now."""
    writer = await PollWriter.open(engine)
    part = writer.part(of_run(1, 0, 3), of_run(2, 1, 3), of_run(3, 2, 3))
    times = [datetime(2026, 1, 1, hour, tzinfo=UTC) for hour in (3, 1, 2)]
    for made, at in zip(part.records, times, strict=True):
        made.appended_at = at
    await writer.write_parts([part])
    run = await run_in(engine)
    assert (run.first_arrival_at, run.last_arrival_at) == (times[1], times[0])
    assert run.idle_seconds > 3600
    part = writer.part(of_run(1, run_id=8), partition=1)
    part.records[0].appended_at = None
    await writer.write_parts([part])
    assert abs((await run_in(engine, 8)).idle_seconds) < BUDGET_SECONDS


async def test_two_members_do_not_wait_for_each_other(engine: AsyncEngine) -> None:
    """While one has written fragments of a batch and not committed, the other commits its own."""
    writer = await PollWriter.open(engine)
    held = [writer.part(of_run(1, 0, 4), of_run(2, 1, 4), partition=0)]
    async with engine.connect() as keeper, keeper.begin(), asyncio.timeout(BUDGET_SECONDS):
        await _write_locked(keeper, writer.log_id, held, writer.limits, True)
        assert (await writer.write(of_run(3, 2, 4), of_run(4, 3, 4), partition=1)).records == 2
        assert counts(await run_in(engine)) == (0, 2, False)
    assert counts(await run_in(engine)) == (1, 4, True)


async def test_old_runs_are_pruned_whole(engine: AsyncEngine) -> None:
    """By the last that came of them, more than a page of them."""
    writer = await PollWriter.open(engine)
    await writer.write(
        *(of_run(1, 0, 1, index=i, count=3, run_id=n) for n in range(120) for i in range(2))
    )
    old = "UPDATE oddslog_run_batches SET last_at = last_at - interval '2 hours'"
    await execute(engine, f"{old} WHERE run_id >= 3 OR run_id = 1 AND batch_index = 0")
    assert await prune_runs(engine, 3600.0) == 117
    assert await runs_in(engine) == [0, 1, 2]
    assert (await run_in(engine, 1)).batches_arrived == 2
    assert await prune_runs(engine, 3600.0) == 0


async def test_rows_that_are_being_written_are_left_to_the_next_time(engine: AsyncEngine) -> None:
    """Pruning waits for nobody."""
    writer = await PollWriter.open(engine)
    await writer.write(of_run(1, 0, 2, run_id=1), of_run(1, run_id=2))
    async with engine.connect() as keeper, keeper.begin():
        part = writer.part(of_run(2, 1, 2, run_id=1))
        await _write_locked(keeper, writer.log_id, [part], writer.limits, True)
        async with asyncio.timeout(BUDGET_SECONDS):
            assert await prune_runs(engine, 0.0) == 1
    assert counts(await run_in(engine, 1)) == (1, 2, True)


async def test_written_without_kafka(engine: AsyncEngine) -> None:
    """A batch is whole at once, tried again counts once, and a bad snapshot marks."""
    sessions: async_sessionmaker[AsyncSession] = async_sessionmaker(engine)
    first = batch([snapshot(1)], scrape_run_id=7, batch_count=2)
    for _ in range(2):
        await handle_write_batch(sessions, first)
    assert counts(await run_in(engine)) == (1, 1, False)
    bad = [
        snapshot(2, markets=(market(1, betpawa_market_name="x" * 300),)),
        snapshot(3, raw_response={"a": float("nan")}),
    ]
    await handle_write_batch(sessions, batch(bad, scrape_run_id=7, batch_index=1, batch_count=2))
    run = await run_in(engine)
    assert (counts(run), run.dead_letters) == ((2, 2, True), 2)
    await handle_write_batch(sessions, batch([snapshot(4)]))
    assert await one(engine, ROWS) == 2


async def test_a_strange_fragment_does_not_make_a_batch_whole(engine: AsyncEngine) -> None:
    """The greatest count that was said of a batch is what it must have."""
    writer = await PollWriter.open(engine)
    await writer.write(of_run(1, 0, 3))
    await writer.write(of_run(2, 0, 1), partition=1)
    assert counts(await run_in(engine)) == (0, 1, False)
    odd = replace(decode(of_run(1, 1, 3)), batch_id=batch_id_of(0), snapshots=())
    await writer.write(encode(odd), of_run(3, 2, 3), partition=1)
    assert counts(await run_in(engine)) == (1, 3, True)
