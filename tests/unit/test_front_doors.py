"""The front doors: what each package offers, no more, sorted and described."""

import ast
import dataclasses
import importlib
import inspect
from pathlib import Path
from types import ModuleType
from typing import get_origin

import pytest

ROOT = Path(__file__).parents[2]
MOST_NAMES = 14
PACKAGES = sorted(
    ".".join(path.parent.relative_to(ROOT).parts)
    for part in ("schemas", "ingest", "sink", "deploy")
    for path in (ROOT / part).rglob("__init__.py")
)
DOORS = ["schemas", "ingest", "ingest.feeds", "sink", "deploy.stack"]


def source_of(package: str) -> ast.Module:
    """The package's `__init__`."""
    path = ROOT.joinpath(*package.split("."), "__init__.py")
    return ast.parse(path.read_text(encoding="utf-8"))


def bound_names(package: str) -> set[str]:
    """What its `__init__` imports or defines at the top, private names left out."""
    names: set[str] = set()
    for node in source_of(package).body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return {name for name in names if not name.startswith("_")}


def door(package: str) -> ModuleType:
    """The imported package."""
    return importlib.import_module(f"oddslog.{package}")


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_says_what_it_is_and_exports_exactly_what_it_binds(package: str) -> None:
    """A package without names of its own needs no `__all__`."""
    assert ast.get_docstring(source_of(package))
    exported = getattr(door(package), "__all__", [])
    assert set(exported) == bound_names(package)
    assert len(exported) <= MOST_NAMES


@pytest.mark.parametrize("package", DOORS)
def test_all_is_sorted_without_doubles(package: str) -> None:
    """Constants, classes, functions: the order that ruff keeps."""
    names = door(package).__all__
    assert len(names) == len(set(names))
    groups = [[n for n in names if n.isupper()], [n for n in names if not n.isupper()]]
    classes = [name for name in groups[1] if name[0].isupper()]
    functions = [name for name in groups[1] if not name[0].isupper()]
    assert names == [*sorted(groups[0]), *sorted(classes), *sorted(functions)]


def described(package: str) -> list[tuple[str, object]]:
    """The classes and functions behind the door; a constant or an alias has no docstring."""
    members = ((name, getattr(door(package), name)) for name in door(package).__all__)
    return [
        (name, member)
        for name, member in members
        if (inspect.isclass(member) or inspect.isroutine(member)) and get_origin(member) is None
    ]


@pytest.mark.parametrize(
    ("name", "member"),
    [
        pytest.param(name, member, id=f"{package}.{name}")
        for package in DOORS
        for name, member in described(package)
    ],
)
def test_each_name_has_a_docstring(name: str, member: object) -> None:
    """One of its own: neither inherited nor the one that `dataclass` makes up."""
    text = vars(member).get("__doc__") if inspect.isclass(member) else inspect.getdoc(member)
    assert text
    if dataclasses.is_dataclass(member):
        assert not text.startswith(f"{name}(")


@pytest.mark.parametrize(
    ("name", "member"),
    [
        pytest.param(name, member, id=f"{package}.{name}")
        for package in DOORS
        for name, member in described(package)
        if inspect.isclass(member)
    ],
)
def test_each_public_method_has_a_docstring(name: str, member: type) -> None:
    """It is the reference that an editor shows."""
    for attribute, value in vars(member).items():
        function = value.fget if isinstance(value, property) else value
        if not attribute.startswith("_") and inspect.isfunction(function):
            assert inspect.getdoc(function), f"{name}.{attribute}"


def test_all_folders_are_packages_of_their_own() -> None:
    """A folder without `__init__` would be missing in the wheel, and nobody would say so."""
    for part in ("schemas", "ingest", "sink", "deploy"):
        for path in (ROOT / part).rglob("*.py"):
            assert (path.parent / "__init__.py").exists(), path
