"""The sweep of waiting letters: late parents are waited for, and their snapshots written."""
# ruff: noqa: S608 - statements of the tests' own values

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from oddslog.deploy.compare import compare
from oddslog.schemas import KafkaConnection
from oddslog.schemas.codec import decode
from oddslog.schemas.wire import Kind
from oddslog.sink import expiry as expiry_module
from oddslog.sink import service as service_module
from oddslog.sink import waiting as waiting_module
from oddslog.sink.checks import ColumnLimits
from oddslog.sink.database import make_engine
from oddslog.sink.waiting import Expiry, SweptLetters, sweep_waiting
from tests.fixtures.sinks import Feed
from tests.integration.test_sink_parents import make_parents
from tests.integration.test_sink_positions import execute
from tests.support.batches import NOON, batch, competitor, key_of, snapshot
from tests.support.fragments import confirming, good, holding, record, with_market
from tests.support.kafka import produce
from tests.support.polls import PollWriter, letters, one, rows
from tests.support.running import running
from tests.support.waiting import until

LATE = NOON + timedelta(hours=1)


async def add(engine: AsyncEngine, table: str, *ids: int) -> None:
    """The scraper's own rows come."""
    await execute(engine, f"INSERT INTO {table} VALUES {', '.join(f'({n})' for n in ids)}")


def older(log_id: int, seconds: float) -> Expiry:
    """What of a log has waited for longer."""
    return Expiry(log_id, datetime.now(UTC) - timedelta(seconds=seconds))


async def statuses(engine: AsyncEngine) -> list[tuple[int, str, str]]:
    """Offset, status and reason of each letter."""
    return [(x.log_offset, x.status, x.reason) for x in await letters(engine)]


def values(swept: SweptLetters) -> tuple[int, int, int]:
    """Written, refused, expired."""
    return swept.written, swept.refused, swept.expired


async def test_late_parents_are_written_with_their_source_and_confirmation(
    parents_engine: AsyncEngine,
) -> None:
    """As the poll would have written them: markets, origin, what confirmed them meanwhile."""
    engine = parents_engine
    await make_parents(engine, 1)
    writer = await PollWriter.open(engine)
    await writer.write(good(1), good(7), good(8, kind=Kind.COMPETITOR), good(9), partition=1)
    await writer.write(confirming(NOON, event_id=7, at=LATE))
    assert values(await sweep_waiting(engine, writer.limits, None)) == (0, 0, 0)
    await add(engine, "events", 7)
    await add(engine, "competitor_events", 8)
    assert values(await sweep_waiting(engine, writer.limits, None)) == (2, 0, 0)
    assert await statuses(engine) == [
        (1, "written", "missing_parent"),
        (2, "written", "missing_parent"),
        (3, "waiting", "missing_parent"),
    ]
    (row,) = await rows(engine, "SELECT * FROM odds_snapshots WHERE event_id = 7")
    assert (row.log_id, row.log_partition, row.log_offset) == (writer.log_id, 1, 1)
    assert row.last_confirmed_at == LATE
    assert await one(engine, "SELECT count(*) FROM oddslog_pending_confirmations") == 0
    markets = "SELECT count(*) FROM market_odds WHERE snapshot_id = :id"
    assert await one(engine, markets, id=row.id) == 2
    # Read again, as after a refill: a duplicate, and the letter stays as it is.
    await execute(engine, "UPDATE oddslog_ledger SET next_offset = 0")
    writer.next_offsets.clear()
    result = await writer.write(good(1), good(7), good(8, kind=Kind.COMPETITOR), partition=1)
    assert (result.snapshots, result.duplicates) == (0, 3)


async def test_what_came_meanwhile_with_the_same_key(parents_engine: AsyncEngine) -> None:
    """The same content counts as written; another is a conflict and dead."""
    engine = parents_engine
    await make_parents(engine, 1)
    writer = await PollWriter.open(engine)
    mine, other = record(scrape_run_id=6), with_market(record(content_hash=5), line=9.5)
    await writer.write(holding(mine), holding({**other, "scrape_run_id": 6}))
    await writer.write(holding(record()))
    await add(engine, "scrape_runs", 6)
    assert values(await sweep_waiting(engine, writer.limits, None)) == (1, 1, 0)
    assert await statuses(engine) == [(0, "written", "missing_parent"), (1, "dead", "conflict")]
    assert await one(engine, "SELECT count(*) FROM odds_snapshots") == 1


async def test_two_missing_parents_one_after_the_other(parents_engine: AsyncEngine) -> None:
    """The letter then names the next one that it waits for."""
    engine = parents_engine
    await make_parents(engine, 1)
    writer = await PollWriter.open(engine)
    await writer.write(holding(record(snapshot(5), scrape_run_id=6, bookmaker_id=2), event_id=5))
    for table, identity, field, parent in (
        ("events", 5, "bookmaker_id", 2),
        ("bookmakers", 2, "scrape_run_id", 6),
    ):
        await add(engine, table, identity)
        assert values(await sweep_waiting(engine, writer.limits, None)) == (0, 0, 0)
        (letter,) = await letters(engine)
        assert (letter.status, letter.field, letter.parent_id) == ("waiting", field, parent)
    await add(engine, "scrape_runs", 6)
    assert values(await sweep_waiting(engine, writer.limits, older(writer.log_id, 0))) == (1, 0, 0)


async def test_poison_behind_a_missing_parent(parents_engine: AsyncEngine) -> None:
    """Only the tables could tell: dead, with its field, and its neighbour is written."""
    engine = parents_engine
    await make_parents(engine, 1)
    writer = await PollWriter.open(engine)
    bad = with_market(record(snapshot(7)), 1, outcomes="[")
    await writer.write(holding(bad, event_id=7), good(8), b"undecodable")
    await add(engine, "events", 7, 8)
    assert values(await sweep_waiting(engine, writer.limits, None)) == (1, 1, 0)
    dead = (await letters(engine))[0]
    assert (dead.status, dead.reason, dead.sqlstate) == ("dead", "poison", "22P02")
    assert (dead.field, dead.parent_id) == ("markets[1].outcomes", None)
    assert decode(dead.value).snapshots == [bad]


async def test_parents_that_never_come(parents_engine: AsyncEngine) -> None:
    """Dead when the time is up, not before; and one whose parent came last is written."""
    engine = parents_engine
    await make_parents(engine, 1)
    writer = await PollWriter.open(engine)
    await writer.write(good(7), good(8), good(9))
    await execute(
        engine,
        "UPDATE oddslog_dead_letters SET first_seen_at = now() - interval '2 hours'"
        " WHERE event_id > 7",
    )
    await add(engine, "events", 9)
    assert values(await sweep_waiting(engine, writer.limits, None)) == (1, 0, 0)
    expiry = older(writer.log_id, 3600)
    assert values(await sweep_waiting(engine, writer.limits, expiry)) == (0, 0, 1)
    assert [status for _, status, _ in await statuses(engine)] == ["waiting", "dead", "written"]


async def test_a_letter_that_does_not_tell_its_parent(
    parents_engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a foreign key knew: tried itself, a few at a time, each in its turn."""
    engine = parents_engine
    monkeypatch.setattr(waiting_module, "_TRIED_LETTERS", 2)
    await make_parents(engine, *range(1, 8))
    await execute(engine, "CREATE TABLE codes (code text PRIMARY KEY)")
    await execute(engine, "INSERT INTO codes VALUES ('5001'), ('5002')")
    await execute(
        engine, "ALTER TABLE market_odds ADD FOREIGN KEY (betpawa_market_id) REFERENCES codes"
    )
    writer = await PollWriter.open(engine)
    poll = [
        holding(with_market(record(snapshot(n)), 0, betpawa_market_id=f"n{n}"), event_id=n)
        for n in range(1, 6)
    ]
    result = await writer.write(*poll, good(6))
    assert (result.snapshots, result.dead_letters) == (1, 5)
    assert {(x.status, x.sqlstate) for x in await letters(engine)} == {("waiting", "23503")}
    await execute(engine, "INSERT INTO codes VALUES ('n4'), ('n5')")
    swept = [values(await sweep_waiting(engine, writer.limits, None)) for _ in range(3)]
    assert swept == [(0, 0, 0), (1, 0, 0), (1, 0, 0)]


async def test_many_come_at_once_in_pages(
    parents_engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bounded by number and by bytes, until all are written."""
    engine = parents_engine
    monkeypatch.setattr(waiting_module, "_PAGE_LETTERS", 7)
    monkeypatch.setattr(waiting_module, "_PAGE_BYTES", 1000)
    await make_parents(engine)
    writer = await PollWriter.open(engine)
    await writer.write(*(good(event) for event in range(1, 31)))
    await execute(engine, "INSERT INTO events SELECT generate_series(1, 30)")
    asked = 0

    def stopping() -> bool:
        nonlocal asked
        asked += 1
        return False

    swept = await sweep_waiting(engine, writer.limits, older(writer.log_id, 0), stopping=stopping)
    assert values(swept) == (30, 0, 0)
    assert asked > 10
    assert await one(engine, "SELECT count(*) FROM market_odds") == 60


async def test_one_member_sweeps_at_a_time(
    servers_limits: tuple[AsyncEngine, AsyncEngine, Mapping[Kind, ColumnLimits]],
) -> None:
    """The second comes back at once, and each snapshot is written once."""
    first, second, limits = servers_limits
    async with first.connect() as keeper, keeper.begin():
        assert (await keeper.execute(waiting_module._TRY_LOCK)).scalar_one()
        assert values(await sweep_waiting(second, limits, older(1, 0))) == (0, 0, 0)
    both = await asyncio.gather(
        sweep_waiting(first, limits, None), sweep_waiting(second, limits, None)
    )
    assert sum(swept.written for swept in both) == 3
    assert await one(first, "SELECT count(*) FROM odds_snapshots") == 3


@pytest.fixture
async def servers_limits(
    parents_engine: AsyncEngine,
) -> AsyncIterator[tuple[AsyncEngine, AsyncEngine, Mapping[Kind, ColumnLimits]]]:
    """Two engines on a database where three letters wait for parents that are there."""
    await make_parents(parents_engine)
    writer = await PollWriter.open(parents_engine)
    await writer.write(good(1), good(2), good(3))
    await add(parents_engine, "events", 1, 2, 3)
    second = make_engine(parents_engine.url.render_as_string(hide_password=False))
    yield parents_engine, second, writer.limits
    await second.dispose()


async def test_the_running_sink_writes_what_waited(
    feed: Feed,
    kafka: KafkaConnection,
    topic: str,
    parents_engine: AsyncEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Late parents of both kinds; in the end the tables are as if none had been late."""
    engine = parents_engine
    monkeypatch.setattr(service_module, "_SWEEP_SECONDS", 0.2)
    await make_parents(engine, 1)
    made = [snapshot(event) for event in range(1, 6)]
    batches = [
        batch(made, [competitor(event) for event in range(1, 6)]),
        batch(
            unchanged_betpawa=tuple(key_of(s) for s in made),
            confirmed_at=LATE,
            batch_index=1,
        ),
    ]
    await feed(batches)
    async with running(kafka, topic, engine) as sink:
        await until(lambda: sink.sink.totals.dead_letters == 8, "the letters")
        await add(engine, "events", 2, 3, 4, 5)
        await add(engine, "competitor_events", 2, 3, 4, 5)

        async def all_written() -> bool:
            return {x.status for x in await letters(engine)} == {"written"}

        await until(all_written, "the sweep")
        await sink.stop()
    result = await compare(engine, batches)
    assert result.equal, result.first_difference


async def test_waiting_does_not_run_out_during_a_backlog(
    kafka: KafkaConnection,
    topic: str,
    parents_engine: AsyncEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As at a refill: however old a letter is, what is still to be read comes first."""
    engine = parents_engine
    monkeypatch.setattr(service_module, "_SWEEP_SECONDS", 0.2)
    await make_parents(engine, 1)
    await produce(kafka, topic, [good(7)])
    async with running(kafka, topic, engine, until_caught_up=True) as sink:
        await sink.task
    await execute(engine, "UPDATE oddslog_dead_letters SET first_seen_at = now() - interval '1 d'")
    await produce(kafka, topic, [good(1)])
    async with engine.connect() as keeper, keeper.begin():
        # The backlog cannot be written, and sweeps go by.
        await keeper.exec_driver_sql("LOCK TABLE market_odds IN ACCESS EXCLUSIVE MODE")
        async with running(kafka, topic, engine, parent_wait_seconds=0.5) as sink:
            swept = 0
            sweep = sink.sink._sweeper.sweep

            async def count(log_id: int, *, expire: bool) -> None:
                nonlocal swept
                assert not expire
                await sweep(log_id, expire=expire)
                swept += 1

            sink.sink._sweeper.sweep = count  # type: ignore[method-assign]
            await until(lambda: swept >= 1, "a sweep")
            assert [status for _, status, _ in await statuses(engine)] == ["waiting"]
            sink.sink._sweeper.sweep = sweep  # type: ignore[method-assign]
            await keeper.rollback()

            async def dead() -> bool:
                return [x.status for x in await letters(engine)] == ["dead"]

            await until(dead, "the end of its waiting")


async def test_a_sweep_that_is_too_much_is_logged_and_tried_in_smaller_pages(
    kafka: KafkaConnection,
    topic: str,
    parents_engine: AsyncEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A statement that times out above two snapshots: pages shrink until all are written."""
    engine = parents_engine
    monkeypatch.setattr(service_module, "_SWEEP_SECONDS", 0.2)
    monkeypatch.setattr(waiting_module, "_PAGE_LETTERS", 8)
    await make_parents(engine)
    await produce(kafka, topic, [good(event) for event in range(1, 7)])
    async with running(kafka, topic, engine, until_caught_up=True) as sink:
        await sink.task
    await execute(
        engine,
        "CREATE FUNCTION too_much() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF (SELECT count(*) FROM inserted) > 2 THEN"
        " RAISE 'too much' USING ERRCODE = '57014'; END IF; RETURN NULL; END $$",
    )
    await execute(
        engine,
        "CREATE TRIGGER too_much AFTER INSERT ON odds_snapshots REFERENCING NEW TABLE AS inserted"
        " FOR EACH STATEMENT EXECUTE FUNCTION too_much()",
    )
    await execute(engine, "INSERT INTO events SELECT generate_series(1, 6)")
    with capture_logs() as logged:
        async with running(kafka, topic, engine) as sink:

            async def all_written() -> bool:
                return {x.status for x in await letters(engine)} == {"written"}

            await until(all_written, "the sweep in small pages")
            totals = await sink.stop()
    retried = [entry for entry in logged if entry["event"] == "retrying"]
    assert [(entry["doing"], entry["attempt"]) for entry in retried] == [("sweep", 1), ("sweep", 2)]
    assert {entry["sqlstate"] for entry in retried} == {"57014"}
    assert totals.retries == 2


async def test_runs_until_caught_up_add_up_to_the_wait(
    kafka: KafkaConnection,
    topic: str,
    parents_engine: AsyncEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The caught-up time outlives the process; between two runs so much counts at most."""
    engine = parents_engine
    # Hours, beside which the test's own time is nothing.
    monkeypatch.setattr(expiry_module, "_LONGEST_GAP_SECONDS", 6000.0)
    await make_parents(engine, 1)
    await produce(kafka, topic, [good(7)])

    async def run() -> list[str]:
        async with running(
            kafka, topic, engine, until_caught_up=True, parent_wait_seconds=10_000.0
        ) as sink:
            await sink.task
        return [status for _, status, _ in await statuses(engine)]

    assert await run() == ["waiting"]
    await let_pass(engine, 86_400)
    assert await run() == ["waiting"]  # 6,000 s
    await let_pass(engine, 2000)
    assert await run() == ["waiting"]
    await let_pass(engine, 3000)
    assert await run() == ["dead"]


async def let_pass(engine: AsyncEngine, seconds: int) -> None:
    """All that is noted was so much sooner."""
    name = "name LIKE 'caught_up_%'"
    (value,) = [
        row.value for row in await rows(engine, f"SELECT value FROM oddslog_meta WHERE {name}")
    ]
    sooner = {
        "last": value["last"] - seconds,
        "spans": [[start - seconds, end - seconds] for start, end in value["spans"]],
    }
    await execute(engine, f"UPDATE oddslog_meta SET value = '{json.dumps(sooner)}' WHERE {name}")
    await execute(
        engine,
        f"UPDATE oddslog_dead_letters SET first_seen_at = first_seen_at - interval '{seconds} s'",
    )
