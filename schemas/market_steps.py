"""The markets of a snapshot, encoded in steps: in blocks, or where that cannot be one by one.

Pure.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from .encoded_markets import EncodedMarkets, MarketRecord, encode_block
from .errors import InvalidRecordError
from .json_document import encode_document
from .json_text import is_plain
from .records import MarketWriteData

__all__ = ["Encoded", "encode_markets"]

# Upper bound of what Avro adds to the text of a market: 8 fields with a union branch (1),
# a length (5) or a double (8).
_MARKET_FRAME_BYTES = 72
# Markets that take about a millisecond to encode: in a block, and one by one. With a
# hundred outcomes each, a block is six: below what a scraper's loop may stand still.
_BLOCK_MARKETS = 128
_STEP_MARKETS = 32


@dataclass(frozen=True, slots=True)
class Encoded:
    """The markets of a snapshot: as they travel, and their fields as the hash takes them."""

    records: Sequence[MarketRecord]
    fields: list[Any]
    size_bytes: int
    replaced: int
    plain: bool


def encode_markets(markets: Sequence[MarketWriteData]) -> Generator[None, None, Encoded]:
    """Encode them in steps of a millisecond.

    Raises:
        InvalidRecordError: a document cannot be JSON.
    """
    encoded = yield from _in_blocks(markets)
    if encoded is None:
        encoded = yield from _one_by_one(markets)
    return encoded


def _in_blocks(
    markets: Sequence[MarketWriteData],
) -> Generator[None, None, Encoded | None]:
    """All of them in blocks; None where one of them has to be looked at by itself."""
    blocks: list[bytes] = []
    fields: list[Any] = []
    for start in range(0, len(markets), _BLOCK_MARKETS):
        if start:
            yield
        block = encode_block(markets[start : start + _BLOCK_MARKETS])
        if block is None:
            return None
        blocks.append(block[0])
        fields += block[1]
    avro = b"".join(blocks)
    # With the count of the array, and its end.
    return Encoded(EncodedMarkets(avro, len(markets)), fields, len(avro) + 10, 0, True)


def _one_by_one(markets: Sequence[MarketWriteData]) -> Generator[None, None, Encoded]:
    records: list[MarketRecord] = []
    fields: list[Any] = []
    size = replaced = 0
    plain = True
    for index, market in enumerate(markets):
        made = _market(market, index)
        records.append(made.record)
        fields.append(made.fields)
        replaced += made.replaced
        size += made.size_bytes
        plain = plain and made.plain
        if index % _STEP_MARKETS == _STEP_MARKETS - 1:
            yield
    return Encoded(records, fields, size, replaced, plain)


class _Market(NamedTuple):
    """One market encoded: its record, its fields as the hash takes them, its size."""

    record: MarketRecord
    fields: list[Any]
    size_bytes: int
    replaced: int
    plain: bool


def _market(market: MarketWriteData, index: int) -> _Market:
    try:
        outcomes = encode_document("outcomes", market.outcomes)
        groups = (
            None
            if market.market_groups is None
            else encode_document("market_groups", market.market_groups)
        )
    except InvalidRecordError as error:
        raise InvalidRecordError(f"markets[{index}].{error.field}", error.problem) from error
    market_id, name, handicap_type = (
        market.betpawa_market_id,
        market.betpawa_market_name,
        market.handicap_type,
    )
    numbers = [market.line, market.handicap_home, market.handicap_away]
    record: MarketRecord = {
        "betpawa_market_id": market_id,
        "betpawa_market_name": name,
        "line": numbers[0],
        "handicap_type": handicap_type,
        "handicap_home": numbers[1],
        "handicap_away": numbers[2],
        "outcomes": outcomes.text,
        "market_groups": None if groups is None else groups.text,
    }
    size = _MARKET_FRAME_BYTES + _text_bytes(market_id) + _text_bytes(name) + outcomes.size_bytes
    plain, replaced = outcomes.plain, outcomes.replaced
    if handicap_type is not None:
        size += _text_bytes(handicap_type)
    if groups is not None:
        size += groups.size_bytes
        plain, replaced = plain and groups.plain, replaced + groups.replaced
    fields = [
        market_id,
        name,
        numbers[0],
        handicap_type,
        numbers[1],
        numbers[2],
        outcomes.said,
        None if groups is None else groups.said,
    ]
    # The documents were looked at; what stands beside them is all at one level.
    plain = plain and is_plain(fields[:6], 1)
    return _Market(record, fields, size, replaced, plain)


def _text_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
