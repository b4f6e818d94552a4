"""The records: names, order and defaults that scrapers rely on, refusals, normalisations."""

import copy
import dataclasses
import pickle
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import IntEnum
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given

from oddslog.schemas.errors import InvalidRecordError, OddslogError
from oddslog.schemas.records import (
    CompetitorSnapshotKey,
    CompetitorSnapshotWriteData,
    MarketWriteData,
    SnapshotKey,
    SnapshotWriteData,
    WriteBatch,
)

from .test_schemas_strategies import BATCHES, CHECKED, MOMENTS

NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
NEEDED = dataclasses.MISSING

FIELDS: dict[type, list[tuple[str, Any]]] = {
    MarketWriteData: [
        ("betpawa_market_id", NEEDED),
        ("betpawa_market_name", NEEDED),
        ("line", NEEDED),
        ("handicap_type", NEEDED),
        ("handicap_home", NEEDED),
        ("handicap_away", NEEDED),
        ("outcomes", NEEDED),
        ("market_groups", NEEDED),
    ],
    SnapshotWriteData: [
        ("event_id", NEEDED),
        ("bookmaker_id", NEEDED),
        ("scrape_run_id", NEEDED),
        ("raw_response", NEEDED),
        ("markets", NEEDED),
        ("captured_at", None),
    ],
    CompetitorSnapshotWriteData: [
        ("competitor_event_id", NEEDED),
        ("scrape_run_id", NEEDED),
        ("raw_response", NEEDED),
        ("markets", NEEDED),
        ("captured_at", None),
    ],
    SnapshotKey: [("event_id", NEEDED), ("bookmaker_id", NEEDED), ("captured_at", NEEDED)],
    CompetitorSnapshotKey: [("competitor_event_id", NEEDED), ("captured_at", NEEDED)],
    WriteBatch: [
        ("changed_betpawa", NEEDED),
        ("changed_competitor", NEEDED),
        ("unchanged_betpawa_ids", NEEDED),
        ("unchanged_competitor_ids", NEEDED),
        ("scrape_run_id", NEEDED),
        ("batch_index", NEEDED),
        ("unchanged_betpawa", ()),
        ("unchanged_competitor", ()),
        ("confirmed_at", None),
        ("batch_count", None),
    ],
}


def market(**changes: Any) -> MarketWriteData:
    """A market, any field changed."""
    fields: dict[str, Any] = dict.fromkeys((name for name, _ in FIELDS[MarketWriteData]), None)
    given = {"betpawa_market_id": "1", "betpawa_market_name": "1X2", "outcomes": []}
    return MarketWriteData(**{**fields, **given, **changes})


def betpawa(**changes: Any) -> SnapshotWriteData:
    """A BetPawa snapshot, any field changed."""
    fields: dict[str, Any] = {"event_id": 1, "bookmaker_id": 2, "scrape_run_id": 3}
    return SnapshotWriteData(**{**fields, "raw_response": None, "markets": (), **changes})


def competitor(**changes: Any) -> CompetitorSnapshotWriteData:
    """A competitor snapshot, any field changed."""
    fields: dict[str, Any] = {"competitor_event_id": 1, "scrape_run_id": 3, "raw_response": None}
    return CompetitorSnapshotWriteData(**{**fields, "markets": (), **changes})


def key(**changes: Any) -> SnapshotKey:
    """A BetPawa key, any field changed."""
    return SnapshotKey(**{"event_id": 1, "bookmaker_id": 2, "captured_at": NOON, **changes})


def rival_key(**changes: Any) -> CompetitorSnapshotKey:
    """A competitor key, any field changed."""
    return CompetitorSnapshotKey(**{"competitor_event_id": 1, "captured_at": NOON, **changes})


def batch(**changes: Any) -> WriteBatch:
    """A batch, any field changed."""
    fields: dict[str, Any] = {
        "changed_betpawa": (),
        "changed_competitor": (),
        "unchanged_betpawa_ids": (),
        "unchanged_competitor_ids": (),
        "scrape_run_id": None,
        "batch_index": 0,
    }
    return WriteBatch(**{**fields, **changes})


RECORDS: list[Callable[..., Any]] = [market, betpawa, competitor, key, rival_key, batch]

TEXT_FIELDS = [
    (market, name) for name in ("betpawa_market_id", "betpawa_market_name", "handicap_type")
]
FLOAT_FIELDS = [(market, name) for name in ("line", "handicap_home", "handicap_away")]
INT_FIELDS: list[tuple[Callable[..., Any], str]] = [
    (betpawa, "event_id"),
    (betpawa, "bookmaker_id"),
    (betpawa, "scrape_run_id"),
    (competitor, "competitor_event_id"),
    (competitor, "scrape_run_id"),
    (key, "event_id"),
    (key, "bookmaker_id"),
    (rival_key, "competitor_event_id"),
    (batch, "scrape_run_id"),
    (batch, "batch_index"),
    (batch, "batch_count"),
]
TIME_FIELDS: list[tuple[Callable[..., Any], str]] = [
    (betpawa, "captured_at"),
    (competitor, "captured_at"),
    (key, "captured_at"),
    (rival_key, "captured_at"),
    (batch, "confirmed_at"),
]
TUPLE_FIELDS: list[tuple[Callable[..., Any], str, Callable[..., Any]]] = [
    (betpawa, "markets", market),
    (competitor, "markets", market),
    (batch, "changed_betpawa", betpawa),
    (batch, "changed_competitor", competitor),
    (batch, "unchanged_betpawa", key),
    (batch, "unchanged_competitor", rival_key),
]
ID_FIELDS = ["unchanged_betpawa_ids", "unchanged_competitor_ids"]


def refused(make: Callable[..., Any], field: str, value: object) -> InvalidRecordError:
    """The error of a value, which names its field."""
    with pytest.raises(InvalidRecordError) as caught:
        make(**{field: value})
    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field}: ")
    return caught.value


@pytest.mark.parametrize("record", FIELDS, ids=lambda record: record.__name__)
def test_names_order_and_defaults_are_the_scrapers(record: type) -> None:
    """DESIGN 4: a scraper written for these records works unchanged."""
    fields = dataclasses.fields(record)
    assert [(field.name, field.default) for field in fields] == FIELDS[record]
    assert all(field.default_factory is NEEDED for field in fields)
    assert not any(field.kw_only for field in fields)


def test_old_positional_construction_works() -> None:
    """As the scraper did before the new fields were there."""
    old_market = MarketWriteData("3743", "1X2", None, None, None, None, [{"odds": 1.5}], ["main"])
    old_betpawa = SnapshotWriteData(11, 1, 7, {"raw": True}, (old_market,))
    old_competitor = CompetitorSnapshotWriteData(12, None, [1], ())
    old = WriteBatch((old_betpawa,), (old_competitor,), (1, 2), (3,), 7, 0)
    assert old_betpawa.captured_at is None
    assert old_betpawa.markets[0].market_groups == ["main"]
    assert (old.scrape_run_id, old.batch_index, old.confirmed_at) == (7, 0, None)
    assert (old.unchanged_betpawa, old.unchanged_competitor, old.batch_count) == ((), (), None)


@pytest.mark.parametrize("make", RECORDS)
def test_records_are_frozen_and_closed(make: Callable[..., Any]) -> None:
    """Neither a field nor a new attribute can be set."""
    record = make()
    first = dataclasses.fields(record)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(record, first, getattr(record, first))
    # Python 3.11 says TypeError here: dataclass and slots together.
    with pytest.raises((AttributeError, TypeError)):
        record.something_else = 1


@CHECKED
@given(BATCHES)
def test_records_survive_copying_and_pickling(whole: WriteBatch) -> None:
    """A batch can go to another process and be built anew."""
    assert pickle.loads(pickle.dumps(whole)) == whole  # noqa: S301 - our own bytes
    assert copy.deepcopy(whole) == whole
    assert dataclasses.replace(whole) == whole


@pytest.mark.parametrize(("make", "field"), TEXT_FIELDS)
@pytest.mark.parametrize("value", [7, b"bytes", ["a"], "a\0b", "\ud800", "pair \ud83d\ude00 apart"])
def test_text_that_cannot_be_stored_is_refused(
    make: Callable[..., Any], field: str, value: object
) -> None:
    """Not text, NUL, lone surrogates."""
    refused(make, field, value)


def test_an_empty_or_missing_market_id_is_refused() -> None:
    """An empty name is not: it is said in the tables as it is."""
    assert refused(market, "betpawa_market_id", "").problem == "is empty"
    assert "NoneType" in refused(market, "betpawa_market_id", None).problem
    assert "int" in refused(market, "betpawa_market_id", 0).problem
    assert market(betpawa_market_name="").betpawa_market_name == ""


@pytest.mark.parametrize(("make", "field"), FLOAT_FIELDS)
@pytest.mark.parametrize(
    "value",
    [True, False, "2.5", Decimal("2.5"), 1j, float("nan"), float("inf"), float("-inf"), 10**400],
)
def test_numbers_that_are_no_finite_float_are_refused(
    make: Callable[..., Any], field: str, value: object
) -> None:
    """Also bool, which Python counts among the ints."""
    refused(make, field, value)


@pytest.mark.parametrize(("make", "field"), INT_FIELDS)
@pytest.mark.parametrize("value", [True, 1.0, "1", Decimal(1), 2**63, -(2**63) - 1])
def test_ints_that_fit_no_bigint_are_refused(
    make: Callable[..., Any], field: str, value: object
) -> None:
    """Also bool, and floats that are whole."""
    refused(make, field, value)


@pytest.mark.parametrize(("make", "field"), INT_FIELDS)
@pytest.mark.parametrize("value", [0, -1, 2**63 - 1, -(2**63)])
def test_every_64_bit_int_is_taken(make: Callable[..., Any], field: str, value: int) -> None:
    """What narrower columns cannot hold is the sink's to say."""
    assert getattr(make(**{field: value}), field) == value


@pytest.mark.parametrize(("make", "field"), TIME_FIELDS)
@pytest.mark.parametrize(
    "value",
    [
        datetime(2026, 3, 1),  # noqa: DTZ001 - naive on purpose
        date(2026, 3, 1),
        1772366400,
        "2026-03-01T12:00:00Z",
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1))),
        datetime(9999, 12, 31, 23, 59, tzinfo=timezone(timedelta(hours=-1))),
    ],
)
def test_times_that_are_no_moment_are_refused(
    make: Callable[..., Any], field: str, value: object
) -> None:
    """Naive ones above all: they once failed every batch of the scraper."""
    refused(make, field, value)


def test_the_refusal_of_a_naive_time_says_what_to_do() -> None:
    """In one line."""
    error = refused(betpawa, "captured_at", datetime(2026, 3, 1))  # noqa: DTZ001 - naive on purpose
    assert str(error) == (
        "captured_at: is naive; give it a time zone, e.g. datetime.now(timezone.utc)"
    )


@pytest.mark.parametrize(("make", "field", "member"), TUPLE_FIELDS)
def test_lists_become_tuples_and_foreign_members_are_refused(
    make: Callable[..., Any], field: str, member: Callable[..., Any]
) -> None:
    """Also None and a single record in the place of many."""
    one = member()
    assert getattr(make(**{field: [one, one]}), field) == (one, one)
    assert getattr(make(**{field: iter([one])}), field) == (one,)
    for wrong in (None, 5, one, [None], [one, {}], "ab"):
        refused(make, field, wrong)


@pytest.mark.parametrize("field", ID_FIELDS)
def test_plain_ids_become_a_tuple_of_ints(field: str) -> None:
    """Ids below 1 are taken: dropping and counting them is the queue's."""
    assert getattr(batch(**{field: [0, -1, 5]}), field) == (0, -1, 5)
    for wrong in (None, 5, [True], [1.0], ["1"], "12", [2**63]):
        refused(batch, field, wrong)


@pytest.mark.parametrize(("make", "field"), FLOAT_FIELDS)
def test_numbers_become_floats(make: Callable[..., Any], field: str) -> None:
    """An int, a subclass, and a negative zero, which would hash as another content."""

    class Line(IntEnum):
        TWO = 2

    assert repr(getattr(make(**{field: 2}), field)) == "2.0"
    assert repr(getattr(make(**{field: Line.TWO}), field)) == "2.0"
    assert repr(getattr(make(**{field: -0.0}), field)) == "0.0"
    assert repr(getattr(make(**{field: -0.25}), field)) == "-0.25"
    assert getattr(make(**{field: None}), field) is None


@pytest.mark.parametrize(("make", "field"), TIME_FIELDS)
def test_other_time_zones_become_utc(make: Callable[..., Any], field: str) -> None:
    """The same instant, microseconds included; also in the hour that comes twice."""
    for zone in (timezone(timedelta(hours=5, minutes=45)), ZoneInfo("Europe/London")):
        record = make(**{field: NOON.astimezone(zone)})
        assert getattr(record, field) == NOON
        assert getattr(record, field).tzinfo is UTC
    twice = datetime(2025, 10, 26, 1, 30, tzinfo=ZoneInfo("Europe/London"))
    first = getattr(make(**{field: twice}), field)
    second = getattr(make(**{field: twice.replace(fold=1)}), field)
    assert second - first == timedelta(hours=1)


@CHECKED
@given(MOMENTS)
def test_every_moment_from_year_1_to_9999_is_kept(moment: datetime) -> None:
    """To the microsecond, whatever zone says it."""
    record = betpawa(captured_at=moment)
    assert record.captured_at == moment
    assert record.captured_at.tzinfo is UTC


def test_keys_sort_by_their_fields() -> None:
    """Rows are locked in key order."""
    late = key(captured_at=NOON + timedelta(microseconds=1))
    assert sorted([key(event_id=2), late, key()]) == [key(), late, key(event_id=2)]
    assert len({key(), key(captured_at=NOON.astimezone(ZoneInfo("Asia/Tokyo")))}) == 1


def test_a_refusal_is_a_value_error_that_survives_pickling() -> None:
    """It may cross a process pool, with its field."""
    error = refused(market, "line", True)
    assert isinstance(error, ValueError)
    assert isinstance(error, OddslogError)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (again.field, again.problem, str(again)) == (error.field, error.problem, str(error))


@pytest.mark.parametrize("moment", [datetime.min, datetime.max])  # noqa: DTZ901 - aware below
def test_the_two_moments_that_are_stored_as_infinity_are_refused(moment: datetime) -> None:
    """PostgreSQL's driver takes them for -infinity and infinity."""
    with pytest.raises(InvalidRecordError, match=r"^captured_at: .*infinity"):
        SnapshotKey(1, 1, moment.replace(tzinfo=UTC))
