"""`oddslog dlq` on real servers: looked at, mended, sent again, discarded."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from oddslog.deploy.stack import Servers
from oddslog.schemas import KafkaConnection
from tests.fixtures.sinks import Feed, RunSink
from tests.integration.test_sink_positions import execute
from tests.support.batches import batch, market, snapshot
from tests.support.command import Command
from tests.support.fragments import holding, record
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
    assert "1 letter: sent again" in sent.out
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
    shown = command("dlq", "show", number, "--json").ok().json
    shown["fragment"]["snapshots"] = []
    edit.write_text(json.dumps(shown), "utf-8")
    assert "leave exactly one" in error("redrive", number, "--edit", str(edit))
    assert "name just its ID" in error("redrive", "--reason", "poison", "--edit", str(edit))
    assert (await letters(engine))[0].redrives_sent == 0
