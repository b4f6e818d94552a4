"""Packed markets: fastavro says what the bytes mean, PostgreSQL's COPY takes them as they are."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oddslog.schemas.codec import (
    AnySnapshot,
    EventWrites,
    MarketRecord,
    decode,
    encode,
    snapshot_part,
)
from oddslog.schemas.errors import DecodeError
from oddslog.schemas.framing import frame
from oddslog.schemas.records import MarketWriteData, SnapshotWriteData
from oddslog.sink.packed import PACKED_FIELDS, PackedMarkets, pack, row_start
from oddslog.sink.packed_fragment import decode_packed, pack_encoded
from tests.support.batches import NOON
from tests.support.fragments import good, holding, record, with_market
from tests.support.mutations import corpus, mutants

from .test_schemas_golden import BINARIES
from .test_schemas_strategies import CHECKED, SNAPSHOTS, fragment_of

MARKET: MarketRecord = {
    "betpawa_market_id": "5000",
    "betpawa_market_name": "Over/Under - FT",
    "line": 2.5,
    "handicap_type": None,
    "handicap_home": None,
    "handicap_away": None,
    "outcomes": "[1]",
    "market_groups": None,
}


def said(value: bytes, how: Any) -> str:
    """What a decoder makes of the bytes: NaN and -0.0 differ, and so do kinds of errors."""
    try:
        return repr(how(value))
    except DecodeError as error:
        return type(error).__name__


def packed_in(fragment: EventWrites) -> bool:
    """Whether all its markets are packed."""
    return all(isinstance(one["markets"], PackedMarkets) for one in fragment.snapshots)


@settings(CHECKED, max_examples=60)
@given(st.lists(SNAPSHOTS, min_size=1, max_size=2))
def test_whatever_we_write_is_packed_and_means_the_same(whole: list[AnySnapshot]) -> None:
    """No fragment of ours takes the long way; what is packed unpacks to what fastavro reads."""
    for one in whole:
        value = encode(fragment_of(snapshot_part(one)))
        fragment = decode_packed(value)
        assert packed_in(fragment)
        assert repr(fragment) == repr(decode(value))
        (packed,), (plain,) = fragment.snapshots, decode(value).snapshots
        unsent = pack_encoded(snapshot_part(one).record["markets"])
        assert (unsent.rows, unsent.longest) == (
            pack(plain["markets"]).rows,
            pack(plain["markets"]).longest,
        )
        assert pack(plain["markets"]).rows == pack(packed["markets"]).rows
        assert pack(plain["markets"]).longest == pack(packed["markets"]).longest
        assert packed["markets"] == plain["markets"]


@pytest.mark.parametrize("value", [path.read_bytes() for path in BINARIES])
def test_golden_files_are_packed(value: bytes) -> None:
    """And mean what they meant."""
    assert packed_in(decode_packed(value))
    assert repr(decode_packed(value)) == repr(decode(value))


def test_damaged_bytes_mean_what_fastavro_says_they_mean() -> None:
    """The same values, or an error of the same kind: thousands of flips, gaps and splices."""
    values = corpus(10**6)
    survived = 0
    for value in mutants(3, 6000, values):
        expected = said(value, decode)
        assert said(value, decode_packed) == expected
        survived += expected.startswith("EventWrites")
    assert survived > 500


@pytest.mark.parametrize(
    "value", [path.read_bytes() for path in BINARIES if path.stat().st_size < 600]
)
def test_each_byte_changed_and_each_length(value: bytes) -> None:
    """Over the whole value, in the bits that make another length, branch or text."""
    for position in range(len(value)):
        assert said(value[:position], decode_packed) == said(value[:position], decode)
        for bits in (1, 2, 0x40, 0x80, 0xFF):
            changed = bytearray(value)
            changed[position] ^= bits
            assert said(bytes(changed), decode_packed) == said(bytes(changed), decode)


@pytest.mark.parametrize(
    ("changes", "packed"),
    [
        ({"outcomes": "x" * 8191}, True),
        ({"outcomes": "x" * 8192}, False),
        ({"market_groups": "ł" * 5000}, True),
        ({"betpawa_market_name": "n" * 300}, True),
        ({"betpawa_market_id": "i" * 70, "handicap_type": "t" * 70, "line": None}, True),
        ({"line": float("nan")}, False),
        ({"handicap_away": float("-inf"), "handicap_type": "asian"}, False),
        ({"line": -0.0, "handicap_home": 5e-324, "handicap_away": 1.7976931348623157e308}, True),
    ],
)
def test_what_is_out_of_the_ordinary(changes: dict[str, Any], packed: bool) -> None:
    """Is decoded as ever, twice the same: the second time much of it is known."""
    value = holding(with_market(with_market(record(), 1, **changes), 0, **MARKET))
    for _ in range(2):
        fragment = decode_packed(value)
        assert packed_in(fragment) is packed
        assert repr(fragment) == repr(decode(value))


def test_a_number_without_an_end_is_refused() -> None:
    """4 MB of it: were each byte added to all before it, this would take half an hour."""
    with pytest.raises(DecodeError):
        decode_packed(frame() + b"\xff" * 4_000_000)


def test_what_is_remembered_is_bounded_and_never_mistaken() -> None:
    """More different markets than there is room for; the same start with another end."""
    markets = [
        {**MARKET, "betpawa_market_id": f"{n}", "line": n / 4, "market_groups": f'["{n}"]'}
        for n in range(5000)
    ] + [
        {**MARKET, "handicap_type": f"t{n}", "handicap_home": 1.0 * n, "handicap_away": -1.0 * n}
        for n in range(5000)
    ]
    value = holding({**record(), "markets": markets})  # type: ignore[typeddict-item]
    for _ in range(2):
        fragment = decode_packed(value)
        assert packed_in(fragment)
        assert list(fragment.snapshots[0]["markets"]) == markets


def test_a_sequence_of_records() -> None:
    """By index and by slice; equal to the list; of no use as a key."""
    (snapshot,) = decode_packed(good(1)).snapshots
    plain = decode(good(1)).snapshots[0]["markets"]
    markets = snapshot["markets"]
    assert isinstance(markets, PackedMarkets)
    assert len(markets) == len(plain)
    assert (markets[0], markets[-1]) == (plain[0], plain[-1])
    assert markets[1:] == plain[1:]
    assert markets == plain
    assert markets == pack(plain)
    assert markets != [*plain, plain[0]]
    with pytest.raises(TypeError):
        hash(markets)


@pytest.mark.parametrize("length", [4, 8191, 8192])
def test_markets_that_were_not_sent_are_packed(length: int) -> None:
    """Of any length, as those are that come from the log."""
    market = MarketWriteData("1", "n", 2.5, None, None, None, ["x" * (length - 4)], None)
    snapshot = SnapshotWriteData(1, 1, None, None, (market, market), NOON)
    markets = snapshot_part(snapshot).record["markets"]
    assert len(markets[0]["outcomes"]) == length
    assert pack_encoded(markets).rows == pack(list(markets)).rows


def test_text_that_is_no_unicode_is_refused() -> None:
    """As the driver does."""
    with pytest.raises(ValueError, match="surrogates"):
        pack([{**MARKET, "outcomes": '["\ud800"]'}])


def test_a_row_begins_with_id_and_time() -> None:
    """Ten fields: two of eight bytes, and the packed ones; the time since 2000."""
    start = row_start(7, datetime(2000, 1, 1, tzinfo=UTC) + timedelta(microseconds=258))
    eight = bytes([0, 0, 0, 8])
    assert start == bytes([0, 10]) + eight + bytes(7) + b"\7" + eight + bytes(6) + b"\1\2"
    assert len(PACKED_FIELDS) == 8
    before = row_start(-1, datetime(1999, 12, 31, 23, 59, 59, 999999, UTC))
    assert before == bytes([0, 10]) + (eight + b"\xff" * 8) * 2
