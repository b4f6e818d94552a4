"""Writing a fragment in the newest schema by hand: its markets are in Avro already.

fastavro, which writes all others, says what the bytes are: a property test compares
them. Pure.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from .content_hash import to_micros
from .encoded_markets import EncodedMarkets, long_bytes
from .wire import Kind

if TYPE_CHECKING:
    from .codec import EventWrites, SnapshotRecord

__all__ = ["write_fragment"]

_NULL = b"\0"
_SOME = b"\2"
_END = b"\0"
_KINDS = {Kind.BETPAWA: b"\0", Kind.COMPETITOR: b"\2"}


def write_fragment(fragment: "EventWrites") -> bytes | None:
    """The body of a fragment; None where one of its snapshots is not encoded yet.

    Raises:
        OverflowError: a number of more than 64 bits.
    """
    snapshots = fragment.snapshots
    if not all(isinstance(one["markets"], EncodedMarkets) for one in snapshots):
        return None
    out = [
        _text(str(fragment.batch_id)),
        long_bytes(fragment.batch_index),
        _optional(fragment.batch_count),
        long_bytes(fragment.fragment_index),
        long_bytes(fragment.fragment_count),
        _optional(fragment.scrape_run_id),
        _KINDS[fragment.kind],
        _optional(fragment.event_id),
        *_start(snapshots),
    ]
    for snapshot in snapshots:
        out += _snapshot(snapshot)
    out.append(_END)
    out.append(_NULL if fragment.confirmed_at is None else _SOME + _time(fragment.confirmed_at))
    out += _start(fragment.confirmations)
    for named in fragment.confirmations:
        out += (_optional(named["bookmaker_id"]), _time(named["captured_at"]))
    out.append(_END)
    out += _start(fragment.unchanged_ids)
    out += map(long_bytes, fragment.unchanged_ids)
    out.append(_END)
    return b"".join(out)


def _snapshot(snapshot: "SnapshotRecord") -> list[bytes]:
    markets = snapshot["markets"]
    assert isinstance(markets, EncodedMarkets)  # noqa: S101 - looked at before
    raw = snapshot["raw_response"]
    return [
        _optional(snapshot["bookmaker_id"]),
        _time(snapshot["captured_at"]),
        _optional(snapshot["scrape_run_id"]),
        long_bytes(snapshot["content_hash"]),
        _NULL if raw is None else _SOME + _text(raw),
        *_start(markets),
        markets.avro,
        _END,
    ]


def _start(members: Sequence[Any]) -> list[bytes]:
    """The count of an array's one block; an empty array has none."""
    return [long_bytes(len(members))] if members else []


def _optional(number: int | None) -> bytes:
    return _NULL if number is None else _SOME + long_bytes(number)


def _time(moment: datetime) -> bytes:
    return long_bytes(to_micros(moment))


def _text(text: str) -> bytes:
    encoded = text.encode()
    return long_bytes(len(encoded)) + encoded
