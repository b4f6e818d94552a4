"""A dead letter as JSON, decoded as far as it can be. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..schemas.codec import EventWrites, crc32_text, decode, decoded_hash
from ..schemas.errors import DecodeError, UnknownSchemaError
from ..schemas.fragment_json import fragment_to_json
from ..schemas.wire import HEADER_CRC32
from .letter_causes import Facts

__all__ = ["Opened", "bytes_to_json", "describe", "facts_of", "open_value"]

_HEX_BYTES = 64  # shown before and behind the place where a value breaks


@dataclass(frozen=True)
class Opened:
    """A value, decoded, or with what is wrong with it.

    `problem` may be there beside the fragment; `damaged`: the bytes decode, and are not
    those that were sent.
    """

    fragment: EventWrites | None
    problem: str | None
    at_byte: int | None = None
    damaged: bool = False
    unknown_schema: bool = False


def open_value(
    value: bytes | None, headers: Sequence[tuple[str, bytes]], *, whole_record: bool
) -> Opened:
    """Decode a letter's value; the headers' checksum is that of a whole record."""
    if value is None:
        return Opened(None, "there is no value")
    try:
        fragment = decode(value)
    except DecodeError as error:
        unknown = isinstance(error, UnknownSchemaError)
        return Opened(None, str(error), error.at_byte, unknown_schema=unknown)
    said = dict(headers).get(HEADER_CRC32)
    if whole_record and said is not None and said != crc32_text(value):
        problem = "the bytes are not those that were sent: the CRC-32 differs"
        return Opened(fragment, problem, damaged=True)
    return Opened(fragment, _hash_problem(fragment))


def _hash_problem(fragment: EventWrites) -> str | None:
    """Whether the content is what was hashed at ingest, where that can be told."""
    for number, snapshot in enumerate(fragment.snapshots):
        try:
            same = (
                decoded_hash(fragment.kind, fragment.event_id or 0, snapshot)
                == (snapshot["content_hash"])
            )
        except (ValueError, RecursionError):
            continue  # a document that is no JSON has no hash
        if not same:
            return f"snapshots[{number}] is not what its content hash was made of"
    return None


def facts_of(letter: Any) -> Facts:
    """What of a letter (`letters.Letter`) tells its cause."""
    opened = open_value(letter.value, letter.headers, whole_record=letter.item < 0)
    handled = None
    if letter.handled_by is not None:
        handled = f"by {letter.handled_by} at {_time(letter.handled_at)}"
        handled += f": {letter.handled_why}" if letter.handled_why else ""
    return Facts(
        letter.id,
        letter.status,
        letter.reason,
        letter.sqlstate,
        letter.constraint_name,
        letter.field,
        letter.message,
        whole_record=letter.item < 0,
        has_log=letter.log_id is not None,
        damaged=opened.damaged,
        unknown_schema=opened.unknown_schema,
        under_way=letter.under_way,
        redrives=letter.redrives,
        handled=handled,
    )


def describe(letter: Any) -> dict[str, Any]:
    """Everything of a letter (`letters.Letter`), in the order in which it is read."""
    opened = open_value(letter.value, letter.headers, whole_record=letter.item < 0)
    return {
        "id": letter.id,
        "status": letter.status,
        "cause": letter.cause,
        "reason": letter.reason,
        "sqlstate": letter.sqlstate,
        "constraint": letter.constraint_name,
        "field": letter.field,
        "parent_id": letter.parent_id,
        "message": letter.message,
        "kind": letter.kind,
        "event_id": letter.event_id,
        "source": {
            "topic": letter.topic,
            "cluster_id": letter.cluster_id,
            "log_id": letter.log_id,
            "partition": letter.log_partition,
            "offset": letter.log_offset,
            "item": letter.item,
            "appended_at": _time(letter.appended_at),
        },
        "first_seen_at": _time(letter.first_seen_at),
        "last_seen_at": _time(letter.last_seen_at),
        "attempts": letter.attempts,
        "oddslog_version": letter.oddslog_version,
        "redrives": {
            "sent": letter.redrives_sent,
            "seen": letter.redrives_seen,
            "log_id": letter.redrive_log_id,
            "partition": letter.redrive_partition,
            "offset": letter.redrive_offset,
        },
        "handled": {
            "by": letter.handled_by,
            "at": _time(letter.handled_at),
            "why": letter.handled_why,
        },
        "published_at": _time(letter.published_at),
        "key": bytes_to_json(letter.record_key),
        "headers": [
            {"name": name, "value": bytes_to_json(value)} for name, value in letter.headers
        ],
        "value_bytes": None if letter.value is None else len(letter.value),
        "mended": letter.original_value is not None,
        "problem": _problem(letter.value, opened),
        "fragment": None if opened.fragment is None else fragment_to_json(opened.fragment),
    }


def _problem(value: bytes | None, opened: Opened) -> dict[str, Any] | None:
    if opened.problem is None:
        return None
    shown: dict[str, Any] = {"message": opened.problem, "at_byte": opened.at_byte}
    if value is not None and opened.fragment is None:
        at = min(opened.at_byte or 0, len(value))
        shown["hex_before"] = value[max(0, at - _HEX_BYTES) : at].hex(" ")
        shown["hex_behind"] = value[at : at + _HEX_BYTES].hex(" ")
        shown["hex"] = value.hex()
    return shown


def bytes_to_json(value: bytes | None) -> str | None:
    """The text that bytes are, or `0x` and their hex digits."""
    if value is None:
        return None
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return f"0x{value.hex()}"
    return text if text.isprintable() else f"0x{value.hex()}"


def _time(moment: Any) -> str | None:
    return None if moment is None else moment.isoformat()
