"""A sink on real servers, as Prometheus, an orchestrator and a person with a browser see it."""

import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import AsyncEngine

from oddslog.deploy.looking import read_overview
from oddslog.deploy.settings import Settings
from oddslog.deploy.torture.proxy import Proxy
from oddslog.schemas import KafkaConnection
from oddslog.schemas.codec import snapshot_part
from oddslog.sink import watcher as watcher_module
from oddslog.sink.database import make_engine
from oddslog.sink.metric_names import SINK_METRICS
from oddslog.sink.serving import serve
from oddslog.sink.site import Site
from oddslog.sink.topics import create_topic
from tests.support.batches import market, snapshot
from tests.support.conservation import feed_events, until_ledger
from tests.support.fragments import holding
from tests.support.http import ask, scrape
from tests.support.kafka import produce
from tests.support.polls import blocked
from tests.support.running import Running, running
from tests.support.runs import of_run
from tests.support.waiting import until


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask the servers often, so that the tests need not wait."""
    monkeypatch.setattr(watcher_module, "_ASK_SECONDS", 0.2)
    monkeypatch.setattr(watcher_module, "_VIEW_SECONDS", 0.1)
    monkeypatch.setattr(watcher_module, "_COUNT_SECONDS", 0.5)


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


@asynccontextmanager
async def answering(sink: Running) -> AsyncIterator[str]:
    """The sink's HTTP port, for the block; its address."""
    async with serve("127.0.0.1", 0) as site:
        assert isinstance(site, Site)
        site.sink = sink.sink
        yield site.address


async def until_says(address: str, path: str, status: int) -> str:
    """Wait until a path answers so; what it says."""
    said = ""

    async def there() -> bool:
        nonlocal said
        reply = await ask(address, path)
        said = reply.text
        return reply.status == status

    try:
        await until(there, f"{path} to answer {status}")
    except AssertionError as error:
        raise AssertionError(f"{error}; it says {said!r}") from None
    return said


async def until_sample(address: str, name: str, value: float) -> None:
    """Wait until a sample has a value."""

    async def there() -> bool:
        return (await scrape(address)).get(name) == value

    await until(there, f"{name} to be {value}")


def lag(samples: Mapping[str, float], what: str = "records") -> list[float]:
    """Of the partitions."""
    return [v for name, v in samples.items() if name.startswith(f"oddslog_sink_lag_{what}{{")]


async def until_level(address: str, partitions: int) -> None:
    """Wait until so many partitions have no lag."""

    async def level() -> bool:
        return lag(await scrape(address)) == [0] * partitions

    await until(level, "the sink to be level with the log")


async def test_a_scrape_says_what_was_written(
    kafka: KafkaConnection, topic: str, engine: AsyncEngine
) -> None:
    """Every metric is there, and each count is that of the totals and of the tables."""
    async with running(kafka, topic, engine) as sink, answering(sink) as address:
        await feed_events(kafka, topic, range(1, 31))
        poison = snapshot(99, markets=(market(betpawa_market_id="x" * 60),))
        values = [b"junk", holding(snapshot_part(poison).record, event_id=99)]
        await produce(kafka, topic, values, partition=1)
        await until_ledger(engine, 62)
        await until_sample(address, "oddslog_sink_dead_letters{status=dead}", 2)
        # Others see a commit before the sink has counted it.
        await until_sample(address, "oddslog_sink_records_total", 62)
        await until_level(address, 3)
        reply = await ask(address, "/metrics")
        for metric in SINK_METRICS:
            assert f"# TYPE {metric.name} {metric.kind}" in reply.text
        samples = await scrape(address)
        totals = await sink.stop()
    assert samples["oddslog_sink_records_total"] == totals.records == 62
    assert samples["oddslog_sink_snapshots_total"] == totals.snapshots == 30
    assert samples["oddslog_sink_markets_total"] == totals.markets > 0
    assert samples["oddslog_sink_confirmations_total"] == totals.confirmations == 30
    assert samples["oddslog_sink_rebalances_total"] == 1
    assert samples["oddslog_sink_assigned_partitions"] == 3
    assert samples["oddslog_sink_log_partitions"] == 3
    assert samples["oddslog_sink_transaction_seconds_count"] == totals.polls
    assert samples["oddslog_sink_copy_seconds_count"] == totals.polls
    seconds = samples["oddslog_sink_transaction_seconds_sum"]
    assert 0 < samples["oddslog_sink_copy_seconds_sum"] < seconds
    assert samples["oddslog_sink_poll_records_sum"] == 62
    assert samples["oddslog_sink_poll_bytes_sum"] > 1000
    assert (lag(samples), lag(samples, "seconds")) == ([0, 0, 0], [0, 0, 0])
    assert abs(samples["oddslog_sink_last_success_timestamp_seconds"] - time.time()) < 600
    letters = {name: v for name, v in samples.items() if "dead_letters_total" in name}
    assert letters == {
        "oddslog_sink_dead_letters_total{cause=undecodable,reason=undecodable}": 1,
        "oddslog_sink_dead_letters_total{cause=poison/markets.betpawa_market_id,reason=poison}": 1,
    }


async def test_runs_that_came_to_a_halt_are_counted_for_an_hour(
    kafka: KafkaConnection, topic: str, engine: AsyncEngine
) -> None:
    """One that is whole is not late, one that still arrives not yet, an old one no more."""
    stopped_ago = "UPDATE oddslog_run_batches SET last_at = now() - interval '{}'"
    async with running(kafka, topic, engine) as sink, answering(sink) as address:
        values = [of_run(1, count=2, run_id=1), of_run(2, count=2, run_id=2), of_run(3, run_id=3)]
        await produce(kafka, topic, values)
        await until_ledger(engine, 3)
        await until_sample(address, "oddslog_sink_late_runs", 0)
        for interval, late in (("6 minutes", 2), ("61 minutes", 0)):
            async with engine.begin() as connection:
                await connection.exec_driver_sql(stopped_ago.format(interval))
            await until_sample(address, "oddslog_sink_late_runs", late)


async def test_lag_is_told_while_the_tables_take_nothing(
    kafka: KafkaConnection, topic: str, engine: AsyncEngine
) -> None:
    """In records and in seconds, which grow; and it is gone when all is written."""
    async with running(kafka, topic, engine) as sink, answering(sink) as address:
        await until_says(address, "/readyz", 200)
        async with engine.connect() as keeper, keeper.begin():
            await keeper.exec_driver_sql("LOCK TABLE market_odds")
            await feed_events(kafka, topic, range(1, 31))
            await until(lambda: blocked(engine), "the transaction to be blocked")
            await feed_events(kafka, topic, range(31, 61))

            async def all_seen() -> bool:
                samples = await scrape(address)
                return sum(lag(samples)) == 120 and min(lag(samples, "seconds")) > 0.5

            await until(all_seen, "the whole lag to be seen, and to grow old")
            await keeper.rollback()
        await until_ledger(engine, 120)

        async def gone() -> bool:
            samples = await scrape(address)
            return lag(samples) == [0, 0, 0] and lag(samples, "seconds") == [0, 0, 0]

        await until(gone, "no lag")


async def test_a_database_that_is_away_is_not_ready_and_comes_back(
    kafka: KafkaConnection, topic: str, engine: AsyncEngine, proxy: Proxy, through: AsyncEngine
) -> None:
    """With the reason; the process counts as alive all the time, and no restart is asked for."""
    async with running(kafka, topic, through) as sink, answering(sink) as address:
        assert await until_says(address, "/readyz", 200) == "ready\n"
        proxy.refuse = True
        proxy.cut()
        said = await until_says(address, "/readyz", 503)
        assert said.startswith("PostgreSQL has not answered for ")
        assert said.splitlines()[0].endswith("Error)")
        await feed_events(kafka, topic, range(1, 4))
        await until(lambda: sink.sink.totals.retries >= 2, "two retries")

        async def all_seen() -> bool:
            return sum(lag(await scrape(address))) == 6

        await until(all_seen, "what came meanwhile to be seen as lag")
        samples = await scrape(address)
        assert samples["oddslog_sink_ready"] == samples["oddslog_sink_database_up"] == 0
        assert samples["oddslog_sink_kafka_up"] == 1
        places = {name.partition("place=")[2] for name in samples if "_retries_total" in name}
        assert any(place.startswith("transaction") for place in places)
        assert (await ask(address, "/livez")).status == 200
        proxy.refuse = False
        await until_says(address, "/readyz", 200)
        await until_ledger(engine, 6)
        await until_sample(address, "oddslog_sink_retrying_seconds{place=transaction}", 0.0)


async def test_a_member_without_partitions_is_ready(
    kafka: KafkaConnection, engine: AsyncEngine, new_name: str
) -> None:
    """It says that the group has more members than partitions."""
    await create_topic(kafka, new_name, partitions=1)
    async with running(kafka, new_name, engine) as first:
        await first.until_placed(1)
        async with running(kafka, new_name, engine) as second:
            await until(lambda: second.sink._partitions.assigned, "the second to join")
            idle = next(one for one in (first, second) if not one.sink._partitions.placing
                        and not one.placed)  # fmt: skip
            async with answering(idle) as address:
                said = await until_says(address, "/readyz", 200)
                assert "more members than partitions" in said


async def test_the_page_shows_what_status_shows_and_no_secret(
    kafka: KafkaConnection, topic: str, engine: AsyncEngine, database_url: str
) -> None:
    """The servers are asked, and neither page nor JSON nor metrics repeat a password."""
    values: dict[str, Any] = {
        "bootstrap_servers": kafka.bootstrap_servers,
        "topic": topic,
        "group": topic,
        "database_url": database_url,
    }
    settings = Settings(**values)
    password = make_url(database_url).password or "no password"

    async def overview() -> dict[str, Any]:
        return (await read_overview(settings)).as_json()

    async with running(kafka, topic, engine) as sink:
        await feed_events(kafka, topic, range(1, 31))
        await until_ledger(engine, 60)
        async with serve("127.0.0.1", 0, overview=overview) as site:
            assert site is not None
            site.sink = sink.sink
            page = await ask(site.address, "/")
            status = await ask(site.address, "/status.json")
            metrics = await ask(site.address, "/metrics")
    assert f"topic {topic}" in page.text
    assert "<td" in page.text
    told = json.loads(status.text)
    assert told["overview"]["lag_records"] == 0
    assert sum(row["ledger_next"] for row in told["overview"]["partitions"]) == 60
    assert told["sink"]["totals"]["snapshots"] == 30
    for reply in (page, status, metrics):
        assert password not in reply.text
