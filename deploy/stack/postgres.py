"""PostgreSQL as a process: 127.0.0.1 only, a random password, durable settings."""

import contextlib
import os
import re
import secrets
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from ...schemas.errors import ConfigurationError
from .binaries import Programs, account_for_postgres, find_programs, reachable
from .contract import Progress
from .failures import last_words
from .probes import free_port, logs_in, port_is_free, postgres_answers
from .processes import Account, Identity, alive, run, spawn
from .server import LocalServer
from .state import StateFile

__all__ = ["DEFAULT_SETTINGS", "PostgresServer"]

# Durability is left as PostgreSQL has it: fsync and synchronous_commit are on.
DEFAULT_SETTINGS = {
    "max_connections": "100",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "log_line_prefix": "%m [%p] ",
}


class PostgresServer(LocalServer):
    """PostgreSQL's own programs, data in the stack's folder or where its user reaches it."""

    name = "PostgreSQL"
    key = "postgres"
    # Fast, immediate, and only then the kill that leaves its children to notice.
    stops = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 10.0))

    def __init__(
        self, directory: Path, states: StateFile, settings: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(directory, states)
        self._settings = {**DEFAULT_SETTINGS, **(settings or {})}
        self._programs: Programs | None = None

    @property
    def database_url(self) -> str:
        """Address of the administrator, with the password."""
        state = self.state
        return f"postgresql://postgres:{state.password}@127.0.0.1:{state.port}/postgres"

    @property
    def data(self) -> Path:
        """Where the data is."""
        outside = self.state.outside
        return Path(outside) / "data" if outside else self.directory / "postgres"

    def prepare(self, progress: Progress, cancel: threading.Event) -> None:
        """Find the programs and make the data folder once."""
        account = self._account() if self.state.made else account_for_postgres()
        self._programs = find_programs(account, progress)
        self.name = f"PostgreSQL {self._programs.version}"
        if not self.state.made:
            self._initialise(account, progress, cancel)
        self._require_same_major()
        self._forget_recycled_lock()

    def launch(self) -> Identity:
        """Start the server with the settings of now."""
        own = {
            "port": str(self.state.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
        }
        command = [self._program("postgres"), "-D", str(self.data)]
        for name, value in (self._settings | own).items():
            command += ["-c", f"{name}={value}"]
        account = self._account()
        return spawn(command, log=self.log, cwd=Path("/"), env=_environment(), account=account)

    def answers(self) -> bool:
        """Whether it takes logins."""
        return postgres_answers(self.state.port)

    def start(self, progress: Progress, cancel: threading.Event) -> bool:
        """Bring it up, and log in once to see that the password is right."""
        started = super().start(progress, cancel)
        problem = logs_in(self.database_url) if started else None
        if problem is not None:
            self.stop()
            raise ConfigurationError(f"{self.name} is up and refuses the login: {problem}")
        return started

    def may_retry(self, problem: str) -> bool:
        """After a kill -9 its children need a moment to end, and hold the data until then."""
        return "shared memory block" in problem or "postmaster.pid" in problem

    def remove_data(self) -> None:
        """Remove the data folder, wherever it is."""
        shutil.rmtree(self.data, ignore_errors=True)
        outside = self.state.outside
        if outside:
            shutil.rmtree(outside, ignore_errors=True)

    def _account(self) -> Account | None:
        state = self.state
        if state.uid is None or state.gid is None:
            return None
        return Account(state.uid, state.gid)

    def _program(self, name: str) -> str:
        if self._programs is None:
            raise ConfigurationError(f"{name} is needed before it was looked for")
        return str(self._programs.folder / name)

    def _initialise(
        self, account: Account | None, progress: Progress, cancel: threading.Event
    ) -> None:
        """Make the data folder beside its place and move it there: whole or not at all."""
        progress(f"making {self.name}'s data folder")
        base = self._base(account)
        for left in (base / "postgres.new", self.data):  # of a start that was interrupted
            shutil.rmtree(left, ignore_errors=True)
        new = base / "postgres.new"
        password = secrets.token_urlsafe(24)
        since = self._log_size()
        with _password_file(base, password, account) as file:
            # C: sorted and compared by bytes, the same on each machine.
            layout = ["-U", "postgres", "--encoding=UTF8", "--locale=C", "--no-instructions"]
            access = ["--auth=scram-sha-256", f"--pwfile={file}"]
            command = [self._program("initdb"), "-D", str(new), *layout, *access]
            try:
                code = self._run(_owned(new, account), command, cancel)
            except BaseException:
                shutil.rmtree(new, ignore_errors=True)
                raise
        if code != 0:
            words = last_words(self.log, since)
            raise ConfigurationError(
                f"PostgreSQL's data folder could not be made: {words} (log: {self.log})"
            )
        new.replace(self.data)
        version = self._programs.version if self._programs else ""
        port = self.state.port
        if port == 0 or not port_is_free(port):
            port = free_port()
        self.states.change(self.key, version=version, made=True, password=password, port=port)

    def _run(self, account: Account | None, command: list[str], cancel: threading.Event) -> int:
        return run(
            command,
            log=self.log,
            cwd=Path("/"),
            env=_environment(),
            cancel=cancel,
            account=account,
        )

    def _base(self, account: Account | None) -> Path:
        """Choose the folder that the data folder is made in, and remember it."""
        if account is None:
            self.states.change(self.key, outside="", uid=None, gid=None)
            return self.directory
        outside = self.state.outside
        if reachable(self.directory, account):
            outside = ""
        elif not outside or not Path(outside).is_dir():
            outside = tempfile.mkdtemp(prefix="oddslog-", dir=_temporary())
            os.chown(outside, account.uid, account.gid)
        self.states.change(self.key, outside=outside, uid=account.uid, gid=account.gid)
        return Path(outside) if outside else self.directory

    def _require_same_major(self) -> None:
        file = self.data / "PG_VERSION"
        if not file.exists():
            raise ConfigurationError(
                f"PostgreSQL's data has vanished from {self.data}: put it back, or remove "
                f"{self.directory} to begin anew"
            )
        made = file.read_text(encoding="ascii").strip()
        if self._programs is not None and made != str(self._programs.major):
            raise ConfigurationError(
                f"{self.data} was made by PostgreSQL {made}, and {self._programs.folder} is "
                f"{self._programs.version}: install {made}, or remove {self.directory} to begin "
                "anew"
            )

    def _forget_recycled_lock(self) -> None:
        """Remove the lock file of our own dead server whose id another process has by now.

        PostgreSQL only looks whether the id is alive, and would refuse to start for ever.
        """
        lock = self.data / "postmaster.pid"
        process = self.state.process
        if process is None or alive(process) or not lock.exists():
            return
        holder = re.match(r"\d+", lock.read_text(encoding="utf-8", errors="replace"))
        if holder and int(holder[0]) == process.pid and _exists(process.pid):
            lock.unlink()


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _owned(folder: Path, account: Account | None) -> Account | None:
    """Make the empty folder for initdb, its user's own; hand the user through."""
    folder.mkdir(mode=0o700)
    if account is not None:
        os.chown(folder, account.uid, account.gid)
    return account


@contextlib.contextmanager
def _password_file(base: Path, password: str, account: Account | None) -> Iterator[Path]:
    handle, name = tempfile.mkstemp(prefix=".password-", dir=base)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(password + "\n")
        if account is not None:
            os.chown(name, account.uid, account.gid)
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def _temporary() -> str:
    """A folder for data that everybody may enter and that survives a reboot, where there is one."""
    return "/var/tmp" if Path("/var/tmp").is_dir() else tempfile.gettempdir()  # noqa: S108


def _environment() -> dict[str, str]:
    # PG* are meant for clients; messages are in English for `last_words`, and
    # macOS needs a locale or PostgreSQL finds itself with threads.
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_"))}
    return {**env, "LC_ALL": "C"}
