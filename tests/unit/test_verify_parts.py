"""The pure parts of a verification: comparing, placing, marking, reading headers."""

import random
from datetime import timedelta

import pytest

from oddslog.schemas.wire import HEADER_REDRIVE_OF, Kind
from oddslog.sink.errors import WrongLogError
from oddslog.sink.items import Key, LogRecord
from oddslog.sink.positions import Gap, LogRange
from oddslog.sink.verify_compare import (
    StoredMarkets,
    differing_field,
    fits_tables,
    same_document,
)
from oddslog.sink.verify_logs import Logs, LogSpan, ReadableLog, Source, Where, check_span
from oddslog.sink.verify_marks import CONFIRMED, SEEN, SOURCED, Marks
from oddslog.sink.verify_redrives import NamedLetter, Redriven, redriven_of, status_by_redrive
from tests.support.batches import NOON
from tests.support.fragments import record


def stored(**changes: list[object]) -> StoredMarkets:
    """The rows of the ordinary snapshot's two markets."""
    markets = record()["markets"]
    columns = {name: [market[name] for market in markets] for name in StoredMarkets._fields[:8]}  # type: ignore[literal-required]
    return StoredMarkets(**{**columns, "captured_at": [NOON, NOON], **changes})


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ('{"a":1}', '{"a": 1}', True),
        ('{"a":1,"b":2}', '{"b":2,"a":1}', True),
        ("[1.0]", "[1]", True),
        ("[1e2]", "[100]", True),
        ("[1]", "[true]", False),
        ("[0.1]", "[0.10000000000000000001]", False),
        ("[1,2]", "[2,1]", False),
        ("[]", None, False),
        (None, None, True),
        ("[", "[ ", False),
        ("[" * 5000 + "]" * 5000, "[]", False),
        ("[NaN]", "[NaN ]", True),
        ("null", None, False),
    ],
)
def test_documents_are_compared_by_exact_value(
    one: str | None, other: str | None, same: bool
) -> None:
    """Spelling does not matter; type and the last digit do."""
    assert same_document(one, other) is same
    assert same_document(other, one) is same


def test_equal_markets_have_no_difference() -> None:
    """Also where a document is spelled as `jsonb` does."""
    markets = record()["markets"]
    assert differing_field(markets, stored(), NOON) is None
    spelled = ['["Goals",  "Main"]'] * 2
    assert differing_field(markets, stored(market_groups=[*spelled]), NOON) is None


@pytest.mark.parametrize("column", StoredMarkets._fields)
def test_each_column_is_compared(column: str) -> None:
    """One value of the second market changed: it is named."""
    values = list(getattr(stored(), column))
    other = NOON + timedelta(microseconds=1) if column == "captured_at" else None
    values[1] = "x" if column != "captured_at" and values[1] is None else other
    found = differing_field(record()["markets"], stored(**{column: values}), NOON)
    assert found is not None
    assert found.field == f"markets[1].{column}"


def test_a_market_too_few_or_too_many_is_named() -> None:
    """With how many there are."""
    markets = record()["markets"]
    fewer = StoredMarkets(*(column[:1] for column in stored()))
    missing = differing_field(markets, fewer, NOON)
    assert missing is not None
    assert missing.what == "markets: 2 in the log, 1 in the table; the first that differs is" + (
        " market '5002'"
    )
    more = differing_field(markets[:1], stored(), NOON)
    assert more is not None
    assert more.what.endswith("market '5002' is one too many")


def test_keys_that_no_table_holds() -> None:
    """The driver would refuse to look for them."""
    assert fits_tables(Key(2**31 - 1, -(2**31), NOON))
    assert not fits_tables(Key(2**31, 1, NOON))
    assert not fits_tables(Key(1, -(2**31) - 1, NOON))


def logs(**changes: object) -> Logs:
    """A log of one partition: held from 10 to 100, written from 20 to 80; another unread."""
    span = LogSpan(LogRange(10, 100), 20, 80)
    return Logs({1: ReadableLog(1, "t", {0: span}, (1,))}, frozenset({1, 2}), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("source", "where"),
    [
        ((None, None, None), Where.NOWHERE),
        ((1, 0, None), Where.BROKEN),
        ((None, 0, 5), Where.BROKEN),
        ((3, 0, 5), Where.UNKNOWN_LOG),
        ((2, 0, 5), Where.UNREADABLE),
        ((1, 1, 5), Where.BEYOND),
        ((1, 0, -1), Where.BEYOND),
        ((1, 0, 9), Where.NOT_IN_LOG),
        ((1, 0, 10), Where.MAY),
        ((1, 0, 19), Where.MAY),
        ((1, 0, 20), Where.MUST),
        ((1, 0, 79), Where.MUST),
        ((1, 0, 80), Where.MAY),
        ((1, 0, 99), Where.MAY),
        ((1, 0, 100), Where.BEYOND),
    ],
)
def test_where_a_row_says_it_is_from(
    source: tuple[int | None, int | None, int | None], where: Where
) -> None:
    """Every border once."""
    assert logs().where(Source(*source)) is where


def test_spans_cover_the_log_once() -> None:
    """What must and what may be there, at every position of the ledger."""
    for start, ledger_start, ledger_next in ((0, 0, 0), (0, 0, 9), (5, 0, 3), (5, 7, 9), (5, 7, 7)):
        span = LogSpan(LogRange(start, 9), ledger_start, ledger_next)
        ranges = (span.may[0], span.must, span.may[1])
        offsets = [n for held in ranges for n in range(held.start, held.end)]
        assert offsets == [*range(start, 9)], span
    assert not LogSpan(LogRange(0, 9), 0, 5, gaps=[Gap(0, 2)]).whole
    with pytest.raises(WrongLogError, match="partition 3: the ledger is at offset 10"):
        check_span("t", 3, LogSpan(LogRange(0, 9), 0, 10))


def test_marks_are_of_one_row_each() -> None:
    """Whatever ids there are."""
    marks, chance = Marks(), random.Random(1)  # noqa: S311 - seeded on purpose
    ids = [0, 255, 256, -1, 2**62, *(chance.randrange(10**6) for _ in range(500))]
    wanted: dict[int, int] = {}
    for row_id in ids:
        mark = chance.choice((SEEN, SOURCED, CONFIRMED))
        wanted[row_id] = wanted.get(row_id, 0) | mark
        marks.add(Kind.BETPAWA, row_id, mark)
    assert {row_id: marks.of(Kind.BETPAWA, row_id) for row_id in wanted} == wanted
    assert marks.of(Kind.BETPAWA, 1) == wanted.get(1, 0)
    assert not any(marks.of(Kind.COMPETITOR, row_id) for row_id in ids)


def sent_again(name: bytes | None) -> LogRecord:
    """A record whose header names a letter."""
    headers = [] if name is None else [(HEADER_REDRIVE_OF, name)]
    return LogRecord(2, 50, b"key", b"", headers, NOON)


@pytest.mark.parametrize(
    ("name", "named"),
    [
        (None, None),
        (b"cluster:topic/1/7/0", Redriven(1, 7, 0)),
        (b"c:t/1/7/-1", Redriven(1, 7, -1)),
        (b"1/7/0", None),
        (b"a/b/c/d", None),
        (b"x:t/1/99999999999999999999/0", None),
        (b"\xff/1/1/1", None),
        (b"x:t/1/7/-2", None),
    ],
)
def test_what_a_record_was_sent_again_for(name: bytes | None, named: Redriven | None) -> None:
    """Anyone may have written the header."""
    assert redriven_of(sent_again(name)) == named


def test_what_fails_again_is_in_the_letter_that_it_names() -> None:
    """But for the record that was written: its row has to be there."""
    again = sent_again(b"c:t/1/7/0")
    named = Redriven(1, 7, 0)
    assert status_by_redrive(again, 0, named, {}) is None
    failed = {(1, 7, 0): [NamedLetter("dead")]}
    assert status_by_redrive(again, 0, named, failed) == "dead"
    elsewhere = {(1, 7, 0): [NamedLetter("redriven", (2, 51))]}
    assert status_by_redrive(again, 0, named, elsewhere) == "redriven"
    here = {(1, 7, 0): [NamedLetter("redriven", (2, 50))]}
    assert status_by_redrive(again, 0, named, here) is None
    whole = Redriven(1, 7, -1)
    parts = {(1, 7, 1): [NamedLetter("dead")], (1, 7, -1): [NamedLetter("redriven", (2, 50))]}
    assert status_by_redrive(again, 1, whole, parts) == "dead"
    assert status_by_redrive(again, 0, whole, parts) is None
