"""Logs of the command: configured once, to standard error.

JSON where that is no terminal, lines for people where it is. The libraries'
logs (`aiokafka`, `asyncio`, `alembic`) come through the same way, from WARNING
on and at most one line of a kind in ten seconds: in an outage aiokafka writes 10
to 20 error lines a second.
"""

import logging
import sys
import time
from collections.abc import Callable

import structlog

from .settings import LogLevel

__all__ = ["LibraryLogs", "configure_logs", "let_libraries_log", "quieten_logs"]

_SECONDS_BETWEEN_EQUALS = 10.0
_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


class _Stderr:
    """Standard error as it is when a line is written: a progress bar replaces it for a while."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def configure_logs(level: LogLevel) -> None:
    """Set up structlog for this process; the libraries' logs stay silent for now."""
    terminal = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(
                fmt="%H:%M:%S" if terminal else "iso", utc=not terminal
            ),
            *([] if terminal else [structlog.processors.format_exc_info]),
            structlog.dev.ConsoleRenderer(colors=True, pad_event_to=0)
            if terminal
            else structlog.processors.JSONRenderer(default=str),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=_Stderr()),  # type: ignore[arg-type]
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
    root.addHandler(logging.NullHandler())
    # A handler of last resort would print what nobody handles.
    logging.lastResort = None
    if level == "debug":
        let_libraries_log()


def quieten_logs() -> None:
    """Log nothing but what is critical, from now on."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def let_libraries_log() -> None:
    """Pass on what libraries log, from now on.

    Not before a command has found its servers: a server that is away is one line
    of ours, and should not be three of theirs as well.
    """
    root = logging.getLogger()
    if not any(isinstance(handler, LibraryLogs) for handler in root.handlers):
        root.addHandler(LibraryLogs())
    root.setLevel(logging.WARNING)


class LibraryLogs(logging.Handler):
    """Passes records of `logging` to structlog, few of each kind.

    A kind is the logger and the message before its values are put in. What was
    held back is counted in the next line of its kind.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__(logging.WARNING)
        self._now = now
        self._last: dict[tuple[str, str], float] = {}
        self._held_back: dict[tuple[str, str], int] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, or count it."""
        kind = (record.name, str(record.msg))
        now = self._now()
        last = self._last.get(kind)
        if last is not None and now - last < _SECONDS_BETWEEN_EQUALS:
            self._held_back[kind] = self._held_back.get(kind, 0) + 1
            return
        self._last[kind] = now
        try:
            self._write(record, self._held_back.pop(kind, 0))
        except Exception:
            self.handleError(record)

    def _write(self, record: logging.LogRecord, held_back: int) -> None:
        fields: dict[str, object] = {"logger": record.name, "message": record.getMessage()}
        if held_back:
            fields["held_back"] = held_back
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            fields["error"] = f"{type(error).__name__}: {error}"
        structlog.get_logger("oddslog.libraries").log(
            min(record.levelno, logging.ERROR), "library_log", **fields
        )
