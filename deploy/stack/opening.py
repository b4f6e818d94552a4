"""Choose the stack for a mode: `auto`, `env`, `docker` or `local`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

from ...schemas.errors import ConfigurationError
from .automatic import AutomaticStack
from .configured import ConfiguredStack
from .containers import DockerStack
from .contract import Stack
from .local import LocalStack

__all__ = ["MODES", "Mode", "open_stack"]

Mode = Literal["auto", "env", "docker", "local"]
MODES: tuple[str, ...] = get_args(Mode)


def open_stack(
    mode: str,
    directory: Path | str,
    *,
    bootstrap_servers: str | None = None,
    database_url: str | None = None,
    kafka_properties: Mapping[str, str] | None = None,
    postgres_settings: Mapping[str, str] | None = None,
) -> Stack:
    """Return the stack of a mode; nothing is started or looked at yet.

    Args:
        mode: `env` for given addresses, which are never started or stopped; `docker`
            for containers; `local` for processes of this user; `auto` for what the
            folder already holds, else `docker` where an engine answers and has or
            can pull the images, else `local`. `auto` never takes given addresses.
        directory: where data and state are kept; made at the first start.
        bootstrap_servers: the Kafka of `env`.
        database_url: the PostgreSQL of `env`.
        kafka_properties: over the broker's own, from the next start on.
        postgres_settings: over the server's own, from the next start on.

    Raises:
        ConfigurationError: no such mode, or `env` without addresses.
    """
    if mode == "env":
        return ConfiguredStack(bootstrap_servers, database_url)
    folder = Path(directory)
    local = LocalStack(
        folder, kafka_properties=kafka_properties, postgres_settings=postgres_settings
    )
    docker = DockerStack(
        folder, kafka_properties=kafka_properties, postgres_settings=postgres_settings
    )
    if mode == "local":
        return local
    if mode == "docker":
        return docker
    if mode == "auto":
        return AutomaticStack(docker, local)
    raise ConfigurationError(f"there is no stack {mode!r}: choose one of {', '.join(MODES)}")
