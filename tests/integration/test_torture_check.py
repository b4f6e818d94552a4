"""The conservation check itself: it finds each kind of damage, and nothing where there is none."""
# ruff: noqa: S608 - the damage is ours

from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from oddslog.deploy.kafka import LogState, read_log
from oddslog.deploy.stack import Servers
from oddslog.deploy.torture.check import Conservation, check_conserved
from oddslog.deploy.torture.journal import Did, JournalWriter
from oddslog.deploy.torture.lateness import Family
from oddslog.deploy.torture.load import FedBatch, batches, garbage_key
from oddslog.deploy.torture.parents import LateParents, make_parents
from oddslog.deploy.torture.sessions import (
    lock_table,
    refuse_some,
    terminate_backend,
)
from oddslog.schemas import KafkaConnection, WriteBatch
from oddslog.schemas.records import SnapshotKey
from oddslog.sink import migrate
from oddslog.sink.database import make_engine
from tests.fixtures.servers import create_database, drop_database
from tests.fixtures.sinks import Feed, RunSink

SEED = 6
# Batches of which nobody knows whether they arrived: one did, one in part, one not.
ARRIVED, IN_PART, LOST = 30, 31, 32
COUNT = 33


@dataclass
class Fed:
    """What was fed, with the log behind it."""

    batches: list[FedBatch]
    folder: Path
    log: LogState
    engine: AsyncEngine

    async def check(self) -> Conservation:
        return await check_conserved(self.engine, self.folder, SEED, self.log)

    async def damage(self, *statements: str) -> Conservation:
        async with self.engine.begin() as connection:
            for statement in statements:
                await connection.execute(text(statement))
        return await self.check()


@pytest.fixture
async def engine(servers: Servers, new_name: str) -> AsyncIterator[AsyncEngine]:
    """On a database as the kit makes it."""
    name = f"{new_name}_torture"
    engine = make_engine(await create_database(servers, name))
    await make_parents(engine)
    await migrate(engine)
    await refuse_some(engine)
    yield engine
    await engine.dispose()
    await drop_database(servers, name)


@pytest.fixture(name="fed")
async def fed_database(
    tmp_path: Path,
    engine: AsyncEngine,
    feed: Feed,
    run_sink: RunSink,
    kafka: KafkaConnection,
    topic: str,
) -> Fed:
    """Some batches as a feeder leaves them that was killed, all written by a sink.

    The late parents came after its first run; the second has only to sweep.
    """
    made = list(islice(batches(SEED, 0), COUNT))
    with JournalWriter(tmp_path, 0) as journal:
        for one in made:
            journal.note(Did.ENQUEUED, one.id)
            if one.id.number < ARRIVED:
                journal.note(Did.ACKNOWLEDGED, one.id)
        await feed([*(one.batch for one in made[:IN_PART]), in_part(made[IN_PART].batch)])
        for one in made:
            if one.garbage is not None:
                journal.note(Did.GARBAGE_SENT, one.id)
                await send_garbage(kafka, topic, one)
                journal.note(Did.GARBAGE_ACKNOWLEDGED, one.id)
    await run_sink()
    parents = LateParents(engine, tmp_path, SEED)
    await parents.finish()
    assert await parents.letters_to_sweep()
    await run_sink()
    assert await parents.letters_to_sweep() == 0
    return Fed(made, tmp_path, await read_log(kafka, topic, topic), engine)


def in_part(batch: WriteBatch) -> WriteBatch:
    """As if only some of its fragments had been sent."""
    return WriteBatch(
        changed_betpawa=batch.changed_betpawa[:2],
        changed_competitor=(),
        unchanged_betpawa_ids=(),
        unchanged_competitor_ids=(),
        scrape_run_id=None,
        batch_index=0,
        unchanged_betpawa=batch.unchanged_betpawa[:2],
        confirmed_at=batch.confirmed_at,
    )


async def send_garbage(kafka: KafkaConnection, topic: str, one: FedBatch) -> None:
    """One record that cannot be decoded."""
    producer = AIOKafkaProducer(**kafka.client_options())
    await producer.start()
    try:
        await producer.send_and_wait(topic, one.garbage, key=garbage_key(one.id))
    finally:
        await producer.stop()


async def test_nothing_is_found_where_nothing_is_wrong(fed: Fed) -> None:
    """Poison and garbage are dead letters, orphans wait, the unknown may be there or not."""
    result = await fed.check()
    assert result.first_difference is None
    figures = result.as_json()
    assert figures["batches_acknowledged"] == ARRIVED
    assert figures["batches_unknown"] == 3
    assert figures["snapshots"] > 300
    assert figures["confirmations"] > 100
    assert figures["swept"] > 50
    assert figures["waiting"] >= 3
    assert figures["dead_letters"] >= 3 + figures["swept"] + figures["waiting"]
    for name in ("missing", "duplicates", "different", "unexpected", "runs_different"):
        assert figures[name] == 0, name
    # Six batches a run; of the last one only the first batch arrived, and it said so.
    assert (figures["runs"], figures["runs_complete"]) == (6, 5)
    await check_the_unknown(fed)


async def check_the_unknown(fed: Fed) -> None:
    """An unknown batch may be there or not; something else may not."""
    family = Family(SEED, 0)
    first = next(one for one in fed.batches[ARRIVED].good.changed_betpawa if not family.waits(one))
    assert first.captured_at is not None
    key = SnapshotKey(first.event_id, first.bookmaker_id, first.captured_at)
    where = f"WHERE event_id = {key.event_id} AND captured_at = '{key.captured_at.isoformat()}'"
    result = await fed.damage(f"UPDATE odds_snapshots SET scrape_run_id = 5 {where}")
    assert result.as_json()["different"] == 1
    result = await fed.damage(
        f"DELETE FROM market_odds WHERE snapshot_id = (SELECT id FROM odds_snapshots {where})",
        f"DELETE FROM odds_snapshots {where}",
    )
    assert result.as_json()["missing"] == result.as_json()["different"] == 0


ONE = "(SELECT min(id) FROM odds_snapshots)"
# Of the batches after those that were acknowledged: the last cycle's.
SWEPT_UNKNOWN = (
    "SELECT s.id FROM odds_snapshots AS s JOIN oddslog_dead_letters AS d"
    " USING (log_id, log_partition, log_offset) WHERE d.status = 'written'"
    f" AND s.captured_at >= timestamptz '2026-01-01 00:0{ARRIVED // 6}:00+00'"
)
DAMAGES: dict[str, tuple[list[str], str, str]] = {
    "a snapshot lost": (
        [
            f"DELETE FROM market_odds WHERE snapshot_id = {ONE}",
            f"DELETE FROM odds_snapshots WHERE id = {ONE}",
        ],
        "missing",
        "missing: betpawa",
    ),
    "a snapshot twice": (
        [
            "DROP INDEX uq_odds_snapshots_key",
            "INSERT INTO odds_snapshots SELECT 999999, event_id, bookmaker_id, captured_at,"
            " scrape_run_id, raw_response, last_confirmed_at, content_hash, log_id, log_partition,"
            f" log_offset FROM odds_snapshots WHERE id = {ONE}",
        ],
        "duplicates",
        "duplicate: betpawa",
    ),
    "a snapshot nobody fed": (
        [
            "INSERT INTO competitor_odds_snapshots (competitor_event_id, captured_at, content_hash,"
            " last_confirmed_at) VALUES (1, now(), 1, now())"
        ],
        "unexpected",
        "unexpected: competitor:1",
    ),
    "a market changed": (
        ["UPDATE market_odds SET line = 99.5 WHERE id = (SELECT min(id) FROM market_odds)"],
        "different",
        "its content",
    ),
    "a market lost": (
        ["DELETE FROM market_odds WHERE id = (SELECT min(id) FROM market_odds)"],
        "different",
        "markets, not",
    ),
    "a market of no snapshot": (
        [
            "INSERT INTO market_odds (snapshot_id, betpawa_market_id, betpawa_market_name,"
            " outcomes) VALUES (-1, '1', '1', '[]')"
        ],
        "unexpected",
        "have no snapshot",
    ),
    "a confirmation lost": (
        [
            "UPDATE odds_snapshots SET last_confirmed_at = captured_at"
            " WHERE id = (SELECT min(id) FROM odds_snapshots WHERE last_confirmed_at > captured_at)"
        ],
        "different",
        "last_confirmed_at is",
    ),
    "a confirmation that is pending beside its snapshot": (
        [
            "INSERT INTO oddslog_pending_confirmations"
            " (kind, event_id, bookmaker_id, captured_at, confirmed_at, item)"
            " SELECT 'betpawa', event_id, bookmaker_id, captured_at, last_confirmed_at, 0"
            f" FROM odds_snapshots WHERE id = {ONE}"
        ],
        "unexpected",
        "pending confirmation",
    ),
    "a dead letter lost": (
        [
            "DELETE FROM oddslog_dead_letters WHERE id ="
            " (SELECT min(id) FROM oddslog_dead_letters WHERE reason = 'poison')"
        ],
        "missing",
        "missing dead letter",
    ),
    "garbage lost": (
        [
            "DELETE FROM oddslog_dead_letters WHERE id ="
            " (SELECT min(id) FROM oddslog_dead_letters WHERE reason = 'undecodable')"
        ],
        "missing",
        "missing dead letter",
    ),
    "a swept snapshot lost, of which nobody knows whether it was fed": (
        [
            f"CREATE TEMP TABLE lost AS {SWEPT_UNKNOWN}",
            "DELETE FROM market_odds WHERE snapshot_id IN (SELECT id FROM lost)",
            "DELETE FROM odds_snapshots WHERE id IN (SELECT id FROM lost)",
        ],
        "missing",
        "whose dead letter says written",
    ),
    "a letter that waits, though its snapshot was written": (
        [
            "UPDATE oddslog_dead_letters SET status = 'waiting' WHERE id ="
            " (SELECT min(id) FROM oddslog_dead_letters WHERE status = 'written')"
        ],
        "unexpected",
        "unexpected dead letter",
    ),
    "the letter of an orphan lost": (
        [
            "DELETE FROM oddslog_dead_letters WHERE id ="
            " (SELECT min(id) FROM oddslog_dead_letters WHERE status = 'waiting')"
        ],
        "missing",
        "missing dead letter",
    ),
    "an orphan that is dead": (
        [
            "UPDATE oddslog_dead_letters SET status = 'dead' WHERE id ="
            " (SELECT min(id) FROM oddslog_dead_letters WHERE status = 'waiting')"
        ],
        "missing",
        "unexpected dead letter",
    ),
    "an orphan that was written": (
        [
            "UPDATE oddslog_dead_letters SET status = 'written' WHERE id ="
            " (SELECT min(id) FROM oddslog_dead_letters WHERE status = 'waiting')"
        ],
        "missing",
        "unexpected dead letter",
    ),
    "an arrival lost": (
        [
            "UPDATE oddslog_run_batches SET fragments = fragments - '{[1,2)}'"
            " WHERE run_id = 2 AND batch_index = 3"
        ],
        "runs_different",
        "missing: of batch 3 of run 2",
    ),
    "a batch of a run lost": (
        ["DELETE FROM oddslog_run_batches WHERE run_id = 3 AND batch_index = 0"],
        "runs_different",
        "missing: of batch 0 of run 3 0 of",
    ),
    "fewer fragments than were fed": (
        [
            "UPDATE oddslog_run_batches SET fragment_count = fragment_count - 1"
            " WHERE run_id = 2 AND batch_index = 3"
        ],
        "runs_different",
        "batch 3 of run 2 has",
    ),
    "a batch that nobody fed": (
        [
            "INSERT INTO oddslog_run_batches SELECT run_id, batch_id, 7, 5, batch_count,"
            " fragment_count, fragments, first_at, last_at FROM oddslog_run_batches"
            " WHERE run_id = 6 LIMIT 1"
        ],
        "runs_different",
        "unexpected: batch 5 of run 6",
    ),
    "a letter that no longer counts for its run": (
        [
            "UPDATE oddslog_dead_letters SET scrape_run_id = NULL WHERE id ="
            " (SELECT min(id) FROM oddslog_dead_letters WHERE status = 'waiting')"
        ],
        "runs_different",
        "the letters say",
    ),
    "a good snapshot as a dead letter": (
        [
            "INSERT INTO oddslog_dead_letters (status, reason, message, value, item, log_partition,"
            " log_offset, oddslog_version) SELECT status, 'conflict', message, value, 7, 0, 0, '0'"
            " FROM oddslog_dead_letters LIMIT 1"
        ],
        "unexpected",
        "unexpected dead letter",
    ),
}


@pytest.mark.faults
async def test_each_damage_is_found(fed: Fed, servers: Servers, new_name: str) -> None:
    """And counted under its name; each in a copy of its own."""
    await fed.engine.dispose()  # nobody may be connected to what is copied
    for name, (statements, figure, words) in DAMAGES.items():
        url = await create_database(servers, f"{new_name}_copy", f"{new_name}_torture")
        engine = make_engine(url)
        try:
            result = await Fed(fed.batches, fed.folder, fed.log, engine).damage(*statements)
        finally:
            await engine.dispose()
            await drop_database(servers, f"{new_name}_copy")
        assert result.as_json()[figure] >= 1, name
        assert words in (result.first_difference or ""), name


async def test_ledger_log_and_runs_have_to_agree(fed: Fed) -> None:
    """Positions by the log's ends, totals by the tables' rows."""
    result = await fed.damage("UPDATE oddslog_ledger SET next_offset = next_offset - 1")
    assert "the log ends at" in (result.first_difference or "")
    back = "UPDATE oddslog_ledger SET next_offset = next_offset + 1"
    for total in ("snapshots_total", "markets_total", "dead_letters_total"):
        result = await fed.damage(
            back, f"UPDATE oddslog_ledger SET {total} = {total} + 1 WHERE partition = 0"
        )
        assert f"{total} of the ledger" in (result.first_difference or "")
        back = f"UPDATE oddslog_ledger SET {total} = {total} - 1 WHERE partition = 0"
    assert (await fed.damage(back)).first_difference is None
    await check_runs_have_to_agree(fed)


async def check_runs_have_to_agree(fed: Fed) -> None:
    """What the runs' rows say, too: not one fragment less."""
    where = "WHERE run_id = 2 AND batch_index = 3"
    result = await fed.damage(
        f"CREATE TABLE held AS SELECT * FROM oddslog_run_batches {where}",
        f"UPDATE oddslog_run_batches SET fragments = fragments - '{{[1,2)}}' {where}",
    )
    assert "missing: of batch 3 of run 2" in (result.first_difference or "")
    back = f"DELETE FROM oddslog_run_batches {where}"
    again = "INSERT INTO oddslog_run_batches SELECT * FROM held"
    assert (await fed.damage(back, again)).first_difference is None


async def test_faults_inside_postgresql_are_no_errors_where_there_is_nothing_to_break(
    engine: AsyncEngine,
) -> None:
    """No sink to end; a table that is locked is free again afterwards."""
    database_url = engine.url.render_as_string(hide_password=False)
    assert not await terminate_backend(database_url)
    assert await lock_table(database_url, "odds_snapshots", 0.01)
    assert not await terminate_backend("postgresql://nobody:x@127.0.0.1:1/none")
    async with engine.begin() as connection:
        await connection.execute(text("LOCK TABLE odds_snapshots IN ACCESS EXCLUSIVE MODE NOWAIT"))
