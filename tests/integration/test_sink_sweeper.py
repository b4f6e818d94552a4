"""The sweeper beside others: another log's letters, slow sweeps, frozen members, failures."""

import asyncio
from dataclasses import replace

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker

from oddslog.deploy.torture.proxy import Proxy
from oddslog.ingest.fragments import Fragment, halves
from oddslog.schemas.codec import decode, encode
from oddslog.schemas.wire import Kind
from oddslog.sink import run_wait as run_wait_module
from oddslog.sink import sweeper as sweeper_module
from oddslog.sink import wait_for_run
from oddslog.sink.adopt import adopt_log
from oddslog.sink.database import LockWaits, make_engine
from oddslog.sink.fencing import Fence
from oddslog.sink.ledger import LogIdentity, register_log
from oddslog.sink.options import SinkOptions
from oddslog.sink.runs import read_run
from oddslog.sink.sweeper import Sweeper
from oddslog.sink.totals import SinkTotals
from tests.integration.test_sink_parents import make_parents
from tests.integration.test_sink_positions import execute
from tests.support.fragments import good
from tests.support.fragments import record as snapshot_record
from tests.support.polls import PollWriter, blocked, letters
from tests.support.runs import of_run
from tests.support.waiting import BUDGET_SECONDS, until


class Swept:
    """A sweeper of a database where a letter waits, that ends every wait at once."""

    def __init__(self, writer: PollWriter) -> None:
        self.engine, self.log_id = writer.engine, writer.log_id
        options, waits = SinkOptions(parent_wait_seconds=0.0), LockWaits()
        self.totals = SinkTotals()
        fence = Fence(self.engine, waits, options, self.totals)
        self.sweeper = Sweeper(
            self.engine, writer.limits, options, asyncio.Event(), waits, fence, self.totals
        )

    async def sweep(self) -> list[str]:
        """Sweep a log that is caught up; the letters' statuses then."""
        await self.sweeper.sweep(self.log_id, expire=True)
        return [letter.status for letter in await letters(self.engine)]


@pytest.fixture
async def swept(parents_engine: AsyncEngine) -> Swept:
    """One letter waits for event 7."""
    await make_parents(parents_engine, 1)
    writer = await PollWriter.open(parents_engine)
    await writer.write(good(7))
    return Swept(writer)


async def test_letters_of_another_log_go_on_waiting(swept: Swept) -> None:
    """It may be in a refill; an earlier generation of the own topic is over."""
    async with swept.engine.begin() as connection:
        other = await register_log(connection, LogIdentity("cluster", "other", 1))
    again = LogIdentity("another cluster", "topic", 1)
    later, _ = await adopt_log(swept.engine, again, ends=None)
    swept.log_id = other
    assert await swept.sweep() == ["waiting"]
    swept.log_id = later
    assert await swept.sweep() == ["dead"]


async def test_a_slow_sweep_makes_no_letter_older(swept: Swept) -> None:
    """What came after the log was seen caught up has not waited since then."""
    async with swept.engine.connect() as other, other.begin():
        await other.execute(text("LOCK TABLE oddslog_pending_confirmations"))
        sweeping = asyncio.create_task(swept.sweep())
        await until(lambda: blocked(swept.engine), "the sweep to wait")
        await execute(
            swept.engine, "UPDATE oddslog_dead_letters SET first_seen_at = clock_timestamp()"
        )
    assert await sweeping == ["waiting"]
    assert await swept.sweep() == ["dead"]


async def test_a_member_frozen_in_its_look_keeps_no_sweep(swept: Swept) -> None:
    """The others sweep on; nothing expires meanwhile."""
    await swept.sweeper.sweep(swept.log_id, expire=False)  # the row is there
    async with swept.engine.connect() as frozen, frozen.begin():
        await frozen.execute(
            text("SELECT FROM oddslog_meta WHERE name LIKE 'caught_up_%' FOR UPDATE")
        )
        async with asyncio.timeout(BUDGET_SECONDS):
            assert await swept.sweep() == ["waiting"]
            await swept.sweeper.sweep(swept.log_id, expire=False)
    assert swept.totals.sweeps == 3
    assert await swept.sweep() == ["dead"]


async def test_runs_that_cannot_be_pruned_spoil_no_sweep(
    swept: Swept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts, and the next one does not try again at once."""
    monkeypatch.setattr(sweeper_module, "_PRUNE_SECONDS", 0.2)
    async with swept.engine.connect() as other, other.begin():
        await other.execute(text("LOCK TABLE oddslog_run_batches"))
        assert await swept.sweep() == ["dead"]
        monkeypatch.setattr(sweeper_module, "_PRUNE_SECONDS", BUDGET_SECONDS)
        async with asyncio.timeout(BUDGET_SECONDS):
            await swept.sweep()
    assert (swept.totals.sweeps, swept.totals.retries) == (2, 0)


async def test_a_fragment_in_parts_has_arrived_with_the_last(engine: AsyncEngine) -> None:
    """Split for a lowered limit, one half once more: the run is not complete before."""
    writer = await PollWriter.open(engine)
    records = tuple(snapshot_record(bookmaker_id=number) for number in range(1, 5))
    value = encode(replace(decode(of_run(1)), snapshots=list(records)))
    first, last = halves(Fragment(Kind.BETPAWA, 1, b"betpawa:1", value, []))
    parts = [*halves(first), *halves(last)]
    complete = []
    for offset, part in enumerate(parts):
        await writer.write_parts([writer.part(part.value, start=offset, headers=part.headers)])
        async with engine.connect() as connection:
            run = await read_run(connection, 7)
        complete.append(run is not None and run.complete)
    assert complete == [False, False, False, True]


async def test_a_look_whose_connection_is_lost_in_silence(
    engine: AsyncEngine, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given up, and another connection answers."""
    monkeypatch.setattr(run_wait_module, "_LOOK_SECONDS", 0.5)
    monkeypatch.setattr(run_wait_module, "_CLOSE_SECONDS", 0.2)
    await (await PollWriter.open(engine)).write(of_run(1))
    async with Proxy.before(database_url) as proxy:
        through = make_engine(proxy.url(database_url))
        try:
            lost = proxy.hold_at(b"oddslog_run_batches", lambda: None)
            run = await wait_for_run(async_sessionmaker(through), 7, timeout_seconds=BUDGET_SECONDS)
            assert run.complete
            assert lost.happened.is_set()
        finally:
            proxy.calm()
            await through.dispose()
