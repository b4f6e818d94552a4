"""Lines of JSON: the inverse of each other, and exact about what is wrong where."""

import json
import math
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oddslog.ingest.feeds import FeedError, LineError, batch_to_json, ndjson, read_ndjson
from oddslog.schemas.errors import InvalidRecordError
from oddslog.schemas.records import (
    CompetitorSnapshotKey,
    CompetitorSnapshotWriteData,
    MarketWriteData,
    SnapshotKey,
    SnapshotWriteData,
    WriteBatch,
)

AT = "2025-08-15T19:00:00+00:00"


def read(
    *lines: str | bytes | dict[str, Any], strict: bool = False
) -> tuple[list[WriteBatch], list[str]]:
    """The batches and the problems."""
    errors: list[LineError] = []
    text = [json.dumps(line) if isinstance(line, dict) else line for line in lines]
    batches = list(read_ndjson(text, source="in.ndjson", strict=strict, report=errors.append))
    return batches, [str(error) for error in errors]


texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
whole = st.integers(-(2**63), 2**63 - 1)
runs = st.none() | whole
floats = st.none() | st.floats(allow_nan=False, allow_infinity=False)
# The very first and last moment are refused.
times = st.datetimes(
    datetime(1, 1, 1, 0, 0, 0, 1),  # noqa: DTZ001 - st.datetimes wants naive ones
    datetime(9999, 12, 31, 23, 59, 59, 999998),  # noqa: DTZ001
    timezones=st.just(UTC),
).map(lambda at: at.replace(fold=0))
documents = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
lists = st.lists(documents, max_size=3)
objects = st.dictionaries(st.text(), documents, max_size=3)
markets = st.builds(
    MarketWriteData,
    betpawa_market_id=texts.filter(bool),
    betpawa_market_name=texts,
    line=floats,
    handicap_type=st.none() | texts,
    handicap_home=floats,
    handicap_away=floats,
    outcomes=lists | objects,
    market_groups=st.none() | st.lists(st.text(), max_size=2),
)
content: dict[str, st.SearchStrategy[Any]] = {
    "scrape_run_id": runs,
    "raw_response": st.none() | lists | objects,
    "markets": st.lists(markets, max_size=2).map(tuple),
    "captured_at": st.none() | times,
}
changed = st.builds(SnapshotWriteData, event_id=whole, bookmaker_id=whole, **content)
changed_other = st.builds(CompetitorSnapshotWriteData, competitor_event_id=whole, **content)
same = st.builds(SnapshotKey, event_id=whole, bookmaker_id=whole, captured_at=times)
same_other = st.builds(CompetitorSnapshotKey, competitor_event_id=whole, captured_at=times)


def some(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    """A tuple of up to two."""
    return st.lists(strategy, max_size=2).map(tuple)


batches_of_any_kind = st.builds(
    WriteBatch,
    changed_betpawa=some(changed),
    changed_competitor=some(changed_other),
    unchanged_betpawa_ids=some(whole),
    unchanged_competitor_ids=some(whole),
    scrape_run_id=runs,
    batch_index=whole,
    unchanged_betpawa=some(same),
    unchanged_competitor=some(same_other),
    confirmed_at=st.none() | times,
    batch_count=runs,
)


@given(batches_of_any_kind)
def test_any_batch_comes_back_equal(batch: WriteBatch) -> None:
    """Field by field, microseconds and the kind of each number included."""
    line = batch_to_json(batch)
    assert "\n" not in line
    assert line.isascii()
    for form in (line, line.encode()):
        batches, problems = read(form)
        assert not problems
        assert batches == [batch]
        assert repr(batches[0]) == repr(batch)


def test_what_json_cannot_hold_is_refused() -> None:
    """NaN and sets inside a document, when it is written."""
    for outcomes in ([math.nan], [{1, 2}], [datetime(2025, 1, 1, tzinfo=UTC)]):
        market = MarketWriteData("1", "", None, None, None, None, outcomes, None)
        snapshot = SnapshotWriteData(1, 1, None, None, (market,))
        with pytest.raises(InvalidRecordError, match="cannot be written as JSON"):
            batch_to_json(WriteBatch((snapshot,), (), (), (), None, 0))


def test_the_documented_example_is_read() -> None:
    """The line of the module's docstring."""
    lines = (ndjson.__doc__ or "").splitlines()
    example = "".join(line.strip() for line in lines if line.startswith("    "))
    batches, problems = read(example)
    assert not problems
    batch = batches[0]
    assert batch.changed_betpawa[0].markets[0].line == 2.5
    assert batch.changed_betpawa[0].captured_at == datetime(2025, 8, 15, 18, 0, 0, 1, tzinfo=UTC)
    assert batch.unchanged_competitor[0].competitor_event_id == 14


def test_what_may_be_empty_may_be_left_out() -> None:
    """And `batch_index` counts the good lines."""
    batches, problems = read({}, "", "{", b"  \r\n", {}, {"batch_index": 9}, {})
    assert [b.batch_index for b in batches] == [0, 1, 9, 3]
    assert batches[0] == WriteBatch((), (), (), (), None, 0)
    assert len(problems) == 1


def test_good_lines_go_in_beside_bad_ones() -> None:
    """Blank lines count as lines, so that an editor finds the number."""
    batches, problems = read({"batch_count": 1}, "", "{]", {"batch_count": 2}, {"batch_count": "3"})
    assert [b.batch_count for b in batches] == [1, 2]
    assert [problem.partition(": ")[0] for problem in problems] == [
        "in.ndjson, line 3",
        "in.ndjson, line 5",
    ]


def test_strict_ends_at_the_first_bad_line() -> None:
    """The batches before it have gone out; nothing is reported beside the error."""
    reported: list[LineError] = []

    def lines() -> Iterable[str]:
        yield "{}"
        yield "[]"
        pytest.fail("read on after the bad line")

    feed = iter(read_ndjson(lines(), source="-", strict=True, report=reported.append))
    next(feed)
    with pytest.raises(FeedError, match=r"^-, line 2: must be an object$"):
        next(feed)
    assert not reported


def market(**fields: object) -> dict[str, Any]:
    """A market as JSON."""
    return {"betpawa_market_id": "1", "betpawa_market_name": "1X2", "outcomes": [], **fields}


def betpawa(**fields: object) -> dict[str, Any]:
    """A batch of one snapshot as JSON."""
    return {"changed_betpawa": [{"event_id": 1, "bookmaker_id": 1, "markets": [], **fields}]}


def third_market(**fields: object) -> dict[str, Any]:
    """A batch as JSON whose third market has these fields."""
    return betpawa(markets=[market(), market(), market(**fields)])


MARKET = "changed_betpawa[0].markets[2]"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (third_market(line="2.5"), f"{MARKET}.line: must be a number"),
        (third_market(line=True), f"{MARKET}.line: must be a number"),
        (third_market(betpawa_market_id=""), f"{MARKET}.betpawa_market_id: is empty"),
        (third_market(betpawa_market_id=7), f"{MARKET}.betpawa_market_id: must be text"),
        (third_market(betpawa_market_name="\0"), f"{MARKET}.betpawa_market_name: has a NUL"),
        (third_market(betpawa_market_name="\ud800"), f"{MARKET}.betpawa_market_name: has a lone"),
        (third_market(outcomes="x"), f"{MARKET}.outcomes: must be a list or an object"),
        (third_market(outcomes=None), f"{MARKET}.outcomes: must be a list or an object"),
        (third_market(market_groups=["a", 1]), f"{MARKET}.market_groups[1]: must be text"),
        (third_market(lines=1), f"{MARKET}.lines: is not known here; known are betpawa_market_id"),
        (betpawa(markets={}), "changed_betpawa[0].markets: must be a list"),
        (betpawa(markets=[3]), "changed_betpawa[0].markets[0]: must be an object"),
        (betpawa(event_id=True), "changed_betpawa[0].event_id: must be a whole number"),
        (betpawa(event_id=1.0), "changed_betpawa[0].event_id: must be a whole number"),
        (betpawa(event_id=2**63), "changed_betpawa[0].event_id: does not fit 64 bits"),
        (betpawa(raw_response="x"), "changed_betpawa[0].raw_response: must be an object or a list"),
        (betpawa(captured_at=5), "changed_betpawa[0].captured_at: must be a time like 2025-"),
        (betpawa(captured_at="now"), "changed_betpawa[0].captured_at: must be a time like 2025-"),
        ({"changed_betpawa": [{"event_id": 1}]}, "changed_betpawa[0].bookmaker_id: is missing"),
        (
            {"changed_competitor": [{"competitor_event_id": 1}]},
            "changed_competitor[0].markets: is missing",
        ),
        (
            {"unchanged_betpawa": [{"event_id": 1, "bookmaker_id": 1}]},
            "unchanged_betpawa[0].captured_at: is missing",
        ),
        (
            {"unchanged_competitor": [{"competitor_event_id": 1, "captured_at": None}]},
            "unchanged_competitor[0].captured_at: must be a time like 2025-",
        ),
        ({"unchanged_betpawa_ids": [1, "2"]}, "unchanged_betpawa_ids[1]: must be a whole number"),
        ({"unchanged_competitor_ids": 1}, "unchanged_competitor_ids: must be a list"),
        ({"confirmed_at": AT[:-6]}, "confirmed_at: has no offset from UTC; write it like 2025-"),
        ({"confirmed_at": AT[:-6] + ".1234567Z"}, "confirmed_at: is finer than microseconds"),
        ({"confirmed_at": "0001-01-01T00:00+01:00"}, "confirmed_at: is outside the years"),
        ({"batch_index": None}, "batch_index: must be a whole number"),
        ({"a b\n": 1}, '["a b\\n"]: is not known here'),
        ("[]", "must be an object"),
        ("null", "must be an object"),
        ('{"batch_count": NaN}', "NaN is no JSON number"),
        ('{"batch_count": -Infinity}', "-Infinity is no JSON number"),
        (third_market(outcomes=[math.inf]), "Infinity is no JSON number"),
        ('{"batch_count": 1e999}', "the number 1e999 is too large"),
        ('{"batch_count": ' + "1" * 5000 + "}", "has a number of too many digits"),
        ("[" * 100_000, "is nested too deeply"),
        (b'{"batch_count": \xff}', "is not UTF-8 (byte 17)"),
        ("{} {}", "is no JSON: Extra data, column 4"),
    ],
)
def test_a_bad_line_says_where_and_what(line: str | bytes | dict[str, Any], problem: str) -> None:
    """The line's number and the field's path, on one line."""
    batches, problems = read({}, line)
    assert len(batches) == 1
    assert len(problems) == 1
    assert problems[0].startswith(f"in.ndjson, line 2: {problem}")
    assert "\n" not in problems[0]


def test_times_of_any_offset_are_the_same_moment() -> None:
    """They become UTC; Z is one too."""
    batches, problems = read(
        {"confirmed_at": AT},
        {"confirmed_at": "2025-08-15T21:00:00+02:00"},
        {"confirmed_at": AT[:-6] + "Z"},
    )
    assert not problems
    assert {b.confirmed_at for b in batches} == {datetime(2025, 8, 15, 19, tzinfo=UTC)}


def test_a_doubled_key_and_a_byte_order_mark_do_no_harm() -> None:
    """The last one of a key holds, as in any JSON reader."""
    batches, problems = read(b'\xef\xbb\xbf{"batch_count": 1, "batch_count": 2}')
    assert not problems
    assert batches[0].batch_count == 2
