"""The Docker engine, through testcontainers: the only module that imports it."""

import contextlib
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib.util import find_spec
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from ...schemas.errors import ConfigurationError, UnreachableError
from .contract import Progress
from .failures import EXTRA

__all__ = ["ContainerPlan", "Engine"]

_LOCAL_HOSTS = ("", "localhost", "127.0.0.1", "::1", "localunixsocket")
_DEFAULT_ADDRESS = "unix:///var/run/docker.sock"
_STOP_SECONDS = 20


@dataclass(frozen=True)
class ContainerPlan:
    """A container to be: `port` is where it listens, `host_port` of 127.0.0.1 leads there."""

    name: str
    image: str
    port: int
    host_port: int
    environment: Mapping[str, str]
    command: Sequence[str] = ()


class Engine:
    """A connection to the engine; use it with `with`.

    Raises:
        ConfigurationError: testcontainers is not installed.
        UnreachableError: no engine of this machine answers.
    """

    def __init__(self) -> None:
        # Neither is imported before it is needed: the extra may be missing.
        if find_spec("testcontainers") is None or find_spec("docker") is None:
            raise ConfigurationError(f"the docker stack needs testcontainers: {EXTRA}")
        from docker.errors import DockerException  # type: ignore[import-untyped] # noqa: PLC0415
        from testcontainers.core.docker_client import (  # noqa: PLC0415
            DockerClient,
            get_docker_host,
        )

        _require_socket(get_docker_host() or _DEFAULT_ADDRESS)
        self._failure: type[Exception] = DockerException
        try:
            self._client: Any = DockerClient(timeout=60).client
        except Exception as exc:
            raise UnreachableError(f"no Docker engine answers ({_short(exc)})") from exc

    def __enter__(self) -> "Engine":
        """Look whether it answers, and is of this machine."""
        try:
            self._client.ping()
            self._require_local()
        except UnreachableError:
            self._client.close()
            raise
        except Exception as exc:  # also what requests raises
            self._client.close()
            raise UnreachableError(f"no Docker engine answers ({_short(exc)})") from exc
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()

    def require_image(self, image: str, progress: Progress) -> None:
        """Pull the image where it is not there.

        Raises:
            UnreachableError: it cannot be pulled.
        """
        from docker.errors import ImageNotFound  # noqa: PLC0415

        try:
            self._client.images.get(image)
        except ImageNotFound:
            progress(f"pulling the image {image}")
            try:
                self._client.images.pull(image)
            except Exception as exc:
                raise UnreachableError(f"cannot pull the image {image} ({_short(exc)})") from exc

    def ensure(self, plan: ContainerPlan) -> str:
        """Make the container where there is none of its name, and see that it runs.

        Returns:
            `made`, `started`, or "" where it ran already.

        Raises:
            ConfigurationError: the engine refuses.
        """
        found = self._found(plan.name)
        with self._refused(plan.name):
            if found is None:
                _make(plan)
                return "made"
            if found.status != "running":
                found.start()
                return "started"
        return ""

    def exists(self, name: str) -> bool:
        """Whether there is such a container, running or not."""
        return self._found(name) is not None

    def runs(self, name: str) -> bool:
        """Whether the container runs now."""
        found = self._found(name)
        return found is not None and found.status in ("created", "running")

    def last_lines(self, name: str) -> str:
        """Return the end of a container's log as one line."""
        found = self._found(name)
        text = found.logs(tail=3).decode("utf-8", "replace") if found is not None else ""
        return " / ".join(line.strip() for line in text.splitlines() if line.strip())[:400]

    def stop(self, name: str) -> None:
        """Stop the container where it runs."""
        found = self._found(name)
        if found is not None:
            with self._refused(name):
                found.stop(timeout=_STOP_SECONDS)

    def remove(self, name: str) -> None:
        """Remove the container with its volumes."""
        found = self._found(name)
        if found is not None:
            with self._refused(name):
                found.remove(force=True, v=True)

    def _found(self, name: str) -> Any:
        from docker.errors import NotFound  # noqa: PLC0415

        try:
            return self._client.containers.get(name)
        except NotFound:
            return None

    def _require_local(self) -> None:
        host = urlsplit(str(self._client.api.base_url)).hostname or ""
        if host not in _LOCAL_HOSTS:
            raise UnreachableError(
                f"the Docker engine is on {host}, and the stack must be on this machine: "
                "choose the stack `local`, or `env` with addresses"
            )

    @contextlib.contextmanager
    def _refused(self, name: str) -> Iterator[None]:
        try:
            yield
        except self._failure as exc:
            raise ConfigurationError(f"container {name}: {_short(exc)}") from exc


def _require_socket(address: str) -> None:
    """Look for the engine's socket ourselves: docker's client leaves one open when it is deaf."""
    if not address.startswith("unix://"):
        return
    path = address.removeprefix("unix://")
    try:
        with closing(socket.socket(socket.AF_UNIX)) as probe:
            probe.settimeout(5.0)
            probe.connect(path)
    except OSError as exc:
        reason = exc.strerror or str(exc)
        raise UnreachableError(f"no Docker engine answers on {path} ({reason})") from exc


def _make(plan: ContainerPlan) -> None:
    from testcontainers.core.config import testcontainers_config  # noqa: PLC0415
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415

    container: Any = DockerContainer(plan.image).with_name(plan.name)
    for name, value in plan.environment.items():
        container.with_env(name, value)
    if plan.command:
        container.with_command(list(plan.command))
    # With an address, which `with_bind_ports` cannot take: not open to the network.
    container.ports[f"{plan.port}/tcp"] = ("127.0.0.1", plan.host_port)
    config: Any = testcontainers_config
    reaper = config.ryuk_disabled
    # The reaper ends containers with the process that made them; a stack outlives it.
    config.ryuk_disabled = True
    try:
        container.start()
    finally:
        config.ryuk_disabled = reaper
        container.get_docker_client().client.close()


def _short(problem: Exception) -> str:
    text = " ".join(str(problem).split())
    return f"{type(problem).__name__}: {text[:140]}"
