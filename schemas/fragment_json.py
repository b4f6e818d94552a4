"""A fragment as JSON that a person can read and mend, and back. Pure.

Text that should be a JSON document and is none is shown under `<field>_text`; a number
that JSON does not know as a string. What comes back goes through the same checks as a
scraper's snapshot, and gets a new content hash.
"""

import json
import math
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NoReturn

from .codec import (
    AnySnapshot,
    ConfirmationRecord,
    EventWrites,
    MarketRecord,
    SnapshotRecord,
    snapshot_part,
)
from .errors import InvalidRecordError
from .records import CompetitorSnapshotWriteData, MarketWriteData, SnapshotWriteData
from .wire import Kind

__all__ = ["fragment_from_json", "fragment_to_json"]

_FRAGMENT_FIELDS = frozenset(EventWrites.__dataclass_fields__)
_MARKET_FIELDS = frozenset(MarketRecord.__annotations__)
_SNAPSHOT_FIELDS = frozenset(SnapshotRecord.__annotations__)
_CONFIRMATION_FIELDS = frozenset(ConfirmationRecord.__annotations__)
_SNAPSHOT_TEXTS = frozenset({"raw_response_text"})
_MARKET_TEXTS = frozenset({"outcomes_text", "market_groups_text"})


def fragment_to_json(fragment: EventWrites) -> dict[str, Any]:
    """The fragment with its documents parsed, ready for `json.dumps`."""
    return {
        "kind": fragment.kind.value,
        "event_id": fragment.event_id,
        "snapshots": [_snapshot_to_json(one) for one in fragment.snapshots],
        "confirmed_at": _time_to_json(fragment.confirmed_at),
        "confirmations": [
            {**one, "captured_at": _time_to_json(one["captured_at"])}
            for one in fragment.confirmations
        ],
        "unchanged_ids": list(fragment.unchanged_ids),
        "scrape_run_id": fragment.scrape_run_id,
        "batch_id": str(fragment.batch_id),
        "batch_index": fragment.batch_index,
        "batch_count": fragment.batch_count,
        "fragment_index": fragment.fragment_index,
        "fragment_count": fragment.fragment_count,
    }


def _snapshot_to_json(snapshot: SnapshotRecord) -> dict[str, Any]:
    return {
        "bookmaker_id": snapshot["bookmaker_id"],
        "captured_at": _time_to_json(snapshot["captured_at"]),
        "scrape_run_id": snapshot["scrape_run_id"],
        "content_hash": snapshot["content_hash"],
        "markets": [_market_to_json(market) for market in snapshot["markets"]],
        **_document_to_json("raw_response", snapshot["raw_response"]),
    }


def _market_to_json(market: MarketRecord) -> dict[str, Any]:
    return {
        "betpawa_market_id": market["betpawa_market_id"],
        "betpawa_market_name": market["betpawa_market_name"],
        "line": _number_to_json(market["line"]),
        "handicap_type": market["handicap_type"],
        "handicap_home": _number_to_json(market["handicap_home"]),
        "handicap_away": _number_to_json(market["handicap_away"]),
        **_document_to_json("outcomes", market["outcomes"]),
        **_document_to_json("market_groups", market["market_groups"]),
    }


def _number_to_json(value: float | None) -> float | str | None:
    return value if value is None or math.isfinite(value) else str(value)


def _document_to_json(name: str, text: str | None) -> dict[str, Any]:
    if text is None:
        return {name: None}
    try:
        document = json.loads(text, parse_constant=_refuse, parse_float=_finite)
        json.dumps(document)
    except (ValueError, RecursionError):
        return {name: None, f"{name}_text": text}
    return {name: document}


def _refuse(name: str) -> NoReturn:
    raise ValueError(name)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def _time_to_json(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def fragment_from_json(document: object) -> EventWrites:
    """The fragment that a mended document means, each snapshot with a new content hash.

    Raises:
        InvalidRecordError: names the field that is wrong, missing or unknown.
    """
    fields = _fields(document, "fragment", _FRAGMENT_FIELDS)
    kind = _kind(fields.get("kind"))
    event_id = _int_or_none(fields.get("event_id"), "event_id")
    snapshots = [
        _snapshot(kind, event_id, one, f"snapshots[{n}]")
        for n, one in enumerate(_list(fields, "snapshots"))
    ]
    confirmations = [
        _confirmation(kind, one, f"confirmations[{n}]")
        for n, one in enumerate(_list(fields, "confirmations"))
    ]
    return EventWrites(
        _batch_id(fields.get("batch_id")),
        _int_or_none(fields.get("batch_index"), "batch_index") or 0,
        _int_or_none(fields.get("batch_count"), "batch_count"),
        _int_or_none(fields.get("fragment_index"), "fragment_index") or 0,
        _int_or_none(fields.get("fragment_count"), "fragment_count") or 1,
        _int_or_none(fields.get("scrape_run_id"), "scrape_run_id"),
        kind,
        event_id,
        snapshots,
        _time(fields.get("confirmed_at"), "confirmed_at"),
        confirmations,
        [_int(one, f"unchanged_ids[{n}]") for n, one in enumerate(_list(fields, "unchanged_ids"))],
    )


def _snapshot(kind: Kind, event_id: int | None, document: object, path: str) -> SnapshotRecord:
    fields = _fields(document, path, _SNAPSHOT_FIELDS, _SNAPSHOT_TEXTS)
    _refuse_text(fields, "raw_response", path)
    markets = tuple(
        _market(one, f"{path}.markets[{n}]") for n, one in enumerate(_list(fields, "markets"))
    )
    captured_at = _time(fields.get("captured_at"), f"{path}.captured_at")
    if event_id is None or captured_at is None:
        missing = "event_id" if event_id is None else f"{path}.captured_at"
        raise InvalidRecordError(missing, "is missing")
    run, raw = fields.get("scrape_run_id"), fields.get("raw_response")
    bookmaker_id = fields.get("bookmaker_id")
    if kind is Kind.COMPETITOR and bookmaker_id is not None:
        raise InvalidRecordError(f"{path}.bookmaker_id", "a competitor's snapshot has none")
    made: AnySnapshot
    try:
        if kind is Kind.COMPETITOR:
            made = CompetitorSnapshotWriteData(event_id, run, raw, markets, captured_at)
        else:
            bookmaker_id = _int(bookmaker_id, "bookmaker_id")
            made = SnapshotWriteData(event_id, bookmaker_id, run, raw, markets, captured_at)
        return snapshot_part(made).record
    except InvalidRecordError as error:
        raise InvalidRecordError(f"{path}.{error.field}", error.problem) from error


def _market(document: object, path: str) -> MarketWriteData:
    fields = _fields(document, path, _MARKET_FIELDS, _MARKET_TEXTS)
    for name in ("outcomes", "market_groups"):
        _refuse_text(fields, name, path)
    try:
        return MarketWriteData(**{name: fields.get(name) for name in _MARKET_FIELDS})  # type: ignore[arg-type]
    except InvalidRecordError as error:
        raise InvalidRecordError(f"{path}.{error.field}", error.problem) from error


def _confirmation(kind: Kind, document: object, path: str) -> ConfirmationRecord:
    fields = _fields(document, path, _CONFIRMATION_FIELDS)
    captured_at = _time(fields.get("captured_at"), f"{path}.captured_at")
    if captured_at is None:
        raise InvalidRecordError(f"{path}.captured_at", "is missing")
    bookmaker_id = _int_or_none(fields.get("bookmaker_id"), f"{path}.bookmaker_id")
    if (bookmaker_id is None) != (kind is Kind.COMPETITOR):
        problem = "is missing" if bookmaker_id is None else "a competitor's confirmation has none"
        raise InvalidRecordError(f"{path}.bookmaker_id", problem)
    return ConfirmationRecord(bookmaker_id=bookmaker_id, captured_at=captured_at)


def _fields(
    document: object, path: str, known: frozenset[str], also: frozenset[str] = frozenset()
) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise InvalidRecordError(path, "must be an object")
    unknown = set(document) - known - also
    if unknown:
        raise InvalidRecordError(f"{path}.{min(unknown)}", "is not known here")
    return document


def _refuse_text(fields: Mapping[str, Any], name: str, path: str) -> None:
    if fields.get(f"{name}_text") is not None:
        raise InvalidRecordError(
            f"{path}.{name}_text", f"is no JSON; put the mended document under {name} instead"
        )


def _list(fields: Mapping[str, Any], name: str) -> list[Any]:
    value = fields.get(name) or []
    if not isinstance(value, list):
        raise InvalidRecordError(name, "must be a list")
    return value


def _kind(value: Any) -> Kind:
    try:
        return Kind(value)
    except ValueError:
        raise InvalidRecordError("kind", "must be betpawa or competitor") from None


def _batch_id(value: object) -> uuid.UUID:
    if value is None:
        return uuid.UUID(int=0)
    try:
        return uuid.UUID(value)  # type: ignore[arg-type]
    except (ValueError, AttributeError, TypeError):
        raise InvalidRecordError("batch_id", "is no UUID") from None


def _int(value: object, path: str) -> int:
    if type(value) is not int:
        raise InvalidRecordError(path, "must be a whole number")
    return value


def _int_or_none(value: object, path: str) -> int | None:
    return None if value is None else _int(value, path)


def _time(value: object, path: str) -> datetime | None:
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)  # type: ignore[arg-type]
    except (ValueError, TypeError):
        problem = "must be a time such as 2026-03-01T12:00:00+00:00"
        raise InvalidRecordError(path, problem) from None
    if moment.tzinfo is None:
        raise InvalidRecordError(path, f"has no time zone; UTC would be {value}+00:00")
    return moment.astimezone(UTC)
