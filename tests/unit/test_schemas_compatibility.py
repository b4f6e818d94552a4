"""Full compatibility between schema versions: each side may be deployed first."""

import copy
import json
from collections.abc import Callable, Iterator
from importlib.resources import files
from io import BytesIO
from itertools import combinations
from typing import Any

import fastavro
import pytest

from oddslog.schemas.framing import SCHEMA_FILES

from .test_schemas_golden import folder_of

Schema = Any  # what `json.loads` makes of a schema's text


def load(schema_file: str) -> Schema:
    """A shipped schema as it is written."""
    text = files("oddslog.schemas").joinpath("avro", schema_file).read_text(encoding="utf-8")
    return json.loads(text)


def incompatibilities(old: Schema, new: Schema, path: str = "") -> Iterator[str]:
    """What keeps one of two schemas from reading what the other wrote.

    Stricter than Avro: a field may only be added or left out, with a default;
    nothing is renamed, promoted, widened or given another logical type.
    """
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for branch, pair in enumerate(zip(old, new, strict=True)):
            yield from incompatibilities(*pair, f"{path}|{branch}")
    elif isinstance(old, dict) and isinstance(new, dict):
        for said in ("name", "namespace", "symbols", "logicalType"):
            if old.get(said) != new.get(said):
                yield f"{path} has {said} {old.get(said)} and {new.get(said)}"
        for inner in ("type", "items"):
            yield from incompatibilities(old.get(inner), new.get(inner), f"{path} {inner}")
        yield from _other_fields(old.get("fields", []), new.get("fields", []), path)
    elif old != new:
        yield f"{path} is {old} and {new}"


def _other_fields(old: Schema, new: Schema, path: str) -> Iterator[str]:
    befores = {field["name"]: field for field in old}
    afters = {field["name"]: field for field in new}
    for name in befores.keys() & afters.keys():
        yield from incompatibilities(befores[name]["type"], afters[name]["type"], f"{path}.{name}")
    for name in befores.keys() ^ afters.keys():
        if "default" not in (befores | afters)[name]:
            yield f"{path}.{name} is in one only, without a default"


def common(datum: Any, other: Any) -> Any:
    """A datum without the fields that the other does not have."""
    if isinstance(datum, dict) and isinstance(other, dict):
        return {name: common(datum[name], other[name]) for name in datum if name in other}
    if isinstance(datum, list) and isinstance(other, list):
        return [common(*pair) for pair in zip(datum, other, strict=True)]
    return datum


def check_data(old: Schema, new: Schema, values: list[bytes]) -> None:
    """Each value of the old schema is read by the new one, and the other way round."""
    old_parsed, new_parsed = fastavro.parse_schema(old), fastavro.parse_schema(new)
    for value in values:
        datum = fastavro.schemaless_reader(BytesIO(value[10:]), old_parsed, None)
        ahead = fastavro.schemaless_reader(BytesIO(value[10:]), old_parsed, new_parsed)
        assert common(ahead, datum) == common(datum, ahead)
        body = BytesIO()
        fastavro.schemaless_writer(body, new_parsed, ahead)
        body.seek(0)
        behind: Any = fastavro.schemaless_reader(body, new_parsed, old_parsed)
        assert common(behind, ahead) == common(ahead, behind)
        assert behind.keys() == datum.keys()  # type: ignore[union-attr]


def golden_values(schema_file: str) -> list[bytes]:
    """The golden files of a version."""
    return [path.read_bytes() for path in sorted(folder_of(schema_file).glob("*.bin"))]


@pytest.mark.parametrize("schema_file", SCHEMA_FILES)
def test_the_newest_schema_reads_every_golden_file_and_is_read_back(schema_file: str) -> None:
    """Today's only version against itself; each older one when there are more."""
    values = golden_values(schema_file)
    assert values
    check_data(load(schema_file), load(SCHEMA_FILES[-1]), values)


def test_no_two_shipped_schemas_are_incompatible() -> None:
    """Each with each: a consumer may be any number of versions behind."""
    for old, new in combinations(SCHEMA_FILES, 2):
        assert list(incompatibilities(load(old), load(new))) == []
    assert list(incompatibilities(load(SCHEMA_FILES[0]), load(SCHEMA_FILES[0]))) == []


def field(schema: Schema, name: str) -> Any:
    """A field of a record schema."""
    return next(one for one in schema["fields"] if one["name"] == name)


def market(schema: Schema) -> Any:
    """The record of a market."""
    snapshot = field(schema, "snapshots")["type"]["items"]
    return field(snapshot, "markets")["type"]["items"]


def with_optional_fields(schema: Schema) -> None:
    """Adds a field at the top and one in each market, and leaves one out."""
    schema["fields"].append({"name": "note", "type": ["null", "string"], "default": None})
    market(schema)["fields"].insert(0, {"name": "rank", "type": "int", "default": -1})
    schema["fields"].remove(field(schema, "batch_count"))
    schema["doc"] = "Another text."


def test_optional_fields_may_come_and_go() -> None:
    """A version 2 as there could be one: both checks say so, on the golden files."""
    old, new = load(SCHEMA_FILES[0]), load(SCHEMA_FILES[0])
    with_optional_fields(new)
    assert list(incompatibilities(old, new)) == []
    assert list(incompatibilities(new, old)) == []
    check_data(old, new, golden_values(SCHEMA_FILES[0]))


BREAKING: dict[str, Callable[[Schema], Any]] = {
    "a needed field more": lambda s: s["fields"].append({"name": "host", "type": "string"}),
    "a needed field less": lambda s: s["fields"].remove(field(s, "batch_index")),
    "a renamed field": lambda s: field(s, "batch_id").update(name="batch_uuid"),
    "another type": lambda s: field(s, "batch_index").update(type="string"),
    "a narrower type": lambda s: field(s, "batch_index").update(type="int"),
    "null no more": lambda s: field(s, "event_id").update(type="long"),
    "another branch": lambda s: field(s, "event_id")["type"].append("string"),
    "another symbol": lambda s: field(s, "kind")["type"]["symbols"].append("EXCHANGE"),
    "another name": lambda s: field(s, "kind")["type"].update(name="SnapshotKind"),
    "other items": lambda s: field(s, "unchanged_ids")["type"].update(items="string"),
    "deep in a market": lambda s: field(market(s), "line").update(type=["null", "float"]),
    "milliseconds": lambda s: field(s, "confirmed_at")["type"][1].update(
        logicalType="timestamp-millis"
    ),
}


@pytest.mark.parametrize("change", BREAKING.values(), ids=BREAKING)
def test_breaking_changes_are_seen(change: Callable[[Schema], Any]) -> None:
    """In both directions, so that the check can fail."""
    old = load(SCHEMA_FILES[0])
    new = copy.deepcopy(old)
    change(new)
    assert list(incompatibilities(old, new))
    assert list(incompatibilities(new, old))
