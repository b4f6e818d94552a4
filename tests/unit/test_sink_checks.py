"""What columns cannot hold, found without the database; what a document is refused for."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oddslog.schemas.codec import SnapshotRecord
from oddslog.schemas.wire import Kind
from oddslog.sink.checks import ColumnLimits, check_confirmation, check_snapshot
from oddslog.sink.dead_letters import clean_text, encode_headers, utc_from_millis
from oddslog.sink.explain import explain_snapshot
from oddslog.sink.items import ConfirmationItem, LogRecord, SnapshotItem, natural_key
from tests.support.batches import NOON, competitor
from tests.support.fragments import record, with_market

LIMITS = ColumnLimits(
    {"betpawa_market_id": 50, "betpawa_market_name": 255, "handicap_type": 50}, {}
)
RECORD = LogRecord(0, 0, None, None, (), None)


def item(data: SnapshotRecord, event_id: int = 1, kind: Kind = Kind.BETPAWA) -> SnapshotItem:
    """The snapshot as the write path has it."""
    return SnapshotItem(kind, natural_key(kind, event_id, data), data, RECORD, 0)


@given(st.integers(-(2**63), 2**63 - 1))
def test_integers(value: int) -> None:
    """In the range of an int4 column or named; runs may be missing, too."""
    fits = -(2**31) <= value < 2**31
    for snapshot, field in (
        (item(record(), value), "event_id"),
        (item(record(bookmaker_id=value)), "bookmaker_id"),
        (item(record(scrape_run_id=value)), "scrape_run_id"),
        (item(record(competitor()), value, Kind.COMPETITOR), "competitor_event_id"),
    ):
        problem = check_snapshot(snapshot, LIMITS)
        assert (problem and problem.field) == (None if fits else field)
    named = ConfirmationItem(Kind.BETPAWA, item(record(), value).key, NOON, RECORD, 0)
    assert (check_confirmation(named) is None) == fits
    assert check_snapshot(item(record(scrape_run_id=None)), LIMITS) is None


@pytest.mark.parametrize(
    ("column", "length"),
    [("betpawa_market_id", 50), ("handicap_type", 50), ("betpawa_market_name", 255)],
)
def test_texts_are_measured_in_characters(column: str, length: int) -> None:
    """As `varchar` does; a column without a limit takes anything."""
    fits = item(with_market(record(), 1, **{column: "ł" * length}))
    long = item(with_market(record(), 1, **{column: "ł" * (length + 1)}))
    assert check_snapshot(fits, LIMITS) is None
    problem = check_snapshot(long, LIMITS)
    assert problem is not None
    assert problem.field == f"markets[1].{column}"
    assert check_snapshot(long, ColumnLimits({}, {})) is None


numbers = st.none() | st.floats()


@given(numbers, numbers, numbers)
def test_numbers_are_finite(line: float | None, home: float | None, away: float | None) -> None:
    """NaN and infinities are refused, also where they cancel out; large ones are not."""
    values = {"line": line, "handicap_home": home, "handicap_away": away}
    problem = check_snapshot(item(with_market(record(), 0, **values)), LIMITS)
    bad = [name for name, v in values.items() if v is not None and not math.isfinite(v)]
    assert (problem and problem.field) == (f"markets[0].{bad[0]}" if bad else None)


texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
documents: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
)


@given(documents)
def test_no_good_document_is_blamed(document: Any) -> None:
    """What a scraper can have sent is not the reason, in whatever column."""
    text = json.dumps(document, ensure_ascii=False)
    data = with_market(record(raw_response=text), 0, outcomes=text, market_groups=text)
    assert explain_snapshot(item(data)) is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[", "is no JSON"),
        ("", "is no JSON"),
        ("[NaN]", "has NaN"),
        ("[-Infinity]", "has -Infinity"),
        ('["\0"]', "has a NUL character"),
        ('["\\u0000"]', "has an escaped NUL character"),
        ('["\\ud800"]', "has a lone surrogate"),
        ("[1e131072]", "has a number that is out of range"),
        ("[1e99999999999999999999999]", "has a number that is out of range"),
        ("[" * 100_000, "is nested too deep"),
        ('["\\\\u0000"]', None),
        ("[1e131071]", None),
        ("[0.0e999999]", None),
    ],
)
def test_what_a_document_is_refused_for(text: str, problem: str | None) -> None:
    """As `jsonb` refuses it."""
    found = explain_snapshot(item(record(raw_response=text)))
    assert (found and found.message.startswith(f"raw_response {problem}")) is (
        None if problem is None else True
    )


@given(st.text(st.characters()) | st.text(st.characters(categories=("Cs", "Cc"))))
def test_any_text_becomes_one_that_a_column_takes(text: str) -> None:
    """Without NUL and surrogates, of at most 2 KB."""
    cleaned = clean_text(text * 50)
    assert cleaned is not None
    assert "\0" not in cleaned
    assert len(cleaned.encode()) <= 2048


@given(st.lists(st.tuples(st.text(st.characters()), st.none() | st.binary()), max_size=5))
def test_any_headers_become_bytes(headers: list[tuple[str, Any]]) -> None:
    """JSON of ASCII, whatever the names and values are."""
    assert len(json.loads(encode_headers(headers))) == len(headers)


@given(st.none() | st.integers(-(2**63), 2**63 - 1))
def test_any_timestamp_is_a_time_or_none(millis: int | None) -> None:
    """A record's time cannot be out of what PostgreSQL takes."""
    moment = utc_from_millis(millis)
    assert moment is None or 1970 <= moment.year <= 9999
