"""Avro frames: the shipped schemas, their fingerprints, the bytes before a value.

Single-object encoding: `C3 01`, then the CRC-64-AVRO fingerprint of the writer's
schema, little-endian. The Confluent frame: `00`, then a registry's id in 4 bytes,
big-endian; it takes a registry to read. A value changes its frame without being
decoded: what is encoded, kept and decoded here is framed the first way.
"""

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

from .errors import DecodeError, UnknownSchemaError

__all__ = [
    "CURRENT_SCHEMA",
    "SCHEMA_FILES",
    "fingerprint_of",
    "frame",
    "registry_framed",
    "registry_id",
    "schema_fingerprint",
    "schema_text",
    "shipped_schemas",
    "single_object_framed",
    "split_frame",
    "writer_schema",
]

# Every version ever released, the newest last; a fragment of any of them decodes.
SCHEMA_FILES = ("event_writes.v1.avsc",)
CURRENT_SCHEMA = SCHEMA_FILES[-1]

_MAGIC = b"\xc3\x01"
_HEADER_BYTES = 10
_CONFLUENT_MAGIC = b"\x00"
_CONFLUENT_BYTES = 5


@cache
def schema_text(file_name: str) -> str:
    """A shipped file as one line of JSON, as a registry keeps it."""
    text = files(__package__).joinpath("avro", file_name).read_text(encoding="utf-8")
    return json.dumps(json.loads(text), separators=(",", ":"), ensure_ascii=False)


@cache
def writer_schema(file_name: str) -> dict[str, Any]:
    """The parsed schema of a shipped file."""
    parsed = fastavro.parse_schema(json.loads(schema_text(file_name)))
    assert isinstance(parsed, dict)  # noqa: S101 - a record's schema is one
    return parsed


@cache
def schema_fingerprint(file_name: str) -> bytes:
    """The 8 bytes of the fingerprint, in the frame's order (little-endian)."""
    return _fingerprint(writer_schema(file_name))


def fingerprint_of(text: str) -> bytes:
    """The fingerprint of any schema; two that read alike have the same.

    Raises:
        DecodeError: it is no Avro schema.
    """
    try:
        return _fingerprint(fastavro.parse_schema(json.loads(text)))
    except Exception as error:  # whatever fastavro raises over foreign text
        raise DecodeError(f"is no Avro schema: {type(error).__name__}: {error}") from error


def _fingerprint(schema: Any) -> bytes:
    return bytes.fromhex(fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))


@cache
def shipped_schemas() -> dict[bytes, dict[str, Any]]:
    """Each shipped schema by its fingerprint."""
    return {schema_fingerprint(name): writer_schema(name) for name in SCHEMA_FILES}


@cache
def frame() -> bytes:
    """What stands before a value of the current schema."""
    return _MAGIC + schema_fingerprint(CURRENT_SCHEMA)


def split_frame(value: bytes) -> tuple[dict[str, Any], int]:
    """The writer's schema of a framed value, and where its body begins.

    Raises:
        UnknownSchemaError: a fingerprint that is not shipped, or a registry's id.
        DecodeError: no frame at all.
    """
    if value[:2] == _MAGIC and len(value) >= _HEADER_BYTES:
        schema = shipped_schemas().get(value[2:_HEADER_BYTES])
        if schema is None:
            raise UnknownSchemaError(
                f"schema fingerprint {value[2:_HEADER_BYTES].hex()} is not known to this version", 2
            )
        return schema, _HEADER_BYTES
    schema_id = registry_id(value)
    if schema_id is not None:
        raise UnknownSchemaError(
            f"framed for a schema registry (id {schema_id}), and none is configured", 1
        )
    raise DecodeError(f"no Avro frame: the value begins with {value[:4].hex() or 'nothing'}", 0)


def registry_id(value: bytes) -> int | None:
    """The registry's id of a value in the Confluent frame; None of any other."""
    if value[:1] != _CONFLUENT_MAGIC or len(value) <= _CONFLUENT_BYTES:
        return None
    return int.from_bytes(value[1:_CONFLUENT_BYTES], "big")


def single_object_framed(value: bytes, schema_fingerprint: bytes) -> bytes:
    """A value in the Confluent frame, in the other one."""
    return _MAGIC + schema_fingerprint + value[_CONFLUENT_BYTES:]


def registry_framed(value: bytes, ids: Mapping[bytes, int]) -> bytes:
    """A value in the Confluent frame, by its schema's id; as it is where that has none."""
    if value[:2] != _MAGIC or value[2:_HEADER_BYTES] not in ids:
        return value
    schema_id = ids[value[2:_HEADER_BYTES]]
    return _CONFLUENT_MAGIC + schema_id.to_bytes(4, "big") + value[_HEADER_BYTES:]
