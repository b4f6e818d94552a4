"""Halving of polls: every record once, in order, and the ledger forward with each group."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oddslog.sink.halving import PollHalves, is_overload
from oddslog.sink.items import LogRecord, PartitionPart, record_crc32
from oddslog.sink.positions import LastApplied


def part(partition: int, start: int, offsets: Sequence[int], end: int) -> PartitionPart:
    """A part with records at these offsets."""
    records = [
        LogRecord(partition, offset, b"k", b"%d" % offset, (), None) for offset in sorted(offsets)
    ]
    last = None
    if records:
        held = records[-1]
        last = LastApplied(offsets_of(records)[-1], record_crc32(held.key, held.value))
    return PartitionPart(partition, start, end, records, last)


def offsets_of(records: Sequence[LogRecord]) -> list[int]:
    """Their offsets."""
    return [record.offset for record in records if record.offset is not None]


@st.composite
def polls(draw: st.DrawFn) -> list[PartitionPart]:
    """Polls of one to four partitions, with holes, some without any record."""
    parts = []
    for partition in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, 50))
        offsets = draw(st.sets(st.integers(start, start + 40), max_size=20))
        end = max(offsets, default=start) + 1 + draw(st.integers(0, 5))
        parts.append(part(partition, start, sorted(offsets), end))
    return parts


@given(polls(), st.integers(1, 10))
def test_halves_cover_the_poll(poll: list[PartitionPart], most: int) -> None:
    """Whatever is too much: each offset once, in order, each group from where the last ended."""
    plan = PollHalves(poll)
    reached = {p.partition: p.start for p in poll}
    written: dict[int, list[int]] = {p.partition: [] for p in poll}
    while (group := plan.next_group()) is not None:
        count = sum(len(p.records) for p in group)
        if count > most and count > 1:
            plan.overloaded()
            continue
        for p in group:
            assert p.start == reached[p.partition]
            reached[p.partition] = p.end
            written[p.partition] += offsets_of(p.records)
            if p.records:
                held = p.records[-1]
                assert p.last == LastApplied(
                    offsets_of(p.records)[-1], record_crc32(held.key, held.value)
                )
                assert offsets_of(p.records)[-1] < p.end
        plan.settled()
    assert reached == {p.partition: p.end for p in poll}
    assert written == {p.partition: offsets_of(p.records) for p in poll}


def test_the_whole_is_tried_twice_and_halves_once() -> None:
    """Then down to one record, which stays as it is."""
    plan = PollHalves([part(0, 0, range(4), 4)])
    assert [plan.overloaded() for _ in range(4)] == [False, True, True, False]
    sizes = []
    while (group := plan.next_group()) is not None:
        sizes.append(sum(len(p.records) for p in group))
        plan.settled()
    assert sizes == [1, 1, 2]


@pytest.mark.parametrize(
    ("sqlstate", "timed_out", "expected"),
    [
        ("57014", False, True),
        ("25P04", False, True),
        ("53200", False, True),
        (None, True, True),
        (None, False, False),
        ("53100", False, False),  # a full disk is as full for one record
        ("55P03", False, False),
        ("08006", False, False),
    ],
)
def test_what_less_work_could_mend(sqlstate: str | None, timed_out: bool, expected: bool) -> None:
    """Time and memory, and nothing else."""
    assert is_overload(sqlstate, timed_out=timed_out) is expected
