"""The service: shared partitions, rebalances, outages, bounds."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from datetime import timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from oddslog.deploy.compare import compare
from oddslog.deploy.torture.proxy import Proxy
from oddslog.schemas import KafkaConnection, WriteBatch
from oddslog.schemas.codec import snapshot_part
from oddslog.sink import consumer as consumer_module
from oddslog.sink import options as options_module
from oddslog.sink import poller as poller_module
from oddslog.sink import service as service_module
from oddslog.sink.consumer import REBALANCE_TIMEOUT_SECONDS
from oddslog.sink.database import make_engine
from oddslog.sink.poller import Poll, Poller
from oddslog.sink.topics import create_topic
from tests.support.batches import NOON, batch, key_of, snapshot
from tests.support.fragments import confirming, holding
from tests.support.kafka import add_partitions, committed_offsets, produce
from tests.support.polls import blocked, letters, one, rows
from tests.support.running import Running, running
from tests.support.waiting import until

CONFIRMED = NOON + timedelta(minutes=1)


def batches(events: Iterable[int]) -> list[WriteBatch]:
    """A snapshot of each event, and a confirmation of it."""
    made = [snapshot(event) for event in events]
    return [batch(made, unchanged_betpawa=tuple(key_of(s) for s in made), confirmed_at=CONFIRMED)]


async def feed(kafka: KafkaConnection, topic: str, events: Iterable[int]) -> list[WriteBatch]:
    """Produce the batches of these events, spread over partitions 0 to 2."""
    fed = batches(events)
    values: dict[int, list[bytes]] = {0: [], 1: [], 2: []}
    for made in fed[0].changed_betpawa:
        part = snapshot_part(made)
        values[made.event_id % 3] += [
            holding(part.record, event_id=made.event_id),
            confirming(NOON, event_id=made.event_id, at=CONFIRMED),
        ]
    for partition, records in values.items():
        await produce(kafka, topic, records, partition=partition)
    return fed


async def assert_equal(engine: AsyncEngine, fed: list[WriteBatch]) -> None:
    """The tables hold exactly what was fed, and there are no letters."""
    result = await compare(engine, fed)
    assert result.equal, result.first_difference
    assert await letters(engine) == []


async def until_ledger(engine: AsyncEngine, total: int) -> None:
    """Wait until so many records are written."""

    async def there() -> bool:
        return bool(await one(engine, "SELECT sum(next_offset) = :n FROM oddslog_ledger", n=total))

    await until(there, f"a ledger of {total} records")


@pytest.fixture
async def second_engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """Another engine on the test's database, for another sink."""
    engine = make_engine(database_url)
    yield engine
    await engine.dispose()


@pytest.fixture
async def proxy(database_url: str) -> AsyncIterator[Proxy]:
    """A proxy before the session's PostgreSQL."""
    async with Proxy.before(database_url) as proxy:
        yield proxy


@pytest.fixture
async def through(proxy: Proxy, database_url: str) -> AsyncIterator[AsyncEngine]:
    """An engine on the test's database, through the proxy."""
    engine = make_engine(proxy.url(database_url))
    yield engine
    await engine.dispose()


async def test_two_share_the_partitions_and_one_leaves(
    kafka: KafkaConnection, topic: str, engine: AsyncEngine, second_engine: AsyncEngine
) -> None:
    """Each writes its part; the other takes over what a graceful stop leaves."""
    fed = await feed(kafka, topic, range(1, 31))
    async with running(kafka, topic, engine) as first:
        await first.until_placed(3)
        async with running(kafka, topic, second_engine) as second:
            await until(
                lambda: len(first.placed) + len(second.placed) == 3 and second.placed, "shares"
            )
            assert not set(first.placed) & set(second.placed)
            fed += await feed(kafka, topic, range(31, 61))
            await until_ledger(engine, 120)
            totals = await first.stop()
            assert totals.records > 0
            await second.until_placed(3)
            fed += await feed(kafka, topic, range(61, 91))
            await until_ledger(engine, 180)
            await second.stop()
    await assert_equal(engine, fed)
    assert sum(filter(None, await committed_offsets(kafka, topic, topic))) == 180


async def test_a_rebalance_waits_for_the_transaction_in_hand(
    kafka: KafkaConnection, topic: str, engine: AsyncEngine, second_engine: AsyncEngine
) -> None:
    """It ends in its own time, its offsets are committed, and nothing is written twice."""
    async with running(kafka, topic, engine) as first:
        await first.until_placed(3)
        async with second_engine.connect() as keeper, keeper.begin():
            await keeper.exec_driver_sql("LOCK TABLE market_odds")
            fed = await feed(kafka, topic, range(1, 31))
            await until(lambda: blocked(engine), "the transaction to be blocked")
            async with running(kafka, topic, second_engine) as second:
                # The group waits for the first; that waits for its transaction.
                await until(lambda: not first.sink._partitions.assigned, "the revocation")
                assert first.sink._in_hand is not None
                await keeper.rollback()
                await until(
                    lambda: len(first.placed) + len(second.placed) == 3 and second.placed, "shares"
                )
                await until_ledger(second_engine, 60)
                await first.stop()
                await second.stop()
    assert first.sink.totals.fenced + second.sink.totals.fenced == 0
    assert first.sink.totals.duplicates + second.sink.totals.duplicates == 0
    await assert_equal(engine, fed)


async def test_a_rebalance_cancels_a_transaction_that_takes_too_long(
    kafka: KafkaConnection,
    topic: str,
    engine: AsyncEngine,
    second_engine: AsyncEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rolled back; the next owner writes it, once."""
    monkeypatch.setattr(options_module, "_REVOKE_SHARE", 0.5 / REBALANCE_TIMEOUT_SECONDS)
    async with running(kafka, topic, engine) as first:
        await first.until_placed(3)
        async with second_engine.connect() as keeper, keeper.begin():
            await keeper.exec_driver_sql("LOCK TABLE market_odds")
            fed = await feed(kafka, topic, range(1, 31))
            await until(lambda: blocked(engine), "the transaction to be blocked")
            async with running(kafka, topic, second_engine) as second:
                await until(
                    lambda: len(first.placed) + len(second.placed) == 3 and second.placed, "shares"
                )
                await keeper.rollback()
                await until_ledger(engine, 60)
                await first.stop()
                await second.stop()
    await assert_equal(engine, fed)


async def test_a_rebalance_while_the_database_is_away(
    kafka: KafkaConnection,
    topic: str,
    engine: AsyncEngine,
    proxy: Proxy,
    through: AsyncEngine,
) -> None:
    """Membership is kept, partitions are placed when it is back, nothing is lost or twice."""
    async with running(kafka, topic, through) as first:
        await first.until_placed(3)
        proxy.refuse = True
        proxy.cut()
        fed = await feed(kafka, topic, range(1, 31))
        await until(lambda: first.sink.totals.retries, "a retry")
        async with running(kafka, topic, engine) as second:
            await until(lambda: second.placed, "the second's share")
            assert not first.placed
            proxy.refuse = False
            await until(lambda: len(first.placed) + len(second.placed) == 3, "both shares")
            await until_ledger(engine, 60)
            await second.stop()
        await first.until_placed(3)
    await assert_equal(engine, fed)


@pytest.mark.parametrize("how", ["refused", "stalled"])
async def test_stopping_while_the_database_is_away(
    kafka: KafkaConnection,
    topic: str,
    engine: AsyncEngine,
    proxy: Proxy,
    through: AsyncEngine,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    """It ends, within the time that it gives a transaction; what was not written stays."""
    monkeypatch.setattr(service_module, "_STOP_SECONDS", 0.5)
    monkeypatch.setattr(service_module, "_CANCEL_SECONDS", 0.2)
    async with running(kafka, topic, through) as first:
        await first.until_placed(3)
        if how == "refused":
            proxy.refuse = True
            proxy.cut()
        else:
            proxy.stall()
        fed = await feed(kafka, topic, range(1, 4))
        if how == "refused":
            await until(lambda: first.sink.totals.retries, "a retry")
        else:
            await until(lambda: first.sink._in_hand, "a transaction")
        await first.stop()
    proxy.refuse = False
    proxy.flow()
    async with running(kafka, topic, engine, until_caught_up=True) as second:
        await second.task
    await assert_equal(engine, fed)


async def test_outages_and_lost_replies_under_load(
    kafka: KafkaConnection, topic: str, engine: AsyncEngine, proxy: Proxy, through: AsyncEngine
) -> None:
    """Cut before and after COMMIT, cut at random, refused for a while: exactly once."""
    async with running(kafka, topic, through, poll_records=5) as sink:
        await sink.until_placed(3)
        cuts = [
            proxy.cut_at(b"COMMIT;", times=2),
            proxy.cut_at(b"PGCOPY", times=2),
            proxy.cut_at(b"UPDATE oddslog_ledger", forward=False),
        ]
        fed = await feed(kafka, topic, range(1, 61))
        for cut in cuts:
            await until(cut.happened.is_set, "the cuts")
        proxy.refuse = True
        proxy.cut()
        await until(lambda: proxy.refused, "a refusal")
        proxy.refuse = False
        fed += await feed(kafka, topic, range(61, 91))
        await until_ledger(engine, 180)
        totals = await sink.stop()
    assert totals.retries >= 4
    await assert_equal(engine, fed)


async def test_a_blocked_writer_keeps_the_membership_and_the_bounds(
    kafka: KafkaConnection,
    topic: str,
    engine: AsyncEngine,
    second_engine: AsyncEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Polling goes on, paused; never more than two decoded polls are there."""
    monkeypatch.setattr(poller_module, "_PAUSE_AFTER_SECONDS", 0.2)
    decoded: list[Poll] = []
    finish = Poller._finish

    async def remember(self: Poller, gathering: poller_module._Gathering) -> Poll | None:
        poll = await finish(self, gathering)
        if poll is not None:
            decoded.append(poll)
        return poll

    monkeypatch.setattr(Poller, "_finish", remember)
    assignments: list[Iterable[int]] = []
    async with running(kafka, topic, engine, poll_records=5) as sink:
        assigned = sink.sink.assigned

        def note(partitions: Iterable[int]) -> None:
            assignments.append(partitions)
            assigned(partitions)

        monkeypatch.setattr(sink.sink, "assigned", note)
        await sink.until_placed(3)
        async with second_engine.connect() as keeper, keeper.begin():
            await keeper.exec_driver_sql("LOCK TABLE market_odds")
            fed = await feed(kafka, topic, range(1, 61))
            await until(lambda: blocked(engine), "the transaction to be blocked")
            await until(lambda: sink.sink._poller._paused, "the pause")
            polls = sink.sink._consumer.poll
            counted = 0

            async def count(**arguments: int) -> object:
                nonlocal counted
                counted += 1
                return await polls(**arguments)

            monkeypatch.setattr(sink.sink._consumer, "poll", count)
            await until(lambda: counted > 3, "more polls")
            assert len(decoded) == 2
            assert all(poll.records <= 5 for poll in decoded)
        await until_ledger(engine, 120)
    assert len(assignments) <= 1
    await assert_equal(engine, fed)


async def test_a_sink_without_a_partition(
    kafka: KafkaConnection, new_name: str, engine: AsyncEngine, second_engine: AsyncEngine
) -> None:
    """It waits, takes over, and a run until caught up ends."""
    await create_topic(kafka, new_name, partitions=1)
    async with running(kafka, new_name, engine) as first:
        await first.until_placed(1)
        async with running(kafka, new_name, second_engine, until_caught_up=True) as second:
            await second.task
        async with running(kafka, new_name, second_engine) as third:
            await until(lambda: third.sink._partitions.assigned, "an assignment")
            await until(lambda: len(first.placed) + len(third.placed) == 1, "one owner")
            owner, other = (first, third) if first.placed else (third, first)
            await produce(kafka, new_name, [holding(snapshot_part(snapshot(1)).record)])
            await until_ledger(engine, 1)
            await owner.stop()
            await other.until_placed(1)
            await produce(kafka, new_name, [confirming(NOON, at=CONFIRMED)])
            await until_ledger(engine, 2)
    await assert_equal(engine, batches([1]))


async def test_the_ledger_goes_back_under_the_running_sink(
    kafka: KafkaConnection, topic: str, engine: AsyncEngine
) -> None:
    """Rows and ledger as they were before: noticed at the next poll, refilled by itself."""
    async with running(kafka, topic, engine) as sink:
        fed = await feed(kafka, topic, range(1, 10))
        await until_ledger(engine, 18)
        async with engine.begin() as connection:
            for statement in (
                "DELETE FROM market_odds",
                "DELETE FROM odds_snapshots",
                "UPDATE oddslog_ledger SET next_offset = 0, last_offset = NULL WHERE partition < 2",
                "DELETE FROM oddslog_ledger WHERE partition = 2",
            ):
                await connection.exec_driver_sql(statement)
        fed += await feed(kafka, topic, range(10, 13))
        await until_ledger(engine, 24)
        await sink.stop()
    await assert_equal(engine, fed)
    valid = await rows(engine, "SELECT ids_valid_from FROM oddslog_ledger ORDER BY partition")
    assert all(row.ids_valid_from >= 6 for row in valid)


async def test_the_topic_grows_under_running_sinks(
    kafka: KafkaConnection, topic: str, engine: AsyncEngine, second_engine: AsyncEngine
) -> None:
    """Whoever sees it first: no member takes the topic for one that was made anew."""
    async with running(kafka, topic, engine) as first:
        await first.until_placed(3)
        await add_partitions(kafka, topic, 4)
        # The second knows of four partitions and says so; the first has not asked since.
        other = running(kafka, topic, second_engine, group=f"{topic}-2", until_caught_up=True)
        async with other as second:
            await second.task
        assert await one(engine, "SELECT partition_count FROM oddslog_logs") == 4
        first.sink._replace(0)
        await first.until_placed(4)
        await produce(kafka, topic, [holding(snapshot_part(snapshot(1)).record)], partition=3)
        await until_ledger(engine, 1)
        await first.stop()
    assert await one(engine, "SELECT count(*) FROM odds_snapshots") == 1


async def test_stopping_before_the_first_assignment(
    kafka: KafkaConnection,
    topic: str,
    engine: AsyncEngine,
    second_engine: AsyncEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A member that still waits for the group ends, as soon as aiokafka lets it."""
    monkeypatch.setattr(consumer_module, "_STOP_DEADLINE_SECONDS", 0.5)
    async with running(kafka, topic, engine) as first:
        await first.until_placed(3)
        gate = asyncio.Event()
        revoked = first.sink.revoked

        async def slowly(partitions: Iterable[int]) -> None:
            await gate.wait()
            await revoked(partitions)

        first.sink.revoked = slowly  # type: ignore[method-assign]
        async with running(kafka, topic, second_engine) as second:
            await until(lambda: waits_for_group(second), "the second to wait for the group")
            await second.stop()
        gate.set()


def waits_for_group(sink: Running) -> bool:
    """Whether a sink has asked to join and has no answer."""
    coordinator = sink.sink._consumer._consumer._coordinator
    return coordinator is not None and not sink.sink._partitions.assigned
