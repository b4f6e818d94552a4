"""The local stack: Kafka and PostgreSQL as processes of this user, data in one folder."""

import shutil
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from pathlib import Path

from .contract import Progress, Servers
from .failures import one_line
from .kafka import KafkaServer, Listener
from .postgres import PostgresServer
from .processes import Cancelled
from .server import LocalServer
from .state import StateFile, forget_folder, locked, make_folder

__all__ = ["LocalStack"]


class LocalStack:
    """Kafka's jars on a JRE and PostgreSQL's programs, as detached processes.

    They outlive this process; `state.json` in the folder says where they are.
    `kafka_properties` and `postgres_settings` hold from the next start of a
    server on, as do `kafka_listeners`, beside the broker's own one;
    `kafka_format_options` when Kafka's data folder is made (`--add-scram ...`). Any
    number of objects and processes may use one folder: a lock file lets one at a
    time start and stop.
    """

    def __init__(
        self,
        directory: Path,
        *,
        kafka_properties: Mapping[str, str] | None = None,
        kafka_listeners: Sequence[Listener] = (),
        kafka_format_options: Sequence[str] = (),
        postgres_settings: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory.absolute()
        states = StateFile(self.directory)
        self._kafka = KafkaServer(
            self.directory, states, kafka_properties, kafka_listeners, kafka_format_options
        )
        self._postgres = PostgresServer(self.directory, states, postgres_settings)

    def __repr__(self) -> str:
        """Folder and ports at a glance."""
        ports = f"kafka={self._kafka.state.port} postgres={self._postgres.state.port}"
        return f"<LocalStack {self.directory} {ports}>"

    @property
    def remembered(self) -> bool:
        """Whether this folder's servers were made before."""
        return self._kafka.state.made or self._postgres.state.made

    @property
    def kafka_port(self) -> int:
        """The port of the broker's own listener; 0 before the first start."""
        return self._kafka.state.port

    @property
    def kafka_log(self) -> Path:
        """The broker's log file."""
        return self._kafka.log

    @property
    def postgres_log(self) -> Path:
        """The database server's log file."""
        return self._postgres.log

    def start(self, progress: Progress) -> Servers:
        """Bring both servers up, each where it is not, and return when both answer.

        After an error or an interrupt, what this call started is down again.

        Raises:
            ConfigurationError: something is missing or wrong here (one line).
            UnreachableError: a server or the network does not answer (one line).
        """
        self._start([self._kafka, self._postgres], progress)
        return self._servers()

    def stop(self) -> None:
        """End both servers where they run, at the same time; the data stays."""
        if self.directory.is_dir():
            with one_line(f"cannot stop {self.directory}"), self._lock():
                self._stop_both()

    def destroy(self) -> None:
        """Stop both and remove the data, and the folder where nothing else is in it."""
        if not self.directory.is_dir():
            return
        with one_line(f"cannot remove {self.directory}"), self._lock():
            self._stop_both()
            self._postgres.remove_data()
            for name in ("kafka", "postgres", "postgres.new"):
                shutil.rmtree(self.directory / name, ignore_errors=True)
            for name in ("kafka.log", "postgres.log", "kafka.log.1", "postgres.log.1"):
                (self.directory / name).unlink(missing_ok=True)
            forget_folder(self.directory)

    def running(self) -> Servers | None:
        """Return the addresses where both servers answer now, else None."""
        if not self.directory.is_dir():
            return None
        up = self._kafka.is_up() and self._postgres.is_up()
        return self._servers() if up else None

    def start_kafka(self, progress: Progress = lambda _line: None) -> None:
        """Bring Kafka up on the port and data it had."""
        self._start([self._kafka], progress)

    def stop_kafka(self, signal_number: signal.Signals = signal.SIGTERM) -> None:
        """Send Kafka a signal and wait until it is gone."""
        with self._lock():
            self._kafka.stop(signal_number)

    def start_postgres(self, progress: Progress = lambda _line: None) -> None:
        """Bring PostgreSQL up on the port and data it had."""
        self._start([self._postgres], progress)

    def stop_postgres(self, signal_number: signal.Signals = signal.SIGINT) -> None:
        """Send PostgreSQL a signal and wait until it is gone."""
        with self._lock():
            self._postgres.stop(signal_number)

    def _servers(self) -> Servers:
        port = self._kafka.state.port
        return Servers(f"127.0.0.1:{port}", self._postgres.database_url, "local")

    def _start(self, servers: Sequence[LocalServer], progress: Progress) -> None:
        with one_line("the local stack cannot be started"):
            make_folder(self.directory)
            waiting = f"waiting for another process that starts or stops {self.directory}"
            with self._lock(lambda: progress(waiting)):
                _start_together(servers, progress)

    def _stop_both(self) -> None:
        with ThreadPoolExecutor(2, "oddslog-stop") as pool:
            jobs = [pool.submit(server.stop) for server in (self._kafka, self._postgres)]
        for job in jobs:
            job.result()

    def _lock(self, waiting: Callable[[], None] | None = None) -> AbstractContextManager[None]:
        return locked(self.directory / "lock", waiting)


def _start_together(servers: Sequence[LocalServer], progress: Progress) -> None:
    """Start servers in threads: an interrupt reaches only the caller's, so none is half started."""
    cancel = threading.Event()
    with ThreadPoolExecutor(len(servers), "oddslog-start") as pool:
        jobs = {pool.submit(server.start, progress, cancel): server for server in servers}
        try:
            _wait_watchfully(jobs)
            if all(job.done() and job.exception() is None for job in jobs):
                return
            cancel.set()
            wait(jobs)
        except BaseException:
            cancel.set()
            wait(jobs)
            _undo(jobs)
            raise
    _undo(jobs)
    raise _told([job.exception() for job in jobs])


def _wait_watchfully(jobs: Mapping[Future[bool], LocalServer]) -> None:
    """Wait for all or the first failure; wake up now and then, or an interrupt may come late.

    The system may deliver a signal to any thread, and Python acts on it in the main one.
    """
    while not all(job.done() for job in jobs):
        wait(jobs, timeout=0.1, return_when=FIRST_EXCEPTION)
        if any(job.done() and job.exception() is not None for job in jobs):
            return


def _told(failures: Sequence[BaseException | None]) -> BaseException:
    """The failure to tell of: the other server's was only given up because of it."""
    real = [failure for failure in failures if failure is not None]
    return next((failure for failure in real if not isinstance(failure, Cancelled)), real[0])


def _undo(jobs: Mapping[Future[bool], LocalServer]) -> None:
    for job, server in jobs.items():
        if job.exception() is None and job.result():
            server.stop()
