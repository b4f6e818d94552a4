"""Markets in Avro, encoded block by block.

Almost all markets are made of plain documents (`json_text`): those of a block are
written by one call and the texts cut apart, which costs a third of a call for each.
A block with any other is left to `codec`, which goes market by market and names what
is wrong. Pure.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from gc import get_referents
from io import BytesIO
from itertools import chain
from operator import attrgetter
from typing import Any, TypedDict, TypeVar, cast, overload

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


_OUTCOMES, _GROUPS = 6, 7
_Head = tuple[str, str, float | None, str | None, float | None, float | None]
market_fields = attrgetter(*MarketRecord.__annotations__)
"""The eight fields of a market, in the order of its record and of the hash."""

_DOCUMENTS = frozenset({dict, list})
_TEXTS_OR_NONE = frozenset({list, type(None)})
# As deep as documents may be: `json_document.MAX_DEPTH`, which checks those left to it.
_DEPTH = 200
_DOUBLE = struct.Struct("<d")

# What stands before and behind the outcomes is the same again and again: its bytes in
# Avro. At most 8,192 of each, of 512 bytes.
_MOST_REMEMBERED = 8192
_MOST_REMEMBERED_BYTES = 512
_heads: dict[_Head, bytes] = {}
_tails: dict[tuple[str, ...] | None, bytes] = {}


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
    CPU only, about 3 microseconds a market.
    """
    fields = list(map(market_fields, markets))
    if not fields:
        return b"", fields
    # Column by column, with as little Python for each market as can be.
    outcomes = [market[_OUTCOMES] for market in fields]
    if not set(map(type, outcomes)) <= _DOCUMENTS or not are_plain(outcomes, _DEPTH):
        return None
    texts = plain_lines(outcomes)
    heads = _known(_heads, [market[:_OUTCOMES] for market in fields], _head)
    tails = _groups([market[_GROUPS] for market in fields])
    if texts is None or heads is None or tails is None:
        return None
    lengths = list(map(len, texts))
    sizes = map(_SIZES.__getitem__ if max(lengths) < _SIZES_KNOWN else long_bytes, lengths)
    items = chain.from_iterable(zip(heads, sizes, texts, tails, strict=True))
    return b"".join(items), fields


def _known(
    known: dict[_T, bytes], said: Sequence[_T], make: Callable[[_T], bytes | None]
) -> list[bytes] | None:
    """The bytes of each, remembered or made; None where one is not plain."""
    found = list(map(known.get, said))
    if None in found:
        found = [make(one) if avro is None else avro for one, avro in zip(said, found, strict=True)]
    return None if None in found else cast("list[bytes]", found)


def _groups(groups: Sequence[Any]) -> list[bytes] | None:
    """Almost always lists of text; None where one is not plain."""
    kinds = set(map(type, groups))
    if kinds <= _TEXTS_OR_NONE and set(map(type, get_referents(*groups))) <= {str}:
        said = [None if group is None else tuple(group) for group in groups]
        return _known(_tails, said, _tail)
    made = [_document(group) for group in groups]
    return None if None in made else cast("list[bytes]", made)


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


def _tail(group: tuple[str, ...] | None) -> bytes | None:
    """The groups of a market; None where they are not plain."""
    avro = _document(None if group is None else list(group))
    return None if avro is None else _remember(_tails, group, avro)


def _document(document: Any) -> bytes | None:
    """An optional document; None where it is not plain."""
    if document is None:
        return b"\0"
    if not is_plain(document, _DEPTH):
        return None
    texts = plain_lines([document])
    return None if texts is None else b"\2" + _sized(texts[0])


def _head(said: _Head) -> bytes | None:
    """What stands before the outcomes; None where it is not plain: so is the hash made."""
    if not is_plain([*said], 1):
        return None
    market_id, name, line, kind, home, away = said
    head = b"".join(
        (
            _sized(market_id.encode()),
            _sized(name.encode()),
            _optional_double(line),
            b"\0" if kind is None else b"\2" + _sized(kind.encode()),
            _optional_double(home),
            _optional_double(away),
        )
    )
    return _remember(_heads, said, head)


def _optional_double(number: float | None) -> bytes:
    return b"\0" if number is None else b"\2" + _DOUBLE.pack(number)


def _remember(known: dict[_T, bytes], said: _T, avro: bytes) -> bytes:
    if len(avro) <= _MOST_REMEMBERED_BYTES:
        if len(known) >= _MOST_REMEMBERED:
            known.clear()
        known[said] = avro
    return avro
