"""The rows of the spool: fragments with what is needed to trust them. Pure."""

import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..schemas.wire import HEADER_BATCH, Kind
from .fragments import Fragment

__all__ = [
    "Bounds",
    "RejectedRow",
    "SpoolCounts",
    "SpooledRow",
    "fragment_of",
    "gaps",
    "header_pairs",
    "headers_text",
    "room_problem",
    "row_crc32",
    "row_of",
    "row_problem",
]

Headers = Sequence[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class SpooledRow:
    """A fragment as a row; `seq` is its place in the order of sending.

    The bytes are as they were read: only `row_problem` says whether they are whole.
    `spooled_at` is in microseconds since 1970.
    """

    seq: int
    batch_id: str
    kind: str
    event_id: int | None
    key: bytes
    headers: str
    spooled_at: int
    crc32: int
    value: bytes

    @property
    def size_bytes(self) -> int:
        """What it counts for in the spool's bound."""
        return len(self.key) + len(self.headers) + len(self.value)

    @property
    def values(self) -> tuple[Any, ...]:
        """In the order of the table's columns."""
        return (
            self.seq,
            self.batch_id,
            self.kind,
            self.event_id,
            self.key,
            self.headers,
            self.spooled_at,
            self.crc32,
            self.value,
        )


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """What will never be sent, and why; a column that could not be read is None."""

    id: int
    seq: int
    batch_id: str | None
    kind: str | None
    event_id: int | None
    key: bytes | None
    headers: str | None
    spooled_at: int | None
    crc32: int | None
    value: bytes | None
    reason: str
    rejected_at: int


@dataclass(frozen=True, slots=True)
class SpoolCounts:
    """What is inside.

    Attributes:
        fragments: to be sent, or acknowledged and not deleted yet.
        bytes: of those.
        rejected: rows that will never be sent.
        rejected_bytes: of those.
        unsent: whether a fragment is not acknowledged yet.
        empty: whether everything is acknowledged and deleted.
    """

    fragments: int = 0
    bytes: int = 0
    rejected: int = 0
    rejected_bytes: int = 0
    unsent: bool = False
    empty: bool = True


@dataclass(slots=True)
class Bounds:
    """What the row of bounds says: places first to last are inside."""

    first: int
    last: int
    fragments: int
    bytes: int

    @property
    def values(self) -> tuple[int, int, int, int]:
        """In the order of the table's columns."""
        return self.first, self.last, self.fragments, self.bytes


def gaps(seqs: Sequence[int], before: int, up_to: int) -> Iterator[tuple[int, int]]:
    """The first and the last place of each gap between some places, ascending.

    Args:
        seqs: the places.
        before: nothing is missed up to and with it.
        up_to: where the last gap ends.
    """
    for seq in [*seqs, up_to + 1]:
        first, last = before + 1, seq - 1
        before = seq
        if first <= last:
            yield first, last


def room_problem(counts: SpoolCounts, max_bytes: int, size_bytes: int) -> str | None:
    """Why so many bytes do not fit under the bound; None where they do."""
    rejected = counts.rejected_bytes
    used = counts.bytes + rejected
    if used + size_bytes <= max_bytes:
        return None
    held = f", {rejected:,} of them rejected (see: oddslog spool export)" * bool(rejected)
    return f"{used:,} of {max_bytes:,} bytes are used{held}, and {size_bytes:,} more were to go in"


def row_of(fragment: Fragment, seq: int, now: datetime) -> SpooledRow:
    """The row of a fragment at a place in the order."""
    headers = headers_text(fragment.headers)
    batch_id = dict(fragment.headers).get(HEADER_BATCH, b"").decode()
    kind = fragment.kind.value
    crc32 = row_crc32(seq, batch_id, kind, fragment.event_id, fragment.key, headers, fragment.value)
    moment = int(now.timestamp() * 1_000_000)
    return SpooledRow(
        seq,
        batch_id,
        kind,
        fragment.event_id,
        fragment.key,
        headers,
        moment,
        crc32,
        fragment.value,
    )


def row_problem(row: SpooledRow) -> str | None:
    """Why a row must not be sent; None where it is what was put in."""
    try:
        made = row_crc32(
            row.seq, row.batch_id, row.kind, row.event_id, row.key, row.headers, row.value
        )
    except (TypeError, AttributeError, ValueError):  # a column of another type than was written
        return "is damaged: a column is not of the type that was written"
    if made != row.crc32:
        return f"is damaged: its CRC-32 is {made:08x}, and {row.crc32!r} was written"
    return None


def row_crc32(
    seq: int,
    batch_id: str,
    kind: str,
    event_id: int | None,
    key: bytes,
    headers: str,
    value: bytes,
) -> int:
    """CRC-32 of the value, and of everything that would make it another record."""
    about = json.dumps([seq, batch_id, kind, event_id, key.hex(), headers, len(value)])
    return zlib.crc32(value, zlib.crc32(about.encode()))


def fragment_of(row: SpooledRow) -> Fragment:
    """The fragment of a row that has no problem."""
    return Fragment(Kind(row.kind), row.event_id, row.key, row.value, header_pairs(row.headers))


def headers_text(headers: Headers) -> str:
    """Headers as one line of JSON; each byte of a value is one character."""
    return json.dumps([[name, value.decode("latin-1")] for name, value in headers])


def header_pairs(text: str) -> list[tuple[str, bytes]]:
    """The headers of such a line."""
    return [(name, value.encode("latin-1")) for name, value in json.loads(text)]
