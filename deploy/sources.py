"""Where the batches of a feed come from: the simulator, match files, lines of JSON."""

import os
import select
import stat
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ..ingest.feeds import (
    LineError,
    SimulateSettings,
    read_football_data,
    read_ndjson,
    simulate,
)
from ..schemas.errors import ConfigurationError
from ..schemas.records import WriteBatch

__all__ = ["Source", "football_data", "ndjson", "simulation"]

_STDIN_WAIT_SECONDS = 0.2
_CHUNK_BYTES = 1024 * 1024
_OPTIONS = {"raw_response_bytes": "--raw-kb"}


@dataclass(frozen=True)
class Source:
    """Batches that can be read, where `again` also a second time and equal.

    Attributes:
        open: starts reading from the beginning; leaving it lets go of the file.
        total: how many batches there are, None where nobody knows yet.
    """

    open: Callable[[], AbstractContextManager[Iterator[WriteBatch]]]
    total: int | None


def simulation(**choices: Any) -> Source:
    """Made-up scrapes; a choice that is None stays at its default.

    Without `started_at` the last cycle is now.

    Raises:
        ConfigurationError: naming the option that is out of bounds.
    """
    given = {name: value for name, value in choices.items() if value is not None}
    try:
        settings = SimulateSettings(**{"started_at": datetime.now(UTC), **given})
    except ConfigurationError as error:
        raise ConfigurationError(_option_named(str(error))) from None
    if "started_at" not in given:
        past = timedelta(seconds=settings.cycle_seconds * (settings.cycles - 1))
        settings = replace(settings, started_at=settings.started_at - past)
    batches = -(-settings.events // settings.batch_events) * settings.cycles
    return Source(lambda: _plain(simulate(settings)), batches)


def _option_named(message: str) -> str:
    name, colon, problem = message.partition(":")
    if name not in {field.name for field in fields(SimulateSettings)}:
        return message
    return f"{_OPTIONS.get(name, '--' + name.replace('_', '-'))}{colon}{problem}"


def football_data(paths: Sequence[Path]) -> Source:
    """Real odds; the files are read whole, and checked, at once.

    Raises:
        FeedError: a file is not there or not of this form.
    """
    total = sum(1 for _ in read_football_data(paths))
    return Source(lambda: _plain(read_football_data(paths)), total)


def ndjson(path: str, *, strict: bool, report: Callable[[LineError], None]) -> Source:
    """Batches as lines of JSON, from a file or (`-`) standard input; read once.

    Args:
        path: the file.
        strict: whether a bad line ends the feed.
        report: is told of each bad line, in the reading thread.

    Raises:
        ConfigurationError: the file cannot be read.
    """
    name = "standard input" if path == "-" else path
    handle = _open(path)

    @contextmanager
    def opened() -> Iterator[Iterator[WriteBatch]]:
        lines = _Lines(handle)
        try:
            yield read_ndjson(lines, source=name, strict=strict, report=report)
        finally:
            lines.stop()

    return Source(opened, None)


@contextmanager
def _plain(batches: Iterator[WriteBatch]) -> Iterator[Iterator[WriteBatch]]:
    yield batches


def _open(path: str) -> int:
    if path == "-":
        return sys.stdin.fileno()
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
    if stat.S_ISDIR(os.fstat(handle).st_mode):
        os.close(handle)
        raise ConfigurationError(f"{path}: cannot be read: it is a folder")
    return handle


class _Lines:
    """The lines of a file descriptor, which another thread can make end.

    A thread in a blocking read of a terminal or pipe would hold up Ctrl-C until the
    next line comes.
    """

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Give no more lines."""
        self._stopped.set()

    def __iter__(self) -> Iterator[bytes]:
        rest = b""
        while chunk := self._chunk():
            *whole, rest = (rest + chunk).split(b"\n")
            yield from whole
        if rest and not self._stopped.is_set():
            yield rest

    def _chunk(self) -> bytes:
        while not self._stopped.is_set():
            if select.select([self._handle], [], [], _STDIN_WAIT_SECONDS)[0]:
                return os.read(self._handle, _CHUNK_BYTES)
        return b""
