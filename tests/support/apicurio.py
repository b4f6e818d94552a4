"""A real schema registry: Apicurio, which speaks Confluent's protocol, on the stack's Java.

Fetched once from Maven Central by the local stack's own means, and used only where it
has the pinned sum; about 150 MB.
"""

import hashlib
import shutil
import subprocess
import tarfile
import time
from pathlib import Path

from oddslog.deploy.stack import jars
from oddslog.deploy.stack.java import find_java
from oddslog.deploy.stack.probes import free_port
from oddslog.deploy.stack.state import locked
from oddslog.schemas import UnreachableError
from oddslog.schemas.registry import SchemaRegistry

__all__ = ["Apicurio"]

_GROUP, _ARTIFACT, _VERSION = "io.apicurio", "apicurio-registry-app", "3.3.3"
_SHA256 = "8bc6751c76d963734224b01d5e7f84ccb3cb61c87d3bd77c36c35f10a5cbed63"
_START_SECONDS = 120.0


class Apicurio:
    """One registry, everything in its memory."""

    def __init__(self, folder: Path) -> None:
        self._port = free_port()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return "127.0.0.1", self._port

    def url(self, port: int | None = None) -> str:
        """Its address for clients; by another port where a proxy stands before it."""
        return f"http://127.0.0.1:{port or self._port}/apis/ccompat/v7"

    def start(self) -> None:
        """Start it and wait until it answers."""
        management = free_port()
        command = [
            str(find_java()),
            "-Xmx384m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-Dquarkus.http.host=127.0.0.1",
            f"-Dquarkus.http.port={self._port}",
            "-Dquarkus.management.host=127.0.0.1",
            f"-Dquarkus.management.port={management}",
            "-jar",
            str(_unpacked() / "quarkus-run.jar"),
        ]
        with (self._folder / "apicurio.log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._folder)
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            log_text = (self._folder / "apicurio.log").read_text("utf-8", errors="replace")
            assert self._process.poll() is None, log_text[-2000:]
            assert time.monotonic() < deadline, log_text[-2000:]
            time.sleep(0.2)

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)

    def _answers(self) -> bool:
        try:
            SchemaRegistry(self.url()).compatibility("none")
        except UnreachableError:
            return False
        return True


def _unpacked() -> Path:
    """The folder with the program, from the cache."""
    base = jars.cache_directory() / "apicurio"
    target = base / f"{_ARTIFACT}-{_VERSION}"
    base.mkdir(parents=True, exist_ok=True)
    with locked(base / ".lock"):
        if not target.exists():
            scratch = base / ".fetch"
            shutil.rmtree(scratch, ignore_errors=True)
            archive = _fetched(scratch)
            with tarfile.open(archive) as packed:
                packed.extractall(scratch / "new", filter="data")
            (scratch / "new").replace(target)
            shutil.rmtree(scratch)
    return target


def _fetched(scratch: Path) -> Path:
    context = jars._maven(scratch, lambda: False)
    project = context.project(_GROUP, _ARTIFACT).at_version(_VERSION)
    archive = Path(project.artifact(classifier="all", packaging="tar.gz").resolve())
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    assert found == _SHA256, f"{archive.name} is not the pinned one: {found}"
    return archive
