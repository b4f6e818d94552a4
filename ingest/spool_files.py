"""The folder of a spool: its files, its lock, and a write-ahead log that was cut.

spool.sqlite         the database; with -wal and -shm while it is open, or was killed
spool.sqlite.new     a salvaged copy on its way
spool.lock           held by the one process that uses the spool
*.damaged-<time>     what could not be read whole, kept for a person to look at
"""

import errno
import fcntl
import os
import shutil
import struct
import time
from datetime import UTC, datetime
from pathlib import Path

from ..schemas.errors import ConfigurationError

__all__ = ["SpoolFiles", "SpoolLock", "last_commit", "second_name", "sync_folder"]

_WAL_HEADER = struct.Struct(">8I")
_FRAME_HEADER = struct.Struct(">6I")
_HELD = (errno.EWOULDBLOCK, errno.EACCES)
_LOCK_TRIES = 4
_LOCK_PAUSE_SECONDS = 0.05
_WAL_MAGIC = (0x377F0682, 0x377F0683)


class SpoolFiles:
    """The files of a spool, by name; nothing is opened or made."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.database = directory / "spool.sqlite"
        self.wal = directory / "spool.sqlite-wal"
        self.shm = directory / "spool.sqlite-shm"
        self.new = directory / "spool.sqlite.new"
        self.lock = directory / "spool.lock"

    def damaged(self) -> list[Path]:
        """What was put aside because it could not be read whole."""
        return sorted(self.directory.glob("*.damaged-*"))

    def finish_swap(self) -> None:
        """Bring the folder in order after a salvage that was interrupted.

        The database is moved aside only when its copy is whole: without a
        database the copy takes its place, beside one it is unfinished.
        """
        if not self.new.exists():
            return
        if self.database.exists():
            self.new.unlink()
        else:
            self.new.rename(self.database)
        sync_folder(self.directory)

    def swap(self) -> Path:
        """Put the database aside and the copy in its place; returns where it is now."""
        aside = self._aside(self.database)
        for beside in (self.wal, self.shm):
            if beside.exists():
                beside.rename(aside.with_name(aside.name + beside.name[len(self.database.name) :]))
        self.database.rename(aside)
        sync_folder(self.directory)
        self.new.rename(self.database)
        sync_folder(self.directory)
        return aside

    def keep_wal(self, source: Path) -> Path:
        """Copy a write-ahead log aside; returns where it is now."""
        aside = self._aside(self.wal)
        shutil.copyfile(source, aside)
        return aside

    def _aside(self, path: Path) -> Path:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
        return path.with_name(f"{path.name}.damaged-{stamp}")


class SpoolLock:
    """One process at a time; the system lets go of it with the process."""

    def __init__(self, files: SpoolFiles) -> None:
        self._files = files
        self._handle: int | None = None

    def take(self) -> None:
        """Make the folder where it is missing, and lock it; within a moment or not at all.

        Raises:
            ConfigurationError: another process has it, or the folder cannot be used.
        """
        directory = self._files.directory
        try:
            made = [path for path in (directory, *directory.parents) if not path.exists()]
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            for path in made:  # or a power failure takes the folder with all that is in it
                sync_folder(path.parent)
            handle = os.open(self._files.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigurationError(
                f"the spool's folder {directory} cannot be used: {error.strerror or error}"
            ) from error
        try:
            locked = self._lock(handle)
        except OSError as error:
            os.close(handle)
            raise ConfigurationError(
                f"the spool in {directory} cannot be locked: {error.strerror or error}"
            ) from error
        if not locked:
            os.close(handle)
            raise ConfigurationError(
                f"the spool in {directory} is in use by another queue or command;"
                " one at a time has it: give each queue a folder of its own"
            )
        self._handle = handle

    def taken(self) -> bool:
        """Whether another process has it now. Holds it for an instant to find out."""
        try:
            handle = os.open(self._files.lock, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno in _HELD
        else:
            return False
        finally:
            os.close(handle)

    def _lock(self, handle: int) -> bool:
        """Lock it; a few times, as `taken` may hold it for an instant."""
        for _ in range(_LOCK_TRIES):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in _HELD:
                    raise
                time.sleep(_LOCK_PAUSE_SECONDS)
            else:
                return True
        return False

    @property
    def marked(self) -> bool:
        """Whether there was a database in the folder before."""
        assert self._handle is not None  # noqa: S101 - taken
        return os.fstat(self._handle).st_size > 0

    def mark(self) -> None:
        """Note that there is a database in the folder."""
        assert self._handle is not None  # noqa: S101 - taken
        if not self.marked:
            os.write(self._handle, b"oddslog spool\n")
            os.fsync(self._handle)

    def release(self) -> None:
        """Let others have it; harmless a second time. The file stays."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)


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


def second_name(path: Path, name: Path) -> None:
    """Give a file another name; a copy has it where the file system has no links (FAT)."""
    try:
        os.link(path, name)
    except OSError:
        shutil.copyfile(path, name)


def sync_folder(directory: Path) -> None:
    """Make names in a folder as durable as what is in the files."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
