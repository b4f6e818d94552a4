"""`oddslog dlq` on real servers: looked at, mended, sent again, discarded."""

import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from oddslog.deploy.stack import Servers
from oddslog.schemas import KafkaConnection
from oddslog.sink.database import make_engine
from tests.fixtures.servers import create_database, drop_database
from tests.fixtures.sinks import Feed, RunSink
from tests.integration.test_sink_parents import make_parents
from tests.integration.test_sink_positions import execute
from tests.support.batches import batch, market, snapshot
from tests.support.command import Command
from tests.support.fragments import holding, record, with_market
from tests.support.kafka import produce
from tests.support.polls import letters, one, rows

LONG = "Over/Under " * 30


def wide(event_id: int, name: str = LONG) -> Any:
    """A snapshot with a market name that its column does not take."""
    return snapshot(event_id, markets=(market(1), market(2, betpawa_market_name=name)))


@pytest.fixture
def command(servers: Servers, database_url: str, topic: str, tmp_path: Path) -> Command:
    """On the test's topic and database."""
    return Command(
        {
            "BOOTSTRAP_SERVERS": servers.bootstrap_servers,
            "DATABASE_URL": database_url,
            "TOPIC": topic,
            "GROUP": topic,
        },
        tmp_path,
    )


@pytest.fixture
async def copy_of(servers: Servers, new_name: str) -> AsyncIterator[Callable[..., Awaitable[str]]]:
    """Make a copy of a database that nobody is connected to, as a backup brings it back."""
    name = f"{new_name}_copy"

    async def make(engine: AsyncEngine) -> str:
        await engine.dispose()
        return await create_database(servers, name, str(engine.url.database))

    yield make
    await drop_database(servers, name)


async def states(engine: AsyncEngine) -> dict[tuple[int | None, str], str]:
    """Each letter's status by its event and reason."""
    return {(x.event_id, x.reason): x.status for x in await letters(engine)}


async def ids_of(engine: AsyncEngine) -> list[str]:
    """The letters' numbers, as arguments."""
    return [str(row.id) for row in await rows(engine, "SELECT id FROM oddslog_dead_letters")]


async def test_an_over_long_name_is_mended(
    command: Command, feed: Feed, run_sink: RunSink, engine: AsyncEngine, tmp_path: Path
) -> None:
    """Saved, mended, tried, sent: written as mended, and the letter says by whom and why."""
    await feed([batch([wide(5), snapshot(6)])])
    await run_sink()
    (number,) = await ids_of(engine)
    plain = command("dlq", "redrive", number, "--json")
    assert plain.code == 1
    assert "would fail again: poison" in plain.err
    assert (plain.json["sent"], plain.json["refused"]) == (0, 1)

    saved = tmp_path / "letter.json"
    shown = command("dlq", "show", number, "--save", str(saved), "--json").ok().json
    assert json.loads(saved.read_text("utf-8")) == shown
    market_shown = shown["fragment"]["snapshots"][0]["markets"][1]
    assert market_shown["betpawa_market_name"] == LONG
    market_shown["betpawa_market_name"] = "Over/Under"
    saved.write_text(json.dumps(shown), "utf-8")

    tried = command("dlq", "redrive", number, "--edit", str(saved), "--dry-run", "--json").ok()
    assert (tried.json["would_send"], tried.json["sent"]) == (1, 0)
    assert (await letters(engine))[0].redrives_sent == 0
    why = ("--why", "name cut", "--by", "ann")
    sent = command("dlq", "redrive", number, "--edit", str(saved), *why).ok()
    assert "1 letters: sent again" in sent.out
    assert "was sent again (by ann" in command("dlq", "explain", number).ok().out
    assert (await run_sink()).redriven == 1
    assert await states(engine) == {(5, "poison"): "redriven"}
    names = "SELECT betpawa_market_name FROM market_odds JOIN odds_snapshots AS s"
    found = await rows(engine, f"{names} ON s.id = snapshot_id AND event_id = 5")
    assert {row.betpawa_market_name for row in found} == {"Over/Under: całość", "Over/Under"}
    again = command("dlq", "show", number, "--json").ok().json
    assert (again["handled"]["by"], again["handled"]["why"]) == ("ann", "name cut")
    assert again["mended"]
    assert (
        again["fragment"]["snapshots"][0]["content_hash"]
        != (shown["fragment"]["snapshots"][0]["content_hash"])
    )
    refused = command("dlq", "redrive", number)
    assert refused.code == 1
    assert f"letter {number} is redriven already" in refused.out


async def test_parents_that_come_too_late(
    servers: Servers,
    command: Command,
    feed: Feed,
    run_sink: RunSink,
    parents_engine: AsyncEngine,
) -> None:
    """Dead when the wait was over; all of the reason sent again when the parents are there."""
    engine = parents_engine
    url = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    ours = command.but(DATABASE_URL=url)
    await make_parents(engine, 1)
    await feed([batch([snapshot(1), snapshot(7), snapshot(8), snapshot(9)])])
    await run_sink(engine, parent_wait_seconds=0.0)
    await run_sink(engine, parent_wait_seconds=0.0)
    assert set((await states(engine)).values()) == {"dead"}
    await execute(engine, "INSERT INTO events VALUES (7), (8)")
    sent = ours("dlq", "redrive", "--reason", "missing_parent", "--json")
    assert (sent.code, sent.json["sent"], sent.json["refused"]) == (1, 2, 1)
    assert "events has no row with id 9" in sent.err
    # Before the sink has read them they are not sent once more.
    again = ours("dlq", "redrive", "--all-of-cause", "missing_parent/event_id", "--json")
    assert (again.code, again.json["sent"], again.json["refused"]) == (1, 0, 3)
    await run_sink(engine, parent_wait_seconds=0.0)
    assert sorted((await states(engine)).items()) == [
        ((7, "missing_parent"), "redriven"),
        ((8, "missing_parent"), "redriven"),
        ((9, "missing_parent"), "dead"),
    ]
    assert await one(engine, "SELECT count(*) FROM odds_snapshots") == 3


async def test_a_restored_database_gets_both(
    command: Command,
    feed: Feed,
    run_sink: RunSink,
    engine: AsyncEngine,
    copy_of: Callable[..., Awaitable[str]],
    tmp_path: Path,
) -> None:
    """From before the letters: the log brings the letters, what was mended, and the marks."""
    await feed([batch([snapshot(1)])])
    await run_sink()
    backup = await copy_of(engine)
    await feed([batch([wide(5), wide(6), snapshot(7)])])
    await run_sink()
    for letter in await letters(engine):
        saved = tmp_path / f"{letter.id}.json"
        shown = command("dlq", "show", str(letter.id), "--json").ok().json
        fragment = shown["fragment"]
        fragment["snapshots"][0]["markets"][1]["betpawa_market_name"] = "short"
        if letter.event_id == 6:  # into another partition, perhaps before its own record
            fragment["event_id"] = 600
        saved.write_text(json.dumps(fragment), "utf-8")
        sent = command("dlq", "redrive", str(letter.id), "--edit", str(saved)).ok()
        assert ("the edit changes the identity" in sent.err) == (letter.event_id == 6)
    await run_sink()
    restored = make_engine(backup)
    try:
        await run_sink(restored)
        for database in (engine, restored):
            found = await letters(database)
            assert {x.status for x in found} == {"redriven"}
            assert {x.handled_by for x in found} == {found[0].handled_by}
            assert len(found) == 2
            events = await rows(database, "SELECT event_id FROM odds_snapshots ORDER BY 1")
            assert [row.event_id for row in events] == [1, 5, 7, 600]
        hashes = "SELECT event_id, content_hash FROM odds_snapshots ORDER BY 1"
        assert await rows(engine, hashes) == await rows(restored, hashes)
    finally:
        await restored.dispose()


async def test_the_loop_guard(
    command: Command, feed: Feed, run_sink: RunSink, engine: AsyncEngine
) -> None:
    """Forced again and again it stays one letter, and is refused after the third time."""
    await feed([batch([wide(5)])])
    await run_sink()
    (number,) = await ids_of(engine)
    for _ in range(3):
        assert command("dlq", "redrive", number, "--force", "--json").ok().json["sent"] == 1
        await run_sink()
    (letter,) = await letters(engine)
    assert (letter.status, letter.redrives_sent, letter.redrives_seen) == ("dead", 3, 3)
    assert letter.attempts == 4
    # The table is mended by now: it would be written, and is refused all the same.
    await execute(engine, "ALTER TABLE market_odds ALTER COLUMN betpawa_market_name TYPE text")
    refused = command("dlq", "redrive", number)
    assert refused.code == 1
    assert "was sent again 3 times already and failed each time" in refused.out
    command("dlq", "redrive", number, "--force").ok()
    await run_sink()
    assert await states(engine) == {(5, "poison"): "redriven"}


async def test_killed_between_send_and_mark(
    command: Command,
    feed: Feed,
    run_sink: RunSink,
    engine: AsyncEngine,
    kafka: KafkaConnection,
    topic: str,
) -> None:
    """The sink marks what was sent; sent twice, it is written once."""
    await feed([batch([wide(5), wide(6)])])
    await run_sink()
    await execute(engine, "ALTER TABLE market_odds ALTER COLUMN betpawa_market_name TYPE text")
    numbers = await ids_of(engine)
    dying = Command(command.settings, command.folder, {"ODDSLOG_KILL_POINT": "dlq.after_ack"})
    assert dying("dlq", "redrive", *numbers).code == -signal.SIGKILL
    assert {x.redrives_sent for x in await letters(engine)} == {0}
    assert command("dlq", "redrive", numbers[0], "--json").ok().json["sent"] == 1
    totals = await run_sink()
    assert (totals.redriven, totals.snapshots, totals.duplicates) == (3, 2, 1)
    assert set((await states(engine)).values()) == {"redriven"}
    assert await one(engine, "SELECT count(*) FROM odds_snapshots") == 2


async def test_undecodable_bytes_are_shown_where_they_break(
    command: Command,
    kafka: KafkaConnection,
    topic: str,
    run_sink: RunSink,
    engine: AsyncEngine,
    tmp_path: Path,
) -> None:
    """In hex, with the place; the original bytes can be kept; what they are is explained."""
    cut = holding(record())[:60]
    await produce(kafka, topic, [cut], headers=[("who", b"\xff\x00")])
    await run_sink()
    (number,) = await ids_of(engine)
    kept = tmp_path / "raw.bin"
    shown = command("dlq", "show", number, "--raw", str(kept), "--json").ok().json
    assert kept.read_bytes() == cut
    assert bytes.fromhex(shown["problem"]["hex"]) == cut
    assert shown["problem"]["at_byte"] == 60
    assert shown["headers"] == [{"name": "who", "value": "0xff00"}]
    text = command("dlq", "show", number).ok().out
    assert "from byte 60:    (the end)" in text
    assert "no fragment of oddslog" in command("dlq", "explain", number).ok().out
    there = command("dlq", "show", number, "--raw", str(kept))
    assert there.code == 2
    assert "is there already" in there.error
    refused = command("dlq", "redrive", number)
    assert (refused.code, "would fail again: undecodable" in refused.out) == (1, True)


async def test_bytes_that_were_changed_are_not_sent_unseen(
    command: Command, kafka: KafkaConnection, topic: str, run_sink: RunSink, engine: AsyncEngine
) -> None:
    """They decode, and are not what the producer sent."""
    changed = holding(with_market(record(), line=3.5))
    await produce(kafka, topic, [changed], headers=[("oddslog-crc32", b"00000000")])
    await run_sink()
    (number,) = await ids_of(engine)
    assert "are not those that its producer sent" in command("dlq", "explain", number).ok().out
    refused = command("dlq", "redrive", number)
    assert (refused.code, "cannot be trusted" in refused.out) == (1, True)
    command("dlq", "redrive", number, "--force").ok()
    await run_sink()
    assert [x.status for x in await letters(engine)] == ["redriven"]


async def test_discard(
    command: Command, kafka: KafkaConnection, topic: str, run_sink: RunSink, engine: AsyncEngine
) -> None:
    """Asks first, keeps who and why, and leaves what is settled."""
    await produce(kafka, topic, [b"junk", b"more junk"])
    await run_sink()
    numbers = await ids_of(engine)
    asked = command("dlq", "discard", *numbers, "--why", "other program")
    assert asked.code == 2
    assert "--yes" in asked.error
    done = command("dlq", "discard", numbers[0], "--why", "other program", "--yes", "--json").ok()
    assert done.json == {"discarded": [int(numbers[0])], "left": {}}
    listed = command("dlq", "list", "--status", "discarded", "--since", "1h", "--json").ok().json
    assert listed["letters"] == 1
    assert "other program" in command("dlq", "explain", numbers[0]).ok().out
    again = command("dlq", "discard", *numbers, "--why", "all", "--yes", "--json")
    assert (again.code, again.json["left"]) == (1, {numbers[0]: "discarded"})
    # Read again, it stays so.
    await execute(engine, "UPDATE oddslog_ledger SET next_offset = 0, last_offset = NULL")
    await run_sink()
    assert {x.status for x in await letters(engine)} == {"discarded"}


async def test_what_is_wrong_is_one_line(
    command: Command,
    feed: Feed,
    run_sink: RunSink,
    engine: AsyncEngine,
    tmp_path: Path,
    new_name: str,
) -> None:
    """Exit code 2, and nothing was sent."""
    await feed([batch([wide(5)])])
    await run_sink()
    (number,) = await ids_of(engine)
    edit = tmp_path / "edit.json"

    def error(*arguments: str) -> str:
        result = command("dlq", *arguments)
        assert result.code == 2, result
        return result.error

    assert "no dead letter 999" in error("show", "999")
    assert "name letters by ID" in error("redrive")
    assert "name letters by ID" in error("redrive", number, "--reason", "poison")
    assert "name just its ID" in error("redrive", "--reason", "poison", "--edit", str(edit))
    assert "cannot be read" in error("redrive", number, "--edit", str(edit))
    edit.write_text("{", "utf-8")
    assert "is no JSON" in error("redrive", number, "--edit", str(edit))
    shown = command("dlq", "show", number, "--json").ok().json
    shown["fragment"]["snapshots"][0]["markets"][0]["line"] = "high"
    edit.write_text(json.dumps(shown), "utf-8")
    assert "snapshots[0].markets[0].line" in error("redrive", number, "--edit", str(edit))
    shown["fragment"]["snapshots"] = []
    edit.write_text(json.dumps(shown), "utf-8")
    assert "leave exactly one" in error("redrive", number, "--edit", str(edit))
    assert "no time zone" in error("list", "--since", "2026-03-01T12:00")
    forced = ("redrive", number, "--force")
    assert "is not there" in error(*forced, "--topic", f"{new_name}.none")
    away = command.but(BOOTSTRAP_SERVERS="127.0.0.1:1")("dlq", *forced)
    assert away.code == 3
    assert "Kafka" in away.err
    assert (await letters(engine))[0].redrives_sent == 0
