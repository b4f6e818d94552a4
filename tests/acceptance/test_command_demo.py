"""`oddslog demo` and `oddslog stack`: the whole path on one command."""

import re
import signal
from pathlib import Path

import asyncpg
import pytest
from aiokafka.admin import AIOKafkaAdminClient

from oddslog.deploy.stack import Servers
from oddslog.schemas import KafkaConnection
from tests.support.command import Command

KEYS = {
    "snapshots",
    "markets",
    "confirmations",
    "duplicates",
    "dead_letters",
    "missing",
    "unexpected",
    "different",
    "feed_seconds",
    "sink_seconds",
    "markets_per_second",
    "bootstrap_servers",
    "database_url",
}
FOOTBALL = Path(__file__).parents[1] / "data" / "football" / "T1.csv"


@pytest.fixture
def command(servers: Servers, tmp_path: Path) -> Command:
    """On the session's servers, said explicitly."""
    return Command(
        {
            "BOOTSTRAP_SERVERS": servers.bootstrap_servers,
            "DATABASE_URL": servers.database_url,
            "STACK": "env",
        },
        tmp_path,
    )


async def left_behind(
    servers: Servers, kafka: KafkaConnection, beginning: str = "oddslog_demo_"
) -> list[str]:
    """Topics and databases of demos, or of another command."""
    connection = await asyncpg.connect(servers.database_url)
    try:
        rows = await connection.fetch("SELECT datname FROM pg_database")
    finally:
        await connection.close()
    admin = AIOKafkaAdminClient(**kafka.client_options())
    await admin.start()
    try:
        topics = await admin.list_topics()
    finally:
        await admin.close()
    names = [*(row["datname"] for row in rows), *topics]
    return [name for name in names if name.startswith(beginning)]


async def test_demo_finds_everything_and_leaves_nothing(
    command: Command, servers: Servers, kafka: KafkaConnection
) -> None:
    """Its JSON has every number; the password is not in it."""
    result = command("demo", "--events", "20", "--raw-kb", "1", "--json").ok()
    values = result.json
    assert set(values) == KEYS
    assert values["snapshots"] + values["confirmations"] == 120
    assert values["markets"] > 6800
    for name in ("duplicates", "dead_letters", "missing", "unexpected", "different"):
        assert values[name] == 0, name
    assert values["bootstrap_servers"] == servers.bootstrap_servers
    assert ":***@" in values["database_url"]
    assert "Everything that was fed is in the tables" in result.err
    assert len(result.out.splitlines()) == 1
    assert await left_behind(servers, kafka) == []


async def test_demo_with_real_odds(command: Command) -> None:
    """Twice the same file is twice as many matches."""
    one = command("demo", "--football-data", str(FOOTBALL), "--json").ok().json
    two = (
        command("demo", "--football-data", str(FOOTBALL), "--football-data", str(FOOTBALL)).ok().out
    )
    assert one["missing"] == one["unexpected"] == one["different"] == 0
    assert re.search(rf"snapshots +{2 * one['snapshots']}\n", two)
    assert "Everything that was fed is in the tables" in two


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
@pytest.mark.parametrize("moment", ["Making topic and database", "feed: "])
async def test_an_interrupted_demo_leaves_nothing(
    command: Command,
    servers: Servers,
    kafka: KafkaConnection,
    number: signal.Signals,
    code: int,
    moment: str,
) -> None:
    """Whatever it was doing; and it says nothing of a traceback."""
    with command.running("demo", "--events", "100") as demo:
        demo.wait_for(moment)
        result = demo.end(number)
    assert result.code == code
    assert "Traceback" not in result.err
    assert await left_behind(servers, kafka) == []


async def test_demo_keeps_what_it_made_where_asked(
    command: Command, servers: Servers, kafka: KafkaConnection, tmp_path: Path
) -> None:
    """And prints how to look at it; those lines work."""
    result = command("demo", "--events", "4", "--keep", "--json").ok()
    exports = dict(re.findall(r"export ODDSLOG_(\w+)=(\S+)", result.err))
    assert result.json["database_url"] == exports["DATABASE_URL"]
    kept = Command(exports, tmp_path)
    assert kept("status", "--json").ok().json["lag_records"] == 0
    assert await left_behind(servers, kafka) != []
    name = exports["TOPIC"]
    connection = await asyncpg.connect(servers.database_url)
    try:
        await connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    finally:
        await connection.close()
    admin = AIOKafkaAdminClient(**kafka.client_options())
    await admin.start()
    try:
        await admin.delete_topics([name])
    finally:
        await admin.close()


def test_stack_up_env_status_down(tmp_path: Path) -> None:
    """A stack of its own, up and down again; a demo on it leaves it up."""
    command = Command({"STACK": "local"}, tmp_path)
    try:
        up = command("stack", "up", "--json").ok()
        assert up.json["running"]
        exports = dict(re.findall(r"export ODDSLOG_(\w+)=(\S+)", command("stack", "env").ok().out))
        assert exports["BOOTSTRAP_SERVERS"] == up.json["bootstrap_servers"]
        password = exports["DATABASE_URL"].split(":")[2].partition("@")[0]
        assert password not in up.out + up.err
        assert command("demo", "--events", "2", "--json").ok().json["missing"] == 0
        status = command("stack", "status", "--json").ok()
        assert status.json["bootstrap_servers"] == exports["BOOTSTRAP_SERVERS"]
        command("stack", "down").ok()
        assert command("stack", "status").code == 3
        assert (tmp_path / ".oddslog").is_dir()
    finally:
        command("stack", "down", "--destroy").ok()
    assert not (tmp_path / ".oddslog").exists()
