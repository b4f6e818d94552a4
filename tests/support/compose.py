"""deploy/compose.yaml as a project of a test's own."""

import json
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import yaml

from tests.support.modules import ROOT
from tests.support.waiting import until

__all__ = ["Compose", "why_no_compose"]

FILE = ROOT / "deploy" / "compose.yaml"
_UP_SECONDS = 240.0


def _tool() -> list[str] | None:
    """Docker's plugin, or the program of the time before it."""
    if shutil.which("docker") is None:
        return None
    plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    if plugin.returncode == 0:
        return ["docker", "compose"]
    return ["docker-compose"] if shutil.which("docker-compose") else None


def why_no_compose() -> str | None:
    """What this machine lacks; None where the file can be brought up without a download."""
    tool = _tool()
    if tool is None:
        return "needs docker and its compose"
    if os.geteuid() != 0:
        return "needs root, to kill what runs in a container as a crash would"
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        return "needs a Docker engine that answers"
    services = yaml.safe_load(FILE.read_text("utf-8"))["services"].values()
    # Without a profile: what one command brings up.
    for image in sorted({one["image"] for one in services if "profiles" not in one}):
        look = ["docker", "image", "inspect", image]
        if subprocess.run(look, capture_output=True, check=False).returncode:
            return f"needs the image {image}"
    return None


@dataclass
class Compose:
    """A project with a name, ports and a password of its own."""

    kafka_port: int
    postgres_port: int
    name: str = field(default_factory=lambda: f"oddslog-test-{secrets.token_hex(4)}")
    password: str = field(default_factory=secrets.token_hex)

    def __call__(self, *arguments: str) -> str:
        """Run compose to its end; returns what it says on standard output."""
        tool = _tool()
        assert tool is not None
        done = subprocess.run(
            [*tool, "--project-name", self.name, "--file", str(FILE), *arguments],
            env={
                **os.environ,
                "KAFKA_PORT": str(self.kafka_port),
                "POSTGRES_PORT": str(self.postgres_port),
                "POSTGRES_PASSWORD": self.password,
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done
        return done.stdout

    def settings(self) -> dict[str, str]:
        """How the servers are reached from this machine."""
        url = f"postgresql://oddslog:{self.password}@127.0.0.1:{self.postgres_port}/oddslog"
        return {"BOOTSTRAP_SERVERS": f"127.0.0.1:{self.kafka_port}", "DATABASE_URL": url}

    def containers(self, service: str) -> list[dict[str, Any]]:
        """What the engine says of each of the service's containers."""
        ids = self("ps", "--all", "--quiet", service).split()
        said = subprocess.run(
            ["docker", "inspect", *ids], capture_output=True, text=True, check=True
        )
        found: list[dict[str, Any]] = json.loads(said.stdout)
        return sorted(found, key=lambda one: str(one["Name"]))

    async def kill(self, service: str, number: int = 0) -> None:
        """SIGKILL to a container's first process; returns when the policy has brought it back.

        Not by `docker kill`: that counts as a stop that was wanted.
        """
        pid = self.containers(service)[number]["State"]["Pid"]
        os.kill(pid, signal.SIGKILL)
        await self._back(service, {pid})

    async def restart(self, service: str) -> None:
        """As an operator does, with SIGTERM; returns when all its containers are well again."""
        pids = {one["State"]["Pid"] for one in self.containers(service)}
        self("restart", service)
        await self._back(service, pids)

    async def well(self, service: str, count: int) -> None:
        """Wait until so many of its containers, and no others, are well."""
        await self._until_well(service, lambda found: len(found) == count)

    async def _back(self, service: str, gone: set[int]) -> None:
        await self._until_well(
            service, lambda found: not gone & {one["State"]["Pid"] for one in found}
        )

    async def _until_well(self, service: str, also: Callable[[list[dict[str, Any]]], bool]) -> None:
        def well() -> bool:
            found = self.containers(service)
            return all(map(_is_well, found)) and also(found)

        await until(well, f"{service} to be healthy", budget_seconds=_UP_SECONDS)


def _is_well(container: dict[str, Any]) -> bool:
    state = container["State"]
    return bool(state["Running"] and state["Health"]["Status"] == "healthy")
