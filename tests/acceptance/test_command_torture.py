"""`oddslog torture`: a short one, a longer one, and one that is interrupted."""

import re
import signal
from pathlib import Path

import psutil
import pytest

from oddslog.deploy.stack import Servers
from oddslog.deploy.torture.schedule import Fault
from oddslog.schemas import KafkaConnection
from tests.acceptance.test_command_demo import left_behind
from tests.support.command import Command
from tests.support.waiting import until

FIGURES = {
    "seconds",
    "seed",
    "faults",
    "faults_total",
    "restarts",
    "zombies",
    "fenced",
    "late_parents",
    "swept",
    "waiting",
    "runs",
    "runs_complete",
    "runs_different",
    "lag_records_at_end",
    "batches_acknowledged",
    "batches_unknown",
    "snapshots",
    "markets",
    "confirmations",
    "dead_letters",
    "missing",
    "duplicates",
    "different",
    "unexpected",
    "sink_peak_bytes",
    "left_out",
    "findings",
    "first_difference",
}


@pytest.fixture
def own(tmp_path: Path) -> Command:
    """Servers of its own, whatever is up."""
    return Command({"STACK": "local"}, tmp_path, {"TMPDIR": str(tmp_path)})


@pytest.fixture
def given(servers: Servers, tmp_path: Path) -> Command:
    """On the session's servers, said explicitly."""
    return Command(
        {
            "BOOTSTRAP_SERVERS": servers.bootstrap_servers,
            "DATABASE_URL": servers.database_url,
            "STACK": "env",
        },
        tmp_path,
        {"TMPDIR": str(tmp_path)},
    )


def contents(folder: Path) -> list[Path]:
    """What is left in a folder."""
    return list(folder.iterdir())


def check(values: dict[str, object]) -> None:
    """What every torture must come to."""
    assert set(values) == FIGURES
    assert values["first_difference"] is None
    assert values["findings"] == []
    for name in ("missing", "duplicates", "different", "unexpected", "runs_different"):
        assert values[name] == 0, name
    # Parents come late in every torture, and the sweep has to write what waits for them.
    for name in (
        "snapshots",
        "confirmations",
        "batches_acknowledged",
        "late_parents",
        "swept",
        "runs",
    ):
        assert isinstance(values[name], int), name
        assert values[name], name


@pytest.mark.timeout(300)  # most of it is the start of a dozen processes
def test_a_short_torture_finds_nothing_and_leaves_nothing(own: Command, tmp_path: Path) -> None:
    """On servers of its own, three sinks, faults of many kinds."""
    result = own("torture", "--minutes", "0.1", "--seed", "40", "--json", timeout=280).ok()
    check(result.json)
    assert result.json["fenced"] >= 1
    assert result.json["seed"] == 40
    assert result.json["left_out"] == []
    assert len(result.json["faults"]) >= 2
    assert set(result.json["faults"]) <= {kind.value for kind in Fault}
    assert len(result.out.splitlines()) == 1
    assert "Nothing was lost" in result.err
    assert contents(tmp_path) == []


@pytest.mark.faults
async def test_an_interrupted_torture_leaves_nothing(
    given: Command, servers: Servers, kafka: KafkaConnection, tmp_path: Path
) -> None:
    """No process, topic, database or file; its seed is the last thing it says."""
    with given.running("torture", "--seed", "12") as torture:
        torture.wait_for("faults for")
        family = psutil.Process(torture.process.pid).children(recursive=True)
        result = torture.end(signal.SIGINT)
    assert result.code == 130
    assert "Traceback" not in result.err
    assert re.search(r"interrupted; its seed was 12\b", result.err)
    assert "are not restarted" in result.err
    assert not any(map(alive, family))
    assert await left_behind(servers, kafka, "oddslog_torture_") == []
    assert contents(tmp_path) == []


@pytest.mark.faults
async def test_a_torture_that_is_killed_leaves_nothing_either(own: Command, tmp_path: Path) -> None:
    """Its guard ends the processes, and takes the servers and the folder away."""
    with own.running("torture", "--seed", "13") as torture:
        torture.wait_for("faults for")
        kit = psutil.Process(torture.process.pid)
        await until(lambda: running(kit, "oddslog.deploy.torture.feeder"), "the feeder")
        family = kit.children(recursive=True)
        torture.end(signal.SIGKILL)
    assert len(family) > 5  # the guard, the servers, the feeder, the sinks
    await until(lambda: not any(map(alive, family)), "the end of its processes")
    await until(lambda: not contents(tmp_path), "the end of its folder")


def running(kit: psutil.Process, module: str) -> bool:
    """Whether the kit has a child that runs a module."""
    return any(module in child.cmdline() for child in kit.children() if alive(child))


def alive(process: psutil.Process) -> bool:
    """Whether it still does something: where nobody reaps orphans, they stay as zombies."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.faults
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [21, 22])
def test_a_longer_torture_finds_nothing(own: Command, seed: int) -> None:
    """Long enough for every kind of fault, also on a busy machine."""
    result = own("torture", "--minutes", "3", "--seed", str(seed), "--json", timeout=580).ok()
    check(result.json)
    assert set(result.json["faults"]) == {kind.value for kind in Fault}
    assert result.json["faults_total"] > 2 * len(Fault)
    assert result.json["waiting"]


@pytest.mark.faults
@pytest.mark.timeout(300)
def test_a_torture_may_leave_everything_up(own: Command, tmp_path: Path) -> None:
    """With --keep: it says where, and how to take it away."""
    result = own("torture", "--minutes", "0.1", "--seed", "24", "--keep", timeout=280).ok()
    (folder,) = contents(tmp_path)
    assert f"Journals and logs are in {folder}" in result.out
    assert (folder / "faults.log").exists()
    left = re.search(r"oddslog (stack down --destroy --directory \S+)", result.out)
    assert left is not None
    own(*left.group(1).split()).ok()
    assert "stack" not in {path.name for path in contents(folder)}


@pytest.mark.faults
@pytest.mark.timeout(300)
async def test_a_torture_of_given_servers(
    given: Command, servers: Servers, kafka: KafkaConnection
) -> None:
    """They are not restarted, and what was made there is dropped."""
    result = given(
        "torture", "--minutes", "0.5", "--seed", "23", "--sinks", "2", "--json", timeout=280
    ).ok()
    check(result.json)
    assert len(result.json["left_out"]) == 2
    assert not {"kafka_restarted", "postgres_restarted", "kafka_cut"} & set(result.json["faults"])
    assert await left_behind(servers, kafka, "oddslog_torture_") == []
