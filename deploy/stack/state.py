"""What a stack remembers between runs: `state.json`, and the lock around it."""

import contextlib
import fcntl
import json
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from ...schemas.errors import ConfigurationError
from .failures import one_line
from .processes import Identity

__all__ = ["ServerState", "StateFile", "forget_folder", "locked", "make_folder"]


@dataclass(frozen=True)
class ServerState:
    """One server of a stack, as remembered.

    Attributes:
        version: what made the data.
        port: where it listens on 127.0.0.1, the same after each restart.
        made: whether the data folder was made to its end.
        outside: the folder of the data where it is not in the stack's own.
        process: the process that was started last.
        controller_port: Kafka's second port.
        cluster_id: Kafka's name for its data.
        password: of PostgreSQL's administrator.
        uid: the user that PostgreSQL's data belongs to, where it is not us.
        gid: likewise its group.
        container: id of the container, where it runs in one.
    """

    version: str = ""
    port: int = 0
    made: bool = False
    outside: str = ""
    process: Identity | None = None
    controller_port: int = 0
    cluster_id: str = ""
    password: str = ""
    uid: int | None = None
    gid: int | None = None
    container: str = ""


class StateFile:
    """The states of a stack's servers, kept in a file that only its owner reads."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "state.json"
        self._guard = threading.Lock()  # both servers start at once

    def get(self, server: str) -> ServerState:
        """Return what is remembered of a server; all defaults where nothing is.

        Raises:
            ConfigurationError: the file cannot be understood.
        """
        return self._read().get(server, ServerState())

    def change(self, server: str, **changes: Any) -> ServerState:
        """Remember the changed fields; they are on disk when this returns."""
        with self._guard:
            states = self._read()
            state = replace(states.get(server, ServerState()), **changes)
            self._write({**states, server: state})
        return state

    def _read(self) -> dict[str, ServerState]:
        try:
            with one_line("the stack's state cannot be read", but=FileNotFoundError):
                text = self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        try:
            return {name: _state(value) for name, value in json.loads(text).items()}
        except (ValueError, TypeError, AttributeError) as exc:
            raise ConfigurationError(
                f"{self._path} cannot be read as a stack's state ({exc}): mend or remove it"
            ) from exc

    def _write(self, states: dict[str, ServerState]) -> None:
        text = json.dumps({name: asdict(state) for name, state in states.items()}, indent=1)
        new = self._path.with_suffix(".new")
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._path)


def _state(value: dict[str, Any]) -> ServerState:
    known = {field.name for field in fields(ServerState)}
    process = value.get("process")
    kept = {name: item for name, item in value.items() if name in known}
    return ServerState(**{**kept, "process": Identity(**process) if process else None})


def make_folder(directory: Path) -> None:
    """Make a stack's folder, which no repository around it sees."""
    directory.mkdir(parents=True, exist_ok=True)
    ignore = directory / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n", encoding="ascii")


def forget_folder(directory: Path) -> None:
    """Remove a stack's state, and its folder where nothing else is in it."""
    for name in ("state.json", "state.new", ".gitignore", "lock"):
        (directory / name).unlink(missing_ok=True)
    if not any(directory.iterdir()):
        directory.rmdir()


@contextlib.contextmanager
def locked(path: Path, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold a lock file; another process or thread that wants it waits.

    Args:
        path: the file; its folder must be there.
        waiting: called once where the lock is not free at once.
    """
    handle = _taken(path, waiting)
    try:
        yield
    finally:
        os.close(handle)


def _taken(path: Path, waiting: Callable[[], None] | None) -> int:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if waiting is not None:
                    waiting()
                fcntl.flock(handle, fcntl.LOCK_EX)
            # The holder before us may have removed the file: then this lock locks nobody out.
            if path.exists() and os.path.samestat(os.fstat(handle), path.stat()):
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
