"""Fragments: between the records of a scraper and the value of one Kafka record.

The Avro form (`SnapshotRecord`, `MarketRecord`) is a plain dict, JSON documents
still as text: what travels, and what goes into PostgreSQL without being built
into dataclasses again.
"""

import json
import uuid
import zlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from typing import Any, TypedDict

import fastavro

from .avro_writer import write_fragment
from .content_hash import content_hash
from .encoded_markets import MarketRecord
from .errors import DecodeError, InvalidRecordError
from .framing import CURRENT_SCHEMA, frame, split_frame, writer_schema
from .json_document import encode_document
from .market_steps import encode_markets
from .records import (
    INFINITE_TIMES,
    CompetitorSnapshotWriteData,
    MarketWriteData,
    SnapshotWriteData,
)
from .wire import Kind

__all__ = [
    "ConfirmationRecord",
    "EventWrites",
    "MarketRecord",
    "SnapshotPart",
    "SnapshotRecord",
    "check_consistent",
    "crc32_text",
    "decode",
    "decoded_hash",
    "encode",
    "snapshot_from_record",
    "snapshot_part",
    "snapshot_steps",
]

AnySnapshot = SnapshotWriteData | CompetitorSnapshotWriteData

# Upper bound of what Avro adds to a snapshot's markets: ids and times (10 each), the
# lengths of the raw response and of the array.
_SNAPSHOT_FRAME_BYTES = 80


class SnapshotRecord(TypedDict):
    """One snapshot in the Avro form; its event is the fragment's."""

    bookmaker_id: int | None
    captured_at: datetime
    scrape_run_id: int | None
    content_hash: int
    raw_response: str | None
    markets: Sequence[MarketRecord]


class ConfirmationRecord(TypedDict):
    """Names a snapshot of the fragment's event that is still current."""

    bookmaker_id: int | None
    captured_at: datetime


@dataclass(frozen=True, slots=True)
class EventWrites:
    """One fragment: the writes of one batch to one event (or by plain ids)."""

    batch_id: uuid.UUID
    batch_index: int
    batch_count: int | None
    fragment_index: int
    fragment_count: int
    scrape_run_id: int | None
    kind: Kind
    event_id: int | None
    snapshots: Sequence[SnapshotRecord]
    confirmed_at: datetime | None
    confirmations: Sequence[ConfirmationRecord]
    unchanged_ids: Sequence[int]


@dataclass(frozen=True, slots=True)
class SnapshotPart:
    """A snapshot ready to be put into a fragment.

    `size_bytes` is an upper bound of its encoded size; `replaced` counts the
    characters of its documents that became U+FFFD.
    """

    kind: Kind
    event_id: int
    record: SnapshotRecord
    size_bytes: int
    replaced: int


def snapshot_part(snapshot: AnySnapshot, *, raw_response: bool = True) -> SnapshotPart:
    """`snapshot_steps` in one go; CPU only, milliseconds."""
    steps = snapshot_steps(snapshot, raw_response=raw_response)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            part: SnapshotPart = end.value
            return part


def snapshot_steps(
    snapshot: AnySnapshot, *, raw_response: bool = True
) -> Generator[None, None, SnapshotPart]:
    """Encode the documents of a stamped snapshot and hash it, in steps of a millisecond.

    For callers in an event loop, which yield to it between steps. A raw response
    is one step, and so is the hash.

    Raises:
        InvalidRecordError: a document cannot be JSON, or `captured_at` is None.
    """
    if snapshot.captured_at is None:
        raise InvalidRecordError("captured_at", "is not stamped")
    encoded = yield from encode_markets(snapshot.markets)
    size = _SNAPSHOT_FRAME_BYTES + encoded.size_bytes
    replaced = encoded.replaced
    raw = None
    if raw_response and snapshot.raw_response is not None:
        yield
        document = encode_document("raw_response", snapshot.raw_response)
        raw = document.text
        replaced += document.replaced
        size += document.size_bytes
    yield
    kind, event_id, bookmaker_id = _identity(snapshot)
    ids = (event_id,) if bookmaker_id is None else (event_id, bookmaker_id)
    made: SnapshotRecord = {
        "bookmaker_id": bookmaker_id,
        "captured_at": snapshot.captured_at,
        "scrape_run_id": snapshot.scrape_run_id,
        "content_hash": content_hash(
            kind.value, ids, snapshot.captured_at, encoded.fields, plain=encoded.plain
        ),
        "raw_response": raw,
        "markets": encoded.records,
    }
    return SnapshotPart(kind, event_id, made, size, replaced)


def encode(fragment: EventWrites) -> bytes:
    """The framed value of a fragment in the current schema. CPU only.

    Raises:
        InvalidRecordError: a value that the schema cannot hold.
    """
    try:
        body = write_fragment(fragment)
        return frame() + (_by_fastavro(fragment) if body is None else body)
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidRecordError("fragment", f"does not fit the Avro schema: {error}") from error


def _by_fastavro(fragment: EventWrites) -> bytes:
    record = {
        "batch_id": fragment.batch_id,
        "batch_index": fragment.batch_index,
        "batch_count": fragment.batch_count,
        "fragment_index": fragment.fragment_index,
        "fragment_count": fragment.fragment_count,
        "scrape_run_id": fragment.scrape_run_id,
        "kind": fragment.kind.name,
        "event_id": fragment.event_id,
        "snapshots": fragment.snapshots,
        "confirmed_at": fragment.confirmed_at,
        "confirmations": fragment.confirmations,
        "unchanged_ids": fragment.unchanged_ids,
    }
    body = BytesIO()
    fastavro.schemaless_writer(body, writer_schema(CURRENT_SCHEMA), record)
    return body.getvalue()


def decode(value: bytes) -> EventWrites:
    """The fragment of a framed value, of any schema ever shipped. CPU only.

    Raises:
        DecodeError: the bytes are not one whole, consistent fragment.
    """
    schema, start = split_frame(value)
    body = BytesIO(value)
    body.seek(start)
    try:
        record = fastavro.schemaless_reader(body, schema, None)
    except MemoryError:  # the machine's trouble, not the record's
        raise
    except Exception as error:
        # Whatever fastavro raises over foreign bytes (EOFError, IndexError,
        # UnicodeDecodeError, OverflowError, ...): they are no fragment.
        message = f"cannot be decoded: {type(error).__name__}: {error}"
        raise DecodeError(message, body.tell()) from error
    if body.tell() != len(value):
        left = len(value) - body.tell()
        raise DecodeError(f"{left} bytes are left over behind the fragment", body.tell())
    if not isinstance(record, dict):
        raise DecodeError("is not a record")
    fragment = EventWrites(**{**record, "kind": Kind[record["kind"]]})
    check_consistent(fragment)
    return fragment


def snapshot_from_record(kind: Kind, event_id: int, record: SnapshotRecord) -> AnySnapshot:
    """The dataclass of a decoded snapshot, for tools and tests.

    Raises:
        InvalidRecordError: a value that no scraper could have built.
        ValueError: a document that is no JSON.
    """
    markets = tuple(
        MarketWriteData(
            **{
                **market,
                "outcomes": json.loads(market["outcomes"]),
                "market_groups": _loads_optional(market["market_groups"]),
            }
        )
        for market in record["markets"]
    )
    raw = _loads_optional(record["raw_response"])
    captured_at, run = record["captured_at"], record["scrape_run_id"]
    if kind is Kind.COMPETITOR:
        return CompetitorSnapshotWriteData(event_id, run, raw, markets, captured_at)
    bookmaker_id = record["bookmaker_id"]
    if bookmaker_id is None:
        raise InvalidRecordError("bookmaker_id", "is missing")
    return SnapshotWriteData(event_id, bookmaker_id, run, raw, markets, captured_at)


def decoded_hash(kind: Kind, event_id: int, record: SnapshotRecord) -> int:
    """The content hash of a decoded snapshot, made anew from its content."""
    bookmaker_id = record["bookmaker_id"]
    ids = (event_id,) if bookmaker_id is None else (event_id, bookmaker_id)
    markets = [
        [
            market["betpawa_market_id"],
            market["betpawa_market_name"],
            market["line"],
            market["handicap_type"],
            market["handicap_home"],
            market["handicap_away"],
            json.loads(market["outcomes"]),
            _loads_optional(market["market_groups"]),
        ]
        for market in record["markets"]
    ]
    return content_hash(kind.value, ids, record["captured_at"], markets)


def crc32_text(value: bytes) -> bytes:
    """The value of the CRC-32 header."""
    return b"%08x" % zlib.crc32(value)


def _identity(snapshot: AnySnapshot) -> tuple[Kind, int, int | None]:
    if isinstance(snapshot, SnapshotWriteData):
        return Kind.BETPAWA, snapshot.event_id, snapshot.bookmaker_id
    return Kind.COMPETITOR, snapshot.competitor_event_id, None


def _loads_optional(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def check_consistent(fragment: EventWrites) -> None:
    """What the Avro schema cannot say, and the tables rely on."""
    keyed = bool(fragment.snapshots or fragment.confirmations)
    if keyed and fragment.event_id is None:
        raise DecodeError("has snapshots or confirmations, and no event_id")
    if fragment.confirmed_at is None and (fragment.confirmations or fragment.unchanged_ids):
        raise DecodeError("has confirmations, and no confirmed_at")
    betpawa = fragment.kind is Kind.BETPAWA
    for member in (*fragment.snapshots, *fragment.confirmations):
        if (member["bookmaker_id"] is not None) != betpawa:
            raise DecodeError(
                "has a BetPawa snapshot or confirmation without bookmaker_id"
                if betpawa
                else "has a competitor snapshot or confirmation with a bookmaker_id"
            )
    if fragment.confirmed_at in INFINITE_TIMES:
        raise DecodeError("has a confirmed_at that is stored as infinity")
    if not 0 <= fragment.fragment_index < fragment.fragment_count:
        raise DecodeError(
            f"says it is fragment {fragment.fragment_index} of {fragment.fragment_count}"
        )
