"""The spool's database, used from one thread. Every method may block on the disk.

Each is one transaction: all of it is on the disk when it returns, or nothing is.
"""

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from ..schemas.errors import ConfigurationError
from ..schemas.kill_points import reached
from . import spool_sql as sql
from .fragments import Fragment
from .say import say
from .spool_errors import SpoolError, SpoolFullError
from .spool_files import SpoolFiles, SpoolLock, sync_folder
from .spool_log import KeptLog
from .spool_rows import Bounds, SpoolCounts, SpooledRow, gaps, room_problem, row_of, row_problem
from .spool_salvage import salvage
from .spool_sql import DamagedError, connect, give_back, is_corrupt, spool_errors

__all__ = ["SpoolStore"]

T = TypeVar("T")


class SpoolStore:
    """An open spool. The lock is held from `open` to `close`.

    Attributes:
        counts: after the last method that returned; may be read from any thread.
    """

    def __init__(self, directory: Path, max_bytes: int) -> None:
        self.counts = SpoolCounts()
        self._directory = directory
        self._max_bytes = max_bytes
        self._files = SpoolFiles(directory)
        self._lock = SpoolLock(self._files)
        self._connection: sqlite3.Connection | None = None
        self._bounds = Bounds(1, 0, 0, 0)
        self._rejected = (0, 0)
        self._salvages = 0
        # Up to here the brokers have acknowledged: never read again, also where the
        # rows cannot be deleted because the disk is full.
        self._acknowledged = 0

    def open(self) -> None:
        """Take the lock, recover what a killed process left, count what is inside.

        Raises:
            ConfigurationError: another process has it, or the folder cannot be used.
            SpoolError: the disk fails.
        """
        self._lock.take()
        try:
            self._files.finish_swap()
            self._recover()
            sync_folder(self._directory)
        except OSError as error:
            self.close()
            raise ConfigurationError(
                f"the spool's folder {self._directory} cannot be used: {error.strerror or error}"
            ) from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the database and let go of the lock; harmless a second time."""
        connection, self._connection = self._connection, None
        try:
            if connection is not None:
                connection.close()
        finally:
            self._lock.release()

    def append(self, fragments: Sequence[Fragment]) -> None:
        """Put fragments behind all others; they are on the disk when it returns.

        Raises:
            SpoolFullError: they exceed the spool's bound, or the disk is full.
            SpoolError: the disk fails.
        """
        now = datetime.now(UTC)

        def write(connection: sqlite3.Connection, bounds: Bounds) -> None:
            # Places from these bounds: a salvage on the way makes others.
            rows = [row_of(part, seq, now) for seq, part in enumerate(fragments, bounds.last + 1)]
            size_bytes = sum(row.size_bytes for row in rows)
            problem = room_problem(self.counts, self._max_bytes, size_bytes)
            if problem is not None:
                raise SpoolFullError(f"the spool in {self._directory} is full: {problem}")
            connection.executemany(sql.INSERT, [row.values for row in rows])
            bounds.last += len(rows)
            bounds.fragments += len(rows)
            bounds.bytes += size_bytes

        self._transaction(write)

    def page(self, max_bytes: int, max_rows: int) -> list[SpooledRow]:
        """The next rows to send, in order; each is what was put in.

        A row that is not, or that is gone, is rejected with its reason. Empty where
        everything is acknowledged.

        Raises:
            SpoolError: the disk fails.
        """
        return self._salvaging(lambda: self._page(max_bytes, max_rows))

    def acknowledge(self, seq: int | None = None) -> None:
        """Forget everything up to a place: the brokers have it.

        It is never read again, also where deleting it fails; then call again.

        Args:
            seq: up to and with it; None for what could not be deleted before.

        Raises:
            SpoolFullError: the disk is full.
            SpoolError: the disk fails.
        """
        up_to = self._acknowledged = max(self._acknowledged, seq or 0)

        def delete(connection: sqlite3.Connection, bounds: Bounds) -> None:
            fragments, size_bytes = connection.execute(sql.COUNTS_UP_TO, (up_to,)).fetchone()
            connection.execute(sql.DELETE_UP_TO, (up_to,))
            connection.execute(sql.FORGET_EMPTIED, (up_to,))
            bounds.first = up_to + 1
            bounds.fragments -= fragments
            bounds.bytes -= size_bytes
            if bounds.first > bounds.last:
                bounds.fragments = bounds.bytes = 0

        self._tell()
        try:
            self._transaction(delete)
        except SpoolError:
            # The disk is full, and so is the log: written into the database, it begins anew.
            with suppress(SpoolError), spool_errors(self._directory):
                self._open().execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
            self._transaction(delete)
        if self.counts.empty:
            try:
                with spool_errors(self._directory):
                    give_back(self._open())
            except (SpoolError, DamagedError) as error:  # no failure
                say("warning", "spool_space_not_given_back", reason=str(error))

    def reject(self, row: SpooledRow, reason: str) -> None:
        """Move a row to the rejected ones; harmless where it is there already.

        Raises:
            SpoolError: the disk fails, or is full.
        """

        def move(connection: sqlite3.Connection, bounds: Bounds) -> None:
            if connection.execute(sql.DELETE_ONE, (row.seq,)).rowcount:
                connection.execute(sql.REJECT, (*row.values, reason, _now()))
                bounds.fragments -= 1
                bounds.bytes -= row.size_bytes
            reached("ingest.before_reject_commit")

        self._transaction(move)
        reached("ingest.after_reject_commit")
        self._recount_rejected()
        say(
            "error",
            "spool_fragment_rejected",
            batch_id=row.batch_id,
            kind=row.kind,
            event_id=row.event_id,
            size_bytes=len(row.value),
            reason=reason,
        )

    def remove_rejected(self, up_to_id: int) -> None:
        """Delete rejected rows that were exported.

        Of a place that is still inside, a line stays that only the spool sees: it is
        not gone from the file.

        Raises:
            SpoolError: the disk fails, or is full.
        """

        def remove(connection: sqlite3.Connection, bounds: Bounds) -> None:
            connection.execute(sql.REMOVE_REJECTED, (up_to_id, bounds.first))
            connection.execute(sql.EMPTY_REJECTED, (up_to_id,))

        self._transaction(remove)
        self._recount_rejected()

    def _recover(self) -> None:
        """Open the database; SQLite takes up its write-ahead log as far as it is whole."""
        log = KeptLog(self._files, self._lock)
        log.keep()
        self._salvaging(self._connect)
        told = self._tell_of_log(log)
        if log.lost:
            self._note(f"the spool's database {self._files.database} was gone or empty")
        if told:  # not after an error: the next start tells
            log.drop()
        reached("ingest.before_spool_mark")
        self._lock.mark()
        reached("ingest.after_spool_mark")

    def _connect(self) -> None:
        with spool_errors(self._directory):
            if self._connection is None:
                self._connection = connect(self._files.database)
            bounds = Bounds(*self._connection.execute(sql.BOUNDS).fetchone())
            (low,) = self._connection.execute(sql.LOWEST).fetchone()
            (high,) = self._connection.execute(sql.HIGHEST).fetchone()
            if low is not None:  # the rows count, where the bounds say less
                bounds.first, bounds.last = min(bounds.first, low), max(bounds.last, high)
            if min(bounds.fragments, bounds.bytes) < 0:
                counts = self._connection.execute(sql.COUNTS).fetchone()
                bounds.fragments, bounds.bytes = counts
        self._bounds = bounds
        self._acknowledged = bounds.first - 1
        self._recount_rejected()

    def _tell_of_log(self, log: KeptLog) -> bool:
        """Note commits behind the place where SQLite stopped reading; whether all is noted."""
        for torn in log.torn(self._taken_up()):
            try:
                self._note(torn.told(log.put_aside(torn)))
            except (SpoolFullError, OSError) as error:  # what is inside is sent anyway
                say("error", "spool_log_untold", reason=torn.told(torn.path.name), why=str(error))
                return False
        return True

    def _taken_up(self) -> int | None:
        """The last frame of its log that SQLite took up; None where it does not say."""
        if self._salvages:  # it is of the copy
            return None
        try:
            with spool_errors(self._directory):
                _, read, _ = self._open().execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except (SpoolFullError, DamagedError):  # the database would grow; it was cut
            return None
        return int(read)

    def _page(self, max_bytes: int, max_rows: int) -> list[SpooledRow]:
        while self._acknowledged < self._bounds.last:
            rows = self._read(max_bytes, max_rows)
            # At the end, what is not there is missed up to the last place given out.
            up_to = rows[-1].seq if rows else self._bounds.last
            self._report_missing([row.seq for row in rows], up_to)
            whole = [row for row in rows if self._is_whole(row)]
            if whole:
                return whole
            self._acknowledged = max(self._acknowledged, up_to)
            self._tell()
        return []

    def _read(self, max_bytes: int, max_rows: int) -> list[SpooledRow]:
        rows: list[SpooledRow] = []
        taken_bytes = 0
        with spool_errors(self._directory):
            cursor = self._open().execute(sql.READ_AFTER, (self._acknowledged,))
            with closing(cursor):
                for values in cursor:
                    rows.append(SpooledRow(*values))
                    taken_bytes += rows[-1].size_bytes
                    if taken_bytes >= max_bytes or len(rows) >= max_rows:
                        break
        return rows

    def _is_whole(self, row: SpooledRow) -> bool:
        problem = row_problem(row)
        if problem is not None:
            self.reject(row, problem)
        return problem is None

    def _report_missing(self, seqs: list[int], up_to: int) -> None:
        """Note places that have neither a row nor a rejected one."""
        for first, last in gaps(seqs, self._acknowledged, up_to):
            with spool_errors(self._directory):
                (known,) = self._open().execute(sql.REJECTED_SEQS, (first, last)).fetchone()
            missing = last - first + 1 - known
            if missing:
                self._note(
                    f"{missing} fragment(s) at places {first} to {last} are gone from the file"
                )

    def _note(self, reason: str) -> None:
        """A line among the rejected that is no fragment; once for each reason."""

        def write(connection: sqlite3.Connection, _bounds: Bounds) -> None:
            (there,) = connection.execute(sql.HAS_REASON, (reason,)).fetchone()
            if not there:
                connection.execute(sql.REJECT, (sql.NO_PLACE, *[None] * 8, reason, _now()))
            reached("ingest.before_note_commit")

        self._transaction(write)
        reached("ingest.after_note_commit")
        self._recount_rejected()
        say("error", "spool_damaged", directory=str(self._directory), reason=reason)

    def _transaction(self, work: Callable[[sqlite3.Connection, Bounds], Any]) -> None:
        self._salvaging(lambda: self._in_transaction(work))
        self._tell()

    def _in_transaction(self, work: Callable[[sqlite3.Connection, Bounds], Any]) -> None:
        connection, bounds = self._open(), replace(self._bounds)
        with spool_errors(self._directory):
            connection.execute("BEGIN IMMEDIATE")
            try:
                work(connection, bounds)
                connection.execute(sql.SET_BOUNDS, bounds.values)
                connection.execute("COMMIT")
            except BaseException:
                # Some errors, a full disk among them, roll back by themselves.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        self._bounds = bounds

    def _salvaging(self, work: Callable[[], T]) -> T:
        """Do it; where the file is damaged, salvage it and do it once more."""
        try:
            return work()
        except DamagedError as error:
            self._salvage(str(error))
        try:
            return work()
        except DamagedError as error:
            raise SpoolError(
                f"the spool in {self._directory} is damaged, and so was its salvaged copy: {error}"
            ) from error

    def _salvage(self, why: str) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except sqlite3.Error as error:
                if not is_corrupt(error):
                    raise SpoolError(f"the damaged spool cannot be closed: {error}") from error
        try:
            with spool_errors(self._directory):
                # Places up to these are given out: a new row at one would never be read.
                given = (self._acknowledged, max(self._acknowledged, self._bounds.last))
                aside = salvage(self._files, _now(), why, given)
        except (OSError, DamagedError) as error:
            raise SpoolError(
                f"the spool in {self._directory} is damaged ({why}) and could not be salvaged:"
                f" {error}; its files are as they were"
            ) from error
        self._salvages += 1
        say("error", "spool_damaged", directory=str(self._directory), reason=why, kept=str(aside))
        acknowledged = self._acknowledged
        self._connect()
        self._acknowledged = max(acknowledged, self._acknowledged)
        self._tell()

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            raise SpoolError(f"the spool in {self._directory} is closed")
        return self._connection

    def _recount_rejected(self) -> None:
        with spool_errors(self._directory):
            self._rejected = self._open().execute(sql.REJECTED_COUNTS).fetchone()
        self._tell()

    def _tell(self) -> None:
        """Let others see the counts."""
        bounds = self._bounds
        self.counts = SpoolCounts(
            bounds.fragments,
            bounds.bytes,
            *self._rejected,
            unsent=self._acknowledged < bounds.last,
            empty=bounds.first > bounds.last,
        )


def _now() -> int:
    return int(datetime.now(UTC).timestamp() * 1_000_000)
