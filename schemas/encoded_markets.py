"""Markets in Avro, encoded block by block.

Almost all markets are made of plain documents (`json_text`): those of a block are
written by one call and the texts cut apart, which costs a third of a call for each.
A block with any other is left to `codec`, which goes market by market and names what
is wrong. Pure.
"""

import struct
from collections.abc import Iterator, Sequence
from functools import cache
from io import BytesIO
from operator import attrgetter
from typing import Any, TypedDict, TypeVar, overload

import fastavro

from .framing import CURRENT_SCHEMA, writer_schema
from .json_text import are_plain, is_plain, plain_lines
from .records import MarketWriteData

__all__ = ["EncodedMarkets", "MarketRecord", "encode_block", "long_bytes", "market_fields"]

_T = TypeVar("_T")


class MarketRecord(TypedDict):
    """One market in the Avro form."""

    betpawa_market_id: str
    betpawa_market_name: str
    line: float | None
    handicap_type: str | None
    handicap_home: float | None
    handicap_away: float | None
    outcomes: str
    market_groups: str | None


_FIELDS = 8
_OUTCOMES, _GROUPS = 6, 7
market_fields = attrgetter(*MarketRecord.__annotations__)
"""The eight fields of a market, in the order of its record and of the hash."""

_DOCUMENTS = frozenset({dict, list})
# As deep as documents may be: `json_document.MAX_DEPTH`, which checks those left to it.
_DEPTH = 200
_DOUBLE = struct.Struct("<d")
_NULLS_4 = bytes(4)

# Ids with names, numbers and groups are the same again and again: their bytes in Avro.
# At most 4,096 of each, of 512 bytes.
_MOST_REMEMBERED = 4096
_MOST_REMEMBERED_BYTES = 512
_heads: dict[tuple[str, str], bytes] = {}
_numbers: dict[tuple[float | None, str | None, float | None, float | None], bytes] = {}
_tails: dict[bytes, bytes] = {}


class EncodedMarkets(Sequence[MarketRecord]):
    """The markets of one snapshot in Avro; records are made for whoever looks at them.

    Attributes:
        avro: the items of the array, without its count and its end.
    """

    __slots__ = ("_count", "_records", "avro")

    def __init__(self, avro: bytes, count: int) -> None:
        self.avro = avro
        self._count = count
        self._records: list[MarketRecord] | None = None

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> MarketRecord: ...
    @overload
    def __getitem__(self, index: slice) -> list[MarketRecord]: ...
    def __getitem__(self, index: int | slice) -> MarketRecord | list[MarketRecord]:
        return self._decoded()[index]

    def __iter__(self) -> Iterator[MarketRecord]:
        return iter(self._decoded())

    def __eq__(self, other: object) -> bool:
        return self._decoded() == (list(other) if isinstance(other, EncodedMarkets) else other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self._decoded())

    def _decoded(self) -> list[MarketRecord]:
        if self._records is None:
            body = BytesIO(self.avro)
            schema = _market_schema()
            read: Any = fastavro.schemaless_reader
            self._records = [read(body, schema, None) for _ in range(self._count)]
        return self._records


@cache
def _market_schema() -> dict[str, Any]:
    """The schema of a market, out of the newest one."""
    schema = writer_schema(CURRENT_SCHEMA)
    for name in ("snapshots", "markets"):
        (array,) = (field["type"] for field in schema["fields"] if field["name"] == name)
        schema = array["items"]
    return schema


def encode_block(markets: Sequence[MarketWriteData]) -> tuple[bytes, list[Any]] | None:
    """The markets as items of an Avro array, and their fields as the hash takes them.

    None where a document is not plain, or has a character that PostgreSQL cannot hold.
    CPU only, about 4 microseconds a market.
    """
    fields = list(map(market_fields, markets))
    outcomes = [market[_OUTCOMES] for market in fields]
    groups = [market[_GROUPS] for market in fields]
    documents_there = outcomes + [group for group in groups if group is not None]
    if not set(map(type, documents_there)) <= _DOCUMENTS or not are_plain(documents_there, _DEPTH):
        return None
    documents: list[Any] = [None] * (2 * len(fields))
    documents[::2], documents[1::2] = outcomes, groups
    texts = plain_lines(documents)
    if texts is None:
        return None
    items: list[bytes] = []
    for (market_id, name, line, kind, home, away, _, _), outcome, group in zip(
        fields, texts[::2], texts[1::2], strict=True
    ):
        head = _heads.get((market_id, name)) or _head(market_id, name)
        if line is kind is home is away is None:
            numbers: bytes | None = _NULLS_4
        else:
            numbers = _numbers.get((line, kind, home, away)) or _four(line, kind, home, away)
        if head is None or numbers is None:
            return None
        tail = _tails.get(group) or _tail(group)
        length = len(outcome)
        size = _SIZES[length] if length < _SIZES_KNOWN else long_bytes(length)
        items += (head, numbers, size, outcome, tail)
    return b"".join(items), fields


def long_bytes(number: int) -> bytes:
    """An Avro long.

    Raises:
        OverflowError: more than 64 bits.
    """
    if not -(2**63) <= number < 2**63:
        raise OverflowError(f"{number} does not fit 64 bits")
    left = number << 1 if number >= 0 else (~number << 1) | 1
    out = bytearray()
    while left > 127:
        out.append(left & 127 | 128)
        left >>= 7
    out.append(left)
    return bytes(out)


_SIZES_KNOWN = 4096
_SIZES = [long_bytes(size) for size in range(_SIZES_KNOWN)]


def _sized(text: bytes) -> bytes:
    return long_bytes(len(text)) + text


def _tail(group: bytes) -> bytes:
    """The groups; JSON's null is none at all: a list is what else there may be."""
    return _remember(_tails, group, b"\0" if group == b"null" else b"\2" + _sized(group))


def _head(market_id: str, name: str) -> bytes | None:
    """Id and name; None where they are not plain: the hash is made of them, too."""
    if not is_plain([market_id, name], 1):
        return None
    head = _sized(market_id.encode()) + _sized(name.encode())
    return _remember(_heads, (market_id, name), head)


def _four(
    line: float | None, kind: str | None, home: float | None, away: float | None
) -> bytes | None:
    """`line`, `handicap_type` and both handicaps; None where they are not plain."""
    said = line, kind, home, away
    if not is_plain([*said], 1):
        return None
    text = b"\0" if kind is None else b"\2" + _sized(kind.encode())
    numbers = _optional_double(line) + text + _optional_double(home) + _optional_double(away)
    return _remember(_numbers, said, numbers)


def _optional_double(number: float | None) -> bytes:
    return b"\0" if number is None else b"\2" + _DOUBLE.pack(number)


def _remember(known: dict[_T, bytes], said: _T, avro: bytes) -> bytes:
    if len(avro) <= _MOST_REMEMBERED_BYTES:
        if len(known) >= _MOST_REMEMBERED:
            known.clear()
        known[said] = avro
    return avro
