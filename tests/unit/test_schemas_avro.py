"""Frames and schemas are Avro's: read and written by Apache's own package too."""

import hashlib
import json
import warnings
from collections.abc import Iterator
from dataclasses import fields
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Any

import avro.errors
import avro.io
import avro.schema
import pytest
from fastavro.schema import fingerprint, to_parsing_canonical_form
from hypothesis import given, settings

from oddslog.schemas.codec import AnySnapshot, EventWrites, decode, encode, snapshot_part
from oddslog.schemas.errors import DecodeError, UnknownSchemaError
from oddslog.schemas.framing import (
    CURRENT_SCHEMA,
    SCHEMA_FILES,
    frame,
    schema_fingerprint,
    shipped_schemas,
    split_frame,
    writer_schema,
)

from .test_schemas_golden import BINARIES, name_of
from .test_schemas_strategies import CHECKED, SNAPSHOTS, fragment_of

# A schema never changes after its release. The fingerprint, as in the frame, sees
# what is on the wire; the SHA-256 also logical types, defaults and docs.
PINNED = {
    "event_writes.v1.avsc": (
        "f123633f6f2e54ea",
        "70cc2fed47a45f36f95b4a9fd5fe35d3938b8b91949c2e671364a85bf1ae6a39",
    ),
}


def shipped_text(schema_file: str) -> str:
    """A schema file of the package."""
    return files("oddslog.schemas").joinpath("avro", schema_file).read_text(encoding="utf-8")


def crc_64_avro(data: bytes) -> int:
    """The specification's fingerprint, bit by bit."""
    empty = 0xC15D213AA4D7A795
    value = empty
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (empty if value & 1 else 0)
    return value


@pytest.fixture(name="apache", scope="module")
def apache_schemas() -> Iterator[dict[str, avro.schema.Schema]]:
    """The shipped schemas, parsed by Apache's package. It knows no logical type `json`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", avro.errors.IgnoredLogicalType)
        yield {name: avro.schema.parse(shipped_text(name)) for name in SCHEMA_FILES}


def as_apache(fragment: EventWrites) -> dict[str, Any]:
    """A fragment in the types of Apache's package."""
    values = {field.name: getattr(fragment, field.name) for field in fields(EventWrites)}
    snapshots = [{**one, "markets": list(one["markets"])} for one in fragment.snapshots]
    text = {"batch_id": str(fragment.batch_id), "kind": fragment.kind.name}
    return values | text | {"snapshots": snapshots}


def apache_reads(schema: avro.schema.Schema, value: bytes) -> Any:
    """The datum behind our frame; all bytes must be used."""
    body = BytesIO(value[10:])
    datum = avro.io.DatumReader(schema).read(avro.io.BinaryDecoder(body))
    assert body.read() == b""
    return datum


def apache_writes(schema: avro.schema.Schema, datum: Any) -> bytes:
    """The body of a value."""
    body = BytesIO()
    avro.io.DatumWriter(schema).write(datum, avro.io.BinaryEncoder(body))
    return body.getvalue()


def without_wrappers(schema: Any) -> Any:
    """Apache's canonical form leaves `{"type": "long"}` where the specification says `"long"`."""
    if isinstance(schema, list):
        return [without_wrappers(member) for member in schema]
    if isinstance(schema, dict):
        if set(schema) == {"type"}:
            return without_wrappers(schema["type"])
        return {name: without_wrappers(member) for name, member in schema.items()}
    return schema


@settings(CHECKED, max_examples=50)
@given(whole=SNAPSHOTS)
def test_what_we_write_apache_reads_and_what_apache_writes_we_read(
    apache: dict[str, avro.schema.Schema], whole: AnySnapshot
) -> None:
    """The same values both ways, and the same bytes."""
    schema = apache[CURRENT_SCHEMA]
    fragment = fragment_of(snapshot_part(whole))
    value = encode(fragment)
    assert apache_reads(schema, value) == as_apache(fragment)
    body = apache_writes(schema, as_apache(fragment))
    assert frame() + body == value
    assert decode(frame() + body) == fragment


@pytest.mark.parametrize("path", BINARIES, ids=name_of)
def test_apache_reads_every_golden_file(apache: dict[str, avro.schema.Schema], path: Path) -> None:
    """Of every version, and writes it again byte for byte."""
    schema = apache[f"{path.parent.name}.avsc"]
    value = path.read_bytes()
    datum = apache_reads(schema, value)
    assert datum == as_apache(decode(value))
    assert apache_writes(schema, datum) == value[10:]


def test_the_fingerprint_is_the_specifications() -> None:
    """Its published example, in our library, in Apache's and by definition."""
    published = 0x7275D51A3F395C8F
    assert crc_64_avro(b'"int"') == published
    assert fingerprint('"int"', "CRC-64-AVRO") == published.to_bytes(8, "little").hex()
    assert avro.schema.parse('"int"').fingerprint() == published.to_bytes(8, "little")


@pytest.mark.parametrize("schema_file", SCHEMA_FILES)
def test_frames_carry_the_fingerprint_of_the_canonical_form(
    apache: dict[str, avro.schema.Schema], schema_file: str
) -> None:
    """Little-endian; the canonical form is the one Apache's package means."""
    canonical = to_parsing_canonical_form(writer_schema(schema_file))
    theirs = without_wrappers(json.loads(apache[schema_file].canonical_form))
    assert canonical == json.dumps(theirs, separators=(",", ":"))
    expected = crc_64_avro(canonical.encode()).to_bytes(8, "little")
    assert schema_fingerprint(schema_file) == expected
    assert avro.schema._crc_64_fingerprint(canonical.encode()) == expected


def test_shipped_schemas_are_those_of_their_release() -> None:
    """Edited files, renamed ones and forgotten ones all show here."""
    assert {
        name: (
            schema_fingerprint(name).hex(),
            hashlib.sha256(shipped_text(name).encode()).hexdigest(),
        )
        for name in SCHEMA_FILES
    } == PINNED
    folder = files("oddslog.schemas").joinpath("avro")
    found = {entry.name for entry in folder.iterdir() if entry.name.endswith(".avsc")}
    assert found == set(SCHEMA_FILES)
    assert len(shipped_schemas()) == len(SCHEMA_FILES)


def test_a_frame_is_ten_bytes_before_the_body() -> None:
    """C3 01, then the fingerprint: Avro's single-object encoding."""
    assert frame() == b"\xc3\x01" + schema_fingerprint(CURRENT_SCHEMA)
    schema, start = split_frame(frame())
    assert schema is writer_schema(CURRENT_SCHEMA)
    assert start == 10


def test_an_unknown_fingerprint_is_said() -> None:
    """A newer producer's schema: the value is kept, not misread."""
    value = b"\xc3\x01" + bytes(range(8)) + b"body"
    with pytest.raises(UnknownSchemaError, match="fingerprint 0001020304050607 is not known"):
        split_frame(value)


def test_a_registrys_frame_is_said() -> None:
    """Its id, and that no registry is configured."""
    with pytest.raises(UnknownSchemaError, match=r"registry \(id 258\), and none is configured"):
        split_frame(b"\x00\x00\x00\x01\x02body")


@pytest.mark.parametrize("value", [b"", b"\xc3", b"\xc3\x01", frame()[:9], b"\x00\x00", b'{"a":1}'])
def test_other_bytes_have_no_frame(value: bytes) -> None:
    """JSON of another producer, an empty value, half a frame."""
    with pytest.raises(DecodeError, match=r"^no Avro frame: the value begins with ") as caught:
        split_frame(value)
    assert type(caught.value) is DecodeError
