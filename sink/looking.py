"""Looking at the ledger outside of a transaction: is the log written, did the database go back?"""

import asyncio

from sqlalchemy.ext.asyncio import AsyncEngine

from .classify import ErrorClass, classify
from .consumer import LogReadError
from .ledger import read_rows
from .placing import LogEnds
from .positions import LedgerRow
from .trouble import fatal

__all__ = ["is_log_written", "ledger_rows"]

_LOOK_SECONDS = 60.0


async def is_log_written(
    engine: AsyncEngine, log_ends: LogEnds, log_id: int, partition_count: int
) -> bool:
    """Whether the ledger has reached the log's end, of every partition.

    Also of those that other members write: only then is the log in the tables. False
    where a server cannot be asked now.

    Raises:
        What ends the sink, as `fatal` says.
    """
    try:
        # The ends first: what is appended after them need not be written yet.
        ranges = await log_ends.ranges(range(partition_count))
        rows = await ledger_rows(engine, log_id)
    except Exception as error:
        if isinstance(error, LogReadError) or classify(error) is ErrorClass.TRANSIENT:
            return False
        raise fatal(error) from error
    return all(p in rows and rows[p].next_offset >= ranges[p].end for p in ranges)


async def ledger_rows(engine: AsyncEngine, log_id: int) -> dict[int, LedgerRow]:
    """The ledger's rows of a log as they are committed now.

    Raises:
        TimeoutError: no answer in a minute.
        Whatever PostgreSQL raises.
    """
    async with asyncio.timeout(_LOOK_SECONDS), engine.connect() as connection:
        return await read_rows(connection, log_id)
