"""Kafka as a process: one KRaft node that is broker and controller."""

import base64
import os
import shutil
import signal
import sys
import threading
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...schemas.errors import ConfigurationError
from .contract import Progress
from .failures import last_words
from .jars import KAFKA_VERSION, kafka_class_path
from .java import find_java
from .probes import free_port, kafka_answers, port_is_free
from .processes import Identity, run, spawn
from .server import LocalServer
from .state import StateFile

__all__ = ["KafkaServer", "Listener", "broker_properties", "new_cluster_id"]

_MEBIBYTE = 1 << 20
# Above the log's largest record (10 MiB by default) with its batch around it.
_MESSAGE_BYTES = 16 * _MEBIBYTE

COMMON_PROPERTIES = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "auto.create.topics.enable": "false",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # A few partitions do for one node, and 50 would slow each start.
    "offsets.topic.num.partitions": "5",
    "transaction.state.log.num.partitions": "5",
    "share.coordinator.state.topic.num.partitions": "5",
    # Tests take short sessions, and nobody waits for a first rebalance.
    "group.min.session.timeout.ms": "1000",
    "group.initial.rebalance.delay.ms": "0",
    "message.max.bytes": str(_MESSAGE_BYTES),
    "replica.fetch.max.bytes": str(_MESSAGE_BYTES),
    # How long a broker that was killed must wait for its own old session to end.
    "broker.session.timeout.ms": "2000",
    "broker.heartbeat.interval.ms": "500",
    "log.cleaner.dedupe.buffer.size": str(16 * _MEBIBYTE),  # 128 MiB of a 512 MiB heap else
}


@dataclass(frozen=True)
class Listener:
    """One more way in: who comes by `port` is told to use `advertised_port`, a proxy's say.

    The n-th is called MOREn, for properties of its own (`listener.name.more0.ssl....`);
    `protocol` is its security protocol.
    """

    port: int
    advertised_port: int
    protocol: str = "PLAINTEXT"


class KafkaServer(LocalServer):
    """Kafka's jars run by a Java, data in the stack's folder."""

    name = f"Kafka {KAFKA_VERSION}"
    key = "kafka"
    stops = ((signal.SIGTERM, 20.0), (signal.SIGKILL, 10.0))

    def __init__(
        self,
        directory: Path,
        states: StateFile,
        properties: Mapping[str, str] | None = None,
        listeners: Sequence[Listener] = (),
        format_options: Sequence[str] = (),
    ) -> None:
        super().__init__(directory, states)
        self._listeners = listeners
        self._format_options = format_options
        self._home = directory / "kafka"
        self._data = self._home / "data"
        self._properties = dict(properties or {})
        self._java: list[str] = []

    def prepare(self, progress: Progress, cancel: threading.Event) -> None:
        """Fetch the jars where needed and format the data folder once."""
        java = find_java()
        jars = kafka_class_path(progress, cancel)
        self._java = [str(java), *_JAVA_OPTIONS, "-cp", _class_path(jars)]
        self._home.mkdir(parents=True, exist_ok=True)
        state = self.state
        made = (self._data / "meta.properties").exists()
        if state.made and not made:
            raise ConfigurationError(
                f"Kafka's data has vanished from {self._data}: put it back, or remove "
                f"{self.directory} to begin anew"
            )
        for port in ("port", "controller_port"):
            if getattr(state, port) == 0 or (not made and not port_is_free(getattr(state, port))):
                self.states.change(self.key, **{port: free_port()})
        if not state.made:
            self._format(progress, cancel)

    def launch(self) -> Identity:
        """Start the broker with the properties of now."""
        command = [*self._java, "kafka.Kafka", str(self._write_properties())]
        return spawn(command, log=self.log, cwd=self._home, env=_environment())

    def answers(self) -> bool:
        """Whether the broker of our own cluster takes requests."""
        return kafka_answers(self.state.port, self.state.cluster_id)

    def _format(self, progress: Progress, cancel: threading.Event) -> None:
        progress(f"formatting {self.name}'s data folder")
        if self._data.exists():  # of a start that was interrupted: never served
            shutil.rmtree(self._data)
        state = self.states.change(self.key, version=KAFKA_VERSION, cluster_id=new_cluster_id())
        since = self._log_size()
        tool = [*self._java, "kafka.tools.StorageTool", "format", "-t", state.cluster_id]
        command = [*tool, "-c", str(self._write_properties()), *self._format_options]
        code = run(command, log=self.log, cwd=self._home, env=_environment(), cancel=cancel)
        if code != 0:
            words = last_words(self.log, since)
            raise ConfigurationError(
                f"Kafka's data folder could not be formatted: {words} (log: {self.log})"
            )
        self.states.change(self.key, made=True)

    def _write_properties(self) -> Path:
        path = self._home / "server.properties"
        state = self.state
        own = broker_properties(state.port, state.controller_port, self._data, self._listeners)
        lines = [f"{key}={_escaped(value)}\n" for key, value in (own | self._properties).items()]
        path.write_text("".join(lines), encoding="ascii")
        return path


def broker_properties(
    port: int, controller_port: int, data: Path, listeners: Sequence[Listener] = ()
) -> dict[str, str]:
    """Return the properties of a node that only this machine reaches."""
    if "," in str(data):
        raise ConfigurationError(f"{data}: Kafka takes no folder with a comma in its name")
    more = {f"MORE{number}": listener for number, listener in enumerate(listeners)}
    here = "127.0.0.1"
    listened = [f"PLAINTEXT://{here}:{port}", f"CONTROLLER://{here}:{controller_port}"]
    listened += [f"{name}://{here}:{one.port}" for name, one in more.items()]
    advertised = [f"PLAINTEXT://{here}:{port}"]
    advertised += [f"{name}://{here}:{one.advertised_port}" for name, one in more.items()]
    protocols = [COMMON_PROPERTIES["listener.security.protocol.map"]]
    protocols += [f"{name}:{one.protocol}" for name, one in more.items()]
    return {
        **COMMON_PROPERTIES,
        "listeners": ",".join(listened),
        "advertised.listeners": ",".join(advertised),
        "listener.security.protocol.map": ",".join(protocols),
        "controller.quorum.voters": f"1@{here}:{controller_port}",
        "log.dirs": str(data),
    }


def new_cluster_id() -> str:
    """Return a random id in Kafka's form; never one that looks like an option."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text


_JAVA_OPTIONS = [
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:-UsePerfData",
    # A development broker lives for minutes: the optimising compiler costs more than it earns.
    "-XX:TieredStopAtLevel=1",
    "-Djava.awt.headless=true",
    "--enable-native-access=ALL-UNNAMED",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ",
    "-Dorg.slf4j.simpleLogger.showShortLogName=true",
]


def _class_path(jars: list[Path]) -> str:
    if any(":" in str(jar) for jar in jars):
        raise ConfigurationError(
            f"{jars[0]}: Java takes no folder with a colon in its name: set XDG_CACHE_HOME"
        )
    return ":".join(str(jar) for jar in jars)


def _environment() -> dict[str, str]:
    # Options meant for other programs would change ours, or print to its log.
    unwanted = ("CLASSPATH", "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS")
    env = {name: value for name, value in os.environ.items() if name not in unwanted}
    if sys.platform == "linux":
        env["LC_ALL"] = "C.UTF-8"  # in the C locale Java finds no file with an ö in its name
    return env


def _escaped(value: str) -> str:
    """Write a value as `java.util.Properties` reads it: backslashes, non-ASCII, leading blank."""
    text = value.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    units = text.encode("utf-16-be")
    numbers = [int.from_bytes(units[at : at + 2], "big") for at in range(0, len(units), 2)]
    out = "".join(chr(n) if 32 <= n < 127 else f"\\u{n:04x}" for n in numbers)
    return "\\" + out if out.startswith(" ") else out
