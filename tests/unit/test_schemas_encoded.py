"""Markets encoded in blocks: fastavro says what the bytes are, going one by one what they say."""

from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oddslog.schemas.codec import (
    AnySnapshot,
    EventWrites,
    SnapshotRecord,
    decode,
    encode,
    snapshot_part,
)
from oddslog.schemas.encoded_markets import EncodedMarkets, encode_block, long_bytes
from oddslog.schemas.errors import InvalidRecordError
from oddslog.schemas.framing import CURRENT_SCHEMA, frame, writer_schema
from oddslog.schemas.json_text import are_plain, is_plain, plain_lines, text_of
from oddslog.schemas.records import MarketWriteData, SnapshotWriteData

from .test_schemas_golden import golden_fragments
from .test_schemas_strategies import CHECKED, DOCUMENTS, INT64, SNAPSHOTS, fragment_of

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def by_fastavro(fragment: EventWrites) -> bytes:
    """What fastavro writes for it."""
    body = BytesIO()
    record = {name: getattr(fragment, name) for name in EventWrites.__slots__}
    snapshots = [{**one, "markets": list(one["markets"])} for one in fragment.snapshots]
    record |= {"kind": fragment.kind.name, "snapshots": snapshots}
    fastavro.schemaless_writer(body, writer_schema(CURRENT_SCHEMA), record)
    return frame() + body.getvalue()


def market(outcomes: Any, **changes: Any) -> MarketWriteData:
    """A market with this document."""
    fields: dict[str, Any] = {
        "betpawa_market_id": "5000",
        "betpawa_market_name": "Over/Under",
        "line": 2.5,
        "handicap_type": None,
        "handicap_home": None,
        "handicap_away": None,
        "market_groups": ["all"],
    }
    return MarketWriteData(**{**fields, "outcomes": outcomes, **changes})


def record_of(*markets: MarketWriteData) -> SnapshotRecord:
    """The markets as a snapshot's record."""
    return snapshot_part(SnapshotWriteData(1, 1, None, None, markets, NOON)).record


def alone(one: AnySnapshot) -> SnapshotRecord:
    """The record of a snapshot whose markets were looked at one by one."""
    odd = market({"odds": 1e-7})
    whole = snapshot_part(replace(one, markets=(*one.markets, odd))).record
    assert not isinstance(whole["markets"], EncodedMarkets)
    return whole


@CHECKED
@given(SNAPSHOTS)
def test_the_bytes_are_those_of_fastavro(whole: AnySnapshot) -> None:
    """Of any snapshot, plain or not, also where both kinds are in one fragment."""
    part = snapshot_part(whole)
    for snapshots in ([part.record], [part.record, alone(whole)], []):
        fragment = replace(fragment_of(part), snapshots=snapshots)
        assert encode(fragment) == by_fastavro(fragment)


@pytest.mark.parametrize("fragment", golden_fragments().values(), ids=golden_fragments())
def test_golden_fragments_are_written_as_fastavro_does(fragment: EventWrites) -> None:
    """Confirmations, ids, extremes."""
    assert encode(fragment) == by_fastavro(fragment)


@CHECKED
@given(SNAPSHOTS)
def test_a_block_says_what_its_markets_say_one_by_one(whole: AnySnapshot) -> None:
    """The same records; where it is refused, something in it is not plain."""
    block = encode_block(whole.markets)
    one_by_one = alone(whole)["markets"][:-1]
    if block is None:
        documents = [d for m in whole.markets for d in (m.outcomes, m.market_groups)]
        numbers = [n for m in whole.markets for n in (m.line, m.handicap_home, m.handicap_away)]
        plain = is_plain([*documents, numbers], 201)
        assert not plain or plain_lines(documents) is None
    else:
        assert list(EncodedMarkets(block[0], len(whole.markets))) == one_by_one


@CHECKED
@given(st.lists(DOCUMENTS | st.floats() | st.text(max_size=3), max_size=4), st.integers(0, 4))
def test_level_by_level_is_plain_as_one_by_one(nodes: list[Any], depth: int) -> None:
    """To any depth, not-a-numbers and infinities as well."""
    assert are_plain(nodes, depth) is is_plain(nodes, depth + 1)


def test_a_nan_among_others_is_seen() -> None:
    """Wherever it stands: neither the least nor the greatest tells."""
    nan, infinity = float("nan"), float("inf")
    for numbers in ([1.0, nan], [nan, 1.0], [1.0, infinity], [-infinity, 1.0], [1e300] * 2):
        assert not are_plain(numbers, 1)
    assert are_plain([1.0, 0.0, -2.5, 1e15], 1)


def test_what_contains_itself_ends() -> None:
    """At once, and is refused by who looks at it alone."""
    twice: list[Any] = []
    twice += [twice, twice]
    assert not are_plain([twice], 200)
    with pytest.raises(InvalidRecordError, match=r"markets\[1\]\.outcomes.*nested deeper"):
        record_of(market([]), market(twice))


@pytest.mark.parametrize(
    "outcomes",
    [
        [{"name": "\0"}],
        [{"name": "\ud800"}],
        [{"odds": 10**40}],
        [{"odds": 1e16}],
        [{"odds": 1e-5}],
    ],
)
def test_a_market_that_is_not_plain_leaves_the_others_as_they_are(outcomes: Any) -> None:
    """The block is gone through one by one; each text is as it would be alone."""
    good, bad = market([{"name": "1", "odds": 1.5}]), market(outcomes)
    assert encode_block([good, bad]) is None
    found = record_of(good, bad)["markets"]
    assert not isinstance(found, EncodedMarkets)
    assert [m["outcomes"] for m in found] == [
        record_of(one)["markets"][0]["outcomes"] for one in (good, bad)
    ]


@pytest.mark.parametrize("outcomes", [[{1: 2}], [(1, 2)], [{"at": NOON}], (1, 2), "text", None])
def test_what_is_no_json_is_refused_by_name(outcomes: Any) -> None:
    """Though orjson would write some of it."""
    with pytest.raises(InvalidRecordError, match=r"markets\[1\]\.outcomes"):
        record_of(market([]), market(outcomes))


def test_line_breaks_and_separators_in_texts_are_no_borders() -> None:
    """The texts are cut where a bare line break stands."""
    documents = [["a\n,b", ",\n,"], {"\n": None}, None, [], {}, ["]"], [",\\n,"]]
    assert plain_lines(documents) == [text_of(document).encode() for document in documents]
    assert plain_lines([]) == []


def test_many_and_long_markets() -> None:
    """More than a block, more than is remembered, texts of each length of a length."""
    markets = [
        market(
            ["x" * (n % 70), "y" * (9000 if n % 1000 == 0 else 60)],
            betpawa_market_id=f"{n}",
            line=n / 4,
            market_groups=None if n % 3 else [f"g{n}" * (n % 90)],
        )
        for n in range(5000)
    ]
    fragment = replace(fragment_of(), event_id=1, snapshots=[record_of(*markets)])
    value = encode(fragment)
    assert value == by_fastavro(fragment)
    found = decode(value).snapshots[0]["markets"]
    assert [m["line"] for m in found] == [m.line for m in markets]


def test_no_groups_are_none_whatever_is_forgotten() -> None:
    """More different groups than are remembered; seen once as JSON's null afterwards."""
    groups: list[Any] = [None, *([f"g{n}"] for n in range(9000)), None]
    found = record_of(*(market([], market_groups=one) for one in groups))["markets"]
    texts = [None if one is None else f'["{one[0]}"]' for one in groups]
    assert [m["market_groups"] for m in found] == texts


@given(INT64)
def test_longs(number: int) -> None:
    """As fastavro writes them; 65 bits are refused."""
    body = BytesIO()
    fastavro.schemaless_writer(body, "long", number)
    assert long_bytes(number) == body.getvalue()
    for outside in (2**63, -(2**63) - 1):
        with pytest.raises(OverflowError):
            long_bytes(outside)


def test_a_sequence_of_records() -> None:
    """By index and by slice; equal to the list from both sides; of no use as a key."""
    markets = record_of(market([1]), market([2]))["markets"]
    assert isinstance(markets, EncodedMarkets)
    plain = list(markets)
    assert (len(markets), markets[-1], markets[:1]) == (2, plain[1], plain[:1])
    assert markets == plain
    assert plain == markets
    assert markets == EncodedMarkets(markets.avro, 2)
    assert repr(markets) == repr(plain)
    with pytest.raises(TypeError):
        hash(markets)
