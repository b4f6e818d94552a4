"""deploy/compose.yaml for real: up by one command, three sinks, everything killed, all there."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from oddslog.deploy.stack.probes import free_port
from tests.support.command import Command
from tests.support.compose import Compose, why_no_compose
from tests.support.waiting import until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]

SERVICES = {"kafka": 1, "postgres": 1, "sink": 3}


@pytest.fixture
def compose() -> Iterator[Compose]:
    """The whole file as a project of its own, with ports of its own; removed afterwards."""
    problem = why_no_compose()
    if problem is not None:
        pytest.skip(f"compose.yaml cannot be brought up here: it {problem}")
    made = Compose(free_port(), free_port())
    try:
        yield made
    finally:
        made("down", "--volumes", "--timeout", "30")


@dataclass
class Feeding:
    """Feeds over and over, whatever the servers do; what Kafka does not take is spooled."""

    command: Command
    snapshots: int = 0
    confirmations: int = 0
    problem: str | None = None
    _enough: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Until `stop`, each time with events of its own."""
        first = 1
        while not self._enough.is_set():
            fed = self.command(
                *("feed", "simulate", "--events", "60", "--cycles", "3", "--json"),
                *("--first-event-id", str(first)),
                timeout=300,
            )
            if fed.code != 0:
                self.problem = f"ended with {fed.code}: {fed.err}"
                return
            self.snapshots += fed.json["snapshots"]
            self.confirmations += fed.json["confirmations"]
            first += 60

    def stop(self) -> None:
        """Let the feed in hand end."""
        self._enough.set()


async def test_nothing_is_lost_when_each_container_is_killed_and_restarted(
    compose: Compose, tmp_path: Path
) -> None:
    """Three sinks write what is fed while every container ends in every way."""
    compose("up", "--detach", "--no-build", "--scale", "sink=3")
    for service, count in SERVICES.items():
        await compose.well(service, count)
    command = Command(compose.settings() | {"SPOOL_DIR": str(tmp_path / "spool")})
    feeding = Feeding(command)
    thread = threading.Thread(target=feeding.run)
    thread.start()
    try:
        for service, count in SERVICES.items():
            for number in range(count):
                await compose.kill(service, number)
        for service in SERVICES:
            await compose.restart(service)
    finally:
        feeding.stop()
        thread.join()
    assert feeding.problem is None
    command("spool", "drain").ok()

    def caught_up() -> bool:
        status = command("status", "--json")
        return status.code == 0 and status.json["lag_records"] == 0

    await until(caught_up, "the sinks to catch up", budget_seconds=180.0)
    found = command("verify", "--json", timeout=300).ok().json
    assert found["equal"]
    assert found["snapshots"] == feeding.snapshots > 0
    assert found["confirmations"] == feeding.confirmations > 0
