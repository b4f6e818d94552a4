"""Redriving with real servers: tried, sent, read by the sink, and marked."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from oddslog.deploy.letters import Selection, next_page, read_letters
from oddslog.deploy.redrive_plan import Wanted, changed_identity
from oddslog.deploy.redriving import Redriver
from oddslog.deploy.settings import Settings
from oddslog.deploy.stack import Servers
from oddslog.schemas import ConfigurationError, KafkaConnection, UnreachableError
from oddslog.schemas.codec import EventWrites, decode, encode
from oddslog.schemas.fragment_json import fragment_from_json, fragment_to_json
from oddslog.sink.database import make_engine
from oddslog.sink.opening import check_database
from tests.fixtures.servers import create_database, drop_database
from tests.fixtures.sinks import Feed, RunSink
from tests.integration.test_sink_parents import make_parents
from tests.integration.test_sink_positions import execute
from tests.support.batches import batch, market, snapshot
from tests.support.fragments import holding, record, with_market
from tests.support.kafka import produce
from tests.support.polls import letters, one, rows

LONG = "Over/Under " * 30
WIDEN = "ALTER TABLE market_odds ALTER COLUMN betpawa_market_name TYPE text"

Redrive = Callable[..., Awaitable[dict[str, list[str | None]]]]


def wide(event_id: int) -> Any:
    """A snapshot with a market name that its column does not take."""
    return snapshot(event_id, markets=(market(1), market(2, betpawa_market_name=LONG)))


@pytest.fixture
def redrive(kafka: KafkaConnection, engine: AsyncEngine) -> Redrive:
    """Redrive letters by id, or all dead ones; the outcomes with their problems."""

    async def run(
        *ids: int, database: AsyncEngine = engine, servers: str | None = None, **how: Any
    ) -> dict[str, list[str | None]]:
        addresses = {"bootstrap_servers": servers or kafka.bootstrap_servers}
        settings = Settings.model_validate(addresses)
        wanted = Wanted("ann@host", datetime.now(UTC), "tested", **how)
        redriver = Redriver(database, settings, await check_database(database), wanted)
        async with database.connect() as connection:
            found = (
                await read_letters(connection, ids)
                if ids
                else await next_page(connection, Selection(), 0)
            )
        outcomes: dict[str, list[str | None]] = {}
        try:
            async for verdict in redriver.redrive(found):
                outcomes.setdefault(verdict.outcome, []).append(verdict.problem)
        finally:
            await redriver.close()
        return outcomes

    return run


@pytest.fixture
async def copy_of(servers: Servers, new_name: str) -> AsyncIterator[Callable[..., Awaitable[str]]]:
    """Make a copy of a database, as a backup brings it back."""
    name = f"{new_name}_copy"

    async def make(engine: AsyncEngine) -> str:
        await engine.dispose()
        return await create_database(servers, name, str(engine.url.database))

    yield make
    await drop_database(servers, name)


def mended(value: bytes, **fields: Any) -> EventWrites:
    """The fragment of a letter as a person mends it, by way of its JSON."""
    document = {**fragment_to_json(decode(value)), **fields}
    document["snapshots"][0]["markets"][1]["betpawa_market_name"] = "short"
    return fragment_from_json(document)


async def states(engine: AsyncEngine) -> dict[int | None, str]:
    """Each letter's status by its event."""
    return {x.event_id: x.status for x in await letters(engine)}


async def ids_of(engine: AsyncEngine) -> Sequence[int]:
    """The letters' numbers."""
    return [row.id for row in await rows(engine, "SELECT id FROM oddslog_dead_letters ORDER BY 1")]


async def test_parents_that_come_too_late(
    feed: Feed, run_sink: RunSink, parents_engine: AsyncEngine, redrive: Redrive
) -> None:
    """Dead when the wait was over; sent again when the parents are there, and not before."""
    engine = parents_engine
    await make_parents(engine, 1)
    await feed([batch([snapshot(event) for event in (1, 7, 8, 9)])])
    for _ in range(2):
        await run_sink(engine, parent_wait_seconds=0.0)
    assert await states(engine) == {7: "dead", 8: "dead", 9: "dead"}
    await execute(engine, "INSERT INTO events VALUES (7), (8)")
    sent = await redrive(database=engine)
    assert sent["sent"] == [None, None]
    (refused,) = sent["refused"]
    assert refused is not None
    assert "would fail again: missing_parent: events has no row with id 9" in refused
    # Before the sink has read them they are not sent once more.
    again = await redrive(database=engine)
    assert list(again) == ["refused"]
    assert len([said for said in again["refused"] if said and "sent already" in said]) == 2
    assert (await run_sink(engine, parent_wait_seconds=0.0)).redriven == 2
    assert await states(engine) == {7: "redriven", 8: "redriven", 9: "dead"}
    assert await one(engine, "SELECT count(*) FROM odds_snapshots") == 3


async def test_a_restored_database_gets_both(
    feed: Feed,
    run_sink: RunSink,
    engine: AsyncEngine,
    redrive: Redrive,
    copy_of: Callable[..., Awaitable[str]],
) -> None:
    """From before the letters: the log brings the letters, what was mended, and the marks."""
    await feed([batch([snapshot(1)])])
    await run_sink()
    backup = await copy_of(engine)
    await feed([batch([wide(5), wide(6), snapshot(7)])])
    await run_sink()
    async with engine.connect() as connection:
        found = await read_letters(connection, await ids_of(engine))
    for letter in found:
        # One into another partition, perhaps before its own record there.
        identity = {"event_id": 600} if letter.event_id == 6 else {}
        edit = mended(letter.value or b"", **identity)
        assert bool(changed_identity(letter, edit)) == bool(identity)
        assert await redrive(letter.id, edit=encode(edit)) == {"sent": [None]}
    await run_sink()
    restored = make_engine(backup)
    try:
        await run_sink(restored)
        contents = []
        for database in (engine, restored):
            kept = await letters(database)
            assert [x.status for x in kept] == ["redriven", "redriven"]
            assert {(x.handled_by, x.handled_why) for x in kept} == {("ann@host", "tested")}
            assert all(x.original_value is not None for x in kept)
            contents.append(
                await rows(database, "SELECT event_id, content_hash FROM odds_snapshots ORDER BY 1")
            )
        assert contents[0] == contents[1]
        assert [row.event_id for row in contents[0]] == [1, 5, 7, 600]
    finally:
        await restored.dispose()


async def test_the_loop_guard(
    feed: Feed, run_sink: RunSink, engine: AsyncEngine, redrive: Redrive
) -> None:
    """Forced again and again it stays one letter, and is refused after the third time."""
    await feed([batch([wide(5)])])
    await run_sink()
    (number,) = await ids_of(engine)
    for _ in range(3):
        assert await redrive(number, force=True) == {"sent": [None]}
        await run_sink()
    (letter,) = await letters(engine)
    assert (letter.status, letter.redrives_sent, letter.redrives_seen) == ("dead", 3, 3)
    assert letter.attempts == 4
    # The table is mended by now: it would be written, and is refused all the same.
    await execute(engine, WIDEN)
    refused = {"refused": ["was sent again 3 times already and failed each time"]}
    assert await redrive(number) == refused
    await redrive(number, force=True)
    await run_sink()
    assert await states(engine) == {5: "redriven"}
    assert await redrive(number) == {"refused": ["is redriven already"]}


async def test_one_that_was_sent_too_far_away_is_not_sent_at_all(
    feed: Feed, run_sink: RunSink, engine: AsyncEngine, redrive: Redrive, new_name: str
) -> None:
    """A dry run sends nothing; neither goes a topic that this database does not know."""
    await feed([batch([wide(5)])])
    await run_sink()
    await execute(engine, WIDEN)
    (number,) = await ids_of(engine)
    assert await redrive(number, dry_run=True, servers="127.0.0.1:1") == {"would_send": [None]}
    with pytest.raises(ConfigurationError, match="is not there"):
        await redrive(number, topic=f"{new_name}.none")
    with pytest.raises(UnreachableError):
        await redrive(number, servers="127.0.0.1:1")
    await execute(engine, "UPDATE oddslog_logs SET cluster_id = 'another'")
    with pytest.raises(ConfigurationError, match="is none that filled this database"):
        await redrive(number)
    assert (await letters(engine))[0].redrives_sent == 0


async def test_bytes_that_were_changed_are_not_sent_unseen(
    kafka: KafkaConnection, topic: str, run_sink: RunSink, engine: AsyncEngine, redrive: Redrive
) -> None:
    """They decode, and are not what the producer sent; its other headers go along."""
    changed = holding(with_market(record(), line=3.5))
    await produce(kafka, topic, [changed], headers=[("oddslog-crc32", b"0" * 8), ("who", b"x")])
    await run_sink()
    (refused,) = (await redrive())["refused"]
    assert refused is not None
    assert "cannot be trusted" in refused
    assert await redrive(*await ids_of(engine), force=True) == {"sent": [None]}
    await run_sink()
    (letter,) = await letters(engine)
    assert letter.status == "redriven"


async def test_letters_without_a_log(
    feed: Feed, run_sink: RunSink, engine: AsyncEngine, redrive: Redrive
) -> None:
    """Of `handle_write_batch`: written straight into the tables, without Kafka."""
    await feed([batch([wide(5), wide(6)])])
    await run_sink()
    await execute(engine, "UPDATE oddslog_dead_letters SET log_id = NULL WHERE event_id = 5")
    await execute(engine, "DELETE FROM oddslog_dead_letters WHERE event_id = 6")
    (letter,) = await letters(engine)
    assert list(await redrive(letter.id)) == ["refused"]
    edit = encode(mended(letter.value))
    assert await redrive(letter.id, edit=edit, servers="127.0.0.1:1") == {"written": [None]}
    assert await states(engine) == {5: "redriven"}
    assert await one(engine, "SELECT count(*) FROM odds_snapshots") == 1


async def test_selections_and_pages(
    feed: Feed, run_sink: RunSink, engine: AsyncEngine, kafka: KafkaConnection, topic: str
) -> None:
    """By reason, cause and time; in pages by id."""
    await feed([batch([wide(5), wide(6)])])
    await produce(kafka, topic, [b"junk"])
    await run_sink()

    async def selected(selection: Selection, after: int = 0) -> list[str]:
        async with engine.connect() as connection:
            return [x.cause for x in await next_page(connection, selection, after)]

    poison = "poison/markets.betpawa_market_name"
    assert await selected(Selection(reason="poison")) == [poison, poison]
    assert await selected(Selection(cause=poison)) == [poison, poison]
    assert await selected(Selection(cause="poison")) == []
    assert sorted(await selected(Selection())) == [poison, poison, "undecodable"]
    assert await selected(Selection(since=datetime(2100, 1, 1, tzinfo=UTC))) == []
    assert await selected(replace(Selection(), reason="poison"), 10**9) == []
