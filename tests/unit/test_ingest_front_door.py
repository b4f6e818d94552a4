"""The front door of `oddslog.ingest`: its names, and what opening it costs."""

import re
import subprocess
import sys
from pathlib import Path

import oddslog.ingest

INGEST = Path(oddslog.ingest.__file__).parent


def test_the_names_are_sorted_and_there() -> None:
    """At most a dozen."""
    names = oddslog.ingest.__all__
    assert list(names) == sorted(names)
    assert len(names) <= 12
    assert all(hasattr(oddslog.ingest, name) for name in names)


def test_importing_it_takes_no_database_and_no_command_line() -> None:
    """A scraper installs the base alone."""
    heavy = ("sqlalchemy", "asyncpg", "typer", "pydantic", "oddslog.sink")
    code = (
        "import sys, oddslog.ingest, oddslog.schemas\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"


def test_aiokafka_is_met_in_two_adapters_only() -> None:
    """Everything else is free of it."""
    users = {
        path.name
        for path in INGEST.glob("*.py")
        if re.search(r"^\s*(from|import) aiokafka", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert users == {"producer.py", "topic_check.py"}


def test_pure_modules_take_no_clock_no_loop_and_no_network() -> None:
    """Splitting and weighing are functions of their arguments."""
    for name in ("split.py", "estimate.py"):
        text = (INGEST / name).read_text(encoding="utf-8")
        assert not re.search(
            r"^\s*(from|import) (asyncio|time|aiokafka|structlog)", text, re.MULTILINE
        )
