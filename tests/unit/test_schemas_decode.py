"""Decoding foreign bytes: one whole, consistent fragment, or `DecodeError`, and little memory."""

import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oddslog.schemas.codec import EventWrites, decode, encode, snapshot_part
from oddslog.schemas.errors import DecodeError, InvalidRecordError
from oddslog.schemas.framing import frame
from oddslog.schemas.records import CompetitorSnapshotWriteData, SnapshotWriteData
from oddslog.schemas.wire import Kind

from .test_schemas_golden import BINARIES, name_of
from .test_schemas_strategies import CHECKED, fragment_of

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
VALUES = [path.read_bytes() for path in BINARIES]
FOREIGN = settings(CHECKED, max_examples=400)


def attempt(value: bytes) -> EventWrites | None:
    """The fragment, which keeps every promise of one, or None for a `DecodeError`."""
    try:
        fragment = decode(value)
    except DecodeError as error:
        assert_storable(str(error))
        return None
    assert_consistent(fragment)
    return fragment


def assert_storable(reason: str) -> None:
    """It becomes a dead letter's reason: text that PostgreSQL can hold."""
    assert "\0" not in reason
    assert reason.encode()


def assert_consistent(fragment: EventWrites) -> None:
    """What the sink relies on; and it is a fragment that we could have written."""
    assert isinstance(fragment.batch_id, UUID)
    assert isinstance(fragment.kind, Kind)
    assert 0 <= fragment.fragment_index < fragment.fragment_count
    for member in (*fragment.snapshots, *fragment.confirmations):
        assert fragment.event_id is not None
        assert (member["bookmaker_id"] is None) == (fragment.kind is Kind.COMPETITOR)
        assert member["captured_at"].tzinfo is UTC
    if fragment.confirmations or fragment.unchanged_ids:
        assert fragment.confirmed_at is not None
    # Not-a-numbers differ from themselves and not in their text.
    assert repr(decode(encode(fragment))) == repr(fragment)


@FOREIGN
@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_no_fragment(value: bytes) -> None:
    """Without a frame and behind one."""
    assert attempt(value) is None
    attempt(frame() + value)


@pytest.mark.parametrize("path", BINARIES, ids=name_of)
def test_no_truncation_is_a_fragment(path: Path) -> None:
    """At no length."""
    value = path.read_bytes()
    assert attempt(value) is not None
    for length in range(len(value)):
        assert attempt(value[:length]) is None, length


@pytest.mark.parametrize("path", BINARIES, ids=name_of)
def test_trailing_bytes_are_refused(path: Path) -> None:
    """What is left over was meant to say something."""
    value = path.read_bytes()
    for tail in (b"\0", b"x" * 10, value):
        with pytest.raises(DecodeError, match=f"{len(tail)} bytes are left over"):
            decode(value + tail)


@pytest.mark.parametrize("path", BINARIES, ids=name_of)
def test_each_flipped_bit_gives_a_fragment_or_an_error(path: Path) -> None:
    """One after the other, over the whole value."""
    value = path.read_bytes()
    for position in range(len(value)):
        for bit in range(8):
            flipped = bytearray(value)
            flipped[position] ^= 1 << bit
            attempt(bytes(flipped))


@FOREIGN
@given(
    st.sampled_from(VALUES),
    st.lists(st.tuples(st.integers(10, 400), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_mutated_fragments_are_consistent_or_refused(
    value: bytes, changes: list[tuple[int, int]]
) -> None:
    """Several bytes at once."""
    mutated = bytearray(value)
    for position, byte in changes:
        mutated[10 + position % (len(value) - 10)] = byte
    attempt(bytes(mutated))


@FOREIGN
@given(st.sampled_from(VALUES), st.sampled_from(VALUES), st.integers(10, 300), st.integers(10, 300))
def test_spliced_fragments_are_consistent_or_refused(
    head: bytes, tail: bytes, end: int, start: int
) -> None:
    """The beginning of one and the end of another: a torn write, a broken buffer."""
    attempt(head[:end] + tail[start:])


@FOREIGN
@given(st.sampled_from(VALUES), st.integers(10, 300), st.binary(max_size=12), st.integers(0, 12))
def test_insertions_and_gaps_are_consistent_or_refused(
    value: bytes, at: int, inserted: bytes, removed: int
) -> None:
    """Bytes that are too many or missing."""
    attempt(value[:at] + inserted + value[at + removed :])


def varint(number: int) -> bytes:
    """Avro's zigzag."""
    number = (number << 1) ^ (number >> 63)
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


# A fragment up to its array of snapshots, and from there without any.
HEAD = (
    frame()
    + varint(36)
    + str(UUID(int=1)).encode()
    + varint(0)  # batch_index
    + b"\0"  # no batch_count
    + varint(0)  # fragment_index
    + varint(1)  # fragment_count
    + b"\0"  # no run
    + varint(0)  # BETPAWA
    + b"\2"
    + varint(1)  # event_id
)
NO_SNAPSHOTS = b"\0"
AT_NOON = b"\2" + varint(1772366400_000000)
NO_CONFIRMATIONS = b"\0"


def test_a_fragment_made_by_hand_decodes() -> None:
    """So that the ones below fail for what they claim."""
    value = HEAD + NO_SNAPSHOTS + AT_NOON + NO_CONFIRMATIONS + varint(2) + varint(7) * 2 + b"\0"
    fragment = decode(value)
    assert fragment.unchanged_ids == [7, 7]
    assert fragment.confirmed_at == NOON
    assert encode(fragment) == value


@pytest.mark.parametrize("claimed", [2**31, 2**40, 2**62, -(2**40), -(2**63)])
@pytest.mark.parametrize(
    "begun",
    [
        pytest.param(HEAD, id="snapshots"),
        pytest.param(HEAD + NO_SNAPSHOTS + AT_NOON, id="confirmations"),
        pytest.param(HEAD + NO_SNAPSHOTS + AT_NOON + NO_CONFIRMATIONS, id="ids"),
        pytest.param(frame(), id="a string"),
        pytest.param(HEAD + varint(1) + b"\2\2\0\0\0\2", id="a document"),
    ],
)
def test_a_claim_of_2_to_the_40_takes_no_memory(begun: bytes, claimed: int) -> None:
    """An array or a text is as long as its bytes, whatever it says."""
    for rest in (b"", b"\0" * 1000, b"\2" * 1000):
        value = begun + varint(claimed) + rest
        attempt(value)  # what is imported and cached the first time is not its memory
        tracemalloc.start()
        try:
            assert attempt(value) is None
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak_bytes < 500_000


def betpawa(**changes: Any) -> EventWrites:
    """A fragment of one BetPawa snapshot."""
    part = snapshot_part(SnapshotWriteData(1, 1, None, None, (), NOON))
    return replace(fragment_of(part), **changes)


def competitor(**changes: Any) -> EventWrites:
    """A fragment of one competitor snapshot."""
    part = snapshot_part(CompetitorSnapshotWriteData(1, None, None, (), NOON))
    return replace(fragment_of(part), **changes)


NAMED: Any = {"bookmaker_id": 1, "captured_at": NOON}
UNNAMED: Any = {"bookmaker_id": None, "captured_at": NOON}


@pytest.mark.parametrize(
    ("fragment", "said"),
    [
        (betpawa(event_id=None), "no event_id"),
        (
            betpawa(snapshots=[], confirmations=[NAMED], event_id=None, confirmed_at=NOON),
            "no event",
        ),
        (betpawa(confirmations=[NAMED]), "no confirmed_at"),
        (betpawa(snapshots=[], unchanged_ids=[1]), "no confirmed_at"),
        (betpawa(kind=Kind.COMPETITOR), "with a bookmaker_id"),
        (competitor(confirmations=[NAMED], confirmed_at=NOON), "with a bookmaker_id"),
        (competitor(kind=Kind.BETPAWA), "without bookmaker_id"),
        (betpawa(confirmations=[UNNAMED], confirmed_at=NOON), "without bookmaker_id"),
        (betpawa(fragment_index=1), "fragment 1 of 1"),
        (betpawa(fragment_index=-1), "fragment -1 of 1"),
        (betpawa(fragment_count=0), "fragment 0 of 0"),
    ],
)
def test_an_inconsistent_fragment_is_refused(fragment: EventWrites, said: str) -> None:
    """What the schema allows and the tables could not take in one meaning."""
    value = encode(fragment)
    with pytest.raises(DecodeError, match=said):
        decode(value)


def test_the_error_of_the_machine_is_not_the_records() -> None:
    """`MemoryError` goes on: the record is good, and no dead letter may come of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("oddslog.schemas.codec.fastavro.schemaless_reader", _out_of_memory)
        with pytest.raises(MemoryError):
            decode(VALUES[0])


def _out_of_memory(*_: object) -> None:
    raise MemoryError


def test_documents_are_not_looked_into() -> None:
    """A document that is no JSON decodes: PostgreSQL refuses it, one snapshot and not a record."""
    fragment = betpawa()
    record = {**fragment.snapshots[0], "raw_response": "{"}
    value = encode(replace(fragment, snapshots=[record]))  # type: ignore[list-item]
    assert decode(value).snapshots[0]["raw_response"] == "{"


def test_lone_surrogates_are_refused_on_the_way_out() -> None:
    """By the encoder, for what did not come through `snapshot_part`."""
    fragment = betpawa()
    record = {**fragment.snapshots[0], "raw_response": "\ud800"}
    with pytest.raises(InvalidRecordError):
        encode(replace(fragment, snapshots=[record]))  # type: ignore[list-item]
