"""`oddslog doctor` and `status --watch` as a person runs them, on real servers."""

import asyncio
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from oddslog.deploy.stack import Servers
from oddslog.deploy.torture.proxy import Proxy
from tests.support.command import TIMEOUT_SECONDS, Command
from tests.support.network import BrokerNetwork


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


async def test_doctor_says_a_line_a_check(command: Command, tmp_path: Path) -> None:
    """And ends with what it all comes to; exit code 1 where something fails."""
    people = command.but(SPOOL_DIR="spool")("doctor").ok()
    assert "ok    tables              at revision" in people.out
    assert "0 of " in people.out.splitlines()[-1]
    (tmp_path / "file").write_text("")
    broken = command.but(SPOOL_DIR="file")("doctor", "--json")
    assert broken.code == 1
    assert broken.json["failed"] == 1
    (bad,) = [one for one in broken.json["findings"] if one["level"] == "fail"]
    assert bad["check"] == "spool"
    assert "Traceback" not in broken.err


class Watching:
    """`status --watch --json` as a child, read line by line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def until(self, **wanted: Any) -> dict[str, Any]:
        """Read on until a line has these values (of `errors`: the names)."""
        assert self.process.stdout is not None
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while line := await self.process.stdout.readline():
                found: dict[str, Any] = json.loads(line)
                seen = {**found, "errors": sorted(found["errors"])}
                if {name: seen[name] for name in wanted} == wanted:
                    return found
        raise AssertionError(f"it ended before {wanted}")


@asynccontextmanager
async def watching(command: Command) -> AsyncIterator[Watching]:
    """Start it; make sure that it is gone afterwards."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "oddslog.deploy", "status", "--watch", "--json", "--every", "0.2"),
        env=command.environment(),
        cwd=command.folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        limit=2**20,
    )
    try:
        yield Watching(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_watch_outlives_each_server(command: Command, servers: Servers) -> None:
    """It goes on while one is away, says which, and has it again; Ctrl-C is exit code 0."""
    url = command.settings["DATABASE_URL"]
    kafka, database = BrokerNetwork(servers.bootstrap_servers), Proxy.before(url)
    async with kafka, database:
        through = command.but(BOOTSTRAP_SERVERS=kafka.servers, DATABASE_URL=database.url(url))
        async with watching(through) as watch:
            first = await watch.until(errors=[], lag_records=0)
            assert first["members"] == []
            kafka.away("refuse")
            away = await watch.until(errors=["Kafka"])
            assert (away["lag_records"], away["dead_letters"]) == (None, [])
            kafka.back()
            await watch.until(errors=[], lag_records=0)
            database.refuse = True
            database.cut()
            away = await watch.until(errors=["PostgreSQL"])
            assert (away["lag_records"], away["group_lag_records"]) == (None, 0)
            database.refuse = False
            await watch.until(errors=[], lag_records=0)
            watch.process.send_signal(signal.SIGINT)
            async with asyncio.timeout(TIMEOUT_SECONDS):
                _, said = await watch.process.communicate()
            assert watch.process.returncode == 0
            assert said == b""


async def test_watch_ends_quietly_with_who_reads_it(command: Command) -> None:
    """As in `status --watch | head -n 1`: no word, and the code of SIGPIPE."""
    async with watching(command) as watch:
        await watch.until(errors=[])
        watch.process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
        async with asyncio.timeout(TIMEOUT_SECONDS):
            assert await watch.process.wait() == 128 + signal.SIGPIPE
            assert watch.process.stderr is not None
            assert await watch.process.stderr.read() == b""


async def test_watch_on_a_terminal_ends_with_its_last_picture(command: Command) -> None:
    """On 80 columns; Ctrl-C is exit code 0, without a traceback."""
    ours, theirs = pty.openpty()
    environment = {**command.environment(), "TERM": "xterm-256color", "LINES": "24"}
    process = await asyncio.to_thread(
        subprocess.Popen,
        [sys.executable, "-m", "oddslog.deploy", "status", "--watch"],
        env=environment,
        cwd=command.folder,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    try:
        said = await asyncio.to_thread(_read_until, ours, "The tables are level with the log")
        assert "every 2 s" in said
        process.send_signal(signal.SIGINT)
        rest = await asyncio.to_thread(_read_until, ours, None)
        assert await asyncio.to_thread(process.wait, TIMEOUT_SECONDS) == 0
        assert "\x1b[?1049l" in rest  # back from the alternate screen
        last = rest.rpartition("\x1b[?1049l")[2]
        assert "The tables are level with the log" in last
        assert "Traceback" not in rest
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def _read_until(descriptor: int, words: str | None) -> str:
    """What the terminal shows until it has these words, or its program has ended."""
    said = b""
    while words is None or words not in said.decode(errors="replace"):
        try:
            piece = os.read(descriptor, 65536)
        except OSError:  # the other side is closed
            break
        if not piece:
            break
        said += piece
    return said.decode(errors="replace")
