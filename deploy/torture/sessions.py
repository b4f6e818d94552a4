"""Faults inside PostgreSQL: sessions that are ended, tables that are locked.

Each on a connection of its own, past the proxies. PostgreSQL may be away just
then: a fault that cannot be done is no error.
"""

import asyncio

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ...sink.classify import ErrorClass, classify
from ...sink.database import make_engine
from .load import REFUSED, REFUSED_RUN

__all__ = ["lock_table", "refuse_some", "terminate_backend"]

# Rather one that is in a transaction; what has stood still for longer is for the sinks to end.
_TERMINATE = text(
    "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity"
    " WHERE datname = current_database() AND application_name = 'oddslog sink'"
    " AND pid <> pg_backend_pid() AND NOT (xact_start IS NOT NULL AND wait_event_type = 'Client'"
    " AND state_change < clock_timestamp() - interval '3 s')"
    " ORDER BY state NOT LIKE 'idle in transaction%' AND state <> 'active', random() LIMIT 1) AS s"
)
_LOCK_WAIT = text("SET LOCAL lock_timeout = '10s'")
_REFUSING = {
    "odds_snapshots": f"scrape_run_id IS DISTINCT FROM {REFUSED_RUN}",
    "competitor_odds_snapshots": f"scrape_run_id IS DISTINCT FROM {REFUSED_RUN}",
    "market_odds": f"handicap_type IS DISTINCT FROM '{REFUSED}'",
    "competitor_market_odds": f"handicap_type IS DISTINCT FROM '{REFUSED}'",
}


async def refuse_some(engine: AsyncEngine) -> None:
    """Let the tables refuse what only they can know: poison that has to be isolated."""
    async with engine.begin() as connection:
        for table, condition in _REFUSING.items():
            await connection.execute(
                text(f"ALTER TABLE {table} ADD CONSTRAINT torture_refuses CHECK ({condition})")
            )


async def terminate_backend(database_url: str) -> bool:
    """End one session of a sink; False where there is none, or no server."""
    engine = make_engine(database_url, application_name="oddslog torture")
    try:
        async with engine.connect() as connection:
            return bool((await connection.execute(_TERMINATE)).scalar_one_or_none())
    except Exception as error:
        return _passes(error)
    finally:
        await engine.dispose()


async def lock_table(database_url: str, table: str, seconds: float) -> bool:
    """Keep everybody out of a table for a while; False where that did not work."""
    engine = make_engine(database_url, application_name="oddslog torture")
    try:
        async with engine.connect() as connection:
            await _hold(connection, table, seconds)
    except Exception as error:
        return _passes(error)
    finally:
        await engine.dispose()
    return True


async def _hold(connection: AsyncConnection, table: str, seconds: float) -> None:
    await connection.execute(_LOCK_WAIT)
    await connection.execute(text(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))
    await asyncio.sleep(seconds)
    await connection.rollback()


def _passes(error: Exception) -> bool:
    """False for trouble that passes; anything else is raised."""
    if classify(error) is not ErrorClass.TRANSIENT:
        raise error
    return False
