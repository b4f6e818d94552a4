"""Missing parents: the snapshot waits as a letter, and nothing else does."""

import asyncio

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from oddslog.schemas.codec import decode
from oddslog.schemas.wire import Kind
from oddslog.sink import write as write_module
from oddslog.sink.items import SnapshotItem
from tests.support.batches import NOON, competitor, snapshot
from tests.support.fragments import confirming, good, holding, record, with_market
from tests.support.polls import PollWriter, letters, one, rows


async def make_parents(engine: AsyncEngine, *events: int) -> None:
    """The rows that snapshots of these events refer to."""
    async with engine.begin() as connection:
        await connection.execute(text("INSERT INTO bookmakers VALUES (1)"))
        for table in ("events", "competitor_events"):
            await connection.execute(
                text(f"INSERT INTO {table} SELECT unnest(CAST(:ids AS int[]))"),
                {"ids": list(events)},
            )


async def test_each_missing_parent_is_named(parents_engine: AsyncEngine) -> None:
    """Event, bookmaker, run and competitor event: waiting letters, with the good written."""
    engine = parents_engine
    await make_parents(engine, 1)
    writer = await PollWriter.open(engine)
    values = [
        good(1),
        good(77),
        holding(record(bookmaker_id=5)),
        holding(record(scrape_run_id=6)),
        good(1, kind=Kind.COMPETITOR),
        good(78, kind=Kind.COMPETITOR),
        holding(record(competitor(1), scrape_run_id=6), kind=Kind.COMPETITOR),
        confirming(NOON, event_id=79),
    ]
    result = await writer.write(*values)
    # The run is not part of the key or the hash: a resend of the first, run or not.
    assert (result.snapshots, result.duplicates, result.pending) == (2, 2, 1)
    found = await letters(engine)
    assert [(x.log_offset, x.status, x.reason, x.field, x.sqlstate) for x in found] == [
        (1, "waiting", "missing_parent", "event_id", None),
        (2, "waiting", "missing_parent", "bookmaker_id", None),
        (5, "waiting", "missing_parent", "competitor_event_id", None),
    ]
    assert "events has no row with id 77" in found[0].message
    assert decode(found[0].value).event_id == 77


async def test_missing_run_of_a_new_snapshot_waits(parents_engine: AsyncEngine) -> None:
    """A snapshot whose run is missing waits; its resend without a run takes its turn."""
    engine = parents_engine
    await make_parents(engine, 1)
    writer = await PollWriter.open(engine)
    result = await writer.write(holding(record(scrape_run_id=6)), holding(record()))
    assert (result.snapshots, result.dead_letters) == (1, 1)
    (letter,) = await letters(engine)
    assert (letter.status, letter.field, letter.log_offset) == ("waiting", "scrape_run_id", 0)


async def test_a_parent_that_goes_after_the_look_up(
    parents_engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The race that only the foreign key sees: isolated, waiting, with the constraint."""
    engine = parents_engine
    await make_parents(engine, *range(1, 20))
    writer = await PollWriter.open(engine)
    looked_up = write_module._KindWriter._split_off_orphans

    async def then_delete(
        self: write_module._KindWriter, snapshots: list[SnapshotItem]
    ) -> list[SnapshotItem]:
        left = await looked_up(self, snapshots)
        async with engine.begin() as connection:
            await connection.execute(text("DELETE FROM events WHERE id = 7"))
        return left

    monkeypatch.setattr(write_module._KindWriter, "_split_off_orphans", then_delete)
    result = await writer.write(*(good(event) for event in range(1, 20)))
    assert (result.snapshots, result.dead_letters) == (18, 1)
    (letter,) = await letters(engine)
    assert (letter.status, letter.reason, letter.sqlstate) == ("waiting", "missing_parent", "23503")
    assert (letter.constraint_name, letter.event_id) == ("odds_snapshots_event_id_fkey", 7)
    assert await one(engine, "SELECT count(*) FROM market_odds") == 36


async def test_a_parent_that_is_not_committed_yet_is_missing(parents_engine: AsyncEngine) -> None:
    """The scraper's own transaction is still open: the sink does not wait for it."""
    engine = parents_engine
    await make_parents(engine, 1)
    writer = await PollWriter.open(engine)
    async with engine.connect() as scraper:
        await scraper.execute(text("INSERT INTO events VALUES (2)"))
        async with asyncio.timeout(20):
            result = await writer.write(good(1), good(2))
        assert (result.snapshots, result.dead_letters) == (1, 1)
        await scraper.commit()
    assert [x.status for x in await letters(engine)] == ["waiting"]


async def test_deferred_keys_are_checked_at_once(parents_engine: AsyncEngine) -> None:
    """A deferred key would fail at COMMIT, where nothing can be isolated."""
    engine = parents_engine
    await make_parents(engine, 1, 2)
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE codes (code text PRIMARY KEY)"))
        await connection.execute(text("INSERT INTO codes VALUES ('5001'), ('5002')"))
        await connection.execute(
            text(
                "ALTER TABLE market_odds ADD CONSTRAINT codes_fk FOREIGN KEY (betpawa_market_id)"
                " REFERENCES codes DEFERRABLE INITIALLY DEFERRED"
            )
        )
    writer = await PollWriter.open(engine)
    odd = snapshot(2, markets=(*snapshot().markets[:1],))
    data = with_market(record(odd), betpawa_market_id="unknown")
    result = await writer.write(good(1), holding(data, event_id=2))
    assert (result.snapshots, result.dead_letters) == (1, 1)
    ((status, constraint),) = await rows(
        engine, "SELECT status, constraint_name FROM oddslog_dead_letters"
    )
    assert (status, constraint) == ("waiting", "codes_fk")
