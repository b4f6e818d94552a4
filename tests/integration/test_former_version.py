"""A rollout: the sink of the version before is at work while the tables are migrated, and after."""

import io
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from oddslog.deploy.stack import Servers
from oddslog.schemas import KafkaConnection, WriteBatch
from oddslog.sink.database import make_engine
from oddslog.sink.migrate import _scripts, current_revision, head_revision, migrate
from oddslog.sink.runs import read_runs
from tests.fixtures.servers import create_database, drop_database
from tests.fixtures.sinks import Feed
from tests.support.batches import batch, key_of, snapshot
from tests.support.conservation import CONFIRMED, assert_conserved, until_ledger
from tests.support.kafka import produce
from tests.support.modules import ROOT
from tests.support.sink_process import BUDGET_SECONDS, SinkProcess, clean_environment

# Of each revision whose code may be at work on the newest tables (its `oldest_code` and
# later ones), the last commit that has it for its newest.
FORMER = {"0005": "eedc807", "0006": "6935ea9"}
EVENTS = 30
PARTS = ("schemas", "ingest", "sink", "deploy")
_PROGRAM = "import sys; sys.argv[0] = 'oddslog'; from oddslog.deploy.entry import main; main()"

Command = Callable[[Sequence[str], Mapping[str, str]], "subprocess.Popen[str]"]


@pytest.fixture(params=FORMER)
def revision(request: pytest.FixtureRequest) -> str:
    """The newest revision that the former code knows."""
    named: str = request.param
    return named


@pytest.fixture
def former(tmp_path: Path, revision: str) -> Command:
    """Runs the `oddslog` of that revision."""
    commit = FORMER[revision]
    git = ["git", "-C", str(ROOT), "archive", "--format=tar", commit, *PARTS]
    try:
        packed = subprocess.run(git, capture_output=True, check=True, timeout=BUDGET_SECONDS).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"the history with commit {commit} is not here ({error})")
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(tmp_path / "oddslog", filter="data")
    return partial(_run, tmp_path)


def _run(tree: Path, arguments: Sequence[str], env: Mapping[str, str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, *arguments],
        env={**env, "PYTHONPATH": str(tree)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def environment(
    kafka: KafkaConnection, topic: str, servers: Servers, new_name: str
) -> dict[str, str]:
    """Settings of both versions."""
    return {
        **clean_environment(),
        "ODDSLOG_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "ODDSLOG_TOPIC": topic,
        "ODDSLOG_GROUP": topic,
        "ODDSLOG_SESSION_TIMEOUT_SECONDS": "6",
        "ODDSLOG_DATABASE_URL": f"{servers.database_url.rsplit('/', 1)[0]}/{new_name}_former",
    }


@pytest.fixture
async def tables(servers: Servers, new_name: str) -> AsyncIterator[AsyncEngine]:
    """An engine on a database without any table."""
    engine = make_engine(await create_database(servers, f"{new_name}_former"))
    yield engine
    await engine.dispose()
    await drop_database(servers, f"{new_name}_former")


@pytest.fixture
def sinks() -> Iterator[list[SinkProcess]]:
    """Those that a test started; ended with it."""
    started: list[SinkProcess] = []
    yield started
    for sink in started:
        sink.end()


def part(number: int) -> WriteBatch:
    """A scrape run of its own: some events, each a record with a snapshot and its confirmation."""
    events = range(EVENTS * number, EVENTS * (number + 1))
    made = [snapshot(event, scrape_run_id=number) for event in events]
    keys = tuple(key_of(one) for one in made)
    return batch(
        made, unchanged_betpawa=keys, confirmed_at=CONFIRMED, scrape_run_id=number, batch_count=1
    )


def test_each_revision_that_may_be_at_work_is_tried() -> None:
    """With a new migration its predecessor comes into FORMER, and what is too old leaves it."""
    newest, *older = _scripts().iterate_revisions(head_revision(), "base")
    oldest: str = newest.module.oldest_code
    assert list(FORMER) == sorted(one.revision for one in older if one.revision >= oldest)


@pytest.mark.faults
async def test_the_sink_of_the_version_before_writes_into_the_new_tables(
    former: Command,
    revision: str,
    environment: dict[str, str],
    tables: AsyncEngine,
    sinks: list[SinkProcess],
    feed: Feed,
    kafka: KafkaConnection,
    topic: str,
) -> None:
    """Migrated under it, then beside one of this version, then replaced: all is there once."""
    migrating = former(["migrate"], environment)
    assert migrating.wait(BUDGET_SECONDS) == 0, migrating.communicate()
    migrating.communicate()
    async with tables.connect() as connection:
        assert await current_revision(connection) == revision

    fed: list[WriteBatch] = []

    async def feed_part() -> None:
        """And something of which a dead letter becomes; all of it is written then."""
        fed.append(part(len(fed) + 1))
        await feed(fed[-1:])
        await produce(kafka, topic, [b"junk"], partition=len(fed) % 3)

        await until_ledger(tables, len(fed) * (EVENTS + 1))

    def start(**how: Command) -> SinkProcess:
        sinks.append(SinkProcess(environment, **how))
        sinks[-1].wait_placed()
        return sinks[-1]

    old = start(start=former)
    await feed_part()
    assert await migrate(tables)
    await feed_part()
    new = start()
    await feed_part()
    assert old.stop() == 0, old.tail()
    await feed_part()
    assert new.stop() == 0, new.tail()
    await assert_conserved(tables, fed, {"undecodable": len(fed)})
    async with tables.connect() as connection:
        runs = await read_runs(connection)
    assert [run.run_id for run in runs if run.complete and not run.marked] == [1, 2, 3, 4]
