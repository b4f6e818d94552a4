"""What a replay remembers of the keys that it has met, in a temporary SQLite file.

A dry run rolls each poll back, so it has to know by itself which snapshots the real
run would have written by now. Exact keys, not hashes of them: about 60 bytes a
snapshot, which go to the disk behind 8 MB of memory.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

from ..schemas.wire import Kind
from .items import Key

__all__ = ["Scratch"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_KEY = "kind TEXT, event_id INTEGER, bookmaker_id INTEGER, captured_us INTEGER"
_NAMES = "kind, event_id, bookmaker_id, captured_us"
_MATCH = "kind = ? AND event_id = ? AND bookmaker_id = ? AND captured_us = ?"


class Scratch:
    """Keys that were inserted, with their hashes, and keys whose confirmation waits.

    Calls take microseconds a key; the file is gone with `close`.
    """

    def __init__(self) -> None:
        # An empty name: a file of SQLite's own, deleted at once.
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute("PRAGMA cache_size = -8000")
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("PRAGMA synchronous = OFF")
        for table, more in (("inserted", ", hash INTEGER"), ("waiting", "")):
            self._database.execute(
                f"CREATE TABLE {table} ({_KEY}{more}, PRIMARY KEY ({_NAMES})) WITHOUT ROWID"
            )

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    def inserted_among(self, kind: Kind, keys: Iterable[Key]) -> list[tuple[Key, int]]:
        """Those of the keys that were noted as inserted, with their hashes."""
        found = []
        for key in keys:
            row = self._database.execute(
                f"SELECT hash FROM inserted WHERE {_MATCH}",  # noqa: S608 - our own names
                _row(kind, key),
            ).fetchone()
            if row is not None:
                found.append((key, int(row[0])))
        return found

    def note_inserted(self, kind: Kind, inserted: Iterable[tuple[Key, int]]) -> None:
        """Remember snapshots that would be there by now."""
        self._database.executemany(
            "INSERT OR IGNORE INTO inserted VALUES (?, ?, ?, ?, ?)",
            [(*_row(kind, key), content_hash) for key, content_hash in inserted],
        )

    def note_waiting(self, kind: Kind, waiting: Sequence[Key], inserted: Sequence[Key]) -> None:
        """Remember which confirmations wait; those of inserted snapshots do not any more."""
        self._database.executemany(
            f"DELETE FROM waiting WHERE {_MATCH}",  # noqa: S608 - our own names
            list(_rows(kind, inserted)),
        )
        self._database.executemany(
            "INSERT OR IGNORE INTO waiting VALUES (?, ?, ?, ?)", list(_rows(kind, waiting))
        )

    def waiting_keys(self) -> int:
        """How many keys' confirmations wait for their snapshot."""
        (count,) = self._database.execute("SELECT count(*) FROM waiting").fetchone()
        return int(count)


def _rows(kind: Kind, keys: Iterable[Key]) -> Iterator[tuple[str, int, int, int]]:
    return (_row(kind, key) for key in keys)


def _row(kind: Kind, key: Key) -> tuple[str, int, int, int]:
    return kind.value, key.event_id, key.bookmaker_id, (key.captured_at - _EPOCH) // _MICROSECOND
