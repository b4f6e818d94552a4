"""A dead letter as a record of the dead-letter topic. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from ..schemas.codec import crc32_text
from ..schemas.wire import DLQ_HEADERS, HEADER_CRC32
from .items import WHOLE_RECORD

__all__ = ["LetterFacts", "LetterRecord", "as_record", "fitted"]

Headers = list[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class LetterFacts:
    """What the headers say of a letter, in their order; what is None is left out.

    `timestamp` is when the broker appended the letter's own record.
    """

    id: int
    reason: str
    sqlstate: str | None
    constraint: str | None
    field: str | None
    message: str
    cluster: str | None
    topic: str | None
    partition: int | None
    offset: int | None
    item: int
    timestamp: datetime | None


@dataclass(slots=True)
class LetterRecord:
    """One record for the dead-letter topic; who sends it sets `acknowledged`."""

    id: int
    key: bytes
    value: bytes
    headers: Headers
    acknowledged: bool = False

    @property
    def size_bytes(self) -> int:
        """Of key, value and headers, uncompressed."""
        return len(self.key) + len(self.value) + _size(self.headers)


def as_record(
    facts: LetterFacts,
    key: bytes | None,
    value: bytes | None,
    headers: Sequence[tuple[str, bytes]],
) -> LetterRecord:
    """The letter's value as it is, its own headers, and those that say why.

    A value that is a part of its record gets a CRC-32 of its own: the one that came is
    of the whole. One that is whole keeps it, to show whether it is damaged.
    """
    part = facts.item != WHOLE_RECORD
    kept = [
        (name, said)
        for name, said in headers
        if not name.startswith(DLQ_HEADERS) and not (part and name == HEADER_CRC32)
    ]
    if part and value is not None:
        kept.append((HEADER_CRC32, crc32_text(value)))
    return LetterRecord(facts.id, key or b"", value or b"", [*kept, *_said(facts)])


def fitted(record: LetterRecord, limit_bytes: int) -> LetterRecord:
    """The same where the topic takes it; else without its value, and if need be its headers.

    One header says what was left out: it is in the database.
    """
    if record.size_bytes <= limit_bytes:
        return record
    left = f"value of {len(record.value)} bytes"
    smaller = LetterRecord(record.id, record.key, b"", [*record.headers, _header("left-out", left)])
    if smaller.size_bytes <= limit_bytes:
        return smaller
    ours = [(name, said) for name, said in record.headers if name.startswith(DLQ_HEADERS)]
    left += ", key and headers"
    return LetterRecord(record.id, b"", b"", [*ours, _header("left-out", left)])


def _said(facts: LetterFacts) -> Headers:
    found = []
    for name in LetterFacts.__dataclass_fields__:
        value = getattr(facts, name)
        if value is not None:
            text = value.isoformat() if isinstance(value, datetime) else str(value)
            found.append(_header(name, text))
    return found


def _header(name: str, text: str) -> tuple[str, bytes]:
    """ASCII, as all of our headers."""
    return f"{DLQ_HEADERS}{name}", text.encode("ascii", "backslashreplace")


def _size(headers: Headers) -> int:
    return sum(len(name) + len(said) for name, said in headers)
