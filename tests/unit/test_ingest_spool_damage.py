"""The spool when its files are damaged: what is intact is read, the rest is told."""

import errno
import os
import random
import shutil
import sqlite3
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from oddslog.ingest.spool_errors import SpoolError
from oddslog.ingest.spool_files import SpoolFiles
from oddslog.ingest.spool_look import export_lines
from oddslog.ingest.spool_store import SpoolStore
from oddslog.schemas.errors import ConfigurationError
from tests.support.spools import content, drain, fragment, open_store, reasons

COUNT = 30
FRAGMENTS = [fragment(number, 20_000 if number % 3 == 0 else 200) for number in range(1, COUNT + 1)]
EXPECTED = content(FRAGMENTS)


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spool of 30 fragments, closed: all in the database."""
    directory = tmp_path_factory.mktemp("closed")
    with open_store(directory) as store:
        for start in range(0, COUNT, 5):
            store.append(FRAGMENTS[start : start + 5])
    assert not (directory / "spool.sqlite-wal").exists()
    return directory


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a killed process leaves it: all in the write-ahead log."""
    directory = tmp_path_factory.mktemp("killed")
    with open_store(tmp_path_factory.mktemp("living")) as store:
        for start in range(0, COUNT, 5):
            store.append(FRAGMENTS[start : start + 5])
        for name in ("spool.sqlite", "spool.sqlite-wal"):
            shutil.copy(store._directory / name, directory / name)
    assert (directory / "spool.sqlite-wal").stat().st_size > 100_000
    return directory


def copied(source: Path, target: Path) -> Path:
    """A copy to damage."""
    shutil.copytree(source, target, dirs_exist_ok=True)
    return target


def check(directory: Path) -> list[tuple[object, ...]]:
    """What matters: nothing wrong comes out, in order, and nothing is missed in silence."""
    try:
        with open_store(directory) as store:
            found = content(drain(store, 1_000_000))
            rejected = store.counts.rejected
            assert store.counts.empty
            store.append([fragment(1000)])  # it goes on working
            assert content(drain(store)) == content([fragment(1000)])
    except (ConfigurationError, SpoolError):
        return []  # told, and left as it is
    places = [EXPECTED.index(one) for one in found]
    assert places == sorted(set(places))
    if len(found) < COUNT:
        assert rejected
    return found


def flip(path: Path, places: list[int], mask: int = 0xFF) -> None:
    """Change bytes."""
    data = bytearray(path.read_bytes())
    for place in places:
        data[place % len(data)] ^= mask
    path.write_bytes(data)


def test_nothing_is_wrong_with_a_spool_that_was_killed(killed: Path, tmp_path: Path) -> None:
    """The write-ahead log is taken up whole."""
    directory = copied(killed, tmp_path)
    assert check(directory) == EXPECTED
    assert reasons(directory) == []


DAMAGE = st.lists(st.integers(0, 2**31), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(places=DAMAGE, mask=st.integers(1, 255))
@example(places=[18], mask=1)  # the head says: never write
def test_flipped_bytes_in_the_database(
    closed: Path, tmp_path_factory: pytest.TempPathFactory, places: list[int], mask: int
) -> None:
    """Anywhere: in a value, a page's head, the list of tables."""
    directory = copied(closed, tmp_path_factory.mktemp("flipped"))
    flip(directory / "spool.sqlite", places, mask)
    check(directory)


@settings(max_examples=40, deadline=None)
@given(places=DAMAGE, mask=st.integers(1, 255))
def test_flipped_bytes_in_the_write_ahead_log(
    killed: Path, tmp_path_factory: pytest.TempPathFactory, places: list[int], mask: int
) -> None:
    """SQLite alone would forget everything behind the place without a word."""
    directory = copied(killed, tmp_path_factory.mktemp("flipped"))
    flip(directory / "spool.sqlite-wal", places, mask)
    check(directory)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.9, 0.999])
def test_a_database_that_was_cut(closed: Path, tmp_path: Path, share: float) -> None:
    """What lies before the cut is read."""
    directory = copied(closed, tmp_path)
    size = int((directory / "spool.sqlite").stat().st_size * share)
    os.truncate(directory / "spool.sqlite", size)
    found = check(directory)
    assert len(found) >= (10 if share >= 0.9 else 0)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_write_ahead_log_that_was_cut(killed: Path, tmp_path: Path, share: float) -> None:
    """What was not fsynced when the power failed: whole batches up to the cut, no part of one."""
    directory = copied(killed, tmp_path)
    size = int((directory / "spool.sqlite-wal").stat().st_size * share)
    os.truncate(directory / "spool.sqlite-wal", size)
    with open_store(directory) as store:
        found = content(drain(store))
    assert len(found) % 5 == 0
    assert found == EXPECTED[: len(found)]
    assert found or share < 0.5


def test_a_flipped_byte_of_a_value_is_rejected_and_the_rest_goes_on(
    closed: Path, tmp_path: Path
) -> None:
    """Kept with its reason, never sent."""
    directory = copied(closed, tmp_path)
    data = (directory / "spool.sqlite").read_bytes()
    victim = FRAGMENTS[8].value  # long, so that no other holds its end
    flip(directory / "spool.sqlite", [data.index(victim[-8000:]) + 4000])
    assert check(directory) == [*EXPECTED[:8], *EXPECTED[9:]]
    (reason,) = reasons(directory)
    assert "is damaged: its CRC-32 is" in reason


def test_a_flip_in_the_log_keeps_what_was_before_it_and_a_copy(
    killed: Path, tmp_path: Path
) -> None:
    """The copy lies beside the database; the rejected ones say where."""
    directory = copied(killed, tmp_path)
    size = (directory / "spool.sqlite-wal").stat().st_size
    flip(directory / "spool.sqlite-wal", [size // 2])
    found = check(directory)
    assert found
    assert found == EXPECTED[: len(found)]
    (kept,) = SpoolFiles(directory).damaged()
    (reason,) = reasons(directory)
    assert "write-ahead log was damaged or torn" in reason
    assert kept.name in reason
    assert kept.stat().st_size == size


def test_a_file_system_without_links_takes_a_copy_of_the_log(
    killed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FAT, some of FUSE and SMB: the spool opens, and damage is told as elsewhere."""

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    directory = copied(killed, tmp_path)
    (directory / "spool.sqlite").write_bytes(b"")
    check(directory)
    (kept,) = SpoolFiles(directory).damaged()
    assert kept.read_bytes() == (killed / "spool.sqlite-wal").read_bytes()


def test_a_vanished_row_is_missed(closed: Path, tmp_path: Path) -> None:
    """As a damaged page's head makes rows vanish without any error."""
    directory = copied(closed, tmp_path)
    connection = sqlite3.connect(directory / "spool.sqlite")
    connection.execute("DELETE FROM fragments WHERE seq IN (4, 5, 30)")
    connection.commit()
    connection.close()
    assert check(directory) == [*EXPECTED[:3], *EXPECTED[5:29]]
    assert reasons(directory) == [
        "2 fragment(s) at places 4 to 5 are gone from the file",
        "1 fragment(s) at places 30 to 30 are gone from the file",
    ]


def test_what_is_no_database_is_put_aside(closed: Path, tmp_path: Path) -> None:
    """And told; the spool begins anew."""
    directory = copied(closed, tmp_path)
    noise = random.Random(1).randbytes(50_000)  # noqa: S311 - a seeded test
    (directory / "spool.sqlite").write_bytes(noise)
    assert check(directory) == []
    (kept,) = SpoolFiles(directory).damaged()
    assert kept.read_bytes() == noise
    assert "was damaged" in reasons(directory)[0]


@pytest.mark.parametrize("moved", [False, True])
def test_a_salvage_that_was_interrupted_is_finished(
    closed: Path, tmp_path: Path, moved: bool
) -> None:
    """Before the database was moved aside it counts, afterwards its copy does."""
    directory = copied(closed, tmp_path)
    files = SpoolFiles(directory)
    if moved:
        files.database.rename(files.new)
    else:
        files.new.write_bytes(b"half a copy")
    assert check(directory) == EXPECTED
    assert not files.new.exists()


@pytest.mark.parametrize("how", ["zeros", "noise", "half", "nothing"])
def test_a_spool_damaged_while_it_is_used_gives_back_all_that_comes_after(
    tmp_path: Path, how: str
) -> None:
    """Drained, its file damaged under it: a new row at a place that is acknowledged is lost."""
    directory = tmp_path / "spool"
    with open_store(directory) as store:
        store.append(FRAGMENTS)
        assert len(drain(store)) == COUNT
        live_damage(store, directory / "spool.sqlite", how)
        put: list[tuple[object, ...]] = []
        found: list[tuple[object, ...]] = []
        for start in (101, 104, 107):
            new = [fragment(number, 300_000) for number in range(start, start + 3)]
            store.append(new)
            put += content(new)
            if start > 101:  # the second time, two batches are inside
                found += content(drain(store, 1_000_000))
                assert found == put
                assert store.counts.empty
        store.append(FRAGMENTS[:2])
    with open_store(directory) as store:
        assert content(drain(store)) == EXPECTED[:2]


def live_damage(store: SpoolStore, path: Path, how: str) -> None:
    """Write over the file of an open store, all of which is in it and not in the memory."""
    assert store._connection is not None
    store._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    size = path.stat().st_size
    if how == "zeros":
        path.write_bytes(bytes(size))
    elif how == "noise":
        path.write_bytes(random.Random(1).randbytes(size))  # noqa: S311 - a seeded test
    else:
        os.truncate(path, size // 2 if how == "half" else 0)
    store._connection.execute("PRAGMA shrink_memory").fetchall()


@pytest.mark.parametrize("salvaged", [False, True])
def test_what_was_rejected_and_removed_is_not_missed(tmp_path: Path, salvaged: bool) -> None:
    """Removed after an export, with rows before it that are not sent yet."""
    directory = tmp_path / "spool"
    with open_store(directory) as store:
        store.append(FRAGMENTS)
        for row in store.page(10**9, 100)[3:6]:
            store.reject(row, "no")
        store.remove_rejected(2)  # a third one came after the export
        assert (store.counts.rejected, store.counts.rejected_bytes > 0) == (1, True)
    if salvaged:
        connection = sqlite3.connect(directory / "spool.sqlite")
        connection.execute("ALTER TABLE bounds RENAME COLUMN fragments TO gone")
        connection.commit()
        connection.close()
    with open_store(directory) as store:
        assert content(drain(store)) == [*EXPECTED[:3], *EXPECTED[6:]]
        assert store.counts.empty
    damage = ["the spool's file was damaged"] * salvaged
    assert [reason.split(" (")[0] for reason in seen_reasons(directory)] == ["no", *damage]
    connection = sqlite3.connect(directory / "spool.sqlite")
    # What stood for the removed ones has gone with their places.
    assert connection.execute("SELECT count(*) FROM rejected").fetchone() == (1 + salvaged,)
    connection.close()


def seen_reasons(directory: Path) -> list[str]:
    """As `oddslog spool export` has them."""
    return [fields["reason"] for _, fields in export_lines(directory, everything=False)]


def test_a_gap_is_told_once_however_often_the_spool_is_opened(closed: Path, tmp_path: Path) -> None:
    """The line of a gap does not stand for one of its places."""
    directory = copied(closed, tmp_path)
    connection = sqlite3.connect(directory / "spool.sqlite")
    connection.execute("DELETE FROM fragments WHERE seq IN (4, 5)")
    connection.commit()
    connection.close()
    for _ in range(3):
        with open_store(directory) as store:
            assert len(store.page(10**9, 100)) == COUNT - 2
    assert reasons(directory) == ["2 fragment(s) at places 4 to 5 are gone from the file"]
