"""Decoding a fragment of the newest schema straight into packed markets.

fastavro makes a dict of each market, from which rows of COPY are made again: four
fifths of what the sink costs. Here the bytes of a market go over as they are. All that
is out of the ordinary is left to `codec.decode`, whose word on it holds: what this
module decodes, that one decodes to the same (a property test compares them). Pure.
"""

import struct
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from ..schemas.codec import (
    ConfirmationRecord,
    EventWrites,
    SnapshotRecord,
    check_consistent,
    decode,
)
from ..schemas.content_hash import from_micros
from ..schemas.encoded_markets import EncodedMarkets, MarketRecord
from ..schemas.errors import DecodeError
from ..schemas.framing import frame
from ..schemas.wire import Kind
from .packed import NULL, PackedMarkets, pack

__all__ = ["decode_packed", "pack_encoded"]

_T = TypeVar("_T")

_KINDS = (Kind.BETPAWA, Kind.COMPETITOR)  # in the order of the schema's symbols
_INT64 = range(-(2**63), 2**63)

# The lengths that a varint of two bytes holds, as COPY has them before a field.
_LENGTHS = [struct.pack(">i", length) for length in range(8192)]
_EIGHT_BYTES = _LENGTHS[8]
_NULLS_4 = NULL * 4
_MOST_DOUBLED = 2 * 8191
# Ids with names, lines, handicaps and groups are the same again and again: what their
# bytes in Avro are as fields of COPY. The same bytes always mean the same, whatever
# stands behind them. At most 4,096 of each, of 512 bytes: a few MB, and 1 MB in fact.
_MOST_REMEMBERED = 4096
_MOST_REMEMBERED_BYTES = 512
_Head = tuple[bytes, int, int]  # the fields; how many bytes the id and the name have
_heads: dict[bytes, _Head] = {}
_lines: dict[bytes, bytes] = {}
_handicaps: dict[bytes, tuple[bytes, int]] = {}
_tails: dict[bytes, bytes] = {}


def decode_packed(value: bytes) -> EventWrites:
    """The fragment of a framed value, its markets packed where they can be. CPU only.

    Raises:
        DecodeError: the bytes are not one whole, consistent fragment.
    """
    if value.startswith(frame()):
        try:
            fragment, end = _fragment(value, len(frame()))
            check_consistent(fragment)
        except (IndexError, ValueError, OverflowError, DecodeError):
            pass
        else:
            if end == len(value):
                return fragment
    return decode(value)


def pack_encoded(markets: Sequence[MarketRecord]) -> PackedMarkets:
    """The markets of a snapshot that was not sent, packed. CPU only.

    Raises:
        ValueError: text that is no Unicode.
    """
    if isinstance(markets, EncodedMarkets):
        rows: list[bytes] = []
        longest = [0, 0, 0]
        try:
            _block(markets.avro + _BEHIND, 0, len(markets), rows, longest)
        except ValueError:  # a document of more than 8,191 bytes
            pass
        else:
            return PackedMarkets(rows, (longest[0], longest[1], longest[2]))
    return pack(markets)


# Something always stands behind the markets of a fragment; `_numbers` looks so far.
_BEHIND = bytes(32)


def _fragment(value: bytes, at: int) -> tuple[EventWrites, int]:
    text, at = _text(value, at)
    batch_id = UUID(text)
    batch_index, at = _long(value, at)
    batch_count, at = _optional(value, at, _long)
    fragment_index, at = _long(value, at)
    fragment_count, at = _long(value, at)
    run_id, at = _optional(value, at, _long)
    kind, at = _long(value, at)
    event_id, at = _optional(value, at, _long)
    snapshots, at = _array(value, at, _snapshot)
    confirmed_at, at = _optional(value, at, _time)
    confirmations, at = _array(value, at, _confirmation)
    unchanged_ids, at = _array(value, at, _long)
    if kind not in (0, 1):
        raise ValueError(kind)
    fragment = EventWrites(
        batch_id,
        batch_index,
        batch_count,
        fragment_index,
        fragment_count,
        run_id,
        _KINDS[kind],
        event_id,
        snapshots,
        confirmed_at,
        confirmations,
        unchanged_ids,
    )
    return fragment, at


def _snapshot(value: bytes, at: int) -> tuple[SnapshotRecord, int]:
    bookmaker_id, at = _optional(value, at, _long)
    captured_at, at = _time(value, at)
    run_id, at = _optional(value, at, _long)
    content_hash, at = _long(value, at)
    raw_response, at = _optional(value, at, _text)
    markets, at = _markets(value, at)
    snapshot: SnapshotRecord = {
        "bookmaker_id": bookmaker_id,
        "captured_at": captured_at,
        "scrape_run_id": run_id,
        "content_hash": content_hash,
        "raw_response": raw_response,
        "markets": markets,
    }
    return snapshot, at


def _confirmation(value: bytes, at: int) -> tuple[ConfirmationRecord, int]:
    bookmaker_id, at = _optional(value, at, _long)
    captured_at, at = _time(value, at)
    return {"bookmaker_id": bookmaker_id, "captured_at": captured_at}, at


def _array(
    value: bytes, at: int, member: Callable[[bytes, int], tuple[_T, int]]
) -> tuple[list[_T], int]:
    members: list[_T] = []
    while True:
        count, at = _long(value, at)
        if count == 0:
            return members, at
        if count < 0:  # a block that says its size: we write none
            raise ValueError(count)
        for _ in range(count):
            one, at = member(value, at)
            members.append(one)


def _optional(
    value: bytes, at: int, member: Callable[[bytes, int], tuple[_T, int]]
) -> tuple[_T | None, int]:
    branch = value[at]
    if branch == 0:
        return None, at + 1
    if branch != 2:
        raise ValueError(branch)
    return member(value, at + 1)


def _time(value: bytes, at: int) -> tuple[datetime, int]:
    micros, at = _long(value, at)
    return from_micros(micros), at


def _text(value: bytes, at: int) -> tuple[str, int]:
    length, at = _long(value, at)
    if length < 0 or at + length > len(value):
        raise ValueError(length)
    return value[at : at + length].decode(), at + length


def _long(value: bytes, at: int) -> tuple[int, int]:
    byte = value[at]
    at += 1
    if byte < 128:
        return (byte >> 1) ^ -(byte & 1), at
    number, shift = byte & 127, 7
    while byte > 127:
        if shift > 63:  # without an end it would take time by the square of its length
            raise ValueError(shift)
        byte = value[at]
        at += 1
        number |= (byte & 127) << shift
        shift += 7
    number = (number >> 1) ^ -(number & 1)
    if number not in _INT64:
        raise ValueError(number)
    return number, at


def _markets(value: bytes, at: int) -> tuple[PackedMarkets, int]:
    """The array of markets.

    A slice beyond the end of the value is short, and the position behind it then is
    not the value's length: `decode_packed` sees that, or an IndexError comes before.
    """
    rows: list[bytes] = []
    longest = [0, 0, 0]
    while True:
        count, at = _long(value, at)
        if count == 0:
            return PackedMarkets(rows, (longest[0], longest[1], longest[2])), at
        if count < 0:
            raise ValueError(count)
        at = _block(value, at, count, rows, longest)


def _block(  # noqa: C901 - each market of the log comes by here: a call costs a tenth of it
    value: bytes, at: int, count: int, rows: list[bytes], longest: list[int]
) -> int:
    longest_id, longest_name, longest_type = longest
    for _ in range(count):
        # A length of one byte is doubled. Where it has two, nothing is known by this slice.
        end = at + 1 + (value[at] >> 1)
        end += 1 + (value[end] >> 1)
        head = _heads.get(value[at:end])
        if head is None:
            head, end = _learn_head(value, at)
        start, id_bytes, name_bytes = head
        if id_bytes > longest_id:
            longest_id = id_bytes
        if name_bytes > longest_name:
            longest_name = name_bytes

        numbers = _NULLS_4
        at = end + 4
        if value[end:at] != b"\0\0\0\0":
            at = end + 12
            known = _lines.get(value[end:at])
            if known is None:
                known, type_bytes, at = _numbers(value, end)
                if type_bytes > longest_type:
                    longest_type = type_bytes
            numbers = known

        length = value[at]
        at += 1
        if length > 127:
            length = length & 127 | value[at] << 7
            at += 1
        if length & 1 or length > _MOST_DOUBLED:
            raise ValueError("negative, or a document of more than 8,191 bytes")
        length >>= 1
        end = at + length
        outcomes = value[at:end]
        if not outcomes.isascii():
            outcomes.decode()

        groups = NULL
        at = end + 1
        if value[end] != 0:
            at = end + 2 + (value[end + 1] >> 1)
            tail = _tails.get(value[end:at])
            if tail is None:
                tail, at = _learn_tail(value, end)
            groups = tail
        rows.append(b"".join((start, numbers, _LENGTHS[length], outcomes, groups)))
    longest[:] = longest_id, longest_name, longest_type
    return at


def _learn_head(value: bytes, at: int) -> tuple[_Head, int]:
    """The id and the name of the market that begins here."""
    market_id, end = _text(value, at)
    name, end = _text(value, end)
    id_bytes, name_bytes = market_id.encode(), name.encode()
    head = _field(id_bytes) + _field(name_bytes), len(id_bytes), len(name_bytes)
    _remember(_heads, value[at:end], head)
    return head, end


def _numbers(value: bytes, at: int) -> tuple[bytes, int, int]:
    """`line`, `handicap_type` and both handicaps, and how many bytes the type has."""
    end = at + 29 + (value[at + 10] >> 1)  # where all four are there
    known = _handicaps.get(value[at:end])
    if known is not None:
        return *known, end
    line, end = _optional_float8(value, at)
    text, end = _optional(value, end, _text)
    home, end = _optional_float8(value, end)
    away, end = _optional_float8(value, end)
    if text is None:
        numbers = line + NULL + home + away
        if home == away == NULL:
            _remember(_lines, value[at:end], numbers)
        return numbers, 0, end
    encoded = text.encode()
    numbers = line + _field(encoded) + home + away
    _remember(_handicaps, value[at:end], (numbers, len(encoded)))
    return numbers, len(encoded), end


def _learn_tail(value: bytes, at: int) -> tuple[bytes, int]:
    """The market groups that begin here."""
    groups, end = _optional(value, at, _text)
    tail = NULL if groups is None else _field(groups.encode())
    _remember(_tails, value[at:end], tail)
    return tail, end


def _remember(known: dict[bytes, _T], avro: bytes, meaning: _T) -> None:
    if len(avro) <= _MOST_REMEMBERED_BYTES:
        if len(known) >= _MOST_REMEMBERED:
            known.clear()
        known[avro] = meaning


def _field(text: bytes) -> bytes:
    return struct.pack(">i", len(text)) + text


def _optional_float8(value: bytes, at: int) -> tuple[bytes, int]:
    branch = value[at]
    if branch == 0:
        return NULL, at + 1
    if branch != 2:
        raise ValueError(branch)
    return _float8(value, at + 1), at + 9


def _float8(value: bytes, at: int) -> bytes:
    """A double of Avro (little-endian) as COPY has it. Finite ones only."""
    if value[at + 7] & 0x7F == 0x7F and value[at + 6] & 0xF0 == 0xF0:
        raise ValueError("not finite")
    return _EIGHT_BYTES + value[at + 7 : at - 1 : -1]
