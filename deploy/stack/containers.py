"""The docker stack: Apache Kafka and PostgreSQL in containers of the official images."""

import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from ...schemas.errors import ConfigurationError, OddslogError, UnreachableError
from .contract import Progress, Servers
from .engine import ContainerPlan, Engine
from .failures import one_line
from .jars import KAFKA_VERSION
from .kafka import COMMON_PROPERTIES, new_cluster_id
from .postgres import DEFAULT_SETTINGS
from .probes import free_port, kafka_answers, logs_in, postgres_answers
from .state import ServerState, StateFile, forget_folder, locked, make_folder

__all__ = ["KAFKA_IMAGE", "POSTGRES_IMAGE", "DockerStack"]

KAFKA_IMAGE = f"apache/kafka:{KAFKA_VERSION}"
POSTGRES_IMAGE = "postgres:18"

# 10 s on an idle machine, 65 s were seen on one that did seven times its work. A container
# that ended is seen at once, so only one that is deaf lets anybody wait so long.
_READY_SECONDS = 150.0
_POLL_SECONDS = 0.1
_CONTROLLER_PORT = 9093
_KAFKA, _POSTGRES = "docker-kafka", "docker-postgres"


class DockerStack:
    """Two containers, remembered in the folder's `state.json`; their data lives in them.

    They outlive this process. `kafka_properties` and `postgres_settings` hold for
    containers that are made new: `destroy` first to change them.
    """

    def __init__(
        self,
        directory: Path,
        *,
        kafka_properties: Mapping[str, str] | None = None,
        postgres_settings: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory.absolute()
        self._states = StateFile(self.directory)
        self._properties = dict(kafka_properties or {})
        self._settings = {**DEFAULT_SETTINGS, **(postgres_settings or {})}

    def __repr__(self) -> str:
        """Folder and ports at a glance."""
        ports = f"kafka={self._kafka.port} postgres={self._postgres.port}"
        return f"<DockerStack {self.directory} {ports}>"

    @property
    def remembered(self) -> bool:
        """Whether this folder's containers were made before."""
        return bool(self._names())

    def why_not(self, progress: Progress) -> str | None:
        """Say why it cannot be started here, after pulling the images; None where it can."""
        try:
            with Engine() as engine:
                _require_images(engine, progress)
        except OddslogError as exc:
            return str(exc)
        return None

    def start(self, progress: Progress) -> Servers:
        """Make or start both containers and return when both servers answer.

        Raises:
            ConfigurationError: testcontainers is missing, or a container cannot run.
            UnreachableError: no engine answers, an image cannot be had, or a server is silent.
        """
        with one_line("the docker stack cannot be started"):
            make_folder(self.directory)
            waiting = f"waiting for another process that starts or stops {self.directory}"
            with self._lock(lambda: progress(waiting)), Engine() as engine:
                self._start(engine, progress)
        return self._servers()

    def stop(self) -> None:
        """Stop both containers; their data stays."""
        if self.remembered:
            with one_line("cannot stop"), self._lock(), Engine() as engine:
                for name in self._names():
                    engine.stop(name)

    def destroy(self) -> None:
        """Remove both containers with their data."""
        if self.remembered:
            with one_line("cannot remove"), self._lock(), Engine() as engine:
                for name in self._names():
                    engine.remove(name)
                for server in (_KAFKA, _POSTGRES):
                    self._states.change(server, container="")
                if not any(self._states.get(local).made for local in ("kafka", "postgres")):
                    forget_folder(self.directory)

    def running(self) -> Servers | None:
        """Return the addresses where both servers answer now, else None."""
        up = self.remembered and self._kafka_up() and self._postgres_up()
        return self._servers() if up else None

    @property
    def _kafka(self) -> ServerState:
        return self._states.get(_KAFKA)

    @property
    def _postgres(self) -> ServerState:
        return self._states.get(_POSTGRES)

    def _kafka_up(self) -> bool:
        return kafka_answers(self._kafka.port, self._kafka.cluster_id)

    def _postgres_up(self) -> bool:
        return postgres_answers(self._postgres.port)

    def _names(self) -> list[str]:
        return [state.container for state in (self._kafka, self._postgres) if state.container]

    def _lock(self, waiting: Callable[[], None] | None = None) -> AbstractContextManager[None]:
        return locked(self.directory / "lock", waiting)

    def _servers(self) -> Servers:
        return Servers(f"127.0.0.1:{self._kafka.port}", self._database_url(), "docker")

    def _database_url(self) -> str:
        state = self._postgres
        return f"postgresql://postgres:{state.password}@127.0.0.1:{state.port}/postgres"

    def _start(self, engine: Engine, progress: Progress) -> None:
        _require_images(engine, progress)
        self._remember_names()
        plans = {_KAFKA: self._kafka_plan(), _POSTGRES: self._postgres_plan()}
        # Before anything is made: a container that was there is never removed below.
        done = {s: "" if engine.exists(plan.name) else "made" for s, plan in plans.items()}
        progress(f"starting containers of {KAFKA_IMAGE} and {POSTGRES_IMAGE}")
        try:
            for server, plan in plans.items():
                done[server] = engine.ensure(plan)
            self._await_both(engine, progress)
        except BaseException:
            self._undo(engine, done)
            raise

    def _undo(self, engine: Engine, done: Mapping[str, str]) -> None:
        """Take back what a failed start did: a new container holds no data yet."""
        for server, deed in done.items():
            name = self._states.get(server).container
            if deed == "made":
                engine.remove(name)
                self._states.change(server, container="")
            elif deed == "started":
                engine.stop(name)

    def _await_both(self, engine: Engine, progress: Progress) -> None:
        self._await(engine, "Kafka", self._kafka, self._kafka_up, progress)
        self._await(engine, "PostgreSQL", self._postgres, self._postgres_up, progress)
        problem = logs_in(self._database_url())
        if problem is not None:
            raise ConfigurationError(f"PostgreSQL is up and refuses the login: {problem}")

    def _remember_names(self) -> None:
        """Write names down before the containers are made: an interrupt then loses none."""
        mark = secrets.token_hex(4)
        if not self._kafka.container:
            name = f"oddslog-kafka-{mark}"
            self._states.change(
                _KAFKA, container=name, port=free_port(), cluster_id=new_cluster_id()
            )
        if not self._postgres.container:
            name = f"oddslog-postgres-{mark}"
            password = secrets.token_urlsafe(24)
            self._states.change(_POSTGRES, container=name, port=free_port(), password=password)

    def _kafka_plan(self) -> ContainerPlan:
        port = self._kafka.port
        # It listens on one port number inside and outside, because the broker also
        # reaches itself by the address that it advertises.
        properties = {
            **COMMON_PROPERTIES,
            "listeners": f"PLAINTEXT://:{port},CONTROLLER://:{_CONTROLLER_PORT}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
            "controller.quorum.voters": f"1@localhost:{_CONTROLLER_PORT}",
            **self._properties,
        }
        environment = {f"KAFKA_{_as_variable(name)}": value for name, value in properties.items()}
        environment |= {"CLUSTER_ID": self._kafka.cluster_id, "KAFKA_HEAP_OPTS": "-Xmx512m"}
        return ContainerPlan(self._kafka.container, KAFKA_IMAGE, port, port, environment)

    def _postgres_plan(self) -> ContainerPlan:
        state = self._postgres
        command = ["postgres"]
        for name, value in self._settings.items():
            command += ["-c", f"{name}={value}"]
        environment = {"POSTGRES_PASSWORD": state.password}
        return ContainerPlan(
            state.container, POSTGRES_IMAGE, 5432, state.port, environment, command
        )

    def _await(
        self,
        engine: Engine,
        name: str,
        state: ServerState,
        answers: Callable[[], bool],
        progress: Progress,
    ) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        while not answers():
            if not engine.runs(state.container):
                words = engine.last_lines(state.container)
                raise ConfigurationError(f"{name}'s container {state.container} ended: {words}")
            if time.monotonic() > deadline:
                raise UnreachableError(
                    f"{name} does not answer on 127.0.0.1:{state.port} after "
                    f"{_READY_SECONDS:.0f} s: see `docker logs {state.container}`"
                )
            time.sleep(_POLL_SECONDS)
        progress(f"{name} is up on 127.0.0.1:{state.port} (container {state.container})")


def _require_images(engine: Engine, progress: Progress) -> None:
    for image in (KAFKA_IMAGE, POSTGRES_IMAGE):
        engine.require_image(image, progress)


def _as_variable(name: str) -> str:
    """Write a property's name as the image takes it: `.` is `_`, `_` is `__`, `-` is `___`."""
    return name.replace("_", "__").replace("-", "___").replace(".", "_").upper()
