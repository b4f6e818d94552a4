"""The wheel holds what the tree holds: an editable install imports what it would miss."""

import ast
import configparser
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PARTS = ("schemas", "ingest", "sink", "deploy")
TOP_FILES = ("pyproject.toml", "README.md", "LICENSE")
# What is installed: code, Avro schemas, type markers, Alembic's template, checksums.
SUFFIXES = {".py", ".avsc", ".mako", ".sha256"}
NAMES = {"py.typed"}


def project() -> dict[str, Any]:
    """pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def files_of_tree(root: Path) -> Iterator[Path]:
    """What must be installed, relative to the root."""
    for part in PARTS:
        for path in (root / part).rglob("*"):
            if path.suffix in SUFFIXES or path.name in NAMES:
                yield path.relative_to(root)


@pytest.fixture(name="built", scope="module")
def built_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sdist, and the wheel from it; made from a copy, so that the tree stays as it is."""
    copy = tmp_path_factory.mktemp("tree")
    for part in PARTS:
        shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
    for name in TOP_FILES:
        shutil.copy(ROOT / name, copy / name)
    built = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", "out", "."],
        cwd=copy,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert built.returncode == 0, built.stdout[-2000:] + built.stderr[-2000:]
    return copy / "out"


@pytest.fixture(name="wheel", scope="module")
def built_wheel(built: Path) -> Iterator[zipfile.ZipFile]:
    """The wheel, opened."""
    (path,) = built.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        yield wheel


def test_the_index_would_take_both(built: Path) -> None:
    """Names, metadata and the README's rendering, by the tool that uploads them."""
    files = sorted(str(path) for path in built.iterdir())
    assert [name.rpartition(".")[2] for name in files] == ["whl", "gz"]
    checked = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", *files],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def metadata(wheel: zipfile.ZipFile, name: str) -> str:
    """A file of the wheel's dist-info."""
    (path,) = (one for one in wheel.namelist() if one.endswith(f".dist-info/{name}"))
    return wheel.read(path).decode()


def test_every_folder_with_python_is_listed() -> None:
    """Pyproject names the packages by hand: a new folder must be added there."""
    listed = set(project()["tool"]["setuptools"]["packages"])
    found = {
        ".".join(("oddslog", *path.parent.parts))
        for path in files_of_tree(ROOT)
        if path.suffix == ".py"
    }
    assert listed == found


def test_the_wheel_has_the_files_of_the_tree_and_no_others(wheel: zipfile.ZipFile) -> None:
    """Migrations, schemas, markers, templates; no tests, no documents, nothing beside `oddslog`."""
    expected = {f"oddslog/{path.as_posix()}" for path in files_of_tree(ROOT)}
    found = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert found == expected
    assert "oddslog/schemas/avro/event_writes.v1.avsc" in found
    assert "oddslog/sink/migrations/script.py.mako" in found
    assert {f"oddslog/{part}/py.typed" for part in PARTS} <= found


def test_files_are_whole(wheel: zipfile.ZipFile) -> None:
    """Byte for byte those of the tree."""
    for path in files_of_tree(ROOT):
        assert wheel.read(f"oddslog/{path.as_posix()}") == (ROOT / path).read_bytes(), path


def test_the_command_is_an_entry_point_that_exists(wheel: zipfile.ZipFile) -> None:
    """`oddslog` calls a function that is in the wheel."""
    points = configparser.ConfigParser()
    points.read_string(metadata(wheel, "entry_points.txt"))
    scripts = dict(points["console_scripts"])
    assert set(scripts) == {"oddslog"}
    module, _, function = scripts["oddslog"].partition(":")
    tree = ast.parse(wheel.read(f"{module.replace('.', '/')}.py"))
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_metadata_are_those_of_the_project(wheel: zipfile.ZipFile) -> None:
    """Name, version, Pythons, licence with its text, extras, README."""
    said = Parser().parsestr(metadata(wheel, "METADATA"))
    ours = project()["project"]
    assert (said["Name"], said["Version"]) == ("oddslog", ours["version"])
    assert said["License-Expression"] == "MIT"
    assert metadata(wheel, "licenses/LICENSE") == (ROOT / "LICENSE").read_text("utf-8")
    assert set(said["Requires-Python"].split(",")) == {">=3.11", "<3.14"}
    assert set(said.get_all("Provides-Extra", [])) == set(ours["optional-dependencies"])
    payload = said.get_payload()
    assert isinstance(payload, str)
    assert payload.strip() == (ROOT / "README.md").read_text("utf-8").strip()


def test_the_version_is_the_changelogs() -> None:
    """The newest that is not `Unreleased`."""
    changelog = ROOT / "CHANGELOG.md"
    headings = re.findall(r"^## \[?v?(\d[^\]\s]*)", changelog.read_text("utf-8"), re.MULTILINE)
    assert headings[0] == project()["project"]["version"]


def test_the_base_install_needs_no_extra(wheel: zipfile.ZipFile) -> None:
    """What a scraper installs has no database driver and no command line in it."""
    said = Parser().parsestr(metadata(wheel, "METADATA"))
    base = [name for name in said.get_all("Requires-Dist", []) if "extra ==" not in name]
    names = {re.split(r"[^a-z0-9]", name.lower())[0] for name in base}
    assert names == {"aiokafka", "fastavro", "orjson", "structlog", "tzdata"}


def test_what_is_in_the_wheel_runs(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    """From its own files alone: the shipped schema is found, the version is read."""
    wheel.extractall(tmp_path)
    program = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
import oddslog.schemas.framing as framing
from oddslog.schemas.version import VERSION
from oddslog.ingest import AsyncWriteQueue
print(framing.__file__, VERSION, framing.frame().hex())
"""
    child = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    path, version, frame = child.stdout.split()
    assert path.startswith(str(tmp_path))
    assert version == project()["project"]["version"]
    assert frame.startswith("c301")
