"""Avro frames: the shipped schemas, their fingerprints, the bytes before a value.

Single-object encoding: `C3 01`, then the CRC-64-AVRO fingerprint of the writer's
schema, little-endian. The Confluent frame: `00`, then a registry's id in 4 bytes,
big-endian; it takes a registry to read.
"""

import json
from functools import cache
from importlib.resources import files
from typing import Any

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

from .errors import DecodeError, UnknownSchemaError

__all__ = [
    "CURRENT_SCHEMA",
    "SCHEMA_FILES",
    "frame",
    "schema_fingerprint",
    "shipped_schemas",
    "split_frame",
    "writer_schema",
]

# Every version ever released, the newest last; a fragment of any of them decodes.
SCHEMA_FILES = ("event_writes.v1.avsc",)
CURRENT_SCHEMA = SCHEMA_FILES[-1]

_MAGIC = b"\xc3\x01"
_HEADER_BYTES = 10
_CONFLUENT_MAGIC = 0


@cache
def writer_schema(file_name: str) -> dict[str, Any]:
    """The parsed schema of a shipped file."""
    text = files(__package__).joinpath("avro", file_name).read_text(encoding="utf-8")
    parsed = fastavro.parse_schema(json.loads(text))
    assert isinstance(parsed, dict)  # noqa: S101 - a record's schema is one
    return parsed


@cache
def schema_fingerprint(file_name: str) -> bytes:
    """The 8 bytes of the fingerprint, in the frame's order (little-endian)."""
    canonical = to_parsing_canonical_form(writer_schema(file_name))
    return bytes.fromhex(fingerprint(canonical, "CRC-64-AVRO"))


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
    if value[:1] == bytes([_CONFLUENT_MAGIC]) and len(value) > 5:
        schema_id = int.from_bytes(value[1:5], "big")
        raise UnknownSchemaError(
            f"framed for a schema registry (id {schema_id}), and none is configured", 1
        )
    raise DecodeError(f"no Avro frame: the value begins with {value[:4].hex() or 'nothing'}", 0)
