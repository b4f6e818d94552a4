"""Dead letters: what cannot be written as it is, kept whole with its reason.

They are inserted in the data transaction. Every column that holds foreign bytes
is bytea and every text is cleaned here, so that writing one cannot fail on its
content.
"""

import base64
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from ..schemas.codec import EventWrites, encode
from ..schemas.errors import InvalidRecordError
from ..schemas.version import VERSION
from ..schemas.wire import Kind
from . import sql
from .arrivals import run_of
from .items import WHOLE_RECORD, ConfirmationItem, LogRecord, SnapshotItem

__all__ = [
    "CONFLICT",
    "DEAD",
    "DISCARDED",
    "MISSING_PARENT",
    "POISON",
    "REDRIVEN",
    "UNDECODABLE",
    "WAITING",
    "WRITTEN",
    "DeadLetter",
    "clean_text",
    "decode_headers",
    "insert_dead_letters",
    "letter_for_item",
    "letter_for_record",
]

DEAD = "dead"
WAITING = "waiting"
WRITTEN = "written"
REDRIVEN = "redriven"
DISCARDED = "discarded"

UNDECODABLE = "undecodable"
POISON = "poison"
CONFLICT = "conflict"
MISSING_PARENT = "missing_parent"

_MESSAGE_BYTES = 2048


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter, ready to be inserted.

    `reason` is one of `undecodable`, `poison`, `conflict`, `missing_parent`,
    `unknown_snapshot`; `value` is the original bytes, or a valid fragment that
    holds just the isolated item. `parent_id` is the id that `field` names, where its
    row is missing. `redrives`: how often what it is made of was sent again before.
    """

    record: LogRecord
    item: int
    status: str
    reason: str
    message: str
    value: bytes | None
    kind: Kind | None = None
    event_id: int | None = None
    sqlstate: str | None = None
    constraint_name: str | None = None
    field: str | None = None
    parent_id: int | None = None
    redrives: int = 0


def letter_for_record(record: LogRecord) -> DeadLetter:
    """The letter of a record whose bytes could not be decoded."""
    return DeadLetter(
        record, WHOLE_RECORD, DEAD, UNDECODABLE, record.error or "unknown", record.value
    )


def letter_for_item(
    item: SnapshotItem | ConfirmationItem,
    reason: str,
    message: str,
    *,
    status: str = DEAD,
    sqlstate: str | None = None,
    constraint_name: str | None = None,
    field: str | None = None,
    parent_id: int | None = None,
) -> DeadLetter:
    """The letter of one snapshot or confirmation, as a fragment of its own."""
    return DeadLetter(
        item.record,
        item.item,
        status,
        reason,
        message,
        _fragment_of(item),
        item.kind,
        item.key.event_id,
        sqlstate,
        constraint_name,
        field,
        parent_id,
    )


async def insert_dead_letters(
    connection: AsyncConnection, log_id: int | None, letters: Sequence[DeadLetter]
) -> None:
    """Insert the letters; one that is there already counts an attempt."""
    if not letters:
        return
    # One source twice in one statement would fail: the first reason stays.
    unique = list(
        {_source(letter, n): letter for n, letter in reversed([*enumerate(letters)])}.values()
    )[::-1]
    source = {
        "log_id": log_id,
        "log_partitions": [letter.record.partition for letter in unique],
        "log_offsets": [letter.record.offset for letter in unique],
        "items": [letter.item for letter in unique],
        "appended_ats": [letter.record.appended_at for letter in unique],
    }
    await connection.execute(sql.DROP_STRAY_LETTERS, source)
    await connection.execute(
        sql.INSERT_DEAD_LETTERS,
        {
            **source,
            "oddslog_version": VERSION,
            "statuses": [letter.status for letter in unique],
            "reasons": [letter.reason for letter in unique],
            "sqlstates": [letter.sqlstate for letter in unique],
            "constraint_names": [clean_text(letter.constraint_name) for letter in unique],
            "fields": [clean_text(letter.field) for letter in unique],
            "parent_ids": [letter.parent_id for letter in unique],
            "messages": [clean_text(letter.message) for letter in unique],
            "kinds": [letter.kind and letter.kind.value for letter in unique],
            "event_ids": [letter.event_id for letter in unique],
            "record_keys": [letter.record.key for letter in unique],
            "values": [letter.value for letter in unique],
            "headers": [encode_headers(letter.record.headers) for letter in unique],
            "scrape_run_ids": [run_of(letter.record) for letter in unique],
            "redrives": [letter.redrives for letter in unique],
        },
    )


def encode_headers(headers: Sequence[tuple[str, bytes]]) -> bytes:
    """The headers as bytes: JSON, each `[name, base64 of the value]`."""
    pairs = [[name, base64.b64encode(value or b"").decode()] for name, value in headers]
    return json.dumps(pairs).encode()


def decode_headers(value: bytes | None) -> list[tuple[str, bytes]]:
    """What `encode_headers` made the bytes of."""
    return [(name, base64.b64decode(said)) for name, said in json.loads(value or b"[]")]


def clean_text(text: str | None) -> str | None:
    """A text that any PostgreSQL text column takes, of at most 2 KB."""
    if text is None:
        return None
    raw = text.replace("\0", "�").encode("utf-8", "replace")
    return raw[:_MESSAGE_BYTES].decode("utf-8", "ignore")


def _source(letter: DeadLetter, number: int) -> tuple[int | None, int | None, int]:
    if letter.record.offset is None:  # not from a log: never the same source
        return None, None, number
    return letter.record.partition, letter.record.offset, letter.item


def _fragment_of(item: SnapshotItem | ConfirmationItem) -> bytes | None:
    """The item alone as a valid fragment; the original bytes if that cannot be made."""
    original = item.record.fragment
    if original is None:
        original = _bare_fragment(item)
    alone = replace(
        original,
        fragment_index=0,
        fragment_count=1,
        snapshots=(),
        confirmations=(),
        unchanged_ids=(),
    )
    if isinstance(item, SnapshotItem):
        alone = replace(alone, snapshots=(item.data,), confirmed_at=None)
    else:
        bookmaker_id = item.key.bookmaker_id if item.kind is Kind.BETPAWA else None
        alone = replace(
            alone,
            confirmations=({"bookmaker_id": bookmaker_id, "captured_at": item.key.captured_at},),
            confirmed_at=item.confirmed_at,
        )
    try:
        return encode(alone)
    except InvalidRecordError:
        return item.record.value


def _bare_fragment(item: SnapshotItem | ConfirmationItem) -> EventWrites:
    """The frame of a fragment for writes that did not come from a log."""
    return EventWrites(
        uuid.UUID(int=0), 0, None, 0, 1, None, item.kind, item.key.event_id, (), None, (), ()
    )


def utc_from_millis(millis: int | None) -> datetime | None:
    """A record's timestamp; None where it is none that PostgreSQL could hold."""
    if millis is None or not 0 <= millis < 253_402_300_800_000:  # year 10000
        return None
    return datetime.fromtimestamp(millis / 1000, UTC)
