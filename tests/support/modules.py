"""The modules of the four folders, read from their source."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

__all__ = ["PARTS", "ROOT", "Module", "calls", "module_of", "modules"]

ROOT = Path(__file__).parents[2]
PARTS = {
    "schemas": {"schemas"},
    "ingest": {"schemas", "ingest"},
    "sink": {"schemas", "sink"},
    "deploy": {"schemas", "ingest", "sink", "deploy"},
}


@dataclass(frozen=True)
class Module:
    """One file: what it imports, calls and reads."""

    name: str
    path: Path
    tree: ast.Module
    foreign: frozenset[str]  # "json", "sqlalchemy.exc", "sqlalchemy.text"
    own: frozenset[str]  # "schemas.wire"
    absolute_own: frozenset[str] = field(default=frozenset())

    @property
    def part(self) -> str:
        """The folder at the top."""
        return self.name.partition(".")[0]

    def imports(self, package: str) -> bool:
        """Whether it imports a package of others, whole or in part, anywhere in the file."""
        return any(name == package or name.startswith(f"{package}.") for name in self.foreign)


@cache
def modules() -> dict[str, Module]:
    """Every module of the four folders."""
    paths = [path for part in PARTS for path in sorted((ROOT / part).rglob("*.py"))]
    return {module.name: module for module in map(read, paths)}


def read(path: Path) -> Module:
    """Parse one file."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    relative = path.relative_to(ROOT).with_suffix("")
    package = relative.parts[:-1]
    names = package if relative.name == "__init__" else relative.parts
    foreign: set[str] = set()
    own: set[str] = set()
    absolute: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported = {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            imported = {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1], *(node.module or "").split(".")]
            start = ".".join(filter(None, base))
            own |= {f"{start}.{alias.name}" for alias in node.names}
            continue
        else:
            continue
        for name in imported:
            ours = name.partition(".")[0] in {"oddslog", "tests", *PARTS}
            (absolute if ours else foreign).add(name)
    return Module(
        ".".join(names), path, tree, frozenset(foreign), frozenset(own), frozenset(absolute)
    )


def module_of(imported: str) -> str:
    """The module that `from module import name` names: itself or the one above."""
    while imported not in modules():
        imported, dot, _ = imported.rpartition(".")
        assert dot, imported
    return imported


def dotted(node: ast.expr) -> str:
    """`datetime.now` of such an expression; "" for others."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


def calls(module: Module) -> Iterator[str]:
    """Everything that is called by name, and every attribute that is taken."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call):
            yield dotted(node.func)
        elif isinstance(node, ast.Attribute):
            yield dotted(node)
