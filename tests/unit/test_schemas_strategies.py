"""Strategies for whatever can be constructed, and a test that they reach the edges.

Property tests here carry `@CHECKED`: no deadline (a deadline is a timed assertion),
and the same examples on each run in CI.
"""

import os
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any, TypeVar
from uuid import UUID

from hypothesis import HealthCheck, Phase, find, settings
from hypothesis import strategies as st

from oddslog.schemas.codec import ConfirmationRecord, EventWrites, SnapshotPart
from oddslog.schemas.records import (
    INT64_MAX,
    INT64_MIN,
    CompetitorSnapshotKey,
    CompetitorSnapshotWriteData,
    MarketWriteData,
    SnapshotKey,
    SnapshotWriteData,
    WriteBatch,
)
from oddslog.schemas.wire import Kind

T = TypeVar("T")

CHECKED = settings(
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.too_slow],
)

INT64 = st.integers(INT64_MIN, INT64_MAX)
IDS = st.integers(1, 50) | INT64
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**300), 10**300)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**400), 10**400)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
)


def _containers(members: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(members, max_size=3) | st.dictionaries(TEXT, members, max_size=3)


DOCUMENTS: st.SearchStrategy[Any] = _containers(st.recursive(SCALARS, _containers, max_leaves=4))

_OFFSETS = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
_ZONES: st.SearchStrategy[tzinfo] = st.just(UTC) | _OFFSETS


def _in_zone(moment: datetime, zone: tzinfo) -> datetime:
    try:
        return moment.astimezone(zone)
    except OverflowError:  # beyond the years 1 to 9999 in that zone
        return moment


# All moments from the year 1 to 9999 UTC but the very first and last, which are
# refused, said in any time zone.
_FIRST = datetime(1, 1, 1, 0, 0, 0, 1)  # noqa: DTZ001 - st.datetimes wants naive ones
_LAST = datetime(9999, 12, 31, 23, 59, 59, 999998)  # noqa: DTZ001
_EDGES = st.sampled_from([_FIRST.replace(tzinfo=UTC), _LAST.replace(tzinfo=UTC)])
# (No `fold`: in UTC it means nothing, and would only differ in the `repr`.)
_UTC_MOMENTS = (
    st.datetimes(_FIRST, _LAST).map(lambda moment: moment.replace(tzinfo=UTC, fold=0)) | _EDGES
)
MOMENTS = st.builds(_in_zone, _UTC_MOMENTS, _ZONES)

MARKETS = st.builds(
    MarketWriteData,
    TEXT.filter(bool),
    TEXT,
    st.none() | NUMBERS,
    st.none() | TEXT,
    st.none() | NUMBERS,
    st.none() | NUMBERS,
    DOCUMENTS,
    st.none() | st.lists(TEXT, max_size=3),
)
_MARKET_TUPLES = st.lists(MARKETS, max_size=2).map(tuple)

BETPAWA = st.builds(
    SnapshotWriteData,
    IDS,
    IDS,
    st.none() | INT64,
    st.none() | DOCUMENTS,
    _MARKET_TUPLES,
    MOMENTS,
)
COMPETITORS = st.builds(
    CompetitorSnapshotWriteData,
    IDS,
    st.none() | INT64,
    st.none() | DOCUMENTS,
    _MARKET_TUPLES,
    MOMENTS,
)
SNAPSHOTS: st.SearchStrategy[SnapshotWriteData | CompetitorSnapshotWriteData] = (
    BETPAWA | COMPETITORS
)


def _few(members: st.SearchStrategy[T]) -> st.SearchStrategy[tuple[T, ...]]:
    return st.lists(members, max_size=2).map(tuple)


BATCHES = st.builds(
    WriteBatch,
    _few(BETPAWA),
    _few(COMPETITORS),
    _few(INT64),
    _few(INT64),
    st.none() | INT64,
    INT64,
    _few(st.builds(SnapshotKey, IDS, IDS, MOMENTS)),
    _few(st.builds(CompetitorSnapshotKey, IDS, MOMENTS)),
    MOMENTS,
    st.none() | INT64,
)


def fragment_of(
    part: SnapshotPart | None = None,
    *,
    kind: Kind = Kind.BETPAWA,
    event_id: int | None = None,
    confirmations: tuple[ConfirmationRecord, ...] = (),
    confirmed_at: datetime | None = None,
    unchanged_ids: tuple[int, ...] = (),
) -> EventWrites:
    """The only fragment of its batch, around one snapshot or confirmations."""
    return EventWrites(
        batch_id=UUID("12345678-1234-5678-1234-567812345678"),
        batch_index=3,
        batch_count=26,
        fragment_index=0,
        fragment_count=1,
        scrape_run_id=42,
        kind=kind if part is None else part.kind,
        event_id=event_id if part is None else part.event_id,
        snapshots=[] if part is None else [part.record],
        confirmed_at=confirmed_at,
        confirmations=list(confirmations),
        unchanged_ids=list(unchanged_ids),
    )


def test_the_strategies_reach_the_edges() -> None:
    """A negative zero in a document, a non-ASCII id, the years 1 and 9999."""
    quiet = settings(
        CHECKED, derandomize=True, database=None, max_examples=2000, phases=[Phase.generate]
    )
    find(SCALARS, lambda scalar: repr(scalar) == "-0.0", settings=quiet)
    find(DOCUMENTS, lambda document: "[[" in repr(document), settings=quiet)
    find(TEXT, lambda text: any(character > "\uffff" for character in text), settings=quiet)
    find(MOMENTS, lambda moment: moment.year == 1, settings=quiet)
    find(MOMENTS, lambda moment: moment.year == 9999, settings=quiet)
    find(MOMENTS, lambda moment: moment.microsecond % 1000 != 0, settings=quiet)
