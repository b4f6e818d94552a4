"""Turn what goes wrong below into one line that says what to do."""

import contextlib
import errno
import re
from collections.abc import Iterator
from pathlib import Path

from ...schemas.errors import ConfigurationError

__all__ = ["EXTRA", "last_words", "one_line"]

EXTRA = "pip install 'oddslog[local]'"

_TAIL_BYTES = 65_536
_TELLING = re.compile(r"\b(FATAL|PANIC|ERROR)\b|\w(Exception|Error)\b|No space left")
_FULL = re.compile(r"No space left|Check free disk space")
# Frames of a Java stack, and what PostgreSQL answers to our own probes.
_NOISE = re.compile(r"^\s+at |^\s*\.\.\. \d+ more|the database system is starting up")


@contextlib.contextmanager
def one_line(what: str, but: type[OSError] | tuple[()] = ()) -> Iterator[None]:
    """Turn an error of the operating system into a ConfigurationError of one line.

    Args:
        what: what could not be done.
        but: errors that the caller wants as they are.

    Raises:
        ConfigurationError: in the place of an OSError.
    """
    try:
        yield
    except OSError as exc:
        if isinstance(exc, but):
            raise
        where = f" {exc.filename}" if exc.filename else ""
        reason = exc.strerror or str(exc) or type(exc).__name__
        advice = {
            errno.ENOSPC: ": make room, or give the stack another folder",
            errno.EACCES: ": it belongs to another user",
            errno.EPERM: ": it belongs to another user",
        }.get(exc.errno or 0, "")
        raise ConfigurationError(f"{what}:{where} {reason}{advice}") from exc


def last_words(log: Path, since: int) -> str:
    """Return the line of a log, from an offset on, that says best what went wrong.

    That is the first one that names an error, else the last; "" for an empty log.
    """
    with contextlib.suppress(OSError), log.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(since, size - _TAIL_BYTES))
        text = file.read().decode("utf-8", "replace")
        lines = [line.strip() for line in text.splitlines() if not _NOISE.search(line)]
        lines = [line for line in lines if line]
        telling = [line for line in lines if _TELLING.search(line)]
        if telling or lines:
            full = " (the disk is full)" if _FULL.search(text) else ""
            return (telling or lines[-1:])[0][:300] + full
    return ""
