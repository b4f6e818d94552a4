"""`oddslog verify` as an operator runs it, on real servers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from oddslog.deploy.stack import Servers
from oddslog.deploy.stack.probes import free_port
from tests.support.command import Command
from tests.support.verifying import change


@pytest.fixture
def command(servers: Servers, database_url: str, topic: str, tmp_path: Path) -> Command:
    """On a fresh topic and a fresh, migrated database."""
    return Command(
        {
            "BOOTSTRAP_SERVERS": servers.bootstrap_servers,
            "DATABASE_URL": database_url,
            "TOPIC": topic,
            "GROUP": topic,
        },
        tmp_path,
    )


async def test_found_named_mended(command: Command, engine: AsyncEngine) -> None:
    """Clean, then one altered odd and one deleted snapshot, then clean again."""
    fed = command("feed", "simulate", "--events", "5", "--seed", "3", "--json").ok().json
    never = command("verify")
    assert never.code == 2
    assert "was ever written to this database" in never.error
    command("sink", "--until-caught-up").ok()
    clean = command("verify", "--json").ok().json
    assert clean["equal"]
    assert clean["first_difference"] is None
    for name in ("snapshots", "markets", "confirmations"):
        assert clean[name] == fed[name]
    assert sum(s["to_offset"] - s["from_offset"] for s in clean["spans"]) == clean["records"]
    assert "The tables are what the log says" in command("verify", "--quick").ok().out

    altered = "UPDATE market_odds SET line = 99 WHERE id = 1"
    await change(engine, altered)
    await change(engine, "DELETE FROM competitor_odds_snapshots WHERE id = 2")
    found = command("verify", "--json", "--show", "2")
    assert found.code == 1
    assert not found.json["equal"]
    counts = {name: n for name, n in found.json["counts"].items() if n}
    assert counts["missing"] == counts["different"] == 1
    assert len(found.json["differences"]) == 2
    first = found.json["first_difference"]
    assert first["partition"] in range(3)
    assert first["key"].startswith(("betpawa:", "competitor:"))
    said = command("verify").out
    assert "line of market" in said
    assert "in the log, 99.0 in the table" in said
    assert "missing: partition" in said
    # What --quick does not look at, it does not find.
    assert command("verify", "--quick", "--json").json["counts"]["different"] == 0

    mended = command("verify", "--repair", "--delete-unexpected", "--json").ok().json
    assert mended["repaired"]["rewritten"] == mended["repaired"]["written"] == 1
    assert mended["after_repair"]["counts"] == dict.fromkeys(mended["counts"], 0)
    assert command("verify", "--json").ok().json["equal"]


def test_wrong_inputs_are_one_line(command: Command) -> None:
    """What is wrong is named."""
    command("feed", "simulate", "--events", "1").ok()
    command("sink", "--until-caught-up").ok()
    for arguments, says in (
        ("--event betpawa", "it looks like betpawa:123"),
        ("--event football:1", "it looks like betpawa:123"),
        ("--from-time 2026-03-01T12:00", "for UTC write 2026-03-01T12:00Z"),
        ("--to-time noon", "is no time; it looks like 2026-03-01T12:00Z"),
        ("--partition 7", "has no partition 7"),
        ("--partition -1", "'--partition'"),
        ("--delete-unexpected", "--delete-unexpected goes with --repair"),
        ("--repair --delete-unexpected --partition 1", "needs the whole log"),
        ("--topic no.such", "no.such is not there"),
    ):
        result = command("verify", *arguments.split())
        assert result.code == 2, result
        assert says in result.error


def test_a_server_that_is_away_is_exit_code_3(command: Command) -> None:
    """It says which."""
    port = free_port()
    kafka = command.but(BOOTSTRAP_SERVERS=f"127.0.0.1:{port}")("verify")
    assert (kafka.code, "Kafka at" in kafka.error) == (3, True)
    postgres = command.but(DATABASE_URL=f"postgresql://me:s3cret@127.0.0.1:{port}/odds")("verify")
    assert (postgres.code, "PostgreSQL" in postgres.error) == (3, True)
    assert "s3cret" not in postgres.error


@pytest.fixture
def loaded(command: Command) -> Command:
    """900 snapshots, 100,000 markets: a quarter of a gigabyte, once decoded."""
    fed = command("feed", "simulate", "--events", "300", "--cycles", "1", "--json").ok().json
    assert fed["snapshots"] == 900
    command("sink", "--until-caught-up").ok()
    return command


def peak_bytes(command: Command, *arguments: str) -> int:
    """The most memory that a run had."""
    with subprocess.Popen(
        [sys.executable, "-m", "oddslog.deploy", *arguments],
        env=command.environment(),
        cwd=command.folder,
        stdout=subprocess.DEVNULL,
    ) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def test_memory_does_not_grow_with_the_log(loaded: Command) -> None:
    """A tenth of the log takes about as much as all of it."""
    one = peak_bytes(loaded, "verify", "--partition", "0", "--event", "betpawa:1")
    everything = peak_bytes(loaded, "verify")
    assert everything - one < 120 * 1024 * 1024
