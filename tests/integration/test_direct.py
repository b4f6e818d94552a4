"""Without Kafka: `handle_write_batch` and `DatabaseDestination` on a real PostgreSQL."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import structlog
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from oddslog.deploy.compare import compare
from oddslog.deploy.torture.proxy import Proxy
from oddslog.ingest import AsyncWriteQueue
from oddslog.schemas import CompetitorSnapshotKey
from oddslog.schemas.codec import decode
from oddslog.sink import DatabaseDestination, handle_write_batch
from oddslog.sink.database import make_engine
from oddslog.sink.direct import SessionFactory
from tests.support.batches import NOON, batch, competitor, key_of, market, snapshot
from tests.support.polls import letters, one

KEYS = {"inserted_bp", "inserted_comp", "updated_bp", "updated_comp", "write_ms", "skipped"}


@pytest.fixture
def sessions(engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    """Sessions as an application makes them."""
    return async_sessionmaker(engine, expire_on_commit=False)


@pytest.fixture
async def proxy(database_url: str) -> AsyncIterator[Proxy]:
    """A proxy before the session's PostgreSQL."""
    async with Proxy.before(database_url) as proxy:
        yield proxy


@pytest.fixture
async def through(
    proxy: Proxy, database_url: str
) -> AsyncIterator[async_sessionmaker[AsyncSession]]:
    """Sessions through the proxy."""
    engine = make_engine(proxy.url(database_url))
    yield async_sessionmaker(engine)
    await engine.dispose()


async def test_inserted_and_updated_are_counted(
    engine: AsyncEngine, sessions: async_sessionmaker[AsyncSession]
) -> None:
    """New rows, rows matched by key and by id; the same batch again inserts nothing."""
    first = batch([snapshot(1), snapshot(2)], [competitor(7)])
    result = await handle_write_batch(sessions, first)
    assert result.keys() == KEYS
    assert result["write_ms"] > 0
    assert (result["inserted_bp"], result["inserted_comp"], result["skipped"]) == (2, 1, 0)
    again = await handle_write_batch(sessions, first)
    assert (again["inserted_bp"], again["inserted_comp"], again["skipped"]) == (0, 0, 0)
    second = batch(
        unchanged_betpawa=(key_of(snapshot(1)),),
        unchanged_competitor=(CompetitorSnapshotKey(7, NOON),),
        confirmed_at=NOON + timedelta(hours=1),
    )
    result = await handle_write_batch(sessions, second)
    assert (result["updated_bp"], result["updated_comp"]) == (1, 1)
    comparison = await compare(engine, [first, second])
    assert comparison.equal, comparison.first_difference
    by_id = batch(
        unchanged_betpawa_ids=(0, -5, 2, 999),
        unchanged_competitor_ids=(1,),
        confirmed_at=NOON + timedelta(hours=3),
    )
    result = await handle_write_batch(sessions, by_id)
    assert (result["updated_bp"], result["updated_comp"], result["skipped"]) == (1, 1, 0)


@pytest.mark.parametrize("variant", ["sessionmaker", "class", "function"])
async def test_session_factories(engine: AsyncEngine, variant: str) -> None:
    """Anything that gives an AsyncSession, also of the application's own engine."""
    factories: dict[str, SessionFactory] = {
        "sessionmaker": async_sessionmaker(engine),
        "class": async_sessionmaker(bind=engine, autoflush=False, class_=AsyncSession),
        "function": lambda: AsyncSession(engine),
    }
    for event in (1, 2):
        result = await handle_write_batch(factories[variant], batch([snapshot(event)]))
        assert result["inserted_bp"] == 1


async def test_bad_records_are_kept_and_the_rest_goes_on(
    engine: AsyncEngine, sessions: async_sessionmaker[AsyncSession]
) -> None:
    """Conflict, poison and what has no bytes: logged, dead letters without a log, skipped."""
    await handle_write_batch(sessions, batch([snapshot(1)]))
    cyclic = {"a": object()}
    bad = batch(
        [
            snapshot(1, markets=(market(9),)),
            snapshot(2, markets=(market(1, betpawa_market_id="x" * 51),)),
            snapshot(3, raw_response=cyclic),
            snapshot(2**31),
            snapshot(4),
        ],
        [competitor(5, markets=(market(1, outcomes=[float("nan")]),)), competitor(6)],
    )
    with structlog.testing.capture_logs() as logged:
        result = await handle_write_batch(sessions, bad)
    assert (result["inserted_bp"], result["inserted_comp"], result["skipped"]) == (1, 1, 5)
    assert len([e for e in logged if e["event"] == "record_skipped"]) == 5
    found = {(x.kind, x.event_id): x for x in await letters(engine)}
    assert {key: (x.reason, x.field, x.log_id, x.log_offset) for key, x in found.items()} == {
        ("betpawa", 1): ("conflict", None, None, None),
        ("betpawa", 2): ("poison", "markets[0].betpawa_market_id", None, None),
        ("betpawa", 3): ("poison", "raw_response.a", None, None),
        ("betpawa", 2**31): ("poison", "event_id", None, None),
        ("competitor", 5): ("poison", "markets[0].outcomes[0]", None, None),
    }
    kept = decode(found["betpawa", 2].value)
    assert kept.snapshots[0]["markets"][0]["betpawa_market_id"] == "x" * 51
    assert b"object object" in found["betpawa", 3].value
    # Without a log there is no source: a second time is a second letter.
    await handle_write_batch(sessions, bad)
    assert len(await letters(engine)) == 10


async def test_pending_confirmations_wait_here_too(
    engine: AsyncEngine, sessions: async_sessionmaker[AsyncSession]
) -> None:
    """A confirmation before its snapshot; unchanged ones of a key fold to the maximum."""
    late = NOON + timedelta(hours=2)
    result = await handle_write_batch(
        sessions, batch(unchanged_betpawa=(key_of(snapshot(1)),) * 2, confirmed_at=late)
    )
    assert (result["updated_bp"], result["skipped"]) == (0, 0)
    await handle_write_batch(sessions, batch([snapshot(1)]))
    assert await one(engine, "SELECT last_confirmed_at FROM odds_snapshots") == late
    assert await one(engine, "SELECT count(*) FROM oddslog_pending_confirmations") == 0


@pytest.mark.parametrize("store_raw", [True, False])
async def test_raw_responses(
    engine: AsyncEngine, sessions: async_sessionmaker[AsyncSession], *, store_raw: bool
) -> None:
    """Stored, or left out; they are not part of what makes a snapshot the same."""
    fed = batch([snapshot(1)], [competitor(1)])
    await handle_write_batch(sessions, fed, store_raw=store_raw)
    comparison = await compare(engine, [fed], raw_response=store_raw)
    assert comparison.equal, comparison.first_difference


@pytest.mark.parametrize("step", [b"SAVEPOINT", b"PGCOPY", b"COMMIT;"])
async def test_a_lost_connection_is_an_operational_error(
    engine: AsyncEngine,
    proxy: Proxy,
    through: async_sessionmaker[AsyncSession],
    step: bytes,
) -> None:
    """At whatever step; the same stamped batch again is exactly once."""
    await handle_write_batch(through, batch([snapshot(9)]))  # the limits are read
    fed = batch(
        [snapshot(1), snapshot(2)], [competitor(1)], unchanged_betpawa=(key_of(snapshot(1)),)
    )
    cut = proxy.cut_at(step)
    with pytest.raises(OperationalError):
        await handle_write_batch(through, fed)
    assert cut.happened.is_set()
    result = await handle_write_batch(through, fed)
    assert result["inserted_bp"] == (0 if step == b"COMMIT;" else 2)
    comparison = await compare(engine, [batch([snapshot(9)]), fed])
    assert comparison.equal, comparison.first_difference


async def test_a_server_that_is_away_is_an_operational_error(
    proxy: Proxy, through: async_sessionmaker[AsyncSession]
) -> None:
    """Also where no connection is to be had; what is refused for good stays what it is."""
    proxy.refuse = True
    with pytest.raises(OperationalError):
        await handle_write_batch(through, batch([snapshot(1)]))
    proxy.refuse = False
    assert (await handle_write_batch(through, batch([snapshot(1)])))["inserted_bp"] == 1


async def test_what_no_retry_mends_is_raised_as_it_is(
    engine: AsyncEngine, sessions: async_sessionmaker[AsyncSession]
) -> None:
    """A table that is gone is no lost connection, and makes no letters."""
    await handle_write_batch(sessions, batch([snapshot(1)]))
    async with engine.begin() as connection:
        await connection.exec_driver_sql("DROP TABLE oddslog_pending_confirmations")
    with pytest.raises(ProgrammingError):
        await handle_write_batch(sessions, batch([snapshot(2)]))
    assert await one(engine, "SELECT count(*) FROM odds_snapshots") == 1
    assert await letters(engine) == []


async def test_the_queue_writes_through_lost_replies(
    engine: AsyncEngine, proxy: Proxy, through: async_sessionmaker[AsyncSession]
) -> None:
    """`DatabaseDestination` behind the queue: a receipt means that it is committed, once."""
    cuts = [proxy.cut_at(b"COMMIT;"), proxy.cut_at(b"PGCOPY", forward=False)]
    unstamped = batch([snapshot(event, at=None) for event in range(1, 6)], confirmed_at=None)  # type: ignore[arg-type]
    async with AsyncWriteQueue(DatabaseDestination(through)) as queue:
        receipt = await queue.enqueue(unstamped)
        await receipt
    assert all(cut.happened.is_set() for cut in cuts)
    comparison = await compare(engine, [receipt.batch])
    assert comparison.equal, comparison.first_difference
    assert await one(engine, "SELECT count(*) FROM odds_snapshots") == 5
