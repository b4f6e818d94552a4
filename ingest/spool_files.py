"""The folder of a spool: its files, and its lock.

spool.sqlite         the database; with -wal and -shm while it is open, or was killed
spool.sqlite.new     a salvaged copy on its way
*-wal.before-<n>     the log of a killed process, until what was lost of it is told
spool.lock           held by the one process that uses the spool
*.damaged-<time>     what could not be read whole, kept for a person to look at
"""

import errno
import fcntl
import filecmp
import os
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path

from ..schemas.errors import ConfigurationError
from ..schemas.kill_points import reached

__all__ = ["SpoolFiles", "SpoolLock", "copy_durably", "sync_folder"]

_HELD = (errno.EWOULDBLOCK, errno.EACCES)
_LOCK_TRIES = 4
_LOCK_PAUSE_SECONDS = 0.05
_MARK = b"oddslog spool\n"
_LOST_MARK = b"lost\n"


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

        The database is moved aside only when its copy is whole, and before its log:
        without a database the copy takes its place, beside one it is unfinished.
        """
        if not self.new.exists():
            return
        if self.database.exists():
            self.new.unlink()
            sync_folder(self.directory)
        else:
            self._copy_in_place(self._damaged_database())

    def swap(self) -> Path:
        """Put the database aside and the copy in its place; returns where it is now."""
        aside = self._aside(self.database)
        # First of all: what the log holds would be missing from a database without it.
        self.database.rename(aside)
        sync_folder(self.directory)
        reached("ingest.database_aside")
        self._copy_in_place(aside)
        return aside

    def _copy_in_place(self, aside: Path) -> None:
        # The old log must be gone before: SQLite would read it into the copy.
        for beside in (self.wal, self.shm):
            if beside.exists():
                beside.rename(aside.with_name(aside.name + beside.name[len(self.database.name) :]))
        sync_folder(self.directory)
        reached("ingest.log_aside")
        self.new.rename(self.database)
        sync_folder(self.directory)

    def _damaged_database(self) -> Path:
        """What was moved aside last."""
        names = self.directory.glob(f"{self.database.name}.damaged-*")
        found = [path for path in names if not path.name.endswith(("-wal", "-shm"))]
        return max(found, default=self._aside(self.database))

    def keep_wal(self, source: Path) -> Path:
        """Copy a write-ahead log aside, once, durably; returns where it is now."""
        for kept in self.damaged():
            if filecmp.cmp(kept, source, shallow=False):  # before a kill, or by a swap
                return kept
        aside = self._aside(self.wal)
        copy_durably(source, aside)
        sync_folder(self.directory)
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

    @property
    def lost(self) -> bool:
        """Whether the database was found gone or empty, and this is not noted yet."""
        assert self._handle is not None  # noqa: S101 - taken
        return os.fstat(self._handle).st_size > len(_MARK)

    def mark(self) -> None:
        """Note that there is a database in the folder."""
        if not self.marked or self.lost:
            self._write(_MARK)

    def mark_lost(self) -> None:
        """Note that the database is gone, before another one hides it."""
        self._write(_MARK + _LOST_MARK)

    def _write(self, mark: bytes) -> None:
        assert self._handle is not None  # noqa: S101 - taken
        os.pwrite(self._handle, mark, 0)
        os.ftruncate(self._handle, len(mark))
        os.fsync(self._handle)

    def release(self) -> None:
        """Let others have it; harmless a second time. The file stays."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)


def copy_durably(source: Path, target: Path) -> None:
    """Copy a file; its bytes are on the disk afterwards, its name after `sync_folder`."""
    shutil.copyfile(source, target)
    handle = os.open(target, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(directory: Path) -> None:
    """Make names in a folder as durable as what is in the files."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
