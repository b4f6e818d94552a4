"""Every named kill point of the code has a test that kills there, and every test a point."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = ("schemas", "ingest", "sink", "deploy")
INTEGRATION = ROOT / "tests" / "integration"
ACCEPTANCE = ROOT / "tests" / "acceptance"
# A name, and where a test says it, at which of the comings there.
NAME = re.compile(r"((?:ingest|sink|replay|dlq)\.[a-z_]+)(?::\d+)?")


def points_in(source: str) -> Iterator[str]:
    """The names that a file says it reaches; a name that is not written out fails."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        name = called.id if isinstance(called, ast.Name) else getattr(called, "attr", "")
        if name == "reached":
            (argument,) = node.args
            said = argument.value if isinstance(argument, ast.Constant) else None
            assert isinstance(said, str), ast.unparse(node)
            yield said


def points_of_the_code() -> set[str]:
    """All names in the four folders."""
    paths = [path for part in PARTS for path in (ROOT / part).rglob("*.py")]
    return {name for path in paths for name in points_in(path.read_text("utf-8"))}


def parametrised(module_name: str) -> Iterator[str]:
    """The kill points that the tests of a module named `test_killed...` are run with."""
    module = importlib.import_module(f"tests.integration.{module_name}")
    for name, function in vars(module).items():
        if not name.startswith("test_killed"):
            continue
        for mark in getattr(function, "pytestmark", ()):
            if mark.name == "parametrize":
                yield from strings(mark.args[1])


def strings(value: object) -> Iterator[str]:
    """All text in nested values, those of `pytest.param` too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, tuple)):  # what pytest.param makes is a tuple
        for one in value:
            yield from strings(one)


def points_of_the_tests() -> set[str]:
    """All names that a kill test is run with."""
    modules = [path.stem for path in INTEGRATION.glob("test_*kill_points*.py")]
    said = {text for module in modules for text in parametrised(module)}
    # The operator's commands are killed by the tests of each.
    for path in (INTEGRATION / "test_replay_interrupted.py", ACCEPTANCE / "test_command_dlq.py"):
        constants = ast.walk(ast.parse(path.read_text("utf-8")))
        said |= {str(node.value) for node in constants if isinstance(node, ast.Constant)}
    return {found[1] for found in map(NAME.fullmatch, said) if found}


def test_every_kill_point_has_a_kill_test() -> None:
    """A new point without one fails here, and so does a test of a point that is gone."""
    assert points_of_the_code() == points_of_the_tests()


def test_points_are_read_from_the_source() -> None:
    """Both ways to call it, nowhere else; a computed name cannot be looked for."""
    source = 'reached("a.b")\nkill_points.reached("c.d")\nother("e.f")\nname = "reached(g.h)"'
    assert list(points_in(source)) == ["a.b", "c.d"]
    with pytest.raises(AssertionError, match=r"reached\(name\)"):
        list(points_in("reached(name)"))


def test_points_are_read_from_the_parameters() -> None:
    """Also from pairs and from `pytest.param`."""
    marked = pytest.param("ack", "sink.b:2", marks=pytest.mark.faults)
    assert list(strings((marked, ("spool", "sink.a")))) == ["ack", "sink.b:2", "spool", "sink.a"]
