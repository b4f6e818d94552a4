"""Kafka dies, hangs, is cut off and slow under the running sink: nothing is lost.

The broker is this module's own, and every client of it comes through a proxy, whose
address the broker tells. Each test ends with the conservation check.
"""

import asyncio
import os
import signal
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from oddslog.deploy.stack import LocalStack
from oddslog.deploy.stack.probes import free_port
from oddslog.deploy.torture.proxy import Proxy
from oddslog.schemas import KafkaConnection
from oddslog.sink.database import make_engine
from oddslog.sink.topics import create_topic
from tests.support.conservation import assert_conserved, feed_events, until_ledger
from tests.support.polls import blocked
from tests.support.running import running
from tests.support.waiting import until

SESSION_SECONDS = 1.0
AWAY_SECONDS = 3 * SESSION_SECONDS


class Broker:
    """A broker that is ours to stop, behind a proxy's address."""

    def __init__(self, directory: Path) -> None:
        self.proxy_port = free_port()
        told = f"PLAINTEXT://127.0.0.1:{self.proxy_port}"
        self._stack = LocalStack(directory, kafka_properties={"advertised.listeners": told})
        self.start()

    @property
    def port(self) -> int:
        return self._stack._kafka.state.port

    def start(self) -> None:
        self._stack.start_kafka()

    def stop(self, number: signal.Signals) -> None:
        self._stack.stop_kafka(number)

    def signal(self, number: signal.Signals) -> None:
        process = self._stack._kafka.state.process
        if process is not None:
            os.kill(process.pid, number)

    def destroy(self) -> None:
        self.signal(signal.SIGCONT)
        self._stack.destroy()


@pytest.fixture(scope="module")
def own_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One broker for all tests here; each start takes seconds."""
    made = Broker(tmp_path_factory.mktemp("broker"))
    yield made
    made.destroy()


@pytest.fixture
async def proxy(own_broker: Broker) -> AsyncIterator[Proxy]:
    """The proxy at the address that the broker tells; the broker is up before and after."""
    async with Proxy("127.0.0.1", own_broker.port, listen_port=own_broker.proxy_port) as proxy:
        yield proxy
    own_broker.signal(signal.SIGCONT)
    await asyncio.to_thread(own_broker.start)


@pytest.fixture
def kafka(proxy: Proxy) -> KafkaConnection:
    """Through the proxy."""
    return KafkaConnection(f"127.0.0.1:{proxy.port}")


@pytest.fixture
async def topic(kafka: KafkaConnection) -> str:
    """A topic of three partitions on that broker."""
    name = f"t{uuid.uuid4().hex[:12]}"
    await create_topic(kafka, name, partitions=3)
    return name


async def wait_away() -> None:
    """Wait until an outage has lasted longer than the session."""
    since = time.monotonic()
    await until(lambda: time.monotonic() - since > AWAY_SECONDS, "the outage to last")


@pytest.mark.parametrize(
    "how",
    [
        pytest.param("killed", marks=pytest.mark.faults),  # a start takes half a minute
        pytest.param("stopped", marks=pytest.mark.faults),
        "frozen",
    ],
)
async def test_the_broker_goes_in_the_midst_of_a_backlog(
    kafka: KafkaConnection, topic: str, engine: AsyncEngine, own_broker: Broker, how: str
) -> None:
    """Longer than a session: what was read goes on, what comes later is read later."""
    fed = await feed_events(kafka, topic, range(1, 91))
    keeper_engine = make_engine(engine.url.render_as_string(hide_password=False))
    async with running(
        kafka, topic, engine, session_timeout_seconds=SESSION_SECONDS, poll_records=20
    ) as sink:
        async with keeper_engine.connect() as keeper, keeper.begin():
            await keeper.exec_driver_sql("LOCK TABLE market_odds")
            await until(lambda: blocked(keeper_engine), "a transaction in its midst")
            if how == "frozen":
                own_broker.signal(signal.SIGSTOP)
            else:
                number = signal.SIGKILL if how == "killed" else signal.SIGTERM
                await asyncio.to_thread(own_broker.stop, number)
        await wait_away()
        if how == "frozen":
            own_broker.signal(signal.SIGCONT)
        else:
            await asyncio.to_thread(own_broker.start)
        fed += await feed_events(kafka, topic, range(91, 121))
        await until_ledger(engine, 240)
        totals = await sink.stop()
    await keeper_engine.dispose()
    assert totals.duplicates == 0
    await assert_conserved(engine, fed)


async def test_the_way_to_the_broker_is_cut_again_and_again(
    kafka: KafkaConnection, topic: str, engine: AsyncEngine, proxy: Proxy
) -> None:
    """In the middle of whatever is going on; positions are checked anew each time."""
    fed = await feed_events(kafka, topic, range(1, 91))
    async with running(
        kafka, topic, engine, session_timeout_seconds=SESSION_SECONDS, poll_records=10
    ) as sink:
        for mark in range(20, 180, 40):
            await until(lambda mark=mark: sink.sink.totals.records >= mark, "progress")  # type: ignore[misc]
            proxy.cut()
        proxy.refuse = True
        proxy.cut()
        await until(lambda: proxy.refused >= 2, "refusals")
        proxy.refuse = False
        fed += await feed_events(kafka, topic, range(91, 121))
        await until_ledger(engine, 240)
        await sink.stop()
    await assert_conserved(engine, fed)


@pytest.mark.faults
async def test_the_way_to_the_broker_stalls(
    kafka: KafkaConnection, topic: str, engine: AsyncEngine, proxy: Proxy
) -> None:
    """A black hole for longer than the session; then all that waited comes at once."""
    async with running(
        kafka, topic, engine, session_timeout_seconds=SESSION_SECONDS, poll_records=10
    ) as sink:
        fed = await feed_events(kafka, topic, range(1, 91))
        await until(lambda: sink.sink.totals.records >= 20, "progress")
        proxy.stall()
        await wait_away()
        proxy.flow()
        fed += await feed_events(kafka, topic, range(91, 121))
        await until_ledger(engine, 240)
        await sink.stop()
    await assert_conserved(engine, fed)


@pytest.mark.faults
async def test_a_slow_way_to_the_broker(
    kafka: KafkaConnection, topic: str, engine: AsyncEngine, proxy: Proxy
) -> None:
    """Each answer comes late, and the sink goes on."""
    fed = await feed_events(kafka, topic, range(1, 61))
    proxy.delay_seconds = 0.05
    async with running(kafka, topic, engine, until_caught_up=True) as sink:
        totals = await sink.task
    assert totals.records == 120
    await assert_conserved(engine, fed)


@pytest.mark.faults
async def test_stopping_while_the_broker_is_away(
    kafka: KafkaConnection, topic: str, engine: AsyncEngine, own_broker: Broker
) -> None:
    """It ends; what is not committed to the group is no loss, the ledger has it."""
    async with running(
        kafka, topic, engine, session_timeout_seconds=SESSION_SECONDS
    ) as sink:  # fmt: skip
        fed = await feed_events(kafka, topic, range(1, 31))
        await until_ledger(engine, 60)
        await asyncio.to_thread(own_broker.stop, signal.SIGKILL)
        await sink.stop()
    await asyncio.to_thread(own_broker.start)
    fed += await feed_events(kafka, topic, range(31, 61))
    async with running(kafka, topic, engine, until_caught_up=True) as again:
        totals = await again.task
    assert totals.duplicates == 0
    await assert_conserved(engine, fed)
