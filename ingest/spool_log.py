"""The write-ahead log of a spool as a killed process left it.

SQLite takes it up as far as it is whole and says nothing of the rest; without a
database it removes it. So it is kept under a second name until that is told.
"""

import filecmp
import itertools
import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..schemas.kill_points import reached
from .spool_files import SpoolFiles, SpoolLock, copy_durably, sync_folder

__all__ = ["KeptLog", "TornLog"]

_SECOND_NAME = "spool.sqlite-wal.before"
_WAL_HEADER = struct.Struct(">8I")
_FRAME_HEADER = struct.Struct(">6I")
_WAL_MAGIC = (0x377F0682, 0x377F0683)


@dataclass(frozen=True, slots=True)
class TornLog:
    """A log with commits behind the frame up to which it was read."""

    path: Path
    read: int
    last: int

    def told(self, kept: str) -> str:
        """The line among the rejected; the same one after a kill."""
        return (
            "the spool's write-ahead log was damaged or torn: it was read up to frame"
            f" {self.read} of {self.last}; it is kept as {kept}"
        )


class KeptLog:
    """The log under its second name, from before the database is opened until all is told.

    There may be several: one that a killed process did not come to tell of stays.

    Attributes:
        lost: whether the database was gone or empty.
    """

    def __init__(self, files: SpoolFiles, lock: SpoolLock) -> None:
        self.lost = False
        self._files = files
        self._lock = lock
        self._current: Path | None = None

    def keep(self) -> None:
        """Look at the log and give it its second name, durably; the lock must be held."""
        database, wal = self._files.database, self._files.wal
        if self._lock.lost:  # told by a process that was killed: what SQLite made since is new
            self.lost = True
            return
        last = last_commit(wal)
        if last:
            self._current = self._second_name()
        emptied = not (database.exists() and database.stat().st_size)
        self.lost = emptied and (self._lock.marked or last > 0)
        if self.lost:
            sync_folder(self._files.directory)
            reached("ingest.before_lost_mark")
            self._lock.mark_lost()
            reached("ingest.after_lost_mark")

    def torn(self, read: int | None) -> Iterator[TornLog]:
        """The logs that hold commits which were not read.

        Args:
            read: the last frame of the log that SQLite took up; None where it does not
                say: then it is found out from the sums, which takes seconds for a long log.
        """
        for path in self._names():
            last = last_commit(path)
            if self.lost:  # SQLite began anew, whatever it counts
                up_to = 0
            elif path == self._current and read is not None:
                up_to = read
            else:
                up_to = whole_commit(path)
            if up_to < last:
                yield TornLog(path, up_to, last)

    def put_aside(self, log: TornLog) -> str:
        """Copy a torn log to where it stays, durably; returns its name there.

        The second name is one of the copy from now on: SQLite writes over its own.
        """
        aside = self._files.keep_wal(log.path)
        other = log.path.with_name(f"{log.path.name}-kept")
        with suppress(OSError):  # where there are no links, it was a copy all the time
            os.link(aside, other)
            other.replace(log.path)
        sync_folder(self._files.directory)
        return aside.name

    def drop(self) -> None:
        """Remove the second names: all they are kept for is told, and on the disk."""
        for path in self._names():
            path.unlink(missing_ok=True)

    def _names(self) -> list[Path]:
        return sorted(self._files.directory.glob(f"{_SECOND_NAME}*"))

    def _second_name(self) -> Path:
        """One that the log has already, or a new one beside those of others."""
        wal, names = self._files.wal, self._names()
        for path in names:
            if path.samefile(wal) or filecmp.cmp(path, wal, shallow=False):
                return path
        numbered = (wal.with_name(f"{_SECOND_NAME}-{n}") for n in itertools.count(1))
        name = next(path for path in numbered if path not in names)
        try:
            os.link(wal, name)
        except OSError:  # no links on FAT
            copy_durably(wal, name)
        sync_folder(self._files.directory)
        return name


def last_commit(wal: Path) -> int:
    """The number of the last frame in a write-ahead log that ends a transaction.

    Read without checking the frames' sums. SQLite stops at the first frame whose sum
    is wrong, and what lies behind it is lost without a word; whoever knows where
    SQLite stopped finds out here whether a commit was behind it. 0 where there is
    none; the number of all frames where the head of the log is damaged.
    """
    try:
        size_bytes = wal.stat().st_size
        with wal.open("rb") as file:
            header = file.read(_WAL_HEADER.size)
            if len(header) < _WAL_HEADER.size:
                return 0
            magic, _, page_bytes, _, *salts, sum1, sum2 = _WAL_HEADER.unpack(header)
            frame_bytes = _FRAME_HEADER.size + page_bytes
            if magic not in _WAL_MAGIC or _sums(header[:24], magic) != (sum1, sum2):
                return (size_bytes - _WAL_HEADER.size) // _FRAME_HEADER.size
            last = 0
            for number in range(1, (size_bytes - _WAL_HEADER.size) // frame_bytes + 1):
                file.seek(_WAL_HEADER.size + (number - 1) * frame_bytes)
                _, size_after, *own, _, _ = _FRAME_HEADER.unpack(file.read(_FRAME_HEADER.size))
                # Frames of an earlier round, with other salts, lie behind the current one.
                if own == salts and size_after:
                    last = number
            return last
    except FileNotFoundError:
        return 0


def whole_commit(wal: Path) -> int:
    """The number of the last commit's frame up to which every sum is right.

    As far as SQLite reads it. 0 where there is none, or the head is damaged.
    """
    try:
        with wal.open("rb") as file:
            header = file.read(_WAL_HEADER.size)
            if len(header) < _WAL_HEADER.size:
                return 0
            magic, _, page_bytes, _, *salts, sum1, sum2 = _WAL_HEADER.unpack(header)
            sums = _sums(header[:24], magic)
            if magic not in _WAL_MAGIC or sums != (sum1, sum2):
                return 0
            last, frame_bytes = 0, _FRAME_HEADER.size + page_bytes
            for number in itertools.count(1):
                frame = file.read(frame_bytes)
                if len(frame) < frame_bytes:
                    return last
                page, size_after, *own, sum1, sum2 = _FRAME_HEADER.unpack_from(frame)
                sums = _sums(frame[:8] + frame[_FRAME_HEADER.size :], magic, sums)
                if not page or own != salts or sums != (sum1, sum2):
                    return last
                if size_after:
                    last = number
    except FileNotFoundError:
        pass
    return 0


def _sums(data: bytes, magic: int, before: tuple[int, int] = (0, 0)) -> tuple[int, int]:
    """The running sums of a log, as SQLite's file format defines them."""
    order = ">" if magic & 1 else "<"
    first, second = before
    for left, right in struct.iter_unpack(f"{order}2I", data):
        first = (first + left + second) & 0xFFFFFFFF
        second = (second + right + first) & 0xFFFFFFFF
    return first, second
