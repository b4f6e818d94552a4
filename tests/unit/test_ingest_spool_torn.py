"""Damage in the database and its write-ahead log at once: the loss is told, the log kept."""

import multiprocessing
import os
import shutil
import signal
import sqlite3
from pathlib import Path

import pytest

from oddslog.ingest.spool_errors import SpoolError
from oddslog.ingest.spool_files import SpoolFiles
from oddslog.ingest.spool_log import last_commit, whole_commit
from oddslog.ingest.spool_store import SpoolStore
from oddslog.schemas import kill_points
from tests.support.spools import PLENTY_BYTES, content, drain, fragment, open_store, reasons

PAGE_BYTES = 16 * 1024
COUNT = 25
FRAGMENTS = [fragment(number, 20_000) for number in range(COUNT)]
KILLS = (None, "ingest.before_salvage_commit", "ingest.before_swap", "ingest.after_note_commit")


@pytest.fixture(scope="module")
def torn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Killed: five fragments in the database, twenty in a log that is torn in the middle."""
    directory = tmp_path_factory.mktemp("torn")
    with open_store(tmp_path_factory.mktemp("living")) as store:
        store.append(FRAGMENTS[:5])
        assert store._connection is not None
        store._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        for start in range(5, COUNT, 5):
            store.append(FRAGMENTS[start : start + 5])
        for name in ("spool.sqlite", "spool.sqlite-wal", "spool.lock"):
            shutil.copy(store._directory / name, directory / name)
    log = directory / "spool.sqlite-wal"
    flip(log, log.stat().st_size // 2)
    assert 0 < whole_commit(log) < last_commit(log)
    return directory


def flip(path: Path, place: int) -> None:
    """Change a byte."""
    data = bytearray(path.read_bytes())
    data[place] ^= 0xFF
    path.write_bytes(data)


def damaged(torn: Path, directory: Path, page: int) -> Path:
    """A copy, its database damaged at the head of a page too."""
    shutil.copytree(torn, directory, dirs_exist_ok=True)
    flip(directory / "spool.sqlite", (page - 1) * PAGE_BYTES)
    return directory


def open_and_die(directory: Path, kill_point: str) -> None:
    """In a child: SIGKILL where the opening comes to the point."""

    def kill(name: str) -> None:
        if name == kill_point:
            os.kill(os.getpid(), signal.SIGKILL)

    kill_points.arm(kill)
    with open_store(directory):
        pass


def killed_at(directory: Path, kill_point: str) -> None:
    """Open the spool in a process that is killed there."""
    child = multiprocessing.get_context("spawn").Process(
        target=open_and_die, args=(directory, kill_point)
    )
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL


def check_told(torn: Path, directory: Path, *, salvaged: bool) -> None:
    """The line has the numbers, once; the log is kept; another start says nothing new."""
    log = torn / "spool.sqlite-wal"
    for _ in range(2):
        told = [reason for reason in reasons(directory) if "write-ahead log" in reason]
        numbers = f"frame {whole_commit(log)} of {last_commit(log)}"
        assert len(told) == 1, reasons(directory)
        assert numbers in told[0]
        kept = {path.name: path.read_bytes() for path in SpoolFiles(directory).damaged()}
        assert kept[told[0].split(" kept as ")[1]] == log.read_bytes()
        assert any("file was damaged" in reason for reason in reasons(directory)) == salvaged
        assert not list(directory.glob("*.before*"))
        with open_store(directory) as store:
            assert store.counts.empty


@pytest.mark.parametrize("kill_point", KILLS)
@pytest.mark.parametrize("page", [3, 4, 11])
def test_a_salvage_tells_of_a_torn_log(
    torn: Path, tmp_path: Path, page: int, kill_point: str | None
) -> None:
    """Whatever page is damaged, and wherever the one who salvages is killed."""
    directory = damaged(torn, tmp_path, page)
    if kill_point is not None:
        killed_at(directory, kill_point)
    with open_store(directory) as store:
        found = content(drain(store, 1_000_000))
    expected = content(FRAGMENTS)
    places = [expected.index(one) for one in found]
    assert places == sorted(set(places))
    check_told(torn, directory, salvaged=True)


def test_a_torn_log_is_told_after_a_start_that_failed(
    torn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The salvage had no room: SQLite has removed the log by then, its second name stays."""
    directory = damaged(torn, tmp_path, 3)

    def full(self: SpoolFiles) -> Path:
        raise OSError("no room")

    store = SpoolStore(directory, PLENTY_BYTES)
    with monkeypatch.context() as patch:
        patch.setattr(SpoolFiles, "swap", full)
        with pytest.raises(SpoolError):
            store.open()
    with open_store(directory) as store:
        drain(store, PLENTY_BYTES)
    check_told(torn, directory, salvaged=True)


def test_a_log_is_read_as_sqlite_reads_it(torn: Path, tmp_path: Path) -> None:
    """To the same frame, wherever it is torn."""
    log = torn / "spool.sqlite-wal"
    flips = [40, log.stat().st_size // 5, log.stat().st_size - 10]
    for number, place in enumerate([log.stat().st_size // 2, *flips]):
        directory = tmp_path / str(number)
        shutil.copytree(torn, directory)
        flip(directory / log.name, log.stat().st_size // 2)  # whole again
        flip(directory / log.name, place)
        whole = whole_commit(directory / log.name)
        connection = sqlite3.connect(directory / "spool.sqlite")
        _, read, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        connection.close()
        assert whole == read


def test_a_rejected_row_that_cannot_be_read_hides_none_behind_it(tmp_path: Path) -> None:
    """It becomes a line that says so, with what can be read of it."""
    values = [fragment(number, 60_000) for number in range(10)]
    with open_store(tmp_path) as store:
        store.append(values)
        for row in store.page(PLENTY_BYTES, 100):
            store.reject(row, f"no {row.seq}")
        store.remove_rejected(3)  # a hole before them
    database = tmp_path / "spool.sqlite"
    connection = sqlite3.connect(database)
    connection.execute("ALTER TABLE bounds RENAME COLUMN fragments TO gone")
    connection.commit()
    connection.execute("VACUUM")  # each value is there once
    connection.close()
    # A page within its chain points behind the file.
    data = bytearray(database.read_bytes())
    middle = data.index(values[5].value[:12_000]) // PAGE_BYTES * PAGE_BYTES
    data[middle : middle + 4] = b"\x7f\xff\xff\xff"
    database.write_bytes(data)
    with open_store(tmp_path):
        pass
    found = [reason for reason in reasons(tmp_path) if reason]
    assert found[:2] == ["no 4", "no 5"]
    assert "its value and reason cannot be read" in found[2]
    assert found[3:7] == ["no 7", "no 8", "no 9", "no 10"]
    assert "file was damaged" in found[7]
    connection = sqlite3.connect(database)
    rows = connection.execute("SELECT seq, value FROM rejected WHERE seq > 3 ORDER BY seq")
    kept = [(seq, value) for seq, value in rows]
    connection.close()
    wanted = [(n + 1, values[n].value) for n in range(3, 10)]
    assert kept == [(seq, None if seq == 6 else value) for seq, value in wanted]
