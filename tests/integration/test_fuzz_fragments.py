"""Mutated fragments through the whole write path: no crash, and their neighbours are written."""

import random
from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from oddslog.deploy.compare import compare
from oddslog.schemas import KafkaConnection
from oddslog.schemas.codec import snapshot_part
from oddslog.sink.items import items_of
from tests.fixtures.sinks import RunSink
from tests.support.batches import NOON, batch, snapshot
from tests.support.conservation import sealed
from tests.support.fragments import holding
from tests.support.kafka import produce
from tests.support.mutations import claims, corpus, mutants
from tests.support.polls import PollWriter, letters, rows

MUTANT_EVENTS = 10**6
POLL = 60


async def fuzz(engine: AsyncEngine, seed: int, polls: int) -> None:
    """Good ones among mutants, without a checksum, so that mutants get as far as they can."""
    # Plain ids that a mutant has are taken for older than this database, and not trusted.
    writer = await PollWriter.open(engine, ids_valid_from=2**62)
    chance = random.Random(seed)  # noqa: S311 - seeded on purpose
    mutated = mutants(seed, polls * POLL, corpus(MUTANT_EVENTS))
    # Of another time than the mutants, which may come to have any event.
    good = [snapshot(event, NOON + timedelta(days=7)) for event in range(1, 5 * polls + 1)]
    good_values = {
        holding(snapshot_part(one_good).record, event_id=one_good.event_id) for one_good in good
    }
    left = list(good_values)
    good_offsets: list[int] = []
    for _ in range(polls):
        values = [next(mutated) for _ in range(POLL)]
        for _ in range(5):
            values.insert(chance.randrange(len(values) + 1), left.pop())
        part = writer.part(*values)
        result = await writer.write_parts([part])
        writer.next_offsets.update(result.next_offsets)
        assert result.next_offsets == {0: part.end}
        good_offsets += [
            r.offset for r in part.records if r.value in good_values and r.offset is not None
        ]
        # Each record is a letter, each snapshot a row, a duplicate or a letter.
        undecodable = sum(1 for record in part.records if record.error is not None)
        snapshots = len(items_of(part.records).snapshots)
        assert result.dead_letters >= undecodable + (
            snapshots - result.snapshots - result.duplicates
        )
        assert result.snapshots >= 5
    assert {(x.status, x.reason) for x in await letters(engine)} <= {
        ("dead", reason) for reason in ("undecodable", "poison", "conflict")
    }
    await take_out_mutants(engine, good_offsets)
    compared = await compare(engine, [batch(good)])
    assert compared.equal, compared.first_difference


async def take_out_mutants(engine: AsyncEngine, good_offsets: list[int]) -> None:
    """Delete what came of other records than the good ones, which confirm nothing."""
    async with engine.begin() as connection:
        await connection.execute(text("DELETE FROM oddslog_pending_confirmations"))
        for table, markets in (
            ("odds_snapshots", "market_odds"),
            ("competitor_odds_snapshots", "competitor_market_odds"),
        ):
            await connection.execute(
                text(
                    f"WITH gone AS (DELETE FROM {table}"  # noqa: S608
                    " WHERE log_offset <> ALL(CAST(:good AS bigint[])) RETURNING id)"
                    f" DELETE FROM {markets} WHERE snapshot_id IN (SELECT id FROM gone)"
                ),
                {"good": good_offsets},
            )


async def test_mutants_among_good_ones(engine: AsyncEngine) -> None:
    """A short run."""
    await fuzz(engine, 1, 8)


@pytest.mark.faults
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [2, 3, 4])
async def test_mutants_among_good_ones_for_long(engine: AsyncEngine, seed: int) -> None:
    """Eighteen thousand each."""
    await fuzz(engine, seed, 300)


async def test_sealed_mutants_and_claims_are_letters_each(
    kafka: KafkaConnection, topic: str, run_sink: RunSink, engine: AsyncEngine
) -> None:
    """With the producer's checksum no mutant is taken for a fragment; the sink goes on."""
    original = corpus(MUTANT_EVENTS)[0]
    mutated = [*mutants(5, 40, [original]), *claims().values()]
    good = [snapshot(event) for event in range(1, 121)]
    values = [holding(snapshot_part(s).record, event_id=s.event_id) for s in good]
    await produce(kafka, topic, values, partition=0)
    await produce(kafka, topic, mutated, partition=0, headers=sealed(original))
    await produce(kafka, topic, list(claims().values()), partition=1)
    totals = await run_sink()
    assert (totals.snapshots, totals.dead_letters) == (120, len(mutated) + len(claims()))
    kept = await rows(engine, "SELECT value FROM oddslog_dead_letters WHERE log_partition = 0"
                      " ORDER BY log_offset")  # fmt: skip
    assert [row.value for row in kept] == mutated
    result = await compare(engine, [batch(good)])
    assert result.equal, result.first_difference
