"""Which field of a snapshot PostgreSQL will not take. Pure.

Asked only about snapshots that failed: it parses each document, which is too
slow for every snapshot that comes by.
"""

import json
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn

from ..schemas.wire import Kind
from .checks import Problem
from .items import SnapshotItem

__all__ = ["explain_snapshot", "is_overflow"]

_OUT_OF_RANGE = "22003"
# A `numeric`, and so a number of `jsonb`, has at most so many digits before its point.
_NUMERIC_DIGITS = 131072
_TEXTS = ("betpawa_market_id", "betpawa_market_name", "handicap_type")
_DOCUMENTS = ("outcomes", "market_groups")


def is_overflow(sqlstate: str | None) -> bool:
    """Whether it is the SQLSTATE that is poison only where a field explains it."""
    return sqlstate == _OUT_OF_RANGE


def explain_snapshot(snapshot: SnapshotItem) -> Problem | None:
    """The first field that its column cannot hold, as far as its content tells."""
    for index, market in enumerate(snapshot.data["markets"]):
        fields: dict[str, Any] = dict(market)
        for name in _TEXTS:
            if "\0" in (fields[name] or ""):
                return Problem(f"markets[{index}].{name}", f"{name} has a NUL character")
        for name in _DOCUMENTS:
            problem = fields[name] is not None and _json_problem(fields[name], binary=False)
            if problem:
                return Problem(f"markets[{index}].{name}", f"{name} {problem}")
    raw = snapshot.data["raw_response"]
    # The competitors' is `json`, which keeps the text as it is.
    problem = raw is not None and _json_problem(raw, binary=snapshot.kind is Kind.BETPAWA)
    return Problem("raw_response", f"raw_response {problem}") if problem else None


class _UnstorableError(ValueError):
    """Something that Python's parser takes and PostgreSQL does not."""


def _json_problem(text: str, *, binary: bool) -> str | None:
    if "\0" in text:
        return "has a NUL character"
    try:
        document = json.loads(
            text,
            parse_constant=_refuse_constant,
            parse_int=_number if binary else str,
            parse_float=_number if binary else str,
        )
    except _UnstorableError as error:
        return str(error)
    except ValueError:
        return "is no JSON"
    except RecursionError:
        return "is nested too deep"
    return _text_problem(document) if binary else None


def _refuse_constant(name: str) -> NoReturn:
    raise _UnstorableError(f"has {name}, which is no JSON")


def _number(text: str) -> str:
    try:
        number = Decimal(text)
        fits = not number or number.adjusted() < _NUMERIC_DIGITS
    except InvalidOperation:
        fits = False
    if not fits:
        raise _UnstorableError("has a number that is out of range")
    return text


def _text_problem(document: Any) -> str | None:
    """What `jsonb` refuses in the strings of a document."""
    try:
        text = json.dumps(document, ensure_ascii=False)
    except RecursionError:
        return "is nested too deep"
    if "\\u0000" in text.replace("\\\\", ""):
        return "has an escaped NUL character"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "has a lone surrogate"
    return None
