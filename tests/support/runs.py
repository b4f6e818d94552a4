"""Fragments of scrape runs, made by hand, and what the database says of the runs."""

import uuid
from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncEngine

from oddslog.schemas.codec import SnapshotRecord, decode, encode
from oddslog.schemas.wire import HEADER_BATCH, HEADER_FRAGMENT, HEADER_RUN
from oddslog.sink import ScrapeRun
from oddslog.sink.runs import read_run, read_runs
from tests.support.fragments import good, holding

__all__ = ["batch_id_of", "counts", "headers_of", "of_run", "run_in", "runs_in"]


def batch_id_of(name: object) -> uuid.UUID:
    """The id of a batch, by any name."""
    return uuid.uuid5(uuid.NAMESPACE_OID, str(name))


def of_run(
    event_id: int,
    fragment: int = 0,
    fragments: int = 1,
    *,
    index: int = 0,
    count: int | None = 1,
    name: object = None,
    run_id: int | None = 7,
    record: SnapshotRecord | None = None,
) -> bytes:
    """The value of a record: one snapshot of an event, as a fragment of a batch of a run.

    Batches have their index as name, where no other is given.
    """
    value = good(event_id) if record is None else holding(record, event_id=event_id)
    return encode(
        replace(
            decode(value),
            batch_id=batch_id_of(index if name is None else name),
            batch_index=index,
            batch_count=count,
            fragment_index=fragment,
            fragment_count=fragments,
            scrape_run_id=run_id,
        )
    )


def headers_of(
    name: object, fragment: int, fragments: int, run_id: int = 7
) -> list[tuple[str, bytes]]:
    """The headers that ingest puts on such a fragment; numbered from 0 here."""
    return [
        (HEADER_BATCH, str(batch_id_of(name)).encode()),
        (HEADER_FRAGMENT, b"%d/%d" % (fragment + 1, fragments)),
        (HEADER_RUN, b"%d" % run_id),
    ]


async def run_in(engine: AsyncEngine, run_id: int = 7) -> ScrapeRun:
    """What the database has of a run; the list of all says the same."""
    async with engine.connect() as connection:
        run = await read_run(connection, run_id)
        (listed,) = [r for r in await read_runs(connection) if r.run_id == run_id]
    assert run is not None
    assert replace(listed, idle_seconds=0.0) == replace(run, idle_seconds=0.0)
    return run


async def runs_in(engine: AsyncEngine) -> list[int]:
    """The ids of all runs that are kept."""
    async with engine.connect() as connection:
        return sorted(run.run_id for run in await read_runs(connection))


def counts(run: ScrapeRun) -> tuple[int, int, bool]:
    """Batches and fragments that have arrived, and whether that is all."""
    return run.batches_arrived, run.fragments_arrived, run.complete
