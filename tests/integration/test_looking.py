"""What `status` finds on real servers: ages, members, rates, the spool, and a side that hangs."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from oddslog.deploy import log_look, looking
from oddslog.deploy.looking import Looks, read_overview
from oddslog.deploy.settings import Settings
from oddslog.deploy.stack import Servers
from oddslog.ingest.spool_files import SpoolFiles, SpoolLock
from oddslog.schemas import KafkaConnection, UnreachableError, WriteBatch
from tests.fixtures.sinks import Feed, RunSink
from tests.support.batches import snapshot
from tests.support.kafka import delete_records, make_anew, produce, produce_in_transaction
from tests.support.network import BrokerNetwork
from tests.support.running import running
from tests.support.spools import fragment, open_store

BATCH = WriteBatch(tuple(snapshot(event_id) for event_id in range(1, 13)), (), (), (), None, 0)


@pytest.fixture
def settings(servers: Servers, database_url: str, topic: str) -> Settings:
    """On a fresh topic and a fresh, migrated database."""
    return Settings.model_validate(
        {
            "bootstrap_servers": servers.bootstrap_servers,
            "database_url": database_url,
            "topic": topic,
            "group": topic,
        }
    )


async def test_the_age_is_that_of_the_oldest_unwritten_record(
    settings: Settings, kafka: KafkaConnection, topic: str, feed: Feed, run_sink: RunSink
) -> None:
    """By the append time of the record at the ledger's position, not of the newest."""
    await feed([BATCH])
    await run_sink()
    before = datetime.now(UTC)
    await produce(kafka, topic, [b"first"], partition=1)
    between = datetime.now(UTC)
    await produce(kafka, topic, [b"second"], partition=1)
    overview = await read_overview(settings)
    assert overview.lag_records() == 2
    assert list(overview.oldest) == [1]
    # Kafka's clock is this machine's; it counts in milliseconds.
    assert before.timestamp() - 0.002 <= overview.oldest[1].timestamp() <= between.timestamp()
    states = {state.partition: state for state in overview.partitions()}
    assert states[0].lag_seconds(overview.at) == 0.0
    await run_sink()
    level = await read_overview(settings)
    assert (level.lag_records(), level.lag_seconds(), level.oldest) == (0, 0.0, {})


async def test_what_retention_took_has_no_age(
    settings: Settings, kafka: KafkaConnection, topic: str
) -> None:
    """The oldest that is there counts."""
    await produce(kafka, topic, [b"one", b"two", b"three"])
    await delete_records(kafka, topic, {0: 2})
    overview = await read_overview(settings)
    assert overview.lag_records() == 1
    assert set(overview.oldest) == {0}


async def test_a_hole_at_the_end_of_the_log_has_no_age_and_costs_no_time(
    settings: Settings, kafka: KafkaConnection, topic: str
) -> None:
    """An aborted transaction leaves offsets that no record has."""
    await produce_in_transaction(kafka, topic, [([b"gone"], False)])
    async with asyncio.timeout(60.0):
        overview = await read_overview(settings)
    assert overview.lag_records() == 2
    assert overview.oldest == {}


async def test_members_with_their_partitions(
    settings: Settings, kafka: KafkaConnection, topic: str, engine: AsyncEngine
) -> None:
    """Who has what, from the group's coordinator."""
    async with running(kafka, topic, engine) as sink:
        await sink.until_placed(3)
        overview = await read_overview(settings)
    view = overview.log_view
    assert view is not None
    assert view.group.state == "Stable"
    (member,) = view.group.members
    assert (member.client_id, member.partitions) == ("oddslog-sink", (0, 1, 2))
    assert {state.member for state in overview.partitions()} == {member}


async def test_a_topic_made_anew_has_no_lag(
    settings: Settings, kafka: KafkaConnection, topic: str, feed: Feed, run_sink: RunSink
) -> None:
    """The ledger is past its end: said at the first look, and by one that was there before."""
    await feed([BATCH])
    await run_sink()
    async with Looks(settings) as looks:
        await looks.look()
        assert looks.overview().wrong_log is None
        await make_anew(kafka, topic)
        await looks.look_at_log()
        for overview in (looks.overview(), await read_overview(settings)):
            assert overview.lag_records() is None
            assert "of another log" in (overview.wrong_log or "")
            assert all((state.lag_records or 0) >= 0 for state in overview.partitions())


async def test_two_looks_make_a_rate(
    settings: Settings, feed: Feed, run_sink: RunSink, kafka: KafkaConnection, topic: str
) -> None:
    """What was written and what came in between them."""
    await feed([BATCH])
    await run_sink()
    async with Looks(settings) as looks:
        await looks.look()
        assert looks.overview().pace.written_total is None
        await feed([BATCH])
        await looks.look_at_log()
        await run_sink()
        await looks.look_at_tables()
        pace = looks.overview().pace
    assert pace.written_total is not None
    assert pace.written_total > 0
    assert pace.appended_total is not None
    assert pace.appended_total > 0


async def test_a_kafka_that_hangs_does_not_hide_the_database(
    settings: Settings, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other side is there meanwhile; the one that hangs is given up, and comes back."""
    network = BrokerNetwork(servers.bootstrap_servers)
    async with network:
        through = settings.model_copy(update={"bootstrap_servers": network.servers})
        async with Looks(through) as looks:
            await looks.look()
            assert looks.overview().errors == {}
            monkeypatch.setattr(log_look, "LOOK_SECONDS", 1.0)
            network.away("stall")
            asking = asyncio.create_task(looks.look_at_log())
            await looks.look_at_tables()
            assert not asking.done()
            assert looks.overview().database_view is not None
            await asking
            error = looks.overview().errors["Kafka"]
            assert isinstance(error, UnreachableError)
            assert "no answer in time" in str(error)
            monkeypatch.undo()
            network.back()
            await looks.look_at_log()
            assert looks.overview().errors == {}


async def test_the_spool_is_counted_while_a_queue_has_it(
    settings: Settings, tmp_path: Path
) -> None:
    """Its lock is left alone, also for the instant that asking for it would take."""
    spooled = settings.model_copy(update={"spool_dir": str(tmp_path / "spool")})
    async with Looks(spooled) as looks:
        await looks.look_at_spool()
        assert (looks.overview().spool, looks.overview().errors) == (None, {})
        with open_store(tmp_path / "spool") as store:
            store.append([fragment(1), fragment(2)])
            await looks.look_at_spool()
            view = looks.overview().spool_view
            assert view is not None
            assert (view.fragments, view.in_use) == (2, None)


async def test_the_spools_lock_is_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A queue that starts at just that moment would be refused."""

    def taken(_self: SpoolLock) -> bool:
        raise AssertionError("asked for the lock")

    with open_store(tmp_path):
        pass
    assert SpoolFiles(tmp_path).lock.exists()
    monkeypatch.setattr(SpoolLock, "taken", taken)
    found = looking._spool_in(tmp_path)
    assert found is not None
    assert found.fragments == 0
