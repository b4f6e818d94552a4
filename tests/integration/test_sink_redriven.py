"""Records that are dead letters sent again: what the data transaction makes of them."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from oddslog.schemas.redrive import Redrive, redrive_headers
from oddslog.schemas.wire import HEADER_REDRIVE_NOTE, HEADER_REDRIVE_OF
from oddslog.sink.items import LogRecord, decode_record, record_crc32
from oddslog.sink.positions import LastApplied
from oddslog.sink.rehearsal import record_to_try, rehearse, write_directly
from oddslog.sink.transaction import PartitionPart, PollResult
from oddslog.sink.waiting import sweep_waiting
from tests.integration.test_sink_parents import make_parents
from tests.integration.test_sink_positions import execute
from tests.support.batches import NOON, snapshot
from tests.support.fragments import confirming, good, holding, ids, record, with_market
from tests.support.polls import PollWriter, letters, one, rows

AT = datetime(2026, 3, 2, 9, tzinfo=UTC)
WIDE = holding(with_market(record(), 1, betpawa_market_id="x" * 51))
MENDED = holding(with_market(record(content_hash=9), 1, betpawa_market_id="short"))
OF_FIRST = Redrive("cluster", "topic", 0, 0, 0, AT, "poison", 1, "ann@host", AT, "cut the name")

Sent = tuple[bytes, Redrive | None]


def of(value: bytes, redrive: Redrive | None = OF_FIRST, **changes: Any) -> Sent:
    """A value as it is sent again."""
    return value, redrive and replace(redrive, **changes)


async def write(
    writer: PollWriter, *sent: Sent, partition: int = 0, at: datetime = AT
) -> PollResult:
    """Write these as the next records of a partition, in one poll."""
    start = writer.next_offsets.get(partition, 0)
    records = []
    for offset, (value, redrive) in enumerate(sent, start):
        headers = [] if redrive is None else redrive_headers(redrive)
        made = LogRecord(partition, offset, b"key", value, headers, at)
        decode_record(made)
        records.append(made)
    last = LastApplied(start + len(records) - 1, record_crc32(b"key", records[-1].value))
    result = await writer.write_parts(
        [PartitionPart(partition, start, start + len(records), records, last)]
    )
    writer.next_offsets.update(result.next_offsets)
    return result


async def states(engine: AsyncEngine) -> list[tuple[int, int, str, str, int]]:
    """Offset, item, status, reason and the redrives seen, of each letter."""
    found: Sequence[Any] = await letters(engine)
    return [(x.log_offset, x.item, x.status, x.reason, x.redrives_seen) for x in found]


async def test_a_mended_one_is_written_and_its_letter_marked(engine: AsyncEngine) -> None:
    """In the middle of a poll with others; who, when and why are kept, and both values."""
    writer = await PollWriter.open(engine)
    await write(writer, (WIDE, None))
    result = await write(writer, (good(5), None), of(MENDED), (b"junk", None), (good(6), None))
    assert (result.snapshots, result.redriven, result.dead_letters) == (3, 1, 1)
    assert await states(engine) == [
        (0, 0, "redriven", "poison", 1),
        (3, -1, "dead", "undecodable", 0),
    ]
    letter = (await letters(engine))[0]
    assert (letter.handled_by, letter.handled_at) == ("ann@host", AT)
    assert letter.handled_why == "cut the name"
    assert (letter.redrive_partition, letter.redrive_offset) == (0, 2)
    assert letter.value == MENDED
    assert letter.original_value is not None
    ((offset, hashed),) = await rows(
        engine, "SELECT log_offset, content_hash FROM odds_snapshots WHERE event_id = 1"
    )
    assert (offset, hashed) == (2, 9)


async def test_sent_twice_is_written_once(engine: AsyncEngine) -> None:
    """In one poll and in two: the second is a duplicate, and changes nothing."""
    writer = await PollWriter.open(engine)
    await write(writer, (WIDE, None))
    result = await write(writer, of(MENDED), of(MENDED))
    assert (result.snapshots, result.duplicates) == (1, 1)
    again = await write(writer, of(MENDED))
    assert (again.snapshots, again.duplicates, again.dead_letters) == (0, 1, 0)
    assert await states(engine) == [(0, 0, "redriven", "poison", 1)]


async def test_the_letter_of_the_same_poll(engine: AsyncEngine) -> None:
    """A database that reads the log anew has both in one transaction."""
    writer = await PollWriter.open(engine)
    result = await write(writer, (WIDE, None), (good(2), None), of(MENDED))
    assert (result.snapshots, result.dead_letters) == (2, 1)
    assert await states(engine) == [(0, 0, "redriven", "poison", 1)]


async def test_the_letter_whose_record_comes_later(engine: AsyncEngine) -> None:
    """Mended into another partition: its own record then makes no second letter."""
    writer = await PollWriter.open(engine)
    await write(writer, of(MENDED), partition=1)
    assert await states(engine) == [(0, 0, "redriven", "poison", 1)]
    result = await write(writer, (WIDE, None))
    assert (result.snapshots, result.dead_letters) == (0, 1)
    assert await states(engine) == [(0, 0, "redriven", "poison", 1)]
    (letter,) = await letters(engine)
    assert (letter.value, letter.record_key) == (MENDED, b"key")
    assert letter.original_value is not None


async def test_a_letter_of_a_topic_that_was_made_anew(engine: AsyncEngine) -> None:
    """It had the same name and offsets; a failure of the new one is not taken for it."""
    writer = await PollWriter.open(engine)
    await write(writer, of(MENDED), partition=1)
    result = await write(writer, (WIDE, None), at=AT + timedelta(days=1))
    assert result.dead_letters == 1
    assert await states(engine) == [(0, 0, "dead", "poison", 0)]
    # One that this database has from the former generation is found there.
    await execute(
        engine,
        "INSERT INTO oddslog_logs (cluster_id, topic, generation, partition_count)"
        " VALUES ('cluster', 'topic', 2, 2)",
    )
    old = "SELECT log_id FROM oddslog_logs WHERE generation = 1"
    new = "SELECT log_id FROM oddslog_logs WHERE generation = 2"
    await execute(
        engine,
        "INSERT INTO oddslog_ledger (log_id, partition, next_offset, start_offset, ids_valid_from)"
        " SELECT g.log_id, p, 0, 0, 0 FROM generate_series(0, 1) AS p, oddslog_logs AS g"
        " WHERE generation = 2",
    )
    moved = PollWriter(engine, await one(engine, new), writer.limits)
    named = replace(OF_FIRST, appended_at=AT + timedelta(days=1))
    other = holding(with_market(record(content_hash=3), 1, betpawa_market_id="s"), event_id=3)
    await write(moved, of(other, named), partition=1)
    assert await states(engine) == [(0, 0, "redriven", "poison", 1)]
    assert (await letters(engine))[0].log_id == await one(engine, old)


async def test_no_letter_where_its_record_was_written(engine: AsyncEngine) -> None:
    """The restored database had the parent: a duplicate, and nothing to mark."""
    writer = await PollWriter.open(engine)
    await write(writer, (good(1), None))
    result = await write(writer, of(good(1), reason="missing_parent"))
    assert (result.duplicates, result.dead_letters) == (1, 0)
    assert await states(engine) == []


async def test_failing_again_keeps_one_letter(engine: AsyncEngine) -> None:
    """The letter has the new failure and the newest value; the first bytes stay."""
    writer = await PollWriter.open(engine)
    await write(writer, (WIDE, None))
    first = (await letters(engine))[0].value
    broken = holding(with_market(record(), 0, outcomes="["))
    result = await write(writer, of(broken), (good(2), None))
    assert (result.snapshots, result.dead_letters, result.tally.causes) == (1, 0, {})
    await write(writer, of(b"junk", count=2))
    assert await states(engine) == [(0, 0, "dead", "undecodable", 2)]
    (letter,) = await letters(engine)
    assert (letter.value, letter.original_value) == (b"junk", first)
    assert letter.attempts == 3
    assert (letter.redrive_offset, letter.sqlstate, letter.field) == (3, None, None)
    # Read again, as a replay does: what a later one has overtaken changes nothing.
    await execute(engine, "UPDATE oddslog_ledger SET next_offset = 1")
    writer.next_offsets.clear()
    writer.next_offsets[0] = 1
    await write(writer, of(broken))
    assert await states(engine) == [(0, 0, "dead", "undecodable", 2)]
    # And one that is good in the end.
    await write(writer, (good(3), None), (good(4), None), of(MENDED, count=3))
    assert await states(engine) == [(0, 0, "redriven", "undecodable", 3)]


async def test_two_edits_at_once_lose_neither(engine: AsyncEngine) -> None:
    """The first is written; the other, a conflict, becomes a letter that counts as sent."""
    writer = await PollWriter.open(engine)
    await write(writer, (WIDE, None))
    other = holding(with_market(record(content_hash=10), 1, betpawa_market_id="else"))
    result = await write(writer, of(MENDED, count=2), of(other, count=2))
    assert (result.snapshots, result.conflicts, result.dead_letters) == (1, 1, 1)
    assert result.letters == {("conflict", "conflict"): 1}
    assert await states(engine) == [
        (0, 0, "redriven", "poison", 2),
        (2, 0, "dead", "conflict", 2),
    ]


async def test_a_discarded_letter_stays_so_where_it_fails(engine: AsyncEngine) -> None:
    """It was sent before somebody discarded it; written all the same, it is marked."""
    writer = await PollWriter.open(engine)
    await write(writer, (WIDE, None))
    await execute(engine, "UPDATE oddslog_dead_letters SET status = 'discarded'")
    await write(writer, of(WIDE))
    assert [state[2] for state in await states(engine)] == ["discarded"]
    await write(writer, of(MENDED, count=2))
    assert [state[2] for state in await states(engine)] == ["redriven"]


async def test_a_whole_record_is_its_parts_then(engine: AsyncEngine) -> None:
    """It decodes now: its good parts are written, the others are letters of their own."""
    writer = await PollWriter.open(engine)
    await write(writer, (b"junk", None))
    later = snapshot(1, NOON + timedelta(hours=1))
    bad = with_market(record(later), 0, betpawa_market_id="x" * 60)
    await write(writer, of(holding(record(), bad), item=-1))
    assert await states(engine) == [
        (0, -1, "redriven", "undecodable", 1),
        (0, 1, "dead", "poison", 1),
    ]
    assert await one(engine, "SELECT count(*) FROM odds_snapshots") == 1


async def test_mended_and_waiting_is_written_by_the_sweep(parents_engine: AsyncEngine) -> None:
    """What the sweep writes is the mended value, from the record that brought it."""
    engine = parents_engine
    await make_parents(engine)
    writer = await PollWriter.open(engine)
    await write(writer, (good(7), None))
    assert [state[2] for state in await states(engine)] == ["waiting"]
    named = replace(OF_FIRST, reason="missing_parent")
    await write(writer, (good(8), None), of(good(9), named))
    (first, *_) = await letters(engine)
    assert (first.status, first.event_id, first.parent_id) == ("waiting", 9, 9)
    await execute(engine, "INSERT INTO events VALUES (7), (9)")
    assert (await sweep_waiting(engine, writer.limits, None)).written == 1
    ((event, offset),) = await rows(engine, "SELECT event_id, log_offset FROM odds_snapshots")
    assert (event, offset) == (9, 2)


async def test_a_redriven_plain_id_is_trusted_no_more_than_before(engine: AsyncEngine) -> None:
    """The ids are as old as the first record, wherever the second one lies."""
    writer = await PollWriter.open(engine)
    await write(writer, (good(1), None))
    row_id = await one(engine, "SELECT id FROM odds_snapshots")
    result = await write(writer, of(ids(row_id), item=-1))
    assert (result.unstable_ids, result.confirmations) == (1, 0)
    assert (await write(writer, (ids(row_id), None))).confirmations == 1


@pytest.mark.parametrize(
    "headers",
    [
        [(HEADER_REDRIVE_OF, b"nonsense")],
        [(HEADER_REDRIVE_OF, b"a/b/c/d")],
        [(HEADER_REDRIVE_OF, b"cluster:topic/0/0/-2")],
        [(HEADER_REDRIVE_OF, b"cluster:topic/99999999999/0/0")],
        [(HEADER_REDRIVE_OF, None)],
        [(HEADER_REDRIVE_OF, b"cluster:other/0/0/0"), (HEADER_REDRIVE_NOTE, b"[" * 5000)],
        [
            (HEADER_REDRIVE_OF, b"clu\0ster:topic/0/0/0"),
            (HEADER_REDRIVE_NOTE, b'{"by": "\\u0000"}'),
        ],
        [(HEADER_REDRIVE_OF, b"cluster:topic/0/0/0"), (HEADER_REDRIVE_NOTE, b'{"count": "x"}')],
    ],
)
async def test_headers_that_anyone_may_write(
    engine: AsyncEngine, headers: list[tuple[str, Any]]
) -> None:
    """Nothing fails on them, and no letter of another record is touched."""
    writer = await PollWriter.open(engine)
    await write(writer, (WIDE, None))
    part = writer.part(good(2), b"junk", headers=headers)
    result = await writer.write_parts([part])
    assert result.snapshots == 1
    assert (await letters(engine))[0].status == "dead"
    assert await one(engine, "SELECT count(*) FROM oddslog_dead_letters") == 2


async def test_the_rehearsal_changes_nothing(engine: AsyncEngine) -> None:
    """It says of each what would come of it, in order, and leaves no trace."""
    writer = await PollWriter.open(engine)
    await write(writer, (good(3), None))
    tried = [
        good(1),
        WIDE,
        b"junk",
        holding(record(content_hash=5)),
        confirming(NOON, event_id=3),
        confirming(NOON, event_id=4),
    ]
    found = await rehearse(engine, None, [record_to_try(value) for value in tried], writer.limits)
    assert [failure and failure.reason for failure in found] == [
        None,
        "poison",
        "undecodable",
        "conflict",
        None,
        "unknown_snapshot",
    ]
    assert await one(engine, "SELECT count(*) FROM odds_snapshots") == 1
    for table in ("oddslog_dead_letters", "oddslog_pending_confirmations"):
        assert await one(engine, f"SELECT count(*) FROM {table}") == 0  # noqa: S608


async def test_a_letter_without_a_log_is_written_directly(engine: AsyncEngine) -> None:
    """In one transaction with its mark; what fails changes nothing."""
    writer = await PollWriter.open(engine)
    await write(writer, (WIDE, None))
    await execute(engine, "UPDATE oddslog_dead_letters SET log_id = NULL")
    letter_id = await one(engine, "SELECT id FROM oddslog_dead_letters")

    async def directly(value: bytes) -> Any:
        made = record_to_try(value)
        return await write_directly(
            engine, letter_id, made, writer.limits, statuses=["dead"], by="ann", at=AT, why=None
        )

    later = with_market(record(snapshot(1, NOON + timedelta(hours=1))), 0, handicap_type="x" * 60)
    refused = await directly(holding(record(), later))
    assert refused.reason == "poison"
    assert await one(engine, "SELECT count(*) FROM odds_snapshots") == 0
    assert (await letters(engine))[0].attempts == 1
    assert await directly(MENDED) is None
    assert await directly(MENDED) is None
    (letter,) = await letters(engine)
    assert (letter.status, letter.handled_by, letter.attempts) == ("redriven", "ann", 2)
    assert await one(engine, "SELECT count(*) FROM odds_snapshots") == 1
