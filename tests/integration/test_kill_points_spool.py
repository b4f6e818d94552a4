"""SIGKILL where a spool mends itself: what was promised is sent, what was lost is told, once."""

import asyncio
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from oddslog.deploy.compare import compare
from oddslog.ingest.spool_files import SpoolFiles
from oddslog.schemas import KafkaConnection
from tests.fixtures.sinks import RunSink
from tests.integration.test_ingest_contract_kafka import read_topic
from tests.support.feeding_child import EVENTS, FeedingChild, batch_number
from tests.support.spools import open_store, reasons

BATCHES = 6
SWAP_POINTS = (
    "ingest.before_salvage_commit",  # the copy is written, not committed
    "ingest.before_swap",  # ... and whole, beside the damaged file
    "ingest.database_aside",  # there is a log and no database
    "ingest.log_aside",  # neither
    "ingest.after_swap",
)
REJECT_POINTS = ("ingest.before_reject_commit", "ingest.after_reject_commit")
NOTE_POINTS = ("ingest.before_note_commit", "ingest.after_note_commit")
LOST_POINTS = (
    "ingest.before_lost_mark",
    "ingest.after_lost_mark",
    pytest.param("ingest.before_note_commit", marks=pytest.mark.faults),  # of the log
    pytest.param("ingest.after_note_commit", marks=pytest.mark.faults),
    "ingest.before_note_commit:2",  # of the database
    pytest.param("ingest.after_note_commit:2", marks=pytest.mark.faults),
    "ingest.before_spool_mark",
    pytest.param("ingest.after_spool_mark", marks=pytest.mark.faults),
)
MARK_POINTS = ("ingest.before_spool_mark", "ingest.after_spool_mark")


@dataclass(frozen=True)
class Spooled:
    """A spool as a killed scraper left it: all in the log; its values in their order."""

    directory: Path
    values: list[bytes]


@pytest.fixture(scope="module")
def spooled(tmp_path_factory: pytest.TempPathFactory) -> Spooled:
    """Six batches in an outage, of which the scraper knows five."""
    directory = tmp_path_factory.mktemp("spooled")
    child = FeedingChild(
        "127.0.0.1:1",
        "anything",
        directory,
        kill_point=f"ingest.after_spool:{BATCHES}",
        durability="spool",
        count=BATCHES,
    )
    child.wait_killed()
    assert child.acknowledged == set(range(BATCHES - 1))
    looked_at = tmp_path_factory.mktemp("looked_at")
    shutil.copytree(directory, looked_at, dirs_exist_ok=True)
    with closing(sqlite3.connect(looked_at / "spool.sqlite")) as connection:
        rows = connection.execute("SELECT value FROM fragments ORDER BY seq").fetchall()
    assert len(rows) == BATCHES * (EVENTS + 1)
    return Spooled(directory, [value for (value,) in rows])


@pytest.fixture
def spool_dir(spooled: Spooled, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(spooled.directory, tmp_path, dirs_exist_ok=True)
    return tmp_path


Live = Callable[..., FeedingChild]


@pytest.fixture
def live(kafka: KafkaConnection, topic: str, spool_dir: Path) -> Iterator[Live]:
    """Scrapers on that spool, one after the other; each feeds one more batch."""
    started: list[FeedingChild] = []

    def start(kill_point: str = "") -> FeedingChild:
        started.append(
            FeedingChild(
                kafka.bootstrap_servers,
                topic,
                spool_dir,
                kill_point=kill_point,
                first=BATCHES,
                count=1,
            )
        )
        return started[-1]

    yield start
    for child in started:
        if child.process.poll() is None:
            child.kill()


@contextmanager
def damaging(directory: Path, statement: str) -> Iterator[None]:
    """Change the file; a reader (`oddslog spool status`) keeps all of it in the log."""
    uri = f"{(directory / 'spool.sqlite').as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM bounds").fetchall()
        with closing(sqlite3.connect(directory / "spool.sqlite")) as connection:
            connection.execute(statement)
            connection.commit()
        assert (directory / "spool.sqlite-wal").stat().st_size > 0
        yield


async def killed_and_started_again(live: Live, kill_point: str) -> None:
    """SIGKILL at the point; the next life ends well, its batch is acknowledged."""
    await asyncio.to_thread(live(kill_point).wait_killed)
    again = live()
    await asyncio.to_thread(again.wait_end)
    assert again.acknowledged == {BATCHES}


async def check_sent(
    kafka: KafkaConnection, topic: str, spooled: Spooled, lost: tuple[int, ...] = ()
) -> None:
    """Each fragment of the spool exactly once but the lost places; and the new batch behind."""
    records = await read_topic(kafka.bootstrap_servers, topic)
    found = Counter(r.value for r in records if r.writes.batch_index < BATCHES)
    kept = [value for place, value in enumerate(spooled.values, 1) if place not in lost]
    assert found == Counter(kept)
    assert sum(r.writes.batch_index == BATCHES for r in records) == EVENTS + 1


def check_empty(directory: Path, rejected: list[str]) -> None:
    """Nothing is left to be sent, and exactly these are rejected."""
    with open_store(directory) as store:
        assert (store.counts.empty, store.counts.rejected) == (True, len(rejected))
    found = reasons(directory)
    assert len(found) == len(rejected)
    for reason, wanted in zip(found, rejected, strict=True):
        assert wanted in reason


@pytest.mark.parametrize("kill_point", SWAP_POINTS)
async def test_killed_while_a_damaged_spool_is_salvaged(
    live: Live,
    kafka: KafkaConnection,
    topic: str,
    spooled: Spooled,
    spool_dir: Path,
    kill_point: str,
    run_sink: RunSink,
    engine: AsyncEngine,
) -> None:
    """The rows lie in the log alone; whichever file a kill leaves in its place, all arrive."""
    with damaging(spool_dir, "DROP TABLE rejected"):
        await asyncio.to_thread(live(kill_point).wait_killed)
    again = live()
    await asyncio.to_thread(again.wait_end)
    assert again.acknowledged == {BATCHES}
    await check_sent(kafka, topic, spooled)
    check_empty(spool_dir, ["the spool's file was damaged"])
    if kill_point == "ingest.database_aside":
        totals = await run_sink()
        result = await compare(engine, [batch_number(number) for number in range(BATCHES + 1)])
        assert (result.equal, totals.dead_letters) == (True, 0), result.first_difference


@pytest.mark.parametrize("kill_point", REJECT_POINTS)
async def test_killed_while_a_damaged_fragment_is_rejected(
    live: Live,
    kafka: KafkaConnection,
    topic: str,
    spooled: Spooled,
    spool_dir: Path,
    kill_point: str,
) -> None:
    """One row among the rejected, with its value, and never sent."""
    with damaging(
        spool_dir, "UPDATE fragments SET value = CAST(value || x'00' AS BLOB) WHERE seq = 4"
    ):
        pass
    await killed_and_started_again(live, kill_point)
    await check_sent(kafka, topic, spooled, lost=(4,))
    check_empty(spool_dir, ["is damaged: its CRC-32 is"])
    with closing(sqlite3.connect(spool_dir / "spool.sqlite")) as connection:
        kept = connection.execute("SELECT seq, value FROM rejected").fetchall()
    assert kept == [(4, spooled.values[3] + b"\0")]


@pytest.mark.parametrize("kill_point", NOTE_POINTS)
async def test_killed_while_vanished_fragments_are_noted(
    live: Live,
    kafka: KafkaConnection,
    topic: str,
    spooled: Spooled,
    spool_dir: Path,
    kill_point: str,
) -> None:
    """One line says which are gone, not two that differ."""
    with damaging(spool_dir, "DELETE FROM fragments WHERE seq IN (4, 5)"):
        pass
    await killed_and_started_again(live, kill_point)
    await check_sent(kafka, topic, spooled, lost=(4, 5))
    check_empty(spool_dir, ["2 fragment(s) at places 4 to 5 are gone from the file"])


@pytest.mark.parametrize("kill_point", LOST_POINTS)
async def test_killed_while_the_loss_of_the_database_is_noted(
    live: Live,
    kafka: KafkaConnection,
    topic: str,
    spooled: Spooled,
    spool_dir: Path,
    kill_point: str,
) -> None:
    """The database was emptied by others: both lines are there, and the log is kept aside."""
    log = (spool_dir / "spool.sqlite-wal").read_bytes()
    (spool_dir / "spool.sqlite").write_bytes(b"")
    await killed_and_started_again(live, kill_point)
    await check_sent(kafka, topic, spooled, lost=tuple(range(1, len(spooled.values) + 1)))
    check_empty(spool_dir, ["write-ahead log was damaged or torn", "was gone or empty"])
    assert log in [path.read_bytes() for path in SpoolFiles(spool_dir).damaged()]


@pytest.mark.faults
@pytest.mark.parametrize("kill_point", NOTE_POINTS)
async def test_killed_while_a_torn_log_is_noted(
    live: Live,
    kafka: KafkaConnection,
    topic: str,
    spooled: Spooled,
    spool_dir: Path,
    kill_point: str,
) -> None:
    """Whole batches before the damage are sent; one line tells of those behind it."""
    log = bytearray((spool_dir / "spool.sqlite-wal").read_bytes())
    log[len(log) * 3 // 4] ^= 0xFF
    (spool_dir / "spool.sqlite-wal").write_bytes(log)
    await killed_and_started_again(live, kill_point)
    records = await read_topic(kafka.bootstrap_servers, topic)
    kept = sum(record.writes.batch_index < BATCHES for record in records)
    assert 0 < kept < len(spooled.values)
    assert kept % (EVENTS + 1) == 0
    lost = tuple(range(kept + 1, len(spooled.values) + 1))
    await check_sent(kafka, topic, spooled, lost=lost)
    check_empty(spool_dir, ["write-ahead log was damaged or torn"])
    assert [path.read_bytes() for path in SpoolFiles(spool_dir).damaged()] == [log]


@pytest.mark.parametrize("kill_point", MARK_POINTS)
async def test_killed_while_a_new_spool_is_marked(
    live: Live, kafka: KafkaConnection, topic: str, spool_dir: Path, kill_point: str
) -> None:
    """Nothing was promised yet, and nothing is missed by the next life."""
    shutil.rmtree(spool_dir)
    await killed_and_started_again(live, kill_point)
    assert len(await read_topic(kafka.bootstrap_servers, topic)) == EVENTS + 1
    check_empty(spool_dir, [])
