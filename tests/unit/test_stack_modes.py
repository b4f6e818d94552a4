"""Which stack a mode gives, without starting a server."""

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from oddslog.deploy import stack as front_door
from oddslog.deploy.stack import (
    LocalStack,
    Servers,
    open_stack,
)
from oddslog.deploy.stack.automatic import AutomaticStack
from oddslog.deploy.stack.containers import DockerStack
from oddslog.deploy.stack.state import StateFile
from oddslog.schemas.errors import ConfigurationError, UnreachableError

URL = "postgresql://me:secret@127.0.0.1:1/db"


def quiet(_line: str) -> None:
    """Progress that nobody reads."""


@pytest.fixture
def listener() -> Iterator[int]:
    """A port that takes connections and says nothing."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield server.getsockname()[1]


def test_front_door_is_what_it_says() -> None:
    """`__all__` is sorted and complete."""
    assert sorted(front_door.__all__, key=lambda name: (not name.isupper(), name)) == list(
        front_door.__all__
    )
    assert all(hasattr(front_door, name) for name in front_door.__all__)


def test_an_unknown_mode_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    """The error lists the modes."""
    with pytest.raises(ConfigurationError, match="auto, env, docker, local"):
        open_stack("cloud", tmp_path)


def test_nothing_is_made_before_start(tmp_path: Path) -> None:
    """Opening, asking, stopping and destroying a stack that never ran touch nothing."""
    for mode in ("auto", "docker", "local"):
        stack = open_stack(mode, tmp_path / "no")
        assert stack.running() is None
        stack.stop()
        stack.destroy()
    assert list(tmp_path.iterdir()) == []


def test_env_names_what_is_missing(tmp_path: Path) -> None:
    """Each missing setting is named."""
    with pytest.raises(ConfigurationError, match=r"ODDSLOG_DATABASE_URL$"):
        open_stack("env", tmp_path, bootstrap_servers="localhost:9092")
    with pytest.raises(ConfigurationError, match="ODDSLOG_BOOTSTRAP_SERVERS and ODDSLOG_D"):
        open_stack("env", tmp_path)


@pytest.mark.parametrize("url", ["mysql://a/b", "postgresql:///db", "postgresql://h:port/db"])
def test_env_refuses_a_url_that_is_none(tmp_path: Path, url: str) -> None:
    """The error comes when the stack is opened and shows no password."""
    with pytest.raises(ConfigurationError):
        open_stack("env", tmp_path, bootstrap_servers="localhost", database_url=url)


def test_env_is_looked_at_and_left_alone(tmp_path: Path, listener: int) -> None:
    """Any of several addresses will do; nothing is started, stopped or written."""
    stack = open_stack(
        "env",
        tmp_path,
        bootstrap_servers=f"127.0.0.1:1,127.0.0.1:{listener}",
        database_url=f"postgresql+asyncpg://me:secret@127.0.0.1:1,127.0.0.1:{listener}/db",
    )
    servers = stack.start(quiet)
    assert servers.kind == "env"
    assert servers.database_url.startswith("postgresql://me:secret@")
    assert stack.running() == servers
    stack.stop()
    stack.destroy()
    assert "secret" not in repr(servers) + repr(stack)
    assert list(tmp_path.iterdir()) == []


def test_env_that_does_not_answer_is_unreachable(tmp_path: Path, listener: int) -> None:
    """The error names the server and its address."""
    address = f"127.0.0.1:{listener}"
    stack = open_stack("env", tmp_path, bootstrap_servers=address, database_url=URL)
    assert stack.running() is None
    with pytest.raises(UnreachableError, match=r"PostgreSQL does not answer on 127\.0\.0\.1:1"):
        stack.start(quiet)


def test_auto_takes_local_where_docker_cannot_be_had_and_stays_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason is told once; a folder with local data never changes to docker."""
    servers = Servers("a", "b", "local")
    asked: list[str] = []

    def why_not(_stack: DockerStack, _progress: object) -> str:
        asked.append("docker")
        return "no engine"

    def start(stack: LocalStack, _progress: object) -> Servers:
        stack.directory.mkdir(exist_ok=True)
        StateFile(stack.directory).change("kafka", made=True)
        return servers

    monkeypatch.setattr(DockerStack, "why_not", why_not)
    monkeypatch.setattr(LocalStack, "start", start)
    lines: list[str] = []
    stack = open_stack("auto", tmp_path / "s")
    assert isinstance(stack, AutomaticStack)
    assert stack.start(lines.append) == servers
    assert stack.start(lines.append) == servers
    assert asked == ["docker"]
    assert lines == ["no docker here (no engine): taking the local stack"]
