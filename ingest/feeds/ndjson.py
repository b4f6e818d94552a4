"""Batches as lines of JSON, for files and pipes.

One line is one batch. Its keys are the names of the fields of `WriteBatch` and of
the records in it; times are ISO 8601 with an offset. A line, wrapped here:

    {"changed_betpawa": [{"event_id": 7, "bookmaker_id": 1,
        "captured_at": "2025-08-15T18:00:00.000001+00:00",
        "raw_response": {"id": "7"},
        "markets": [{"betpawa_market_id": "5000", "betpawa_market_name": "Over/Under - FT",
            "line": 2.5, "market_groups": ["goals"],
            "outcomes": [{"name": "Over", "odds": 1.85}, {"name": "Under", "odds": 1.95}]}]}],
     "unchanged_competitor": [{"competitor_event_id": 14,
        "captured_at": "2025-08-15T17:00:00+00:00"}],
     "confirmed_at": "2025-08-15T18:00:00+00:00"}

What may be null or empty may be left out; `batch_index` is then the number of good
lines before this one. Unknown keys are refused, or a mistyped one would be lost.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from typing import Any, NoReturn

from ...schemas.errors import InvalidRecordError
from ...schemas.records import (
    CompetitorSnapshotKey,
    CompetitorSnapshotWriteData,
    MarketWriteData,
    SnapshotKey,
    SnapshotWriteData,
    WriteBatch,
)
from .errors import FeedError, LineError

__all__ = ["batch_to_json", "read_ndjson"]


def batch_to_json(batch: WriteBatch) -> str:
    """The batch as one line that `read_ndjson` reads back as an equal one; ASCII, no newline.

    Raises:
        InvalidRecordError: a JSON document of the batch holds what JSON cannot.
    """
    try:
        return json.dumps(batch, default=_as_object, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as exc:
        raise InvalidRecordError("batch", f"cannot be written as JSON: {exc}") from exc


def read_ndjson(
    lines: Iterable[bytes | str],
    *,
    source: str,
    strict: bool,
    report: Callable[[LineError], None],
) -> Iterator[WriteBatch]:
    """Yields the batch of each line that is not blank, as it is read.

    Bytes are UTF-8 (give a file's bytes and not its text, so that a line in another
    encoding is one bad line). `source` names the input in errors. A bad line goes to
    `report` and the next one follows; where `strict` is true, it ends the feed.

    Raises:
        FeedError: strict, and a line is bad.
    """
    good = 0
    for number, line in enumerate(lines, start=1):
        try:
            batch = _read_line(line, first=number == 1, batch_index=good)
        except _Problem as problem:
            error = LineError(source, number, str(problem))
            if strict:
                raise FeedError(str(error)) from None
            report(error)
            continue
        if batch is not None:
            good += 1
            yield batch


class _Problem(Exception):  # noqa: N818 - a step of the reader, no error of the caller's
    """What is wrong with a line, and where in it."""

    def __init__(self, problem: str, *path: str | int) -> None:
        super().__init__(problem)
        self._problem = problem
        self._path = list(path)

    def under(self, part: str | int) -> "_Problem":
        """The same, seen from one level further out."""
        self._path.insert(0, part)
        return self

    def __str__(self) -> str:
        path = "".join(_step(part) for part in self._path).removeprefix(".")
        return f"{path}: {self._problem}" if path else self._problem


def _step(part: str | int) -> str:
    if isinstance(part, int):
        return f"[{part}]"
    return f".{part}" if part.isidentifier() else f"[{json.dumps(part)}]"


def _read_line(line: bytes | str, *, first: bool, batch_index: int) -> WriteBatch | None:
    """The batch of a line, None for a blank one."""
    try:
        text = line.decode() if isinstance(line, bytes) else line
    except UnicodeDecodeError as exc:
        raise _Problem(f"is not UTF-8 (byte {exc.start + 1})") from None
    text = (text.removeprefix("\ufeff") if first else text).strip()
    if not text:
        return None
    value = _parse(text)
    if isinstance(value, dict):
        value.setdefault("batch_index", batch_index)
    batch: WriteBatch = _BATCH(value)
    return batch


def _parse(text: str) -> object:
    try:
        return json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except json.JSONDecodeError as exc:
        raise _Problem(f"is no JSON: {exc.msg}, column {exc.colno}") from None
    except RecursionError:
        raise _Problem("is nested too deeply") from None
    except ValueError:  # more digits than sys.get_int_max_str_digits()
        raise _Problem("has a number of too many digits") from None


def _refuse_constant(name: str) -> NoReturn:
    raise _Problem(f"{name} is no JSON number; write null or a finite one")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _Problem(f"the number {text[:40]} is too large")
    return number


Parse = Callable[[Any], Any]
_REQUIRED = object()


@dataclass(frozen=True, slots=True)
class _Record:
    """Makes a record of a JSON object; fields with a default may be left out."""

    kind: Callable[..., Any]
    fields: Mapping[str, tuple[Parse, object]]

    def __call__(self, value: object) -> Any:
        if not isinstance(value, dict):
            raise _Problem("must be an object")
        for name in value:
            if name not in self.fields:
                raise _Problem(f"is not known here; known are {', '.join(self.fields)}", name)
        arguments = {
            name: self._field(name, parse, value.get(name, default))
            for name, (parse, default) in self.fields.items()
        }
        try:
            return self.kind(**arguments)
        except InvalidRecordError as exc:
            raise _Problem(exc.problem, exc.field) from None

    @staticmethod
    def _field(name: str, parse: Parse, value: object) -> object:
        if value is _REQUIRED:
            raise _Problem("is missing", name)
        try:
            return parse(value)
        except _Problem as problem:
            raise problem.under(name) from None


def _of_type(words: str, *types: type) -> Parse:
    def parse(value: object) -> object:
        if isinstance(value, bool) or not isinstance(value, types):
            raise _Problem(f"must be {words}")
        return value

    return parse


def _or_null(parse: Parse) -> Parse:
    return lambda value: None if value is None else parse(value)


def _list_of(parse: Parse) -> Parse:
    def parse_list(value: object) -> list[Any]:
        if not isinstance(value, list):
            raise _Problem("must be a list")
        members = []
        for number, member in enumerate(value):
            try:
                members.append(parse(member))
            except _Problem as problem:
                raise problem.under(number) from None
        return members

    return parse_list


def _time(value: object) -> datetime:
    example = "2025-08-15T19:00:00.123456+00:00"
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        time = None
    if time is None or not isinstance(value, str):
        raise _Problem(f"must be a time like {example}")
    if time.tzinfo is None:
        raise _Problem(f"has no offset from UTC; write it like {example}")
    if re.search(r"[.,]\d{7}", value):  # fromisoformat() would cut them off
        raise _Problem(f"is finer than microseconds; write it like {example}")
    return time


_INTEGER = _of_type("a whole number", int)
_NUMBER = _of_type("a number", int, float)
_TEXT = _of_type("text", str)

_MARKET = _Record(
    MarketWriteData,
    {
        "betpawa_market_id": (_TEXT, _REQUIRED),
        "betpawa_market_name": (_TEXT, _REQUIRED),
        "line": (_or_null(_NUMBER), None),
        "handicap_type": (_or_null(_TEXT), None),
        "handicap_home": (_or_null(_NUMBER), None),
        "handicap_away": (_or_null(_NUMBER), None),
        "outcomes": (_of_type("a list or an object", list, dict), _REQUIRED),
        "market_groups": (_or_null(_list_of(_TEXT)), None),
    },
)
_CONTENT: Mapping[str, tuple[Parse, object]] = {
    "scrape_run_id": (_or_null(_INTEGER), None),
    "raw_response": (_or_null(_of_type("an object or a list", dict, list)), None),
    "markets": (_list_of(_MARKET), _REQUIRED),
    "captured_at": (_or_null(_time), None),
}
_BETPAWA_IDS = {"event_id": (_INTEGER, _REQUIRED), "bookmaker_id": (_INTEGER, _REQUIRED)}
_COMPETITOR_IDS = {"competitor_event_id": (_INTEGER, _REQUIRED)}
_KEY_TIME = {"captured_at": (_time, _REQUIRED)}

_BATCH = _Record(
    WriteBatch,
    {
        "changed_betpawa": (_list_of(_Record(SnapshotWriteData, {**_BETPAWA_IDS, **_CONTENT})), []),
        "changed_competitor": (
            _list_of(_Record(CompetitorSnapshotWriteData, {**_COMPETITOR_IDS, **_CONTENT})),
            [],
        ),
        "unchanged_betpawa_ids": (_list_of(_INTEGER), []),
        "unchanged_competitor_ids": (_list_of(_INTEGER), []),
        "scrape_run_id": (_or_null(_INTEGER), None),
        "batch_index": (_INTEGER, _REQUIRED),
        "unchanged_betpawa": (_list_of(_Record(SnapshotKey, {**_BETPAWA_IDS, **_KEY_TIME})), []),
        "unchanged_competitor": (
            _list_of(_Record(CompetitorSnapshotKey, {**_COMPETITOR_IDS, **_KEY_TIME})),
            [],
        ),
        "confirmed_at": (_or_null(_time), None),
        "batch_count": (_or_null(_INTEGER), None),
    },
)


def _as_object(value: object) -> dict[str, Any]:
    """A record as a JSON object; the documents in it are JSON already."""
    if not is_dataclass(value) or isinstance(value, type):
        raise TypeError(f"{type(value).__name__} is no JSON")
    members = {field.name: getattr(value, field.name) for field in fields(value)}
    return {
        name: member.isoformat() if isinstance(member, datetime) else member
        for name, member in members.items()
    }
