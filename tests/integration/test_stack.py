"""The local stack for real: a broker and a database server as processes of this user."""

import asyncio
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from oddslog.deploy.stack import LocalStack, Servers
from oddslog.deploy.stack.containers import DockerStack
from oddslog.deploy.stack.jars import cache_directory, pinned_sums
from oddslog.deploy.stack.state import StateFile
from oddslog.schemas.errors import ConfigurationError


def quiet(_line: str) -> None:
    """Progress that nobody reads."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """One stack for the module, down before the first test."""
    made = LocalStack(tmp_path_factory.mktemp("stack") / "an ö folder")
    try:
        yield made
    finally:
        made.destroy()


@pytest.fixture
def servers(stack: LocalStack) -> Servers:
    """Both servers up."""
    return stack.start(quiet)


async def _write(servers: Servers, value: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=servers.bootstrap_servers)
    await admin.start()
    try:
        if "kept" not in await admin.list_topics():
            await admin.create_topics([NewTopic("kept", 1, 1)])
    finally:
        await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=servers.bootstrap_servers, acks="all")
    await producer.start()
    try:
        await producer.send_and_wait("kept", value.encode())
    finally:
        await producer.stop()
    connection = await asyncpg.connect(servers.database_url)
    try:
        await connection.execute("CREATE TABLE IF NOT EXISTS kept (value text)")
        await connection.execute("INSERT INTO kept VALUES ($1)", value)
    finally:
        await connection.close()


async def _read(servers: Servers) -> tuple[list[str], list[str]]:
    consumer = AIOKafkaConsumer(bootstrap_servers=servers.bootstrap_servers)
    await consumer.start()
    try:
        partition = TopicPartition("kept", 0)
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        end = (await consumer.end_offsets([partition]))[partition]
        records: list[Any] = []
        while len(records) < end:
            found = await consumer.getmany(partition, timeout_ms=5000)
            records += found.get(partition, [])
    finally:
        await consumer.stop()
    connection = await asyncpg.connect(servers.database_url)
    try:
        rows = await connection.fetch("SELECT value FROM kept ORDER BY value")
    finally:
        await connection.close()
    return [record.value.decode() for record in records], [row["value"] for row in rows]


def _pid(stack: LocalStack, server: str) -> int:
    process = StateFile(stack.directory).get(server).process
    assert process is not None
    return process.pid


async def test_both_servers_serve_and_a_second_start_changes_nothing(
    stack: LocalStack, servers: Servers
) -> None:
    """`start` brings up servers that really work; where they are up it only says where."""
    await _write(servers, "first")
    before = _pid(stack, "kafka"), _pid(stack, "postgres")
    assert await asyncio.to_thread(stack.start, quiet) == servers
    assert (_pid(stack, "kafka"), _pid(stack, "postgres")) == before
    assert await asyncio.to_thread(stack.running) == servers
    connection = await asyncpg.connect(servers.database_url)
    assert await connection.fetchval("SHOW fsync") == "on"
    assert await connection.fetchval("SHOW listen_addresses") == "127.0.0.1"
    await connection.close()


async def test_kafka_makes_no_topic_by_accident(servers: Servers) -> None:
    """A client that asks for an unknown topic does not create it."""
    admin = AIOKafkaAdminClient(bootstrap_servers=servers.bootstrap_servers)
    await admin.start()
    await admin.describe_topics(["nobody-made-me"])
    assert "nobody-made-me" not in await admin.list_topics()
    await admin.close()


def test_the_state_and_its_password_are_the_owners_alone(
    stack: LocalStack, servers: Servers
) -> None:
    """Nobody else reads the file with the password, and no text of ours shows it."""
    state = stack.directory / "state.json"
    assert stat.S_IMODE(state.stat().st_mode) == 0o600
    password = StateFile(stack.directory).get("postgres").password
    assert password in servers.database_url
    assert password not in repr(servers)
    assert password not in stack.postgres_log.read_text(encoding="utf-8")


async def test_data_and_addresses_survive_a_stop(stack: LocalStack, servers: Servers) -> None:
    """After `stop` nothing runs; after the next `start` all is where it was."""
    await _write(servers, "second")
    before = await _read(servers)
    pids = _pid(stack, "kafka"), _pid(stack, "postgres")
    await asyncio.to_thread(stack.stop)
    assert stack.running() is None
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert await asyncio.to_thread(stack.start, quiet) == servers
    assert await _read(servers) == before


@pytest.mark.parametrize("server", ["kafka", "postgres"])
async def test_a_killed_server_comes_up_again_with_its_data(
    stack: LocalStack, servers: Servers, server: str
) -> None:
    """After kill -9 of one server `running` sees it, and `start` mends just that one."""
    await _write(servers, f"third-{server}")
    before = await _read(servers)
    other = "postgres" if server == "kafka" else "kafka"
    untouched = _pid(stack, other)
    os.kill(_pid(stack, server), signal.SIGKILL)
    deadline = time.monotonic() + 10
    while stack.running() is not None:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    assert await asyncio.to_thread(stack.start, quiet) == servers
    assert _pid(stack, other) == untouched
    assert await _read(servers) == before


def test_fault_helpers_stop_and_start_one_server_on_its_port(
    stack: LocalStack, servers: Servers
) -> None:
    """The helpers of the fault tests keep port and data of the server they restart."""
    stack.stop_postgres(signal.SIGKILL)
    assert stack.running() is None
    stack.start_postgres()
    assert stack.running() == servers
    stack.stop_kafka(signal.SIGKILL)
    stack.start_kafka()
    assert stack.running() == servers


def test_two_starts_at_once_make_one_stack(stack: LocalStack, servers: Servers) -> None:
    """Another process and another object may start at the same time; one server each runs."""
    stack.stop_postgres()
    script = (
        "import sys\n"
        "from oddslog.deploy.stack import open_stack\n"
        "open_stack('local', sys.argv[1]).start(lambda line: None)\n"
    )
    command = [sys.executable, "-c", script, str(stack.directory)]
    with subprocess.Popen(command, cwd="/") as other:
        assert stack.start(quiet) == servers
        assert other.wait(60) == 0
    assert stack.running() == servers


def test_a_port_taken_by_another_is_one_line(stack: LocalStack, servers: Servers) -> None:
    """A server never moves to another port by itself: clients have the old one."""
    stack.stop_postgres()
    state = StateFile(stack.directory)
    port = state.get("postgres").port
    state.change("postgres", port=int(servers.bootstrap_servers.rpartition(":")[2]))
    with pytest.raises(ConfigurationError, match="another process listens there") as caught:
        stack.start(quiet)
    assert "\n" not in str(caught.value)
    state.change("postgres", port=port)
    assert stack.start(quiet) == servers


def test_a_setting_that_the_server_refuses_is_one_line_with_the_log(
    stack: LocalStack, servers: Servers
) -> None:
    """The server's own words reach the operator, and where to read on."""
    stack.stop_postgres()
    wrong = LocalStack(stack.directory, postgres_settings={"shared_buffers": "plenty"})
    with pytest.raises(ConfigurationError, match="shared_buffers") as caught:
        wrong.start(quiet)
    assert str(stack.postgres_log) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert stack.start(quiet) == servers


def test_an_interrupted_start_leaves_nothing_running(tmp_path: Path) -> None:
    """Ctrl-C while both come up: both are down again, and the next start works."""
    fresh = LocalStack(tmp_path / "stack")
    lines: list[str] = []

    def interrupt(line: str) -> None:
        lines.append(line)
        if "is up" in line:  # PostgreSQL, while Kafka is far from it
            os.kill(os.getpid(), signal.SIGINT)

    try:
        with pytest.raises(KeyboardInterrupt):
            fresh.start(interrupt)
        states = StateFile(fresh.directory)
        assert states.get("postgres").process is None
        assert states.get("kafka").process is None
        assert fresh.running() is None
        assert threading.active_count() == 1
    finally:
        fresh.destroy()
    assert not fresh.directory.exists()


@pytest.mark.usefixtures("servers")  # the cache is full
def test_a_jar_with_another_sum_is_never_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A changed jar in the cache and a changed jar from the network are both refused."""
    cache = tmp_path / "cache" / "oddslog" / "jars"
    shutil.copytree(cache_directory() / "jars", cache)
    broken = next(path for path in pinned_sums() if "argparse4j" in path)
    (cache / broken).write_bytes(b"not this")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("M2_REPO", str(tmp_path / "none"))

    def fetched(path: str, scratch: Path, _given_up: object) -> Path:
        jar = scratch / Path(path).name
        jar.write_bytes(b"nor this")
        return jar

    monkeypatch.setattr("oddslog.deploy.stack.jars._fetched", fetched)
    stack = LocalStack(tmp_path / "stack")
    try:
        with pytest.raises(ConfigurationError, match="not the pinned one") as caught:
            stack.start(quiet)
        assert "\n" not in str(caught.value)
        assert stack.running() is None
    finally:
        stack.destroy()


async def test_the_docker_stack_serves_and_keeps_its_data(tmp_path: Path) -> None:
    """The same promises in containers: up, serving, down, up again with the data."""
    docker = DockerStack(tmp_path / "stack")
    problem = await asyncio.to_thread(docker.why_not, quiet)
    if problem is not None:
        pytest.skip(f"no docker stack on this machine: {problem}")
    try:
        servers = await asyncio.to_thread(docker.start, quiet)
        assert servers.kind == "docker"
        await _write(servers, "contained")
        await asyncio.to_thread(docker.stop)
        assert docker.running() is None
        assert await asyncio.to_thread(docker.start, quiet) == servers
        assert docker.running() == servers
        assert await _read(servers) == (["contained"], ["contained"])
    finally:
        await asyncio.to_thread(docker.destroy)
    assert not docker.directory.exists()
