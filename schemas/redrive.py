"""Headers of a record that is a dead letter sent again.

They name the letter by what any database that reads the log knows of it: cluster,
topic, partition, offset, item, and when the broker took its record. So a restored or
refilled database finds its own letter, whatever number that has there. Pure.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .content_hash import from_micros, to_micros
from .wire import HEADER_REDRIVE_NOTE, HEADER_REDRIVE_OF

__all__ = ["Redrive", "is_redriven", "read_redrive", "redrive_headers"]

_MOST_TEXT = 500  # characters of a name or a reason in a header
_INT4_MAX = 2**31 - 1
_INT8_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Redrive:
    """A letter, and for which time, by whom, when and why it is sent again.

    Attributes:
        item: the number of the write in its record; -1 for a whole record.
        appended_at: when the broker took the letter's own record.
        reason: why there is a letter.
        count: 1 for the first time.
    """

    cluster_id: str
    topic: str
    partition: int
    offset: int
    item: int
    appended_at: datetime | None = None
    reason: str = "poison"
    count: int = 1
    by: str | None = None
    at: datetime | None = None
    why: str | None = None


def redrive_headers(redrive: Redrive) -> list[tuple[str, bytes]]:
    """The headers, ASCII as all of them."""
    place = f"{redrive.partition}/{redrive.offset}/{redrive.item}"
    note = {
        "count": redrive.count,
        "by": _cut(redrive.by),
        "at": _micros(redrive.at),
        "why": _cut(redrive.why),
        "reason": redrive.reason,
        "appended_at": _micros(redrive.appended_at),
    }
    return [
        (HEADER_REDRIVE_OF, f"{redrive.cluster_id}:{redrive.topic}/{place}".encode()),
        (HEADER_REDRIVE_NOTE, json.dumps(note).encode()),
    ]


def is_redriven(headers: Sequence[tuple[str, bytes]]) -> bool:
    """Whether a record says that it was sent again, readable or not."""
    return any(name == HEADER_REDRIVE_OF for name, _ in headers)


def read_redrive(headers: Sequence[tuple[str, bytes]]) -> Redrive | None:
    """What the headers say; None where they name no letter. Anyone may have written them."""
    found = dict(headers)
    if HEADER_REDRIVE_OF not in found:
        return None
    try:
        log, partition, offset, item = found[HEADER_REDRIVE_OF].decode().rsplit("/", 3)
        cluster_id, colon, topic = log.rpartition(":")
        place = int(partition), int(offset), int(item)
    except (ValueError, AttributeError):
        return None
    if not (colon and 0 <= place[0] <= _INT4_MAX and 0 <= place[1] <= _INT8_MAX):
        return None
    if not -1 <= place[2] <= _INT4_MAX:
        return None
    return _with_note(
        Redrive(cluster_id, topic, *place), _note(found.get(HEADER_REDRIVE_NOTE) or b"{}")
    )


def _note(value: bytes) -> dict[str, Any]:
    try:
        note = json.loads(value)
    except (ValueError, RecursionError):
        return {}
    return note if isinstance(note, dict) else {}


def _with_note(named: Redrive, note: dict[str, Any]) -> Redrive:
    count = note.get("count")
    return Redrive(
        named.cluster_id,
        named.topic,
        named.partition,
        named.offset,
        named.item,
        _time(note.get("appended_at")),
        _text(note.get("reason")) or named.reason,
        min(count, _INT4_MAX) if type(count) is int and count > 0 else 1,
        _text(note.get("by")),
        _time(note.get("at")),
        _text(note.get("why")),
    )


def _text(value: object) -> str | None:
    return _cut(value) if isinstance(value, str) else None


def _cut(value: str | None) -> str | None:
    return None if value is None else value[:_MOST_TEXT]


def _micros(moment: datetime | None) -> int | None:
    return None if moment is None else to_micros(moment)


def _time(micros: object) -> datetime | None:
    if type(micros) is not int:
        return None
    try:
        return from_micros(micros)
    except OverflowError:
        return None
