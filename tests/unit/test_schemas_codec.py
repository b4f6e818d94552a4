"""The codec's way there and back: whatever can be constructed comes back equal."""

import json
import zlib
from collections import Counter
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oddslog.ingest.split import split
from oddslog.schemas.codec import (
    AnySnapshot,
    EventWrites,
    crc32_text,
    decode,
    decoded_hash,
    encode,
    snapshot_from_record,
    snapshot_part,
)
from oddslog.schemas.errors import InvalidRecordError
from oddslog.schemas.framing import frame
from oddslog.schemas.records import (
    CompetitorSnapshotKey,
    CompetitorSnapshotWriteData,
    MarketWriteData,
    SnapshotKey,
    SnapshotWriteData,
    WriteBatch,
)
from oddslog.schemas.wire import Kind

from .test_schemas_strategies import (
    BATCHES,
    BETPAWA,
    CHECKED,
    INT64,
    SNAPSHOTS,
    fragment_of,
)

NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
# Enough for a fragment without members: see FRAGMENT_FRAME_BYTES in ingest/split.py.
FRAGMENT_FRAME_BYTES = 200


def snapshot(outcomes: Any = None, *, raw: Any = None, **changes: Any) -> SnapshotWriteData:
    """A snapshot of one market."""
    outcomes = [] if outcomes is None else outcomes
    market = MarketWriteData("1", "1X2", None, None, None, None, outcomes, None)
    made: dict[str, Any] = {"markets": (market,), "captured_at": NOON, **changes}
    return SnapshotWriteData(11, 1, 7, raw, **made)


def there_and_back(given_snapshot: AnySnapshot) -> AnySnapshot:
    """The snapshot after the whole way."""
    fragment = decode(encode(fragment_of(snapshot_part(given_snapshot))))
    assert fragment.event_id is not None
    return snapshot_from_record(fragment.kind, fragment.event_id, fragment.snapshots[0])


def assert_same(found: object, expected: object) -> None:
    """Equal, and of the same types: 1, 1.0 and True differ, so do 0.0 and -0.0."""
    assert found == expected
    assert repr(found) == repr(expected)


@CHECKED
@given(SNAPSHOTS)
def test_any_snapshot_comes_back_equal(whole: AnySnapshot) -> None:
    """Field by field: microseconds, floats, 64-bit ints, big ints in JSON, unicode, nesting."""
    back = there_and_back(whole)
    assert type(back) is type(whole)
    for field in fields(whole):
        assert_same(getattr(back, field.name), getattr(whole, field.name))


@settings(CHECKED, max_examples=60)
@given(BATCHES, st.integers(1, 2000))
def test_any_batch_comes_back_equal_through_its_fragments(
    whole: WriteBatch, limit_bytes: int
) -> None:
    """Each member in exactly one fragment, and what is said of the whole in each."""
    changed: list[AnySnapshot] = [*whole.changed_betpawa, *whole.changed_competitor]
    parts = [snapshot_part(one) for one in changed]
    batch_id = UUID(int=7)
    planned = split(whole, parts, batch_id=batch_id, limit_bytes=limit_bytes)
    fragments = [decode(encode(fragment)) for fragment in planned]
    for index, fragment in enumerate(fragments):
        assert (fragment.batch_id, fragment.batch_index) == (batch_id, whole.batch_index)
        assert (fragment.fragment_index, fragment.fragment_count) == (index, len(fragments))
        assert (fragment.batch_count, fragment.scrape_run_id) == (
            whole.batch_count,
            whole.scrape_run_id,
        )
        confirms = bool(fragment.confirmations or fragment.unchanged_ids)
        assert fragment.confirmed_at == (whole.confirmed_at if confirms else None)
    found = Counter(name for fragment in fragments for name in members_of(fragment))
    expected = [
        *map(repr, whole.changed_betpawa),
        *map(repr, whole.changed_competitor),
        *map(repr, whole.unchanged_betpawa),
        *map(repr, whole.unchanged_competitor),
        *(f"betpawa {plain_id}" for plain_id in whole.unchanged_betpawa_ids),
        *(f"competitor {plain_id}" for plain_id in whole.unchanged_competitor_ids),
    ]
    assert found == Counter(expected)


def members_of(fragment: EventWrites) -> list[str]:
    """Everything in a fragment, as text that tells types apart."""
    kind, event_id = fragment.kind, fragment.event_id
    members = [f"{kind.value} {plain_id}" for plain_id in fragment.unchanged_ids]
    if event_id is None:
        assert not fragment.snapshots
        return members
    members += [repr(snapshot_from_record(kind, event_id, one)) for one in fragment.snapshots]
    for named in fragment.confirmations:
        at, bookmaker_id = named["captured_at"], named["bookmaker_id"]
        if bookmaker_id is None:
            members.append(repr(CompetitorSnapshotKey(event_id, at)))
        else:
            members.append(repr(SnapshotKey(event_id, bookmaker_id, at)))
    return members


@CHECKED
@given(SNAPSHOTS)
def test_size_bytes_is_an_upper_bound_of_the_encoded_size(whole: AnySnapshot) -> None:
    """And no wild one: splitting fills records to the limit by it."""
    part = snapshot_part(whole)
    empty = len(encode(fragment_of(kind=part.kind, event_id=part.event_id)))
    alone = len(encode(fragment_of(part))) - empty
    assert alone <= part.size_bytes <= alone + 80 + 72 * len(whole.markets)
    assert empty <= FRAGMENT_FRAME_BYTES


def test_size_bytes_holds_where_every_length_takes_its_most() -> None:
    """Texts of 100,000 characters of 4 bytes, ids of 64 bits, 3,000 markets."""
    text = "𝄞" * 100_000
    wide = MarketWriteData(text, text, 1.5, text, 1.5, 1.5, [text], [text])
    small = MarketWriteData("1", "", 1.5, "", 1.5, 1.5, {}, [])
    far = datetime(9999, 12, 31, tzinfo=UTC)
    whole = SnapshotWriteData(
        -(2**63), -(2**63), -(2**63), {"a": text}, (wide, *[small] * 3000), far
    )
    part = snapshot_part(whole)
    empty = len(encode(fragment_of(kind=part.kind, event_id=part.event_id)))
    assert len(encode(fragment_of(part))) - empty <= part.size_bytes


@CHECKED
@given(SNAPSHOTS)
def test_the_hash_carried_is_the_hash_of_what_was_decoded(whole: AnySnapshot) -> None:
    """So a conflict is one of content and never one of encoding."""
    part = snapshot_part(whole)
    fragment = decode(encode(fragment_of(part)))
    assert fragment.event_id is not None
    (record,) = fragment.snapshots
    assert record["content_hash"] == part.record["content_hash"]
    assert decoded_hash(fragment.kind, fragment.event_id, record) == record["content_hash"]


@settings(CHECKED, max_examples=30)
@given(BETPAWA, INT64)
def test_raw_response_and_run_are_not_in_the_hash(whole: SnapshotWriteData, run: int) -> None:
    """Resent by another run, without its raw response, it is a duplicate."""
    other = SnapshotWriteData(
        whole.event_id, whole.bookmaker_id, run, {"x": 1}, whole.markets, whole.captured_at
    )
    assert hash_of(other) == hash_of(whole)


def hash_of(whole: AnySnapshot) -> int:
    """Its content hash."""
    return snapshot_part(whole).record["content_hash"]


@pytest.mark.parametrize(
    "other",
    [
        [{"odds": 1}],
        [{"odds": True}],
        [{"odds": 1.0, "x": None}],
        [{"odds": 1.5}],
        {"odds": 1.0},
        [[{"odds": 1.0}]],
        [],
    ],
)
def test_other_content_has_another_hash(other: Any) -> None:
    """Also 1 for 1.0, as both are told apart on the way."""
    assert hash_of(snapshot(other)) != hash_of(snapshot([{"odds": 1.0}]))


def test_each_part_of_the_key_is_in_the_hash() -> None:
    """A competitor's event 11 is not BetPawa's, and a microsecond is another moment."""
    markets = snapshot().markets
    hashes = {
        hash_of(snapshot()),
        hash_of(snapshot(captured_at=NOON + timedelta(microseconds=1))),
        hash_of(SnapshotWriteData(12, 1, 7, None, markets, NOON)),
        hash_of(SnapshotWriteData(11, 2, 7, None, markets, NOON)),
        hash_of(CompetitorSnapshotWriteData(11, 7, None, markets, NOON)),
        hash_of(SnapshotWriteData(11, 1, 7, None, (*markets, *markets), NOON)),
    }
    assert len(hashes) == 6


def test_the_order_of_keys_is_not_in_the_hash_and_that_of_members_is() -> None:
    """JSON objects have no order, lists have."""
    assert hash_of(snapshot([{"a": 1, "b": 2}])) == hash_of(snapshot([{"b": 2, "a": 1}]))
    assert hash_of(snapshot([1, 2])) != hash_of(snapshot([2, 1]))


def test_the_raw_response_can_be_left_out() -> None:
    """Where the caller sends none, and an empty one is not none."""
    whole = snapshot(raw={"big": "x" * 1000})
    assert snapshot_part(whole, raw_response=False).record["raw_response"] is None
    assert snapshot_part(whole, raw_response=False).size_bytes < 300
    assert snapshot_part(snapshot(raw={})).record["raw_response"] == "{}"
    assert snapshot_part(snapshot(raw=[])).record["raw_response"] == "[]"


def test_an_unstamped_snapshot_is_refused() -> None:
    """The time is never the encoder's."""
    with pytest.raises(InvalidRecordError, match=r"^captured_at: is not stamped$"):
        snapshot_part(snapshot(captured_at=None))


def test_replacements_are_counted_over_all_documents() -> None:
    """Outcomes, groups and raw response; the hash is of what is stored."""
    market = MarketWriteData("1", "", None, None, None, None, ["a\0"], ["\ud800"])
    whole = SnapshotWriteData(1, 1, None, {"\0\0": 1}, (market,), NOON)
    part = snapshot_part(whole)
    assert part.replaced == 4
    back = there_and_back(whole)
    assert back.markets[0].outcomes == ["a\ufffd"]
    assert back.markets[0].market_groups == ["\ufffd"]
    assert back.raw_response == {"\ufffd\ufffd": 1}
    assert decoded_hash(part.kind, part.event_id, part.record) == part.record["content_hash"]


@pytest.mark.parametrize(
    ("whole", "field"),
    [
        (snapshot([{"odds": object()}]), "markets[0].outcomes[0].odds"),
        (snapshot({"odds": {1}}), "markets[0].outcomes.odds"),
        (snapshot(raw={"at": NOON}), "raw_response.at"),
        (snapshot(raw={"a": [0, float("nan")]}), "raw_response.a[1]"),
        (snapshot("text"), "markets[0].outcomes"),
    ],
)
def test_a_refused_document_is_named_with_its_market(whole: AnySnapshot, field: str) -> None:
    """So that the one among 17,000 can be found."""
    with pytest.raises(InvalidRecordError) as caught:
        snapshot_part(whole)
    assert caught.value.field == field


@pytest.mark.parametrize("wrong", [2**63, "7", [1], object()])
def test_a_fragment_that_the_schema_cannot_hold_is_refused(wrong: Any) -> None:
    """With our error, whatever the encoder raises."""
    fragment = fragment_of(confirmed_at=NOON, unchanged_ids=(wrong,))
    with pytest.raises(InvalidRecordError) as caught:
        encode(fragment)
    assert caught.value.field == "fragment"


def test_a_record_without_bookmaker_is_no_betpawa_snapshot() -> None:
    """For tools that build records by hand."""
    record = snapshot_part(snapshot()).record
    with pytest.raises(InvalidRecordError, match=r"^bookmaker_id: is missing$"):
        snapshot_from_record(Kind.BETPAWA, 11, {**record, "bookmaker_id": None})


def test_encoding_twice_gives_the_same_bytes_behind_one_frame() -> None:
    """A resend is byte for byte the first send; the checksum header is of all of it."""
    fragment = fragment_of(snapshot_part(snapshot(raw={"ä": 1})))
    value = encode(fragment)
    assert value == encode(decode(value))
    assert value.startswith(frame())
    assert crc32_text(value) == f"{zlib.crc32(value):08x}".encode()
    assert crc32_text(b"\x00\x00\x00\x00\xb6") == b"%08x" % zlib.crc32(b"\x00\x00\x00\x00\xb6")


def test_documents_travel_as_compact_utf8_text() -> None:
    """What goes into PostgreSQL's json columns untouched."""
    record = snapshot_part(snapshot([{"name": "Über", "odds": 1.50}])).record
    assert record["markets"][0]["outcomes"] == '[{"name":"Über","odds":1.5}]'
    assert json.loads(record["markets"][0]["outcomes"]) == [{"name": "Über", "odds": 1.5}]
