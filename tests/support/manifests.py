"""What deploy/ has for Kubernetes and compose, read as data."""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.support.modules import ROOT

__all__ = [
    "COMPOSE",
    "DEPLOY",
    "KUBERNETES",
    "containers_of",
    "documents",
    "find",
    "kustomization",
    "literals",
    "rendered",
]

DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
Document = dict[str, Any]


@cache
def documents(path: Path) -> tuple[Document, ...]:
    """Every document of a file; shared, so not to be changed."""
    # PyYAML's reader in C; the one in Python takes most of a second for all of ours.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return tuple(yaml.load_all(path.read_text("utf-8"), loader))


(COMPOSE,) = documents(DEPLOY / "compose.yaml")


def kustomization(folder: Path) -> Document:
    """A folder's kustomization."""
    (found,) = documents(folder / "kustomization.yaml")
    return found


@cache
def rendered(folder: Path) -> tuple[Document, ...]:
    """The folder's resources with its patches, as far as our kustomizations go.

    Names, namespaces, images and generated maps stay as they are written. A list in a
    patch replaces the one it patches, which is what Kubernetes does with those we have.
    """
    found: list[Document] = []
    said = kustomization(folder)
    for name in said["resources"]:
        target = (folder / name).resolve()
        found += rendered(target) if target.is_dir() else documents(target)
    for patch in said.get("patches", ()):
        for document in documents(folder / patch["path"]):
            place = find(found, document["kind"], document["metadata"]["name"])
            found[found.index(place)] = _merged(place, document)
    return tuple(found)


def _merged(base: Any, patch: Any) -> Any:
    if not (isinstance(base, dict) and isinstance(patch, dict)):
        return deepcopy(patch)
    return {**base, **{key: _merged(base.get(key), value) for key, value in patch.items()}}


def find(found: Sequence[Document], kind: str, name: str) -> Document:
    """The one resource of that kind and name."""
    (one,) = [d for d in found if d["kind"] == kind and d["metadata"]["name"] == name]
    return one


def containers_of(found: Sequence[Document]) -> Iterator[tuple[Document, Document]]:
    """The pod's specification and its container, of each that runs one."""
    for document in found:
        if document["kind"] in ("StatefulSet", "Job"):
            pod = document["spec"]["template"]["spec"]
            for container in pod["containers"]:
                yield pod, container


def literals(folder: Path) -> dict[str, str]:
    """The settings that the folder's kustomization and those below it generate."""
    said = kustomization(folder)
    values: dict[str, str] = {}
    for name in said["resources"]:
        if (folder / name).is_dir():
            values |= literals(folder / name)
    for generated in said.get("configMapGenerator", ()):
        values |= dict(line.split("=", 1) for line in generated["literals"])
    return values
