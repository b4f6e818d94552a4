"""The spool: encoded fragments on the local disk, until the brokers have them.

Everything that touches the disk runs in one thread of its own; the event loop waits
for nothing but its answers.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from ..schemas.errors import ConfigurationError
from .fragments import Fragment
from .spool_errors import SpoolError
from .spool_rows import SpoolCounts, SpooledRow
from .spool_store import SpoolStore

__all__ = ["DEFAULT_SPOOL_BYTES", "Spool"]

DEFAULT_SPOOL_BYTES = 10 * 1024**3

T = TypeVar("T")


class Spool:
    """Holds fragments in the order in which they must be sent.

    One process at a time has it. Whoever awaits a method and is cancelled does not
    stop it: what was begun in the thread ends there.

    Args:
        directory: its folder; made where it is missing.
        max_bytes: of the fragments inside, with the rejected ones.

    Raises:
        ConfigurationError: `max_bytes` is not positive.
    """

    def __init__(self, directory: Path | str, max_bytes: int = DEFAULT_SPOOL_BYTES) -> None:
        if max_bytes <= 0:
            raise ConfigurationError(f"spool_bytes must be above 0, not {max_bytes}")
        self.directory = Path(directory)
        self.max_bytes = max_bytes
        self._store: SpoolStore | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._counts = SpoolCounts()  # the last known, also when it is closed
        self._changed = asyncio.Event()

    @property
    def counts(self) -> SpoolCounts:
        """What is inside; never blocks."""
        if self._store is not None:
            self._counts = self._store.counts
        return self._counts

    async def open(self) -> None:
        """Take the spool; what an earlier process left is inside. Harmless when open.

        Raises:
            ConfigurationError: another process has it, or the folder cannot be used.
            SpoolError: the disk fails.
        """
        if self._store is not None:
            return
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="oddslog-spool")
        store = SpoolStore(self.directory, self.max_bytes)
        opening = asyncio.get_running_loop().run_in_executor(thread, store.open)
        try:
            await asyncio.shield(opening)
        except BaseException:
            thread.submit(store.close)  # behind the opening, whatever becomes of it
            thread.shutdown(wait=False)
            raise
        self._store, self._thread = store, thread

    async def close(self) -> None:
        """Let go of the spool, behind what was begun; harmless a second time."""
        store, self._store = self._store, None
        thread, self._thread = self._thread, None
        if store is None or thread is None:
            return
        try:
            await asyncio.shield(asyncio.get_running_loop().run_in_executor(thread, store.close))
        finally:
            self._counts = store.counts
            thread.shutdown(wait=False)

    async def append(self, fragments: Sequence[Fragment]) -> None:
        """Put fragments behind all others; fsynced when it returns.

        Raises:
            SpoolFullError: there is no room for all of them; none is inside.
            SpoolError: the disk fails; none is inside.
        """
        await self._do(lambda store: store.append(fragments))

    async def page(self, max_bytes: int, max_rows: int) -> list[SpooledRow]:
        """The next rows to send, in order; empty where all are acknowledged.

        Raises:
            SpoolError: the disk fails.
        """
        return await self._do(lambda store: store.page(max_bytes, max_rows))

    async def acknowledge(self, seq: int | None = None) -> None:
        """Delete everything up to a place; None for what could not be deleted before.

        Raises:
            SpoolError: the disk fails, or is full; then call again.
        """
        await self._do(lambda store: store.acknowledge(seq))

    async def reject(self, row: SpooledRow, reason: str) -> None:
        """Move a row to the rejected ones.

        Raises:
            SpoolError: the disk fails, or is full.
        """
        await self._do(lambda store: store.reject(row, reason))

    async def changed(self) -> None:
        """Wait until something went in or out."""
        self._changed.clear()
        await self._changed.wait()

    async def filled(self) -> None:
        """Wait until something is inside."""
        while self.counts.empty:
            await self.changed()

    def notify(self) -> None:
        """Wake whoever waits for a change."""
        self._changed.set()

    def __repr__(self) -> str:
        counts, mebibyte = self.counts, 1024 * 1024
        return (
            f"<Spool {self.directory}: {counts.fragments} fragments,"
            f" {counts.bytes / mebibyte:.1f}/{self.max_bytes / mebibyte:.1f} MiB,"
            f" {counts.rejected} rejected>"
        )

    async def _do(self, work: Callable[[SpoolStore], T]) -> T:
        store, thread = self._store, self._thread
        if store is None or thread is None:
            raise SpoolError(f"the spool in {self.directory} is closed")
        try:
            # Shielded: a transaction that was begun is not left with nobody to hear of it.
            return await asyncio.shield(
                asyncio.get_running_loop().run_in_executor(thread, work, store)
            )
        finally:
            self._changed.set()
