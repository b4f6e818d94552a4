"""Poison in a running sink: the good in the tables, each bad one a letter; too much stops it."""

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from oddslog.deploy.stack import Servers
from oddslog.schemas import KafkaConnection, SnapshotWriteData
from oddslog.schemas.codec import snapshot_part
from oddslog.schemas.framing import frame
from oddslog.sink.errors import TooMuchPoisonError
from tests.fixtures.sinks import RunSink
from tests.support.batches import NOON, batch, snapshot
from tests.support.command import Command
from tests.support.conservation import assert_conserved
from tests.support.fragments import good, holding, record, with_market
from tests.support.kafka import produce
from tests.support.mutations import claims
from tests.support.polls import letters, one
from tests.support.running import running

SOON = NOON + timedelta(seconds=1)


def of(event: int, **changes: object) -> bytes:
    """A record whose second snapshot has a bad market; the first one is good."""
    made = with_market(record(snapshot(event, SOON)), 1, **changes)
    return holding(record(snapshot(event)), made, event_id=event)


# Each way: the bad record of an event, the letter's reason and field, and how many good
# snapshots of the event are in it. The conflict is with a record that came before.
Way = tuple[Callable[[int], bytes], str, str | None, int]
WAYS: dict[str, Way] = {
    "over-long text": (
        lambda event: of(event, betpawa_market_name="x" * 256),
        "poison",
        "markets[1].betpawa_market_name",
        1,
    ),
    "no JSON": (lambda event: of(event, outcomes="[1"), "poison", "markets[1].outcomes", 1),
    "integer out of range": (
        lambda event: holding(
            record(snapshot(event)), record(snapshot(event, SOON), bookmaker_id=2**31),
            event_id=event,
        ),
        "poison",
        "bookmaker_id",
        1,
    ),
    "conflict": (
        lambda event: holding(
            record(snapshot(event)), record(content_hash=event), event_id=event
        ),
        "conflict",
        None,
        1,
    ),
    "undecodable bytes": (lambda event: b"%d is no Avro" % event, "undecodable", None, 0),
    "unknown fingerprint": (
        lambda event: frame()[:2] + b"\1" * 8 + good(event)[10:],
        "undecodable",
        None,
        0,
    ),
    "truncated record": (lambda event: good(event)[:-3], "undecodable", None, 0),
    "claim of 2^40 items": (lambda _: claims()["markets"], "undecodable", None, 0),
}  # fmt: skip


async def check_isolated(
    kafka: KafkaConnection, topic: str, run_sink: RunSink, engine: AsyncEngine, ways: list[str],
    snapshots: int,
) -> None:  # fmt: skip
    """One in a hundred is bad, each way in its turn, over three partitions."""
    values: dict[int, list[bytes]] = {0: [], 1: [], 2: []}
    kept: list[SnapshotWriteData] = []
    expected: dict[tuple[int, int], tuple[str, str | None]] = {}
    for event in range(1, snapshots + 1):
        of_partition = values[event % 3]
        if event % 100:
            kept.append(snapshot(event))
            part = snapshot_part(kept[-1])
            of_partition.append(holding(part.record, event_id=event))
            continue
        make, reason, field, neighbours = WAYS[ways[event // 100 % len(ways)]]
        expected[event % 3, len(of_partition)] = reason, field
        of_partition.append(make(event))
        kept += [snapshot(event)] * neighbours
    for partition, records in values.items():
        await produce(kafka, topic, records, partition=partition)
    totals = await run_sink()
    assert totals.snapshots == len(kept)
    found = {(x.log_partition, x.log_offset): (x.reason, x.field) for x in await letters(engine)}
    assert found == expected
    assert {x.status for x in await letters(engine)} == {"dead"}
    reasons = Counter(reason for reason, _ in expected.values())
    await assert_conserved(engine, [batch(kept)], reasons)


async def test_one_in_a_hundred_is_bad(
    kafka: KafkaConnection, topic: str, run_sink: RunSink, engine: AsyncEngine
) -> None:
    """In all ways, one after the other."""
    await check_isolated(kafka, topic, run_sink, engine, list(WAYS), 1600)


@pytest.mark.faults
@pytest.mark.timeout(600)
@pytest.mark.parametrize("way", WAYS)
async def test_one_in_a_hundred_of_ten_thousand_is_bad(
    kafka: KafkaConnection, topic: str, run_sink: RunSink, engine: AsyncEngine, way: str
) -> None:
    """Each way by itself; the window lets it pass."""
    await check_isolated(kafka, topic, run_sink, engine, [way], 10_000)


async def test_when_nearly_all_is_bad_the_sink_stops(
    kafka: KafkaConnection, topic: str, engine: AsyncEngine, servers: Servers, database_url: str
) -> None:
    """Exit 4 names the cause, its poll leaves nothing; with the cause accepted it goes on."""
    await produce(kafka, topic, [good(event) for event in range(1, 21)], partition=0)
    async with running(kafka, topic, engine, until_caught_up=True) as sink:
        await sink.task
    bad = [
        holding(with_market(record(snapshot(event)), 1, outcomes="["), event_id=event)
        for event in range(21, 381)
    ]
    await produce(kafka, topic, [*bad, good(400)], partition=0)
    command = Command(
        {
            "BOOTSTRAP_SERVERS": servers.bootstrap_servers,
            "DATABASE_URL": database_url,
            "TOPIC": topic,
            "GROUP": topic,
            "SESSION_TIMEOUT_SECONDS": "6",
        }
    )
    cause = "poison/22P02/markets.outcomes"
    stopped = await asyncio.to_thread(command, "sink", "--until-caught-up", "--log-level", "error")
    assert stopped.code == 4
    assert f"--accept-poison {cause}" in stopped.error
    # An earlier poll may have been fewer than a hundred: those are letters.
    kept = len(await letters(engine))
    assert kept < 100
    there = "SELECT next_offset FROM oddslog_ledger WHERE partition = 0"
    assert await one(engine, there) == 20 + kept
    # Another cause is not accepted with it.
    other = await asyncio.to_thread(
        command, "sink", "--until-caught-up", "--log-level", "error", "--accept-poison",
        "undecodable",
    )  # fmt: skip
    assert other.code == 4
    kept = len(await letters(engine))
    accepted = await asyncio.to_thread(
        command, "sink", "--until-caught-up", "--json", "--accept-poison", cause
    )
    assert accepted.ok().json["dead_letters"] == len(bad) - kept
    await assert_conserved(
        engine, [batch([snapshot(event) for event in (*range(1, 21), 400)])], {"poison": len(bad)}
    )


async def test_undecodable_records_count(
    kafka: KafkaConnection, topic: str, engine: AsyncEngine
) -> None:
    """In polls of ten, each committed, until the hundredth would be: then it stops."""
    await produce(kafka, topic, [b"%d" % number for number in range(150)], partition=1)
    async with running(kafka, topic, engine, poll_records=10) as sink:
        with pytest.raises(TooMuchPoisonError, match="undecodable"):
            await sink.task
    assert len(await letters(engine)) == 90
    assert await one(engine, "SELECT next_offset FROM oddslog_ledger WHERE partition = 1") == 90


async def test_missing_parents_and_conflicts_do_not_stop_the_sink(
    kafka: KafkaConnection, topic: str, parents_engine: AsyncEngine, engine: AsyncEngine
) -> None:
    """They say nothing about tables or codec: an empty database of parents is no poison."""
    values = [good(event) for event in range(1, 301)]
    await produce(kafka, topic, values)
    async with running(kafka, topic, parents_engine, until_caught_up=True) as sink:
        await sink.task
    assert {x.status for x in await letters(parents_engine)} == {"waiting"}
    conflicting = [
        holding(record(snapshot(event), content_hash=1), event_id=event) for event in range(1, 301)
    ]
    await produce(kafka, topic, conflicting)
    async with running(kafka, topic, engine, until_caught_up=True) as second:
        totals = await second.task
    assert (totals.snapshots, totals.conflicts) == (300, 300)
