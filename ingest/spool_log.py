"""The write-ahead log of a spool as a killed process left it.

SQLite takes it up as far as it is whole and says nothing of the rest; without a
database it removes it. So it is kept under a second name until that is told.
"""

import os
import shutil
import struct
from pathlib import Path

from ..schemas.kill_points import reached
from .spool_files import SpoolFiles, SpoolLock, sync_folder

__all__ = ["KeptLog"]

_WAL_HEADER = struct.Struct(">8I")
_FRAME_HEADER = struct.Struct(">6I")
_WAL_MAGIC = (0x377F0682, 0x377F0683)


class KeptLog:
    """The log under its second name, from before the database is opened.

    Attributes:
        path: the second name; there is no such file where there was no commit.
        last: the frame of the log's last commit; 0 where there is none.
        lost: whether the database was gone or empty.
    """

    def __init__(self, files: SpoolFiles, lock: SpoolLock) -> None:
        self.path = files.directory / "spool.sqlite-wal.before"
        self.last = 0
        self.lost = False
        self._files = files
        self._lock = lock

    def keep(self) -> None:
        """Look at the log and give it its second name; the lock must be held."""
        database = self._files.database
        if self._lock.lost:  # told by a process that was killed: what SQLite made since is new
            self.lost, self.last = True, last_commit(self.path)
            return
        self.path.unlink(missing_ok=True)
        self.last = last_commit(self._files.wal)
        if self.last:
            _second_name(self._files.wal, self.path)
        emptied = not (database.exists() and database.stat().st_size)
        self.lost = emptied and (self._lock.marked or self.last > 0)
        if self.lost:
            sync_folder(self._files.directory)
            reached("ingest.before_lost_mark")
            self._lock.mark_lost()
            reached("ingest.after_lost_mark")

    def drop(self) -> None:
        """Remove the second name, unless what it is kept for is not noted yet."""
        if not self._lock.lost:
            self.path.unlink(missing_ok=True)


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
            if magic not in _WAL_MAGIC or _header_sums(header[:24], magic) != (sum1, sum2):
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


def _header_sums(data: bytes, magic: int) -> tuple[int, int]:
    """The sums of a log's head, as SQLite's file format defines them."""
    order = ">" if magic & 1 else "<"
    first = second = 0
    for left, right in struct.iter_unpack(f"{order}2I", data):
        first = (first + left + second) & 0xFFFFFFFF
        second = (second + right + first) & 0xFFFFFFFF
    return first, second


def _second_name(path: Path, name: Path) -> None:
    """Give a file another name; a copy has it where the file system has no links (FAT)."""
    try:
        os.link(path, name)
    except OSError:
        shutil.copyfile(path, name)
