"""One server process of a local stack: up, until it answers, and down."""

import contextlib
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from ...schemas.errors import ConfigurationError, UnreachableError
from .contract import Progress
from .failures import last_words, one_line
from .probes import free_port, port_is_free
from .processes import Cancelled, Identity, alive, end, wait_gone
from .state import ServerState, StateFile

__all__ = ["LocalServer", "StartFailedError"]

# A few seconds on an idle machine. A process that ended is seen at once.
READY_SECONDS = 120.0
_RETRY_SECONDS = 15.0
_POLL_SECONDS = 0.05
_LOG_BYTES = 16 << 20


class StartFailedError(Exception):
    """The server ended while it started; the message is its last words."""


class LocalServer(ABC):
    """A server that runs as a detached process of this user.

    Callers hold the stack's lock. Only `start` may run in two threads at once,
    for two different servers.
    """

    name: str
    key: str
    stops: Sequence[tuple[signal.Signals, float]]
    """Signals to end it with, each with the seconds to wait after it."""

    def __init__(self, directory: Path, states: StateFile) -> None:
        self.directory = directory
        self.states = states
        self.log = directory / f"{self.key}.log"

    @abstractmethod
    def prepare(self, progress: Progress, cancel: threading.Event) -> None:
        """Make sure that program and data are there."""

    @abstractmethod
    def launch(self) -> Identity:
        """Start the process and return at once."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether it answers in its own protocol."""

    @property
    def state(self) -> ServerState:
        """What is remembered of it."""
        return self.states.get(self.key)

    def is_up(self) -> bool:
        """Whether the process that we started runs and answers."""
        return alive(self.state.process) and self.answers()

    def start(self, progress: Progress, cancel: threading.Event) -> bool:
        """Bring it up and wait until it answers; return whether a process was started.

        Raises:
            Cancelled: `cancel` was set; nothing that was started here runs.
            ConfigurationError: it cannot be started, and why.
            UnreachableError: it did not answer in time.
        """
        if alive(self.state.process):
            with contextlib.suppress(StartFailedError):  # it ended just now
                self._await_answer(cancel, self._log_size())
                return False
        self.prepare(progress, cancel)
        began = time.monotonic()
        self._start_process(cancel)
        port = self.state.port
        progress(f"{self.name} is up on 127.0.0.1:{port} ({time.monotonic() - began:.1f} s)")
        return True

    def stop(self, first: signal.Signals | None = None) -> None:
        """End the process that was started, and wait until it is gone."""
        self._end(self.stops if first is None else [(first, 20.0), (signal.SIGKILL, 10.0)])

    def _end(self, steps: Sequence[tuple[signal.Signals, float]]) -> None:
        with one_line(f"cannot stop {self.name}"):
            end(self.state.process, steps)
        if self.state.process is not None:
            self.states.change(self.key, process=None)

    def _start_process(self, cancel: threading.Event) -> None:
        deadline = time.monotonic() + _RETRY_SECONDS
        while True:
            self._require_port()
            self._rotate_log()
            since = self._log_size()
            if cancel.is_set():
                raise Cancelled
            self._launch_recorded()
            try:
                self._await_answer(cancel, since)
            except StartFailedError as exc:
                if time.monotonic() > deadline or not self.may_retry(str(exc)):
                    raise ConfigurationError(
                        f"{self.name} did not start: {exc} (log: {self.log})"
                    ) from exc
                cancel.wait(0.2)
            except BaseException:
                # It serves nobody yet, and a JVM that starts may be deaf for long.
                self._end([(self.stops[0][0], 3.0), (signal.SIGKILL, 10.0)])
                raise
            else:
                return

    def _launch_recorded(self) -> None:
        process = self.launch()
        try:
            self.states.change(self.key, process=process)
        except BaseException:  # a full disk, say: nobody would find it again
            end(process, [(signal.SIGKILL, 10.0)])
            raise

    def may_retry(self, problem: str) -> bool:
        """Whether a failed start is worth another attempt."""
        del problem
        return False

    def _await_answer(self, cancel: threading.Event, since: int) -> None:
        identity = self.state.process
        deadline = time.monotonic() + READY_SECONDS
        while not self.answers():
            if identity is None or not alive(identity):
                words = last_words(self.log, since)
                raise StartFailedError(words or "it ended without a word")
            if time.monotonic() > deadline:
                raise UnreachableError(
                    f"{self.name} (process {identity.pid}) does not answer on 127.0.0.1:"
                    f"{self.state.port} after {READY_SECONDS:.0f} s (log: {self.log})"
                )
            if cancel.wait(_POLL_SECONDS):
                raise Cancelled

    def _require_port(self) -> None:
        port = self.state.port
        if port == 0:
            self.states.change(self.key, port=free_port())
        elif not port_is_free(port):
            raise ConfigurationError(
                f"{self.name} has port {port} of 127.0.0.1, and another process listens there: "
                f"end that one, or change the port in {self.directory / 'state.json'}"
            )

    def _log_size(self) -> int:
        return self.log.stat().st_size if self.log.exists() else 0

    def _rotate_log(self) -> None:
        if self._log_size() > _LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))

    def wait_gone(self, seconds: float) -> bool:
        """Wait until the process has ended by itself."""
        process = self.state.process
        return process is None or wait_gone(process, seconds)
