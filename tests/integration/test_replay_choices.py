"""What of the log is replayed: offsets, times, events, runs; and plain ids."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from oddslog.schemas import KafkaConnection
from oddslog.schemas.wire import HEADER_RUN, Kind
from oddslog.sink.errors import WrongLogError
from oddslog.sink.replay_filters import ReplayFilter
from oddslog.sink.replay_progress import ReplayState
from oddslog.sink.replay_spans import SpanChoice
from tests.fixtures.sinks import RunSink
from tests.support.batches import NOON, snapshot
from tests.support.fragments import confirming, good, holding, ids, record
from tests.support.kafka import add_partitions, make_anew, produce
from tests.support.polls import one, rows
from tests.support.replays import replay_into
from tests.support.waiting import until

LATER = NOON + timedelta(hours=1)
RunReplay = Callable[..., Coroutine[Any, Any, ReplayState]]


@pytest.fixture
def run_replay(kafka: KafkaConnection, topic: str, engine: AsyncEngine) -> RunReplay:
    """Replay the test's topic into its database."""

    async def run(into: AsyncEngine = engine, **options: Any) -> ReplayState:
        return await replay_into(into, kafka, topic, **options)

    return run


async def written(engine: AsyncEngine) -> list[tuple[int, int, datetime]]:
    """Source and time of every BetPawa snapshot; the tables are empty afterwards."""
    found = await rows(
        engine,
        "SELECT log_partition, log_offset, captured_at FROM odds_snapshots ORDER BY 1, 2, 3",
    )
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "TRUNCATE odds_snapshots, market_odds, competitor_odds_snapshots,"
                " competitor_market_odds, oddslog_pending_confirmations, oddslog_dead_letters"
            )
        )
    return [(row.log_partition, row.log_offset, row.captured_at) for row in found]


def sources(found: Sequence[tuple[int, int, datetime]]) -> list[tuple[int, int]]:
    """Without the times."""
    return [(partition, offset) for partition, offset, _ in found]


async def test_offsets_and_partitions(
    run_replay: RunReplay, kafka: KafkaConnection, topic: str, engine: AsyncEngine
) -> None:
    """From inclusive, to exclusive; of each named partition."""
    for partition in range(3):
        values = [good(10 * partition + n) for n in range(1, 6)]
        await produce(kafka, topic, values, partition=partition)
    await run_replay(choice=SpanChoice((1,), from_offset=2, to_offset=4))
    assert sources(await written(engine)) == [(1, 2), (1, 3)]
    await run_replay(choice=SpanChoice((0, 2), to_offset=1))
    assert sources(await written(engine)) == [(0, 0), (2, 0)]
    await run_replay(choice=SpanChoice(from_offset=4))
    assert sources(await written(engine)) == [(0, 4), (1, 4), (2, 4)]
    state = await run_replay(choice=SpanChoice((2,), from_offset=5))
    assert (state.counts.records, state.finished) == (0, True)
    assert await written(engine) == []


async def test_append_times(
    run_replay: RunReplay, kafka: KafkaConnection, topic: str, engine: AsyncEngine
) -> None:
    """Between two moments: what was appended in between, and nothing else."""
    between: list[datetime] = []
    for number in range(1, 4):
        await produce(kafka, topic, [good(number)], partition=number % 2)
        between.append(datetime.now(UTC) + timedelta(milliseconds=2))
        await until(lambda: datetime.now(UTC) > between[-1], "the next millisecond")
    first, second, third = between
    await run_replay(choice=SpanChoice(from_time=first, to_time=second))
    assert sources(await written(engine)) == [(0, 0)]
    await run_replay(choice=SpanChoice(to_time=first))
    assert sources(await written(engine)) == [(1, 0)]
    await run_replay(choice=SpanChoice(from_time=second))
    assert sources(await written(engine)) == [(1, 1)]
    assert (await run_replay(choice=SpanChoice(from_time=third))).counts.records == 0


async def test_filters(
    run_replay: RunReplay, kafka: KafkaConnection, topic: str, engine: AsyncEngine
) -> None:
    """By the times of capture, by event, by run; what waits and what is broken as well."""
    await produce(
        kafka,
        topic,
        [
            holding(record(snapshot(1)), record(snapshot(1, LATER))),
            confirming(NOON, event_id=1, at=LATER),
            confirming(LATER, event_id=1, at=LATER + timedelta(minutes=1)),
            good(2, kind=Kind.COMPETITOR),
            holding(record(snapshot(2, scrape_run_id=7)), event_id=2),
            ids(5),
        ],
    )
    await produce(kafka, topic, [b"broken"], key=b"betpawa:2")
    await produce(kafka, topic, [b"broken"], key=b"betpawa:3", headers=[(HEADER_RUN, b"8")])
    counts = (await run_replay(where=ReplayFilter(captured_from=LATER))).counts
    assert await one(engine, "SELECT count(*) FROM oddslog_dead_letters") == 0
    assert (counts.confirmations, counts.waiting_keys, counts.filtered) == (1, 0, 7)
    assert await written(engine) == [(0, 0, LATER)]
    first = frozenset({(Kind.BETPAWA, 1)})
    counts = (await run_replay(where=ReplayFilter(captured_to=LATER, events=first))).counts
    assert counts.confirmations == 1
    assert await written(engine) == [(0, 0, NOON)]
    second = frozenset({(Kind.BETPAWA, 2), (Kind.COMPETITOR, 2)})
    counts = (await run_replay(where=ReplayFilter(events=second))).counts
    assert counts.kinds[Kind.COMPETITOR].inserted == 1
    assert counts.dead_letters == {"undecodable": 1}
    assert sources(await written(engine)) == [(0, 4)]
    counts = (await run_replay(where=ReplayFilter(runs=frozenset({7, 8})))).counts
    assert counts.dead_letters == {"undecodable": 1}
    assert sources(await written(engine)) == [(0, 4)]


async def test_an_event_is_found_wherever_its_key_went(
    run_replay: RunReplay, kafka: KafkaConnection, topic: str, engine: AsyncEngine
) -> None:
    """Partitions that were added have moved keys."""
    await produce(kafka, topic, [good(1)], partition=0)
    await add_partitions(kafka, topic, 4)
    await produce(kafka, topic, [good(1, LATER), good(2)], partition=3)
    await run_replay(where=ReplayFilter(events=frozenset({(Kind.BETPAWA, 1)})))
    assert await written(engine) == [(0, 0, NOON), (3, 0, LATER)]


async def test_plain_ids_are_applied_only_where_they_can_be_trusted(
    run_replay: RunReplay,
    run_sink: RunSink,
    kafka: KafkaConnection,
    topic: str,
    engine: AsyncEngine,
    empty_engine: AsyncEngine,
) -> None:
    """A record from before this database took its position names rows of another one."""
    await produce(kafka, topic, [good(1), ids(1)])
    await run_sink()
    row_id = await one(engine, "SELECT id FROM odds_snapshots")
    await produce(kafka, topic, [ids(row_id, 10**6, at=LATER)])
    counts = (await run_replay()).counts
    assert (counts.unstable_ids, counts.confirmed_ids, counts.missing_ids) == (1, 1, 1)
    assert await one(engine, "SELECT last_confirmed_at FROM odds_snapshots") == LATER
    assert (await run_replay(empty_engine)).counts.unstable_ids == 3
    assert await one(empty_engine, "SELECT last_confirmed_at FROM odds_snapshots") == NOON


async def test_rows_of_a_replay_are_not_what_older_ids_name(
    run_replay: RunReplay,
    run_sink: RunSink,
    kafka: KafkaConnection,
    topic: str,
    engine: AsyncEngine,
) -> None:
    """A sink that begins on a replayed database trusts only the ids from before the replay."""
    await produce(kafka, topic, [good(1), ids(1, at=LATER)])
    await run_replay()
    assert await one(engine, "SELECT id FROM odds_snapshots") == 1
    totals = await run_sink()
    assert (totals.unstable_ids, totals.confirmations) == (1, 0)
    assert await one(engine, "SELECT last_confirmed_at FROM odds_snapshots") == NOON


async def test_two_replays_share_a_database(
    run_replay: RunReplay, kafka: KafkaConnection, topic: str
) -> None:
    """Each has its own state; both come to an end."""
    await produce(kafka, topic, [good(n) for n in range(1, 30)])
    both = await asyncio.gather(*(run_replay(poll_records=n) for n in (3, 4)))
    betpawa = [state.counts.kinds[Kind.BETPAWA] for state in both]
    assert sum(counts.inserted for counts in betpawa) == 29
    assert sum(counts.already_there for counts in betpawa) == 29


async def test_another_log_is_noticed(
    run_replay: RunReplay,
    run_sink: RunSink,
    kafka: KafkaConnection,
    topic: str,
    engine: AsyncEngine,
) -> None:
    """A topic made anew under the same name is not what filled this database."""
    await produce(kafka, topic, [good(1), good(2)])
    await run_sink()
    await make_anew(kafka, topic)
    await produce(kafka, topic, [good(3)])
    with pytest.raises(WrongLogError, match="the log ends at 1"):
        await run_replay()
    await produce(kafka, topic, [good(4), good(5)])
    with pytest.raises(WrongLogError, match="is not the one that was written"):
        await run_replay()
    assert await one(engine, "SELECT count(*) FROM odds_snapshots") == 2
