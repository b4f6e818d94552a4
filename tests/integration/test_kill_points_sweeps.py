"""SIGKILL of a sink around the commits beside its polls: placing, sweeps, expiry."""
# ruff: noqa: S608 - statements of the test's own values

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from oddslog.deploy.compare import compare
from oddslog.deploy.stack import Servers
from oddslog.schemas import KafkaConnection, WriteBatch
from oddslog.schemas.codec import snapshot_part
from oddslog.schemas.wire import Kind
from oddslog.sink import SinkOptions, SinkSource, open_sink
from oddslog.sink.database import make_engine
from oddslog.sink.placing import PlacingOptions
from oddslog.sink.topics import create_topic
from tests.fixtures.servers import create_database, drop_database, url_of
from tests.integration.test_sink_parents import make_parents
from tests.integration.test_sink_positions import execute
from tests.support.batches import NOON, batch, competitor, key_of, snapshot
from tests.support.feeding_child import FeedingChild, batch_number
from tests.support.fragments import confirming, good, holding, record, with_market
from tests.support.kafka import delete_records, produce, records_of
from tests.support.polls import letters, one, rows
from tests.support.sink_process import SinkProcess
from tests.support.threads import run_apart

SWEEP_POINTS = (
    pytest.param("sink.before_caught_up_commit", marks=pytest.mark.faults),
    "sink.after_caught_up_commit",
    "sink.before_pending_commit",
    "sink.after_pending_commit",
    "sink.before_letters_commit",  # the page with all that have their parent
    "sink.after_letters_commit",
    # The page of those that name no parent.
    pytest.param("sink.after_letters_commit:3", marks=pytest.mark.faults),
    "sink.before_expiry_commit",
    "sink.after_expiry_commit",
    "sink.before_prune_commit",
    "sink.after_prune_commit",
)
PLACING_POINTS = ("sink.before_placing_commit", "sink.after_placing_commit")
GAP_POINTS = (
    pytest.param("sink.before_placing_commit", marks=pytest.mark.faults),
    "sink.after_placing_commit",
)
DIRECT_POINTS = ("sink.before_direct_commit:3", "sink.after_direct_commit:3")
LETTER_POINTS = (
    "sink.before_published_commit",
    pytest.param("sink.after_published_commit", marks=pytest.mark.faults),
)
LATER = NOON + timedelta(hours=1)


@dataclass(frozen=True)
class Seed:
    """A topic, and a database to copy: all is written, much waits, its parents have come."""

    topic: str
    template: str
    fed: list[WriteBatch]


@pytest.fixture(scope="module")
def seed(servers: Servers, template_with_parents: str) -> Iterator[Seed]:
    """Made once: no test changes the topic, and each has a copy of the database."""
    name = f"t{uuid.uuid4().hex[:12]}_seed"
    yield run_apart(make_seed(servers, template_with_parents, name))
    run_apart(drop_database(servers, name))


async def make_seed(servers: Servers, template: str, name: str) -> Seed:
    """Events 1 to 3 are there in time, 4 to 6 late, 7 (poisoned) too; 8 and 9 never come."""
    kafka = KafkaConnection(servers.bootstrap_servers)
    await create_topic(kafka, name, partitions=3)
    made = [snapshot(event) for event in range(1, 7)]
    others = [competitor(event) for event in (1, 4, 5)]
    poisoned = with_market(record(snapshot(7)), 1, outcomes="[")
    values = [
        *(holding(snapshot_part(one_made).record, event_id=one_made.event_id) for one_made in made),
        holding(poisoned, event_id=7),
        good(8),
        good(9, kind=Kind.COMPETITOR),
        confirming(NOON, event_id=4, at=LATER),
        confirming(NOON, event_id=99, at=LATER),  # of a snapshot that is in no record
    ]
    await produce(kafka, name, values, partition=0)
    values = [
        *(
            holding(
                snapshot_part(other).record,
                event_id=other.competitor_event_id,
                kind=Kind.COMPETITOR,
            )
            for other in others
        ),
        confirming(NOON, event_id=1, at=LATER),
    ]
    await produce(kafka, name, values, partition=1)
    engine = make_engine(await create_database(servers, name, template))
    try:
        await make_parents(engine, 1, 2, 3)
        source = SinkSource(kafka, name, name, session_timeout_seconds=6.0)
        await (await open_sink(engine, source, SinkOptions(until_caught_up=True))).run()
        for table in ("events", "competitor_events"):
            await execute(engine, f"INSERT INTO {table} VALUES (4), (5), (6), (7)")
        # As if the first event's snapshot and its confirmation had passed each other.
        await execute(
            engine,
            "WITH confirmed AS (UPDATE odds_snapshots SET last_confirmed_at = captured_at"
            " WHERE event_id = 1 RETURNING *)"
            " INSERT INTO oddslog_pending_confirmations"
            " (kind, event_id, bookmaker_id, captured_at, confirmed_at, item)"
            f" SELECT 'betpawa', event_id, bookmaker_id, captured_at, '{LATER}', 0 FROM confirmed",
        )
        await execute(
            engine,
            "UPDATE oddslog_pending_confirmations SET created_at = now() - interval '1 year'"
            " WHERE event_id = 99",
        )
        await execute(
            engine,
            "INSERT INTO oddslog_run_batches (run_id, batch_id, log_partition, fragment_count,"
            " fragments, first_at, last_at) SELECT n, gen_random_uuid(), 0, 1, '{[0,1)}',"
            " now() - interval '1 year', now() - interval '1 day' * n"
            " FROM unnest('{1,365}'::int[]) AS n",
        )
        waiting = {letter.event_id for letter in await letters(engine)}
        assert waiting == {4, 5, 6, 7, 8, 9}
    finally:
        await engine.dispose()
    confirmed = tuple(key_of(made[event - 1]) for event in (1, 4))
    fed = [batch(made, others, unchanged_betpawa=confirmed, confirmed_at=LATER)]
    return Seed(name, name, fed)


Start = Callable[..., SinkProcess]
KillAndStartAgain = Callable[..., Awaitable[None]]


@pytest.fixture
def start_sink(servers: Servers) -> Iterator[Start]:
    """Sinks that end when they have caught up and swept; all are ended with the test."""
    started: list[SinkProcess] = []

    def start(
        database_url: str,
        topic: str,
        *options: str,
        kill_point: str = "",
        letter_topic: str = "",
    ) -> SinkProcess:
        environment = {
            "ODDSLOG_DEAD_LETTER_TOPIC": letter_topic,
            "ODDSLOG_BOOTSTRAP_SERVERS": servers.bootstrap_servers,
            "ODDSLOG_DATABASE_URL": database_url,
            "ODDSLOG_TOPIC": topic,
            # The ledger says where it stands; a new group need not wait for the dead member.
            "ODDSLOG_GROUP": f"g{uuid.uuid4().hex[:12]}",
            "ODDSLOG_PARENT_WAIT_SECONDS": "0",
            "ODDSLOG_KILL_POINT": kill_point,
        }
        started.append(SinkProcess(environment, "--until-caught-up", *options))
        return started[-1]

    yield start
    for process in started:
        process.end()


@pytest.fixture
def kill_and_start_again(
    start_sink: Start, servers: Servers, kafka: KafkaConnection
) -> KillAndStartAgain:
    """SIGKILL of a sink at the point; its next life, in this process, catches up and ends."""

    async def run(
        engine: AsyncEngine, topic: str, kill_point: str, *, accept_gap: bool = False
    ) -> None:
        url = url_of(servers, str(engine.url.database))
        options = ["--accept-gap"] * accept_gap
        victim = start_sink(url, topic, *options, kill_point=kill_point)
        await asyncio.to_thread(victim.wait_killed)
        await sink_all(kafka, engine, topic, accept_gap=accept_gap)

    return run


async def sink_all(
    kafka: KafkaConnection, engine: AsyncEngine, topic: str, *, accept_gap: bool = False
) -> None:
    """A life of a sink that catches up, sweeps and ends."""
    options = SinkOptions(
        until_caught_up=True, parent_wait_seconds=0.0, placing=PlacingOptions(accept_gap)
    )
    source = SinkSource(kafka, topic, f"g{uuid.uuid4().hex[:12]}", session_timeout_seconds=6.0)
    await (await open_sink(engine, source, options)).run()


@pytest.fixture
async def seeded(servers: Servers, seed: Seed, new_name: str) -> AsyncIterator[AsyncEngine]:
    """An engine on a copy of the seed's database."""
    name = f"{new_name}_seeded"
    engine = make_engine(await create_database(servers, name, seed.template))
    yield engine
    await engine.dispose()
    await drop_database(servers, name)


@pytest.mark.parametrize("kill_point", SWEEP_POINTS)
async def test_killed_in_the_sweep(
    seed: Seed, seeded: AsyncEngine, kill_and_start_again: KillAndStartAgain, kill_point: str
) -> None:
    """Late ones are written once, the others dead for their reason, each confirmation applied."""
    await kill_and_start_again(seeded, seed.topic, kill_point)
    result = await compare(seeded, seed.fed)
    assert result.equal, result.first_difference
    assert sorted((x.event_id, x.status, x.reason) for x in await letters(seeded)) == [
        (4, "written", "missing_parent"),
        (4, "written", "missing_parent"),
        (5, "written", "missing_parent"),
        (5, "written", "missing_parent"),
        (6, "written", "missing_parent"),
        (7, "dead", "poison"),
        (8, "dead", "missing_parent"),
        (9, "dead", "missing_parent"),
        (99, "dead", "unknown_snapshot"),
    ]
    assert await one(seeded, "SELECT count(*) FROM oddslog_pending_confirmations") == 0
    # The run of a day ago stays, that of a year ago is forgotten.
    runs = await rows(seeded, "SELECT DISTINCT run_id FROM oddslog_run_batches WHERE run_id > 0")
    assert [row.run_id for row in runs] == [1]


@pytest.mark.parametrize("kill_point", LETTER_POINTS)
async def test_killed_while_letters_are_published(
    servers: Servers,
    kafka: KafkaConnection,
    new_name: str,
    seed: Seed,
    seeded: AsyncEngine,
    start_sink: Start,
    kill_point: str,
) -> None:
    """Each dead letter is in its topic, again where the mark was lost, and then marked."""
    await create_topic(kafka, new_name, partitions=1)
    url = url_of(servers, str(seeded.url.database))
    victim = start_sink(url, seed.topic, kill_point=kill_point, letter_topic=new_name)
    await asyncio.to_thread(victim.wait_killed)
    again = start_sink(url, seed.topic, letter_topic=new_name)
    assert await asyncio.to_thread(again.wait_end) == 0, again.tail()
    dead = {x.id for x in await letters(seeded) if x.status == "dead"}
    assert len(dead) == 4
    sent = [int(dict(x.headers)["oddslog-dlq-id"]) for x in await records_of(kafka, new_name)]
    assert sorted(sent) == sorted([*dead] * (2 if "before" in kill_point else 1))
    marked = "SELECT id FROM oddslog_dead_letters WHERE published_at IS NOT NULL"
    assert {row.id for row in await rows(seeded, marked)} == dead


@pytest.mark.parametrize("kill_point", PLACING_POINTS)
async def test_killed_while_a_log_is_registered(
    kafka: KafkaConnection,
    topic: str,
    engine: AsyncEngine,
    kill_and_start_again: KillAndStartAgain,
    kill_point: str,
) -> None:
    """One log, one row a partition from offset 0; nothing is read before, all of it after."""
    made = [snapshot(event) for event in range(1, 5)]
    await produce(
        kafka,
        topic,
        [holding(snapshot_part(each).record, event_id=each.event_id) for each in made],
    )
    await kill_and_start_again(engine, topic, kill_point)
    result = await compare(engine, [batch(made)])
    assert result.equal, result.first_difference
    assert await one(engine, "SELECT count(*) FROM oddslog_logs") == 1
    ledger = await rows(
        engine,
        "SELECT partition, start_offset, next_offset, ids_valid_from, accepted_gaps"
        " FROM oddslog_ledger ORDER BY partition",
    )
    assert [tuple(row) for row in ledger] == [(0, 0, 4, 4, []), (1, 0, 0, 0, []), (2, 0, 0, 0, [])]
    assert await letters(engine) == []


@pytest.mark.parametrize("kill_point", GAP_POINTS)
async def test_killed_while_a_gap_is_accepted(
    kafka: KafkaConnection,
    topic: str,
    engine: AsyncEngine,
    kill_and_start_again: KillAndStartAgain,
    kill_point: str,
) -> None:
    """Noted once, and what lies behind it is written."""
    made = [snapshot(event) for event in range(1, 7)]
    values = [holding(snapshot_part(each).record, event_id=each.event_id) for each in made]
    await produce(kafka, topic, values[:2])
    await sink_all(kafka, engine, topic)
    await produce(kafka, topic, values[2:])
    await delete_records(kafka, topic, {0: 4})
    await kill_and_start_again(engine, topic, kill_point, accept_gap=True)
    result = await compare(engine, [batch([*made[:2], *made[4:]])])
    assert result.equal, result.first_difference
    gaps = await one(engine, "SELECT accepted_gaps FROM oddslog_ledger WHERE partition = 0")
    assert gaps == [{"from": 2, "to": 4}]
    assert await one(engine, "SELECT sum(next_offset) FROM oddslog_ledger") == 6


@pytest.mark.parametrize("kill_point", DIRECT_POINTS)
async def test_killed_while_a_batch_is_written_without_kafka(
    servers: Servers, engine: AsyncEngine, kill_point: str
) -> None:
    """What was acknowledged is there whole; the scraper's next try doubles nothing."""
    url = url_of(servers, str(engine.url.database))
    victim = FeedingChild("", "", None, kill_point=kill_point, count=5, database_url=url)
    await asyncio.to_thread(victim.wait_killed)
    assert victim.acknowledged == {0, 1}
    there = 3 if "after" in kill_point else 2
    assert (await compare(engine, [batch_number(n) for n in range(there)])).equal
    again = FeedingChild("", "", None, first=2, count=3, database_url=url)
    await asyncio.to_thread(again.wait_end)
    result = await compare(engine, [batch_number(number) for number in range(5)])
    assert result.equal, result.first_difference
    assert await letters(engine) == []
