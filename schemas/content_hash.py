"""`content_hash`, definition h1: what makes two snapshots of one key the same.

The first 8 bytes (signed, big-endian) of BLAKE2b over the UTF-8 bytes of one
JSON array::

    ["betpawa", event_id, bookmaker_id, captured_at_micros, market, ...]
    ["competitor", competitor_event_id, captured_at_micros, market, ...]

in record order, where `market` is the array of its eight fields. Keys sorted,
no spaces, no escaping of non-ASCII, numbers as Python's `repr` writes them (so
1 and 1.0 differ). Raw response, scrape run and Avro schema are not part of it.
The definition is frozen: stored hashes are compared with it for ever.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any

from .json_text import plain_sorted_bytes, sorted_text

__all__ = ["content_hash", "from_micros", "to_micros"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_micros(moment: datetime) -> int:
    """Microseconds since 1970-01-01 UTC, exact."""
    return (moment - _EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """The aware UTC time of `to_micros`.

    Raises:
        OverflowError: outside the years 1 to 9999.
    """
    return _EPOCH + timedelta(microseconds=micros)


def content_hash(
    kind: str,
    ids: tuple[int, ...],
    captured_at: datetime,
    markets: Iterable[list[Any]],
    *,
    plain: bool = False,
) -> int:
    """The h1 hash as a signed 64-bit number.

    Args:
        kind: `betpawa` or `competitor`.
        ids: the ids of the natural key, in its order.
        captured_at: aware.
        markets: each market's eight fields, JSON documents decoded.
        plain: all markets are known to be (`json_text.is_plain`): the same text, faster.
    """
    content = [kind, *ids, to_micros(captured_at), *markets]
    text = plain_sorted_bytes(content) if plain else None
    if text is None:
        text = sorted_text(content).encode()
    return int.from_bytes(blake2b(text).digest()[:8], "big", signed=True)
