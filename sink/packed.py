"""Markets as the fields of binary COPY rows: what goes to PostgreSQL without a Python row.

A row of COPY is the number of its fields (2 bytes), then each field as its length
(4 bytes, -1 for NULL) and its bytes, big-endian. The rows of one snapshot begin with
the same bytes, which are known when the snapshot has its id; the other fields are
packed when the record is decoded. Pure.
"""

import operator
import struct
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import overload

from ..schemas.codec import MarketRecord
from ..schemas.content_hash import to_micros

__all__ = [
    "COPY_END",
    "COPY_START",
    "NULL",
    "PACKED_FIELDS",
    "PackedMarkets",
    "pack",
    "row_start",
]

COPY_START = b"PGCOPY\n\xff\r\n\0" + bytes(8)
COPY_END = b"\xff\xff"
NULL = b"\xff\xff\xff\xff"

# The fields of a market in the order of its record, with the types they are packed as.
PACKED_FIELDS = {
    "betpawa_market_id": "text",
    "betpawa_market_name": "text",
    "line": "float8",
    "handicap_type": "text",
    "handicap_home": "float8",
    "handicap_away": "float8",
    "outcomes": "json",
    "market_groups": "json",
}

_LENGTH = struct.Struct(">i")
_FLOAT8 = struct.Struct(">id")
# Ten fields: the snapshot's id, its time, and those above.
_ROW_START = struct.Struct(">hiqiq")
_POSTGRES_EPOCH_MICROS = to_micros(datetime(2000, 1, 1, tzinfo=UTC))


class PackedMarkets(Sequence[MarketRecord]):
    """The markets of one snapshot, packed; records are made for whoever looks at them.

    Attributes:
        rows: for each market its fields, all but those of `row_start`.
        longest: the most bytes of an id, a name and a handicap type among them.
    """

    __slots__ = ("longest", "rows")

    def __init__(self, rows: list[bytes], longest: tuple[int, int, int]) -> None:
        self.rows = rows
        self.longest = longest

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> MarketRecord: ...
    @overload
    def __getitem__(self, index: slice) -> list[MarketRecord]: ...
    def __getitem__(self, index: int | slice) -> MarketRecord | list[MarketRecord]:
        if isinstance(index, slice):
            return [_unpack(row) for row in self.rows[index]]
        return _unpack(self.rows[index])

    def __iter__(self) -> Iterator[MarketRecord]:
        return map(_unpack, self.rows)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, PackedMarkets):
            return self.rows == other.rows
        return list(self) == other

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(list(self))


def pack(markets: Sequence[MarketRecord]) -> PackedMarkets:
    """The markets of a record packed; those that are already are given back.

    Raises:
        ValueError: text that is no Unicode.
        struct.error: a number that is no float.
    """
    if isinstance(markets, PackedMarkets):
        return markets
    texts = ("betpawa_market_id", "betpawa_market_name", "handicap_type")
    longest = [
        max((len((market[name] or "").encode()) for market in markets), default=0)  # type: ignore[literal-required]
        for name in texts
    ]
    fields = operator.itemgetter(*PACKED_FIELDS)
    rows = [b"".join(map(_packed, fields(market))) for market in markets]
    return PackedMarkets(rows, (longest[0], longest[1], longest[2]))


def row_start(snapshot_id: int, captured_at: datetime) -> bytes:
    """What the rows of a snapshot's markets begin with: `snapshot_id` and `captured_at`."""
    micros = to_micros(captured_at) - _POSTGRES_EPOCH_MICROS
    return _ROW_START.pack(2 + len(PACKED_FIELDS), 8, snapshot_id, 8, micros)


def _packed(value: object) -> bytes:
    if value is None:
        return NULL
    if isinstance(value, str):
        encoded = value.encode()
        return _LENGTH.pack(len(encoded)) + encoded
    return _FLOAT8.pack(8, value)


def _unpack(row: bytes) -> MarketRecord:
    market: dict[str, str | float | None] = {}
    position = 0
    for name, kind in PACKED_FIELDS.items():
        (length,) = _LENGTH.unpack_from(row, position)
        position += 4
        if length < 0:
            market[name] = None
        elif kind == "float8":
            _, market[name] = _FLOAT8.unpack_from(row, position - 4)
            position += 8
        else:
            market[name] = row[position : position + length].decode()
            position += length
    return market  # type: ignore[return-value]
