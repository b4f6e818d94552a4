"""Mutated fragments never crash the decoder, never hang it, and take bounded memory.

No claimed length is checked beforehand, because none has to be: fastavro makes an
item when it has read it, and never room for what is only claimed, and each item of
the shipped schemas takes at least one byte (a test below). So memory grows with the
record, by at most some 200 times (millions of smallest confirmations), and a record
is at most `max.message.bytes`.

Nor is `content_hash` made anew from what was decoded: it would cost as much as the
writing itself. It tells two contents of one key apart and is no checksum; the
CRC-32 header is one, every record of our producer has it, and a value that does not
agree with it is never decoded. Between producer and consumer Kafka's own CRC-32C
covers records without the header, too.
"""

import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from oddslog.schemas.codec import crc32_text, decode
from oddslog.schemas.errors import DecodeError
from oddslog.schemas.framing import shipped_schemas
from oddslog.schemas.wire import HEADER_CRC32
from oddslog.sink.checks import ColumnLimits, check_confirmation, check_snapshot
from oddslog.sink.dead_letters import letter_for_item
from oddslog.sink.explain import explain_snapshot
from oddslog.sink.items import LogRecord, decode_record, items_of, record_crc32
from tests.support.mutations import claims, corpus, mutants

CORPUS = corpus(10**6)
LIMITS = ColumnLimits({"betpawa_market_id": 50, "betpawa_market_name": 255}, {})
_MIB = 1 << 20


def decoded(value: bytes, *, sealed: bytes | None = None) -> LogRecord:
    """The value as a record of the log; with the checksum of what was sent, if given."""
    headers = [] if sealed is None else [(HEADER_CRC32, crc32_text(sealed))]
    record = LogRecord(0, 0, b"key", value, headers, None)
    decode_record(record)
    return record


def follow(value: bytes) -> bool:
    """Take a value as far as it goes without a database; whether it could be decoded."""
    record = decoded(value)
    assert (record.fragment is None) is (record.error is not None)
    items = items_of([record])
    for one in items.snapshots:
        check_snapshot(one, LIMITS)
        explain_snapshot(one)
        assert letter_for_item(one, "poison", "m").value
    for named in items.confirmations:
        check_confirmation(named)
        assert letter_for_item(named, "poison", "m").value
    return record.fragment is not None


def fuzz(seed: int, count: int) -> None:
    """Some can be decoded (a changed text is a text), most cannot; nothing else happens."""
    survived = sum(map(follow, mutants(seed, count, CORPUS)))
    assert 0 < survived < count * 0.6


def test_mutants() -> None:
    """A short run; the long one is below."""
    fuzz(1, 3000)


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(2, 12))
def test_mutants_for_long(seed: int) -> None:
    """A million."""
    fuzz(seed, 100_000)


def test_a_mutant_never_passes_for_what_was_sent() -> None:
    """The header's checksum is of the bytes that were sent."""
    for number, value in enumerate(mutants(1, 2000, CORPUS)):
        record = decoded(value, sealed=CORPUS[number % len(CORPUS)])
        assert record.fragment is None
        assert "CRC-32" in (record.error or "")


@pytest.mark.parametrize("claim", claims())
def test_a_claim_takes_no_room(claim: str) -> None:
    """2^40 items, characters or bytes: refused at once."""
    value = claims()[claim]
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError):
            decode(value)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < _MIB


def test_memory_is_bounded_by_the_record() -> None:
    """Mutants of a large one, each in its own measure."""
    large = [*CORPUS, CORPUS[1][:-3] + CORPUS[5][-40:] * 2000, bytes(200_000), b"\2" * 200_000]
    for value in mutants(3, 150, large):
        tracemalloc.start()
        try:
            follow(value)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < _MIB + 300 * len(value)


def least_bytes(schema: Any) -> int:
    """The fewest bytes that a value of a parsed schema takes."""
    if isinstance(schema, list):
        return 1 + min(map(least_bytes, schema))
    if isinstance(schema, str):
        return {"null": 0, "boolean": 1, "float": 4, "double": 8}.get(schema, 1)
    if schema["type"] == "record":
        return sum(least_bytes(field["type"]) for field in schema["fields"])
    if schema["type"] == "fixed":
        return int(schema["size"])
    return int(schema["type"] != "null")


def arrays(schema: Any) -> Iterator[Any]:
    """The schemas of all arrays' and maps' items."""
    if isinstance(schema, list):
        for branch in schema:
            yield from arrays(branch)
    elif isinstance(schema, dict):
        for name in ("items", "values"):
            if name in schema:
                yield schema[name]
                yield from arrays(schema[name])
        for field in schema.get("fields", ()):
            yield from arrays(field["type"])
        if isinstance(schema["type"], (dict, list)):
            yield from arrays(schema["type"])


@pytest.mark.parametrize("schema", shipped_schemas().values())
def test_no_item_of_a_shipped_schema_takes_no_bytes(schema: Any) -> None:
    """Or a block of 2^40 of them would need none, and all the memory there is."""
    found = list(arrays(schema))
    assert len(found) >= 4
    assert all(least_bytes(items) > 0 for items in found)


def test_a_checksum_of_key_and_value() -> None:
    """The ledger's own: it changes with either."""
    assert len({record_crc32(k, v) for k in (b"a", b"b") for v in (b"c", None)}) == 4
