"""What a poll is made of: records of the log, and the writes inside them. Pure."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from ..schemas.codec import ConfirmationRecord, EventWrites, SnapshotRecord
from ..schemas.errors import DecodeError, UnknownSchemaError
from ..schemas.framing import registry_id, single_object_framed
from ..schemas.wire import HEADER_CRC32, Kind
from .packed_fragment import decode_packed
from .positions import LastApplied

__all__ = [
    "WHOLE_RECORD",
    "ConfirmationItem",
    "IdItem",
    "Key",
    "LogRecord",
    "PartitionPart",
    "SnapshotItem",
    "decode_record",
    "items_of",
    "natural_key",
    "record_crc32",
]

# The item number of a dead letter that is a whole record.
WHOLE_RECORD = -1


class Key(NamedTuple):
    """The natural key of a snapshot; `bookmaker_id` is 0 for a competitor."""

    event_id: int
    bookmaker_id: int
    captured_at: datetime


@dataclass(slots=True)
class LogRecord:
    """One record of the log, decoded if it could be.

    `partition` and `offset` are None where the writes do not come from the log.
    """

    partition: int | None
    offset: int | None
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    appended_at: datetime | None
    fragment: EventWrites | None = None
    error: str | None = None


@dataclass(slots=True)
class PartitionPart:
    """What a poll holds of one partition: offsets `start` to `end` (exclusive).

    `records` may have holes (transactions, compaction) and may be empty.
    """

    partition: int
    start: int
    end: int
    records: Sequence[LogRecord]
    last: LastApplied | None


@dataclass(slots=True)
class SnapshotItem:
    """A snapshot to write; `item` is its number within the record."""

    kind: Kind
    key: Key
    data: SnapshotRecord
    record: LogRecord
    item: int


@dataclass(slots=True)
class ConfirmationItem:
    """A confirmation by natural key."""

    kind: Kind
    key: Key
    confirmed_at: datetime
    record: LogRecord
    item: int


@dataclass(slots=True)
class IdItem:
    """A confirmation by plain id."""

    kind: Kind
    id: int
    confirmed_at: datetime
    record: LogRecord
    item: int


@dataclass(slots=True)
class Items:
    """All writes of a run of records, in log order."""

    snapshots: list[SnapshotItem] = field(default_factory=list)
    confirmations: list[ConfirmationItem] = field(default_factory=list)
    ids: list[IdItem] = field(default_factory=list)


def record_crc32(key: bytes | None, value: bytes | None) -> int:
    """The CRC-32 of key and value by which the ledger remembers a record."""
    return zlib.crc32(value or b"", zlib.crc32(key or b""))


def decode_record(record: LogRecord, known: Mapping[int, bytes | str] | None = None) -> None:
    """Decode the value into `fragment`, or say in `error` why it cannot be.

    Args:
        record: gets either.
        known: the schema registry's ids in it: a fingerprint, or why there is none.
            None: there is no registry.
    """
    if record.value is None:
        record.error = "has no value"
        return
    for name, said in record.headers:
        if name == HEADER_CRC32 and said != b"%08x" % zlib.crc32(record.value):
            record.error = f"its bytes are not those that were sent: CRC-32 is not {said!r}"
            return
    try:
        record.fragment = decode_packed(_without_registry(record.value, known))
    except DecodeError as error:
        record.error = str(error)


def _without_registry(value: bytes, known: Mapping[int, bytes | str] | None) -> bytes:
    schema_id = registry_id(value)
    if schema_id is None or known is None:
        return value
    found = known[schema_id]
    if isinstance(found, str):
        raise UnknownSchemaError(found, 1)
    return single_object_framed(value, found)


def items_of(records: Sequence[LogRecord]) -> Items:
    """The writes of decoded records. Numbered: snapshots, then confirmations, then ids."""
    items = Items()
    for record in records:
        if record.fragment is not None:
            _add_fragment(items, record, record.fragment)
    return items


def _add_fragment(items: Items, record: LogRecord, fragment: EventWrites) -> None:
    kind, event_id = fragment.kind, fragment.event_id
    number = 0
    if event_id is not None:
        for data in fragment.snapshots:
            key = natural_key(kind, event_id, data)
            items.snapshots.append(SnapshotItem(kind, key, data, record, number))
            number += 1
    if fragment.confirmed_at is None:  # then there are no confirmations
        return
    if event_id is not None:
        for named in fragment.confirmations:
            key = natural_key(kind, event_id, named)
            items.confirmations.append(
                ConfirmationItem(kind, key, fragment.confirmed_at, record, number)
            )
            number += 1
    for plain_id in fragment.unchanged_ids:
        items.ids.append(IdItem(kind, plain_id, fragment.confirmed_at, record, number))
        number += 1


def natural_key(kind: Kind, event_id: int, named: SnapshotRecord | ConfirmationRecord) -> Key:
    """The natural key; a bookmaker that a competitor's record names is not part of it."""
    bookmaker_id = (named["bookmaker_id"] or 0) if kind is Kind.BETPAWA else 0
    return Key(event_id, bookmaker_id, named["captured_at"])
