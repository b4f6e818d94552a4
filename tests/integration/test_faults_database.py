"""PostgreSQL hangs, is cut off and refuses under the running sink: nothing is lost.

Each test ends with the conservation check.
"""

import time
from collections.abc import AsyncIterator, Iterable

import pytest
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import AsyncEngine

from oddslog.deploy.torture.proxy import Proxy
from oddslog.schemas import KafkaConnection
from oddslog.sink import attempts as attempts_module
from oddslog.sink import database as database_module
from oddslog.sink.database import make_engine
from oddslog.sink.errors import FatalDatabaseError
from tests.support.conservation import assert_conserved, feed_events, until_ledger
from tests.support.polls import blocked, letters, rows
from tests.support.running import Running, running
from tests.support.waiting import until


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


async def execute(engine: AsyncEngine, *statements: str) -> None:
    """Run statements, each by itself."""
    for statement in statements:
        async with engine.begin() as connection:
            await connection.exec_driver_sql(statement)


class Memberships:
    """Counts how often a sink's partitions are revoked."""

    def __init__(self, sink: Running, monkeypatch: pytest.MonkeyPatch) -> None:
        self.revocations = 0
        revoked = sink.sink.revoked

        async def note(partitions: Iterable[int]) -> None:
            self.revocations += 1
            await revoked(partitions)

        monkeypatch.setattr(sink.sink, "revoked", note)


@pytest.mark.parametrize("committed", [True, False])
async def test_the_reply_of_a_commit_is_lost(
    kafka: KafkaConnection,
    topic: str,
    engine: AsyncEngine,
    proxy: Proxy,
    through: AsyncEngine,
    *,
    committed: bool,
) -> None:
    """Done or not, the ledger tells: what was committed is fenced, the rest written."""
    async with running(kafka, topic, through, poll_records=10) as sink:
        await sink.until_placed(3)
        cut = proxy.cut_at(b"COMMIT;", forward=committed, times=3)
        fed = await feed_events(kafka, topic, range(1, 31))
        await until_ledger(engine, 60)
        await until(lambda: cut.times == 0, "three cuts")
        totals = await sink.stop()
    assert totals.retries >= 1
    assert totals.duplicates == 0
    assert bool(totals.fenced) is committed
    await assert_conserved(engine, fed)


async def test_a_server_that_swallows_everything(
    kafka: KafkaConnection,
    topic: str,
    engine: AsyncEngine,
    proxy: Proxy,
    through: AsyncEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Our own clock ends the attempt; membership is kept for longer than a session."""
    monkeypatch.setattr(attempts_module, "_WRITE_SECONDS", 0.4)
    session = 1.0
    async with running(kafka, topic, through, session_timeout_seconds=session) as sink:
        await sink.until_placed(3)
        memberships = Memberships(sink, monkeypatch)
        await feed_events(kafka, topic, [1])
        await until_ledger(engine, 2)  # with a connection that is there
        proxy.stall()
        stalled_at = time.monotonic()
        fed = await feed_events(kafka, topic, range(1, 31))

        def long_away() -> bool:
            return time.monotonic() - stalled_at > 3 * session and sink.sink.totals.retries >= 2

        await until(long_away, "a stall of three sessions")
        assert sink.sink._poller.polls.qsize() <= 1  # and one in hand
        proxy.flow()
        await until_ledger(engine, 62)
        assert memberships.revocations == 0
        totals = await sink.stop()
    assert totals.halvings >= 1
    result = await rows(engine, "SELECT sum(snapshots_total), sum(duplicates_total)"
                        " FROM oddslog_ledger")  # fmt: skip
    assert tuple(result[0]) == (30, 1)
    await assert_conserved(engine, fed)


async def test_membership_is_kept_while_the_database_is_away(
    kafka: KafkaConnection,
    topic: str,
    engine: AsyncEngine,
    proxy: Proxy,
    through: AsyncEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Refused for three sessions: no rebalance, at most two polls in memory."""
    session = 1.0
    async with running(
        kafka, topic, through, session_timeout_seconds=session, poll_records=5
    ) as sink:
        await sink.until_placed(3)
        memberships = Memberships(sink, monkeypatch)
        proxy.refuse = True
        proxy.cut()
        away_since = time.monotonic()
        fed = await feed_events(kafka, topic, range(1, 61))
        most = 0

        def long_away() -> bool:
            nonlocal most
            in_hand = sink.sink._in_hand is not None
            most = max(most, sink.sink._poller.polls.qsize() + in_hand)
            return time.monotonic() - away_since > 3 * session

        await until(long_away, "an outage of three sessions")
        assert memberships.revocations == 0
        assert most <= 2
        proxy.refuse = False
        await until_ledger(engine, 120)
        assert memberships.revocations == 0
        await sink.stop()
    await assert_conserved(engine, fed)


@pytest.mark.faults
async def test_a_transaction_longer_than_the_session(
    kafka: KafkaConnection, topic: str, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not the transaction that tells the group that we live."""
    session = 1.0
    keeper_engine = make_engine(engine.url.render_as_string(hide_password=False))
    async with running(kafka, topic, engine, session_timeout_seconds=session) as sink:
        await sink.until_placed(3)
        memberships = Memberships(sink, monkeypatch)
        async with keeper_engine.connect() as keeper, keeper.begin():
            await keeper.exec_driver_sql("LOCK TABLE market_odds")
            fed = await feed_events(kafka, topic, range(1, 31))
            await until(lambda: blocked(keeper_engine), "the transaction to wait")
            since = time.monotonic()
            await until(lambda: time.monotonic() - since > 3 * session, "three sessions")
        await until_ledger(keeper_engine, 60)
        totals = await sink.stop()
    await keeper_engine.dispose()
    assert (memberships.revocations, totals.retries, totals.fenced) == (0, 0, 0)
    await assert_conserved(engine, fed)


async def test_a_table_that_another_session_locks(
    kafka: KafkaConnection,
    topic: str,
    database_url: str,
    engine: AsyncEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """55P03 again and again, and no letter: it waits for the lock's end."""
    monkeypatch.setattr(database_module, "_LOCK_TIMEOUT_SECONDS", 0.2)
    impatient = make_engine(database_url)
    async with running(kafka, topic, impatient) as sink:
        await sink.until_placed(3)
        async with engine.connect() as keeper, keeper.begin():
            await keeper.exec_driver_sql("LOCK TABLE competitor_odds_snapshots, market_odds")
            fed = await feed_events(kafka, topic, range(1, 31))
            await until(lambda: sink.sink.totals.retries >= 2, "two time-outs")
        await until_ledger(engine, 60)
        totals = await sink.stop()
    await impatient.dispose()
    assert totals.fenced_backends == 0
    await assert_conserved(engine, fed)


async def end_sessions(engine: AsyncEngine, role: str | None = None) -> None:
    """End the other sessions of this database, so that they begin anew."""
    await rows(
        engine,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND usename = coalesce(CAST(:role AS text), usename)",
        role=role,
    )


async def test_a_database_that_is_read_only_for_a_while(
    kafka: KafkaConnection, topic: str, database_url: str, engine: AsyncEngine, new_name: str
) -> None:
    """25006, as from a standby after a switch: waited for."""
    writer = make_engine(database_url)
    async with running(kafka, topic, writer) as sink:
        await sink.until_placed(3)
        await execute(engine, f"ALTER DATABASE {new_name} SET default_transaction_read_only = on")
        await end_sessions(engine)
        fed = await feed_events(kafka, topic, range(1, 31))
        await until(lambda: sink.sink.totals.retries >= 2, "two refusals")
        assert sink.sink.totals.snapshots == 0
        async with engine.connect() as connection:
            await connection.exec_driver_sql("SET TRANSACTION READ WRITE")
            await connection.exec_driver_sql(
                f"ALTER DATABASE {new_name} RESET default_transaction_read_only"
            )
            await connection.commit()
        await end_sessions(engine)
        await until_ledger(engine, 60)
        await sink.stop()
    await writer.dispose()
    await assert_conserved(engine, fed)


@pytest.fixture
async def role(engine: AsyncEngine, new_name: str) -> AsyncIterator[str]:
    """A role with just the rights that the sink needs."""
    name = f"r{new_name}"
    await execute(
        engine,
        f"CREATE ROLE {name} LOGIN PASSWORD 'sink'",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {name}",
        f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {name}",
    )
    yield name
    await execute(engine, f"DROP OWNED BY {name}", f"DROP ROLE {name}")


@pytest.fixture
async def of_role(database_url: str, role: str) -> AsyncIterator[AsyncEngine]:
    """An engine of that role."""
    url = make_url(database_url).set(username=role, password="sink")
    engine = make_engine(url.render_as_string(hide_password=False))
    yield engine
    await engine.dispose()


async def test_no_connection_is_to_be_had(
    kafka: KafkaConnection, topic: str, engine: AsyncEngine, role: str, of_role: AsyncEngine
) -> None:
    """53300: waited for."""
    async with running(kafka, topic, of_role) as sink:
        await sink.until_placed(3)
        await execute(engine, f"ALTER ROLE {role} CONNECTION LIMIT 0")
        await end_sessions(engine, role)
        fed = await feed_events(kafka, topic, range(1, 31))
        await until(lambda: sink.sink.totals.retries >= 2, "two refusals")
        await execute(engine, f"ALTER ROLE {role} CONNECTION LIMIT -1")
        await until_ledger(engine, 60)
        await sink.stop()
    await assert_conserved(engine, fed)


@pytest.mark.parametrize(
    ("broken", "mended", "sqlstate"),
    [
        ("REVOKE INSERT ON market_odds FROM {role}", "GRANT INSERT ON market_odds TO {role}",
         "42501"),
        ("ALTER TABLE market_odds DROP COLUMN line",
         "ALTER TABLE market_odds ADD COLUMN line float", "42703"),
    ],
)  # fmt: skip
async def test_a_systemic_failure_stops_the_sink(
    kafka: KafkaConnection,
    topic: str,
    engine: AsyncEngine,
    role: str,
    of_role: AsyncEngine,
    broken: str,
    mended: str,
    sqlstate: str,
) -> None:
    """With one line and exit 4, no letter, nothing written; mended, all of it is."""
    async with running(kafka, topic, of_role) as sink:
        fed = await feed_events(kafka, topic, range(1, 4))
        await until_ledger(engine, 6)
        await execute(engine, broken.format(role=role))
        fed += await feed_events(kafka, topic, range(4, 31))
        with pytest.raises(FatalDatabaseError, match=sqlstate) as raised:
            await sink.task
    assert raised.value.exit_code == 4
    assert await letters(engine) == []
    await execute(engine, mended.format(role=role))
    if "COLUMN" in mended:  # what the dropped column held is lost, by the one who dropped it
        await execute(engine, "UPDATE market_odds SET line = 2.5")
    async with running(kafka, topic, of_role, until_caught_up=True) as again:
        await again.task
    await assert_conserved(engine, fed)


TOO_MUCH = """
CREATE FUNCTION too_much() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT count(DISTINCT snapshot_id) FROM new_rows) > {most} THEN
        RAISE 'too much' USING ERRCODE = '{sqlstate}';
    END IF;
    RETURN NULL;
END$$
"""


@pytest.mark.parametrize("sqlstate", ["57014", pytest.param("53200", marks=pytest.mark.faults)])
async def test_a_poll_that_is_too_much_is_written_in_halves(
    kafka: KafkaConnection, topic: str, engine: AsyncEngine, sqlstate: str
) -> None:
    """The ledger moves with each half; down to one record where it must; then whole again."""
    await execute(
        engine,
        TOO_MUCH.format(most=1, sqlstate=sqlstate),
        "CREATE TRIGGER too_much AFTER INSERT ON market_odds REFERENCING NEW TABLE AS new_rows"
        " FOR EACH STATEMENT EXECUTE FUNCTION too_much()",
    )
    fed = await feed_events(kafka, topic, range(1, 13))
    async with running(kafka, topic, engine) as sink:
        await until_ledger(engine, 24)
        halved = sink.sink.totals.polls
        assert sink.sink.totals.halvings >= 11
        assert halved >= 12
        await execute(engine, "DROP TRIGGER too_much ON market_odds")
        fed += await feed_events(kafka, topic, range(13, 25))
        await until_ledger(engine, 48)
        totals = await sink.stop()
        assert totals.polls - halved < 12
    assert totals.fenced == 0
    await assert_conserved(engine, fed)


async def test_a_migration_under_the_running_sink(
    kafka: KafkaConnection, topic: str, engine: AsyncEngine, database_url: str
) -> None:
    """Plans from before it are made anew at the first retry."""
    admin = make_engine(database_url)
    async with running(kafka, topic, engine) as sink:
        fed = await feed_events(kafka, topic, range(1, 4))
        await until_ledger(admin, 6)
        await execute(
            admin,
            "ALTER TABLE oddslog_ledger ALTER COLUMN ids_valid_from TYPE numeric",
            "ALTER TABLE odds_snapshots ALTER COLUMN event_id TYPE bigint",
        )
        fed += await feed_events(kafka, topic, range(4, 31))
        await until_ledger(admin, 60)
        totals = await sink.stop()
    await admin.dispose()
    assert totals.retries >= 1
    await assert_conserved(engine, fed)
