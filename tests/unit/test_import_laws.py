"""The import laws of DESIGN 3, read from the source: who may import what."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.laws import PURE_IMPORTS
from tests.support.modules import PARTS, ROOT, calls, module_of, modules

MOST_LINES = 400

# No aiokafka, no SQLAlchemy, no clock, no files: decisions, testable as they are.
PURE = {
    "deploy.bench.pace",
    "deploy.bench.plan",
    "deploy.bench.report",
    "deploy.bench.tables",
    "deploy.bench.targets",
    "deploy.bench.words",
    "deploy.torture.lateness",
    "deploy.letter_causes",
    "deploy.letter_view",
    "deploy.pace",
    "deploy.torture.load",
    "deploy.torture.schedule",
    "deploy.words",
    "schemas.backoff",
    "schemas.avro_writer",
    "schemas.codec",
    "schemas.content_hash",
    "schemas.encoded_markets",
    "schemas.errors",
    "schemas.fragment_json",
    "schemas.json_document",
    "schemas.json_text",
    "schemas.market_steps",
    "schemas.metric",
    "schemas.records",
    "schemas.redrive",
    "schemas.stamp",
    "schemas.wire",
    "ingest.estimate",
    "ingest.feeds.events",
    "ingest.feeds.football_columns",
    "ingest.feeds.goals",
    "ingest.feeds.kinds",
    "ingest.feeds.names",
    "ingest.feeds.pool",
    "ingest.feeds.pricing",
    "ingest.feeds.raw",
    "ingest.feeds.settings",
    "ingest.feeds.simulate",
    "ingest.metric_names",
    "ingest.split",
    "sink.arrivals",
    "sink.checks",
    "sink.classify",
    "sink.errors",
    "sink.expiry",
    "sink.fold",
    "sink.halving",
    "sink.health",
    "sink.isolation",
    "sink.items",
    "sink.letter_records",
    "sink.metric_names",
    "sink.observed",
    "sink.packed",
    "sink.packed_fragment",
    "sink.page",
    "sink.page_style",
    "sink.poison",
    "sink.positions",
    "sink.progress",
    "sink.replay_filters",
    "sink.replay_progress",
    "sink.replay_spans",
    "sink.run_states",
    "sink.verify_compare",
    "sink.verify_findings",
    "sink.verify_letters",
    "sink.verify_logs",
    "sink.verify_marks",
    "sink.verify_redrives",
    "sink.verify_state",
}
# A classifier of foreign errors must know their classes, and nothing else of them. What is
# in lists and dicts is found by the collector's walk, which changes nothing.
PURE_EXCEPTIONS = {
    "schemas.encoded_markets": {"gc.get_referents"},
    "schemas.json_text": {"gc.get_referents"},
    "sink.classify": {"asyncpg", "sqlalchemy.exc"},
}
# Our own modules that a pure one may import, though they are not pure themselves:
# constants of the installation, read once: the shipped schemas, the version.
PURE_NEIGHBOURS = {"schemas.framing", "schemas.version"}

# The only modules that may import these: the adapters to each outside world.
ADAPTERS: dict[str, set[str]] = {
    "aiokafka": {
        "deploy.doctor.kafka",
        "deploy.kafka",
        "deploy.kafka_clients",
        "deploy.log_look",
        "ingest.producer",
        "ingest.topic_check",
        "schemas.kafka_access",
        "sink.consumer",
        "sink.log_reader",
        "sink.topics",
    },
    "sqlite3": {
        "ingest.spool_look",
        "ingest.spool_salvage",
        "ingest.spool_sql",
        "ingest.spool_store",
        "sink.replay_scratch",
    },
    "http.client": {"schemas.registry"},
    "asyncpg": {"sink.classify", "deploy.stack.probes"},
    "sqlalchemy": {
        "deploy.bench.documents",
        "deploy.bench.growth",
        "deploy.bench.indexes",
        "deploy.bench.kit",
        "deploy.bench.load",
        "deploy.bench.measure",
        "deploy.bench.peers",
        "deploy.bench.place",
        "deploy.bench.processes",
        "deploy.bench.storage",
        "deploy.bench.ways",
        "deploy.commands.migrate",
        "deploy.compare",
        "deploy.commands.dlq_common",
        "deploy.commands.dlq_handling",
        "deploy.database",
        "deploy.letters",
        "deploy.database_look",
        "deploy.doctor.database",
        "deploy.queries",
        "deploy.redriving",
        "deploy.sinking",
        "deploy.torture.check",
        "deploy.torture.check_runs",
        "deploy.torture.kit",
        "deploy.torture.parents",
        "deploy.torture.sessions",
        "deploy.torture.zombies",
        "sink.adopt",
        "sink.attempts",
        "sink.caught_up",
        "sink.classify",
        "sink.database",
        "sink.database_url",
        "sink.dead_letters",
        "sink.direct",
        "sink.fencing",
        "sink.ledger",
        "sink.migrate",
        "sink.opening",
        "sink.outbox",
        "sink.placing",
        "sink.run_wait",
        "sink.runs",
        "sink.looking",
        "sink.redriven",
        "sink.rehearsal",
        "sink.replay_letters",
        "sink.replay_opening",
        "sink.replay_store",
        "sink.replay_transaction",
        "sink.service",
        "sink.sql",
        "sink.sweep",
        "sink.sweeper",
        "sink.tables",
        "sink.transaction",
        "sink.verify",
        "sink.verify_repair",
        "sink.verify_sql",
        "sink.verify_tables",
        "sink.waiting",
        "sink.watcher",
        "sink.rows",
        "sink.write",
    },
    "alembic": {"sink.migrate"},
    "fastavro": {"schemas.codec", "schemas.encoded_markets", "schemas.framing"},
    "prometheus_client": {"sink.metrics"},
    "pydantic_settings": {"deploy.settings"},
}
MIGRATIONS = "sink.migrations."

# The environment is read at the entry points. Kill points are armed by it, when an
# entry point says so.
ENVIRONMENT = {"schemas.kill_points"}


def test_there_are_modules_to_look_at() -> None:
    """Of each folder, so that none of the laws below holds of nothing."""
    assert {module.part for module in modules().values()} == set(PARTS)
    assert len(modules()) > 60
    assert modules()["sink.items"].own >= {"schemas.wire.Kind"}
    assert modules()["sink.classify"].imports("sqlalchemy")


@pytest.mark.parametrize("part", PARTS)
def test_folders_import_only_what_they_may(part: str) -> None:
    """`schemas` nothing of ours, `ingest` and `sink` never each other, none of them `deploy`."""
    for module in modules().values():
        if module.part == part:
            imported = {module_of(name).partition(".")[0] for name in module.own}
            assert imported <= PARTS[part], module.name


def test_own_imports_are_relative() -> None:
    """So that a later rename is cheap; and no folder imports the tests."""
    assert {m.name: m.absolute_own for m in modules().values() if m.absolute_own} == {}


@pytest.mark.parametrize("name", sorted(PURE))
def test_pure_modules_import_no_outside_world(name: str) -> None:
    """Not through each other either."""
    module = modules()[name]
    allowed = PURE_EXCEPTIONS.get(name, set())
    for imported in module.foreign:
        top = imported.partition(".")[0]
        assert top in PURE_IMPORTS or imported in allowed, imported
    for imported in map(module_of, module.own):
        assert imported in PURE | PURE_NEIGHBOURS, imported


@pytest.mark.parametrize("name", sorted(PURE))
def test_pure_modules_ask_no_clock_and_open_no_file(name: str) -> None:
    """The moment is an argument; so is chance, by its seed."""
    clock = {"now", "utcnow", "today"}
    files = {"read_text", "write_text", "read_bytes", "write_bytes"}
    chance = {"uuid1", "uuid4"}
    for called in calls(modules()[name]):
        first, _, last = called.rpartition(".")
        assert called not in {"open", "input", "print"}, called
        assert last not in files | chance, called
        assert not (last in clock and first), called
    assert not {name for name in modules()[name].foreign if name.startswith("random")} - {
        "random.Random"
    }


@pytest.mark.parametrize("package", ADAPTERS)
def test_each_outside_world_has_its_adapters(package: str) -> None:
    """A handful of modules, named here; whoever adds one says so in this list."""
    found = {module.name for module in modules().values() if module.imports(package)}
    found = {name for name in found if not name.startswith(MIGRATIONS)}
    assert found == ADAPTERS[package]


def test_only_deploy_reads_environment_and_settings() -> None:
    """A library that reads the environment cannot be configured by its caller."""
    found = set()
    for module in modules().values():
        reads = any(module.imports(name) for name in ("pydantic", "pydantic_settings"))
        reads |= bool({"os.environ", "os.getenv", "os.environb"} & {*calls(module)})
        reads |= bool({"os.environ", "os.getenv"} & module.foreign)
        if reads and module.part != "deploy":
            found.add(module.name)
    assert found == ENVIRONMENT


def test_only_deploy_prints_and_ends_the_process() -> None:
    """A library logs and raises."""
    for module in modules().values():
        if module.part != "deploy":
            named = {*calls(module)}
            assert not named & {"print", "input", "exit", "quit", "sys.exit", "os._exit"}
            assert not module.imports("typer")
            assert not module.imports("rich")


def test_files_stay_short() -> None:
    """Code and tests: what is longer is two things."""
    paths = [*(module.path for module in modules().values()), *(ROOT / "tests").rglob("*.py")]
    lines = {
        str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in paths
    }
    assert {name: count for name, count in lines.items() if count > MOST_LINES} == {}


def test_modules_are_loaded_as_the_installed_package() -> None:
    """These laws are read from the tree; what runs must be the same files."""
    import oddslog.schemas.records

    loaded = Path(oddslog.schemas.records.__file__).resolve()
    assert loaded == ROOT / "schemas" / "records.py"


def loaded_by(statement: str) -> set[str]:
    """The modules of a new process after a statement."""
    child = subprocess.run(
        [sys.executable, "-c", f"import sys; {statement}; print(*sys.modules)"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return {name for name in child.stdout.split() if "." not in name}


# What the base install does not have. (`rich` too; but structlog loads it where it is.)
EXTRAS = {
    "alembic",
    "asyncpg",
    "prometheus_client",
    "pydantic",
    "pydantic_settings",
    "sqlalchemy",
    "testcontainers",
    "typer",
}


@pytest.mark.parametrize(
    "statement",
    [
        "import oddslog.schemas",
        "import oddslog.ingest, oddslog.schemas",
        "import oddslog.ingest.feeds",
        "from oddslog.ingest import AsyncWriteQueue; from oddslog.schemas import WriteBatch",
        "import oddslog.deploy",
    ],
)
def test_the_scrapers_side_loads_nothing_of_the_extras(statement: str) -> None:
    """No SQLAlchemy, no asyncpg, no command line inside the scraper."""
    loaded = loaded_by(statement)
    assert "oddslog" in loaded
    assert loaded & EXTRAS == set()


def test_the_check_of_what_is_loaded_can_fail() -> None:
    """The sink does load them."""
    assert {"sqlalchemy", "asyncpg"} <= loaded_by("import oddslog.sink, asyncpg")


def test_schemas_load_no_kafka_client() -> None:
    """The contract is for tools too."""
    assert "aiokafka" not in loaded_by("import oddslog.schemas, oddslog.schemas.codec")
