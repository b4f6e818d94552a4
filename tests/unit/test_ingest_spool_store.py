"""The spool's database: order, content, bounds, lock, a full disk."""

import multiprocessing
import os
import resource
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oddslog.ingest.spool_errors import SpoolError, SpoolFullError
from oddslog.ingest.spool_store import SpoolStore
from oddslog.schemas.errors import ConfigurationError
from tests.support.spools import PLENTY_BYTES, content, drain, fragment, open_store, peek, reasons


def numbered(first: int, last: int, size_bytes: int = 40) -> list[object]:
    """The content of fragments by number."""
    return list(content([fragment(number, size_bytes) for number in range(first, last + 1)]))


def test_what_goes_in_comes_out_in_order_with_everything(tmp_path: Path) -> None:
    """Key, value, headers, kind and event; also through a close."""
    with open_store(tmp_path / "made" / "on the way") as store:
        store.append([fragment(1), fragment(2)])
        store.append([fragment(3, 200_000)])
        assert (store.counts.fragments, store.counts.unsent, store.counts.empty) == (3, True, False)
        assert store.counts.bytes > 200_000
    with open_store(tmp_path / "made" / "on the way") as store:
        assert store.counts.fragments == 3
        found = content(drain(store))
        assert found == [*numbered(1, 2), *numbered(3, 3, 200_000)]
        assert (store.counts.bytes, store.counts.empty, store.counts.unsent) == (0, True, False)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 4)),
        st.tuples(st.just("ack"), st.integers(0, 5)),
        st.tuples(st.just("reopen"), st.just(0)),
        st.tuples(st.just("reject"), st.just(0)),
    ),
    max_size=12,
)


@settings(max_examples=40, deadline=None)
@given(steps=STEPS)
def test_any_course_of_events_keeps_order_and_content(
    steps: list[tuple[str, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Against a list in memory."""
    directory = tmp_path_factory.mktemp("spool")
    expected: list[int] = []
    last, rejected = 0, 0
    store = SpoolStore(directory, PLENTY_BYTES)
    store.open()
    try:
        for what, count in steps:
            if what == "append":
                store.append([fragment(last + number) for number in range(1, count + 1)])
                expected += range(last + 1, last + count + 1)
                last += count
            elif what == "reopen":
                store.close()
                store = SpoolStore(directory, PLENTY_BYTES)
                store.open()
            elif rows := store.page(PLENTY_BYTES, max(1, count)):
                if what == "reject":
                    store.reject(rows[0], "no")
                    expected.pop(0)
                    rejected += 1
                elif count:
                    store.acknowledge(rows[-1].seq)
                    del expected[: len(rows)]
            assert store.counts.fragments == len(expected)
            assert store.counts.rejected == rejected
            # Where the last rows were rejected, draining finds that nothing is left.
            assert store.counts.unsent or not expected
        assert content(peek(store)) == content([fragment(number) for number in expected])
        assert content(drain(store)) == content([fragment(number) for number in expected])
        assert store.counts.empty
    finally:
        store.close()


def test_every_commit_is_fsynced(tmp_path: Path) -> None:
    """A machine that loses its power loses no receipt: WAL with FULL, not NORMAL."""
    with open_store(tmp_path) as store:
        assert store._connection is not None
        assert store._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert store._connection.execute("PRAGMA synchronous").fetchone() == (2,)


def test_the_folders_that_are_made_are_fsynced_in_their_parents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a power failure takes the folder, and the fsynced files in it."""
    synced: list[int] = []
    fsync = os.fsync

    def noting(handle: int) -> None:
        synced.append(os.fstat(handle).st_ino)
        fsync(handle)

    monkeypatch.setattr(os, "fsync", noting)
    with open_store(tmp_path / "made" / "on the way"):
        assert {tmp_path.stat().st_ino, (tmp_path / "made").stat().st_ino} <= set(synced)


def test_a_page_is_bounded_in_bytes_and_rows(tmp_path: Path) -> None:
    """A fragment larger than a page is a page of its own."""
    with open_store(tmp_path) as store:
        store.append([fragment(number, 1000) for number in range(1, 11)])
        assert len(store.page(2500, 100)) == 3
        assert len(store.page(PLENTY_BYTES, 4)) == 4
        assert len(store.page(1, 100)) == 1


def test_a_batch_beyond_the_bound_is_refused_whole(tmp_path: Path) -> None:
    """What is inside stays, and smaller ones still fit; drained, there is room again."""
    with open_store(tmp_path, max_bytes=5000) as store:
        store.append([fragment(1, 2000)])
        with pytest.raises(SpoolFullError, match=r"is full: 2,\d+ of 5,000 bytes are used, and"):
            store.append([fragment(2, 2000), fragment(3, 2000)])
        store.append([fragment(2, 2000)])
        assert content(drain(store)) == numbered(1, 2, 2000)
        store.append([fragment(3, 2000), fragment(4, 2000)])


def test_rejected_rows_count_and_are_named_when_it_is_full(tmp_path: Path) -> None:
    """Or the folder could grow without end."""
    with open_store(tmp_path, max_bytes=3000) as store:
        store.append([fragment(1, 2000)])
        store.reject(store.page(1, 1)[0], "no")
        with pytest.raises(SpoolFullError, match=r"rejected .see: oddslog spool export"):
            store.append([fragment(2, 2000)])
        store.remove_rejected(10)
        store.append([fragment(2, 2000)])


def test_one_at_a_time_has_it(tmp_path: Path) -> None:
    """The second gets one line that names the folder; the first is not disturbed."""
    with open_store(tmp_path) as store:
        store.append([fragment(1)])
        with pytest.raises(ConfigurationError, match="in use") as caught:
            SpoolStore(tmp_path, PLENTY_BYTES).open()
        assert str(tmp_path) in str(caught.value)
        assert "\n" not in str(caught.value)
        assert content(drain(store)) == numbered(1, 1)
    with open_store(tmp_path):
        pass


def test_a_folder_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    """A file in its place; a database of another program; of a later version."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigurationError, match="cannot be used"):
        SpoolStore(tmp_path / "file", PLENTY_BYTES).open()
    with open_store(tmp_path / "later"):
        pass
    connection = sqlite3.connect(tmp_path / "later" / "spool.sqlite")
    connection.execute("PRAGMA user_version = 7")
    connection.close()
    with pytest.raises(ConfigurationError, match="format 7"):
        SpoolStore(tmp_path / "later", PLENTY_BYTES).open()


def test_a_rejected_row_is_out_of_the_way_with_its_reason(tmp_path: Path) -> None:
    """Twice is once; the hole it leaves is no damage."""
    with open_store(tmp_path) as store:
        store.append([fragment(number) for number in (1, 2, 3)])
        row = store.page(PLENTY_BYTES, 10)[1]
        store.reject(row, "too large")
        store.reject(row, "too large")
        assert (store.counts.fragments, store.counts.rejected) == (2, 1)
    with open_store(tmp_path) as store:
        assert content(drain(store)) == [*numbered(1, 1), *numbered(3, 3)]
        assert store.counts.rejected == 1
    assert reasons(tmp_path) == ["too large"]


def limit_pages(store: SpoolStore, more: int) -> None:
    """Let the disk be full after so many more pages, as SQLite sees it."""
    assert store._connection is not None
    (pages,) = store._connection.execute("PRAGMA page_count").fetchone()
    store._connection.execute(f"PRAGMA max_page_count = {pages + more}")


def test_a_full_disk_is_told_and_what_is_inside_drains(tmp_path: Path) -> None:
    """SQLITE_FULL by its code; there is room again when fragments have left."""
    with open_store(tmp_path) as store:
        store.append([fragment(1, 100_000)])
        limit_pages(store, 2)
        with pytest.raises(SpoolFullError, match=r"disk of the spool .* is full .SQLITE_FULL."):
            store.append([fragment(2, 100_000)])
        assert store.counts.fragments == 1
        assert content(drain(store)) == numbered(1, 1, 100_000)
        store.append([fragment(2, 100_000)])
        assert content(drain(store)) == numbered(2, 2, 100_000)


def _fill_under_a_file_size_limit(directory: Path) -> None:
    """In a child: the system refuses every file to grow beyond 1 MiB."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
    with open_store(directory) as store:
        put = 0
        try:
            while True:
                store.append([fragment(put + 1, 100_000)])
                put += 1
        except SpoolError:
            pass
        found = content(drain(store, 1))
        assert put > 3
        assert found == numbered(1, put, 100_000), (put, len(found))
        # And deleted, though neither file could grow: the log is begun anew for it.
        assert store.counts.empty
    os._exit(17)


def test_a_disk_that_refuses_to_grow_loses_nothing(tmp_path: Path) -> None:
    """A real refusal of the system: what went in comes out, also when opened again."""
    child = multiprocessing.get_context("spawn").Process(
        target=_fill_under_a_file_size_limit, args=(tmp_path,)
    )
    child.start()
    child.join(60)
    assert child.exitcode == 17
    with open_store(tmp_path) as store:
        store.append([fragment(1000)])
        assert content(drain(store))[-1] == numbered(1000, 1000)[0]


def test_space_goes_back_when_it_is_empty(tmp_path: Path) -> None:
    """An outage of hours does not keep its gigabytes for ever."""
    with open_store(tmp_path) as store:
        for number in range(1, 81):
            store.append([fragment(number, 1_000_000)])
        assert (tmp_path / "spool.sqlite").stat().st_size > 64 * 2**20
        drain(store, 10**7)
        store.append([fragment(1)])
        assert (tmp_path / "spool.sqlite").stat().st_size < 2**20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"needs the right to mount a small disk: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_full_to_the_last_byte_drains_and_takes_more(small_disk: Path) -> None:
    """Somebody else fills it: what is inside goes out; with room, new ones go in."""
    with open_store(small_disk / "spool") as store:
        store.append([fragment(number, 100_000) for number in (1, 2, 3)])
        (ballast := small_disk / "ballast").write_bytes(b"x" * 10)
        with ballast.open("ab", buffering=0) as file, suppress(OSError):
            while file.write(b"x" * 1024):
                pass
        with pytest.raises(SpoolFullError, match=r"disk of the spool .* is full"):
            store.append([fragment(4, 900_000)])
        assert content(drain(store)) == numbered(1, 3, 100_000)
        assert not store.counts.unsent
        ballast.unlink()
        store.append([fragment(5, 100_000)])
    with open_store(small_disk / "spool") as store:
        assert content(drain(store))[-1:] == numbered(5, 5, 100_000)


def _append_and_die(directory: Path) -> None:
    """In a child: what is inside is in the write-ahead log alone."""
    store = SpoolStore(directory, PLENTY_BYTES)
    store.open()
    store.append([fragment(number, 100_000) for number in (1, 2, 3)])
    os._exit(17)


def test_a_spool_that_was_killed_opens_on_a_disk_that_is_full_by_now(small_disk: Path) -> None:
    """And what is inside goes out; taking up the log alone would have to grow the database."""
    child = multiprocessing.get_context("spawn").Process(
        target=_append_and_die, args=(small_disk / "spool",)
    )
    child.start()
    child.join(60)
    assert child.exitcode == 17
    with (small_disk / "ballast").open("ab", buffering=0) as file, suppress(OSError):
        while file.write(b"x" * 1024):
            pass
    with open_store(small_disk / "spool") as store:
        assert content(drain(store)) == numbered(1, 3, 100_000)
