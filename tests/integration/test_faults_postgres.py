"""PostgreSQL is killed, restarted, and runs out of disk under the running sink: nothing is lost.

The server is this module's own. Each test ends with the conservation check.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from oddslog.deploy.stack import LocalStack, Servers
from oddslog.schemas import KafkaConnection
from oddslog.sink.database import make_engine
from tests.fixtures.servers import make_template, url_of
from tests.integration.test_faults_database import execute
from tests.support.conservation import assert_conserved, feed_events, until_ledger
from tests.support.polls import blocked, letters, one
from tests.support.running import running
from tests.support.waiting import until


class Postgres:
    """A PostgreSQL that is ours to stop."""

    def __init__(self, directory: Path) -> None:
        self._stack = LocalStack(directory)
        self._stack.start_postgres()

    @property
    def servers(self) -> Servers:
        return self._stack._servers()

    def start(self) -> None:
        self._stack.start_postgres()

    def stop(self, number: signal.Signals) -> None:
        self._stack.stop_postgres(number)

    def signal(self, number: signal.Signals) -> None:
        """To the server's first process, without waiting."""
        process = self._stack._postgres.state.process
        assert process is not None
        os.kill(process.pid, number)

    def destroy(self) -> None:
        self._stack.destroy()


@pytest.fixture(scope="module")
def own_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """One server for all tests here; each start takes seconds."""
    made = Postgres(tmp_path_factory.mktemp("postgres"))
    yield made
    made.destroy()


@pytest.fixture
async def own_engine(own_postgres: Postgres) -> AsyncIterator[AsyncEngine]:
    """An engine on a fresh, migrated database of that server, up before and after."""
    name = await make_template(own_postgres.servers, f"t{uuid.uuid4().hex[:12]}", "")
    engine = make_engine(url_of(own_postgres.servers, name))
    yield engine
    await engine.dispose()
    await asyncio.to_thread(own_postgres.start)


async def kill_backend(_server: Postgres, engine: AsyncEngine) -> None:
    """SIGKILL of the sink's session: PostgreSQL ends all others and recovers."""
    pid = await one(
        engine,
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        " AND wait_event_type = 'Lock'",
    )
    os.kill(pid, signal.SIGKILL)


async def kill_server(server: Postgres, _engine: AsyncEngine) -> None:
    """SIGKILL, and a start that recovers."""
    await asyncio.to_thread(server.stop, signal.SIGKILL)
    await asyncio.to_thread(server.start)


async def restart_fast(server: Postgres, _engine: AsyncEngine) -> None:
    """As `pg_ctl restart` does it: sessions are ended."""
    await asyncio.to_thread(server.stop, signal.SIGINT)
    await asyncio.to_thread(server.start)


async def restart_smart(server: Postgres, engine: AsyncEngine) -> None:
    """SIGTERM: no new sessions, until those that are there end; here they are made to."""
    server.signal(signal.SIGTERM)

    async def refused() -> bool:
        other = make_engine(engine.url.render_as_string(hide_password=False))
        try:
            await one(other, "SELECT 1")
        except Exception:
            return True
        finally:
            await other.dispose()
        return False

    await until(refused, "new sessions to be refused")
    await restart_fast(server, engine)


@pytest.mark.parametrize(
    "fault",
    [
        kill_server,
        *(
            pytest.param(fault, marks=pytest.mark.faults)
            for fault in (kill_backend, restart_fast, restart_smart)
        ),
    ],
)
async def test_the_server_goes_in_mid_transaction(
    kafka: KafkaConnection,
    topic: str,
    own_postgres: Postgres,
    own_engine: AsyncEngine,
    fault: Callable[[Postgres, AsyncEngine], Any],
) -> None:
    """Rolled back by recovery, tried again, exactly once."""
    keeper_engine = make_engine(own_engine.url.render_as_string(hide_password=False))
    async with running(kafka, topic, own_engine, poll_records=20) as sink:
        await sink.until_placed(3)
        keeper = await keeper_engine.connect()
        await keeper.exec_driver_sql("LOCK TABLE market_odds")
        fed = await feed_events(kafka, topic, range(1, 61))
        await until(lambda: blocked(keeper_engine), "a transaction in its midst")
        await fault(own_postgres, keeper_engine)
        with suppress(Exception):  # its session has ended
            await keeper.close()
        await until_ledger(own_engine, 120)
        totals = await sink.stop()
    await keeper_engine.dispose()
    assert totals.retries >= 1
    await assert_conserved(own_engine, fed)


@pytest.fixture
def small_disk(own_postgres: Postgres, tmp_path: Path) -> Iterator[Path]:
    """A folder of 4 MiB that the server may write to."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("a file system of a few MiB takes root and mount")
    owner = own_postgres._stack._postgres.data.stat()
    base = own_postgres._stack._postgres.data.parent  # the server's user can come here
    folder = base / f"disk-{tmp_path.name}"
    folder.mkdir()
    options = f"size=4m,mode=0700,uid={owner.st_uid},gid={owner.st_gid}"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)],
        check=False,
        capture_output=True,
    )
    if mounted.returncode:
        folder.rmdir()
        pytest.skip(f"no file system may be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
    folder.rmdir()


async def test_a_full_disk_is_waited_for(
    kafka: KafkaConnection,
    topic: str,
    own_postgres: Postgres,
    own_engine: AsyncEngine,
    small_disk: Path,
) -> None:
    """53100 for real: no letter, nothing half written, and on it goes when there is room."""
    space = f"s{uuid.uuid4().hex[:8]}"
    admin = make_engine(own_engine.url.render_as_string(hide_password=False))
    async with admin.connect() as connection:
        raw = (await connection.get_raw_connection()).driver_connection
        assert raw is not None
        await raw.execute(f"CREATE TABLESPACE {space} LOCATION '{small_disk}'")
    await execute(admin, f"ALTER TABLE market_odds SET TABLESPACE {space}")
    ballast = small_disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"\0" * 4096)
    async with running(kafka, topic, own_engine, poll_records=50) as sink:
        fed = await feed_events(kafka, topic, range(1, 301))
        await until(lambda: sink.sink.totals.retries >= 3, "refusals for want of room")
        assert sink.sink.totals.snapshots < 300
        assert await letters(admin) == []
        ballast.unlink()
        await until_ledger(own_engine, 600)
        await sink.stop()
    await assert_conserved(admin, fed)
    await execute(admin, "ALTER TABLE market_odds SET TABLESPACE pg_default")
    async with admin.connect() as connection:
        raw = (await connection.get_raw_connection()).driver_connection
        assert raw is not None
        await raw.execute("CHECKPOINT")
        await raw.execute(f"DROP TABLESPACE {space}")
    await admin.dispose()
