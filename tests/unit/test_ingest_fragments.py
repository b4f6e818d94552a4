"""Encoding a batch: headers, keys, what is rejected, and who gets to run meanwhile."""

import asyncio
import json
import zlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from oddslog.ingest.fragments import EncodedBatch, encode_batch
from oddslog.ingest.pacing import Pacer
from oddslog.schemas.codec import decode
from oddslog.schemas.records import SnapshotKey, SnapshotWriteData, WriteBatch
from tests.unit.test_ingest_builders import (
    NOON,
    batch,
    betpawa,
    broken_betpawa,
    competitor,
    market,
)


async def encoded(
    stamped: WriteBatch, limit_bytes: int = 10**6, *, raw_response: bool = True
) -> EncodedBatch:
    """The batch's fragments."""
    return await encode_batch(
        stamped, limit_bytes=limit_bytes, raw_response=raw_response, producer_name="oddslog/1.2"
    )


async def test_headers_tell_tools_what_a_record_is() -> None:
    """Batch, fragment from 1, run, schema, producer and checksum, all ASCII text."""
    stamped = batch(
        betpawa=[betpawa(1, captured_at=NOON)],
        competitor=[competitor(2, captured_at=NOON)],
        betpawa_ids=[5],
        confirmed_at=NOON,
    )
    result = await encoded(stamped)
    assert [part.key for part in result.fragments] == [
        b"betpawa:1",
        b"competitor:2",
        b"ids:betpawa",
    ]
    for number, fragment in enumerate(result.fragments, 1):
        headers = dict(fragment.headers)
        writes = decode(fragment.value)
        assert headers.pop("oddslog-batch") == str(writes.batch_id).encode()
        assert headers.pop("oddslog-fragment") == f"{number}/3".encode()
        assert headers.pop("oddslog-run") == b"7"
        assert headers.pop("oddslog-schema") == fragment.value[2:10].hex().encode()
        assert headers.pop("oddslog-producer") == b"oddslog/1.2"
        assert int(headers.pop("oddslog-crc32"), 16) == zlib.crc32(fragment.value)
        assert headers == {}


async def test_a_batch_without_run_has_no_run_header() -> None:
    """Not an empty one."""
    stamped = WriteBatch((betpawa(1, captured_at=NOON),), (), (), (), None, 0, confirmed_at=NOON)
    result = await encoded(stamped)
    assert "oddslog-run" not in dict(result.fragments[0].headers)


async def test_each_batch_has_an_id_of_its_own() -> None:
    """Also the same batch a second time: the log shows two."""
    stamped = batch(betpawa=[betpawa(1, captured_at=NOON)], confirmed_at=NOON)
    first, second = [decode((await encoded(stamped)).fragments[0].value) for _ in range(2)]
    assert isinstance(first.batch_id, UUID)
    assert first.batch_id != second.batch_id


class Hostile(dict[str, Any]):
    """A document that another task changes while it is encoded."""

    def items(self) -> Any:
        raise RuntimeError("dictionary changed size during iteration")


@pytest.mark.parametrize(
    "bad",
    [
        broken_betpawa(2, NOON),
        betpawa(2, raw={"a": float("nan")}, captured_at=NOON),
        betpawa(2, raw={1: 2}, captured_at=NOON),
        SnapshotWriteData(2, 1, 7, Hostile(a=1), (market(),), NOON),
    ],
)
async def test_a_snapshot_that_cannot_be_encoded_is_rejected_alone(bad: SnapshotWriteData) -> None:
    """The others are numbered as if it had never been there."""
    stamped = batch(
        betpawa=[betpawa(1, captured_at=NOON), bad, betpawa(3, captured_at=NOON)], confirmed_at=NOON
    )
    result = await encoded(stamped)
    assert [part.event_id for part in result.rejected] == [2]
    fragments = [decode(part.value) for part in result.fragments]
    assert [(part.event_id, part.fragment_index) for part in fragments] == [(1, 0), (3, 1)]
    assert {part.fragment_count for part in fragments} == {2}


async def test_a_snapshot_above_the_limit_is_rejected_with_event_and_size() -> None:
    """Its event's other snapshots and confirmations go on."""
    large = betpawa(1, raw={"text": "x" * 5000}, captured_at=NOON)
    other = betpawa(1, captured_at=NOON + timedelta(seconds=1))
    stamped = batch(
        betpawa=[large, other],
        unchanged_betpawa=(SnapshotKey(1, 1, NOON - timedelta(days=1)),),
        confirmed_at=NOON,
    )
    result = await encoded(stamped, 3000)
    (part,) = result.rejected
    assert (part.event_id, part.captured_at) == (1, NOON)
    assert "3,000" in part.reason
    (fragment,) = result.fragments
    assert len(decode(fragment.value).snapshots) == 1
    assert len(decode(fragment.value).confirmations) == 1


async def test_only_the_encoded_size_decides_about_the_limit() -> None:
    """Not the upper bound that the splitter reckons with."""
    stamped = batch(betpawa=[betpawa(1, markets=30, captured_at=NOON)], confirmed_at=NOON)
    size = len((await encoded(stamped)).fragments[0].value)
    assert not (await encoded(stamped, size)).rejected
    assert (await encoded(stamped, size - 1)).rejected


async def test_a_batch_of_a_run_with_nothing_to_write_is_one_empty_fragment() -> None:
    """Or its run would never be complete. Not without run or count, and not where parts failed."""
    counted = replace(batch(confirmed_at=NOON), scrape_run_id=7, batch_index=3, batch_count=5)
    (fragment,) = (await encoded(counted)).fragments
    writes = decode(fragment.value)
    assert (writes.fragment_index, writes.fragment_count) == (0, 1)
    assert (writes.scrape_run_id, writes.batch_index, writes.batch_count) == (7, 3, 5)
    assert (writes.snapshots, writes.confirmations, writes.unchanged_ids) == ([], [], [])
    assert (fragment.key, writes.confirmed_at) == (b"ids:betpawa", None)
    bad = replace(betpawa(1, captured_at=NOON), raw_response={"odds": float("nan")})
    for other in (
        replace(counted, scrape_run_id=None),
        replace(counted, batch_count=None),
        replace(counted, changed_betpawa=(bad,)),
    ):
        assert (await encoded(other)).fragments == []


async def test_raw_responses_are_left_out_where_asked() -> None:
    """And are there otherwise."""
    raw = {"markets": ["ä", None, 1.5]}
    stamped = batch(betpawa=[betpawa(1, raw=raw, captured_at=NOON)], confirmed_at=NOON)
    for wanted in (True, False):
        result = await encoded(stamped, raw_response=wanted)
        stored = decode(result.fragments[0].value).snapshots[0]["raw_response"]
        assert (None if stored is None else json.loads(stored)) == (raw if wanted else None)


async def test_replaced_characters_are_counted() -> None:
    """NUL, which PostgreSQL cannot hold."""
    stamped = batch(betpawa=[betpawa(1, raw={"a": "x\0y\0"}, captured_at=NOON)], confirmed_at=NOON)
    assert (await encoded(stamped)).replaced == 2


async def test_others_run_while_a_batch_is_encoded() -> None:
    """A slice of time is used up, then the loop turns: here each step is a slice."""
    seen: list[int] = []
    ticks: Iterator[float] = iter(range(100))
    pacer = Pacer(1.0, lambda: next(ticks))

    async def other() -> None:
        for number in range(3):
            seen.append(number)
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await pacer.pause()
    assert seen == [0]
    await pacer.pause()
    assert seen == [0, 1]
    await task


async def test_a_pacer_does_not_yield_before_its_slice_is_used_up() -> None:
    """Yielding after each small step would cost more than the step."""
    pacer = Pacer(10.0, lambda: 0.0)
    task = asyncio.create_task(asyncio.sleep(0))
    await pacer.pause()
    assert not task.done()
    await task
