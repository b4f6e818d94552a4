"""Spools for tests: fragments by number, a store to use from the test's own thread."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from oddslog.ingest.fragments import Fragment
from oddslog.ingest.spool_errors import SpoolError
from oddslog.ingest.spool_rows import SpooledRow, fragment_of
from oddslog.ingest.spool_store import SpoolStore
from oddslog.schemas.wire import HEADER_BATCH, HEADER_FRAGMENT, Kind

__all__ = ["content", "drain", "fragment", "open_store", "peek"]

PLENTY_BYTES = 10**9


def fragment(number: int, size_bytes: int = 40) -> Fragment:
    """A fragment that no other number has; its value is that many bytes."""
    kind = Kind.BETPAWA if number % 2 else Kind.COMPETITOR
    event_id = None if number % 7 == 0 else number
    value = (b"%d \xff\x00" % number * (size_bytes // 4 + 1))[:size_bytes]
    headers = [(HEADER_BATCH, b"batch-%d" % (number // 3)), (HEADER_FRAGMENT, b"\xe9\x00/1")]
    return Fragment(kind, event_id, b"key:%d" % number, value, headers)


def content(fragments: Sequence[Fragment]) -> list[tuple[object, ...]]:
    """What must come out as it went in."""
    return [(one.kind, one.event_id, one.key, one.value, one.headers) for one in fragments]


@contextmanager
def open_store(directory: Path, max_bytes: int = PLENTY_BYTES) -> Iterator[SpoolStore]:
    """An open store."""
    store = SpoolStore(directory, max_bytes)
    store.open()
    try:
        yield store
    finally:
        store.close()


def peek(store: SpoolStore, max_bytes: int = PLENTY_BYTES) -> list[Fragment]:
    """The next page, which stays where it is."""
    return [fragment_of(row) for row in store.page(max_bytes, 10**6)]


def drain(store: SpoolStore, max_bytes: int = 100) -> list[Fragment]:
    """Everything, page by page, as the drainer does; a full disk does not stop it."""
    rows: list[SpooledRow] = []
    while page := store.page(max_bytes, 10**6):
        rows += page
        with suppress(SpoolError):
            store.acknowledge(page[-1].seq)
    if not store.counts.empty:
        with suppress(SpoolError):
            store.acknowledge()
    return [fragment_of(row) for row in rows]


def reasons(directory: Path) -> list[str]:
    """Why there are rejected rows, read beside the store."""
    connection = sqlite3.connect(directory / "spool.sqlite")
    try:
        return [row[0] for row in connection.execute("SELECT reason FROM rejected ORDER BY id")]
    finally:
        connection.close()
