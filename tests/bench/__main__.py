"""`make bench`: rows a second of ORM, bare COPY and this sink, in turns.

Each round runs every way once on emptied tables; the median of the rounds
counts. Kafka, PostgreSQL and the way under test share the machine, as they do
in the demo, so the ratios say more than the rates.
"""

import argparse
import asyncio
import json
import logging
import os
import statistics
import sys
import tempfile
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import structlog

from oddslog.deploy.stack import Servers, open_stack
from oddslog.ingest.feeds import SimulateSettings, simulate
from oddslog.schemas import KafkaConnection, OddslogError, WriteBatch
from oddslog.sink import migrate
from oddslog.sink.database import make_engine
from oddslog.sink.topics import create_topic
from tests.bench.ways import COPY, ORM, SINK, clear_tables, copy_way, feed_topic, orm_way, sink_way
from tests.fixtures.servers import create_database, drop_database

STARTED_AT = datetime(2026, 1, 1, tzinfo=UTC)


def main() -> int:
    """Parse the options, bring the servers up, run the rounds."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description=__doc__)
    parser.add_argument("--events", type=int, default=300, help="events (340 market rows each)")
    parser.add_argument("--raw-kb", type=int, default=2, help="KB of raw response a snapshot")
    parser.add_argument("--rounds", type=int, default=3, help="times each way runs")
    parser.add_argument("--per-transaction", type=int, default=500, help="snapshots")
    parser.add_argument("--json", action="store_true", help="end with one JSON line")
    options = parser.parse_args()
    if min(options.events, options.rounds, options.per_transaction) < 1 or options.raw_kb < 0:
        parser.error("--events, --rounds and --per-transaction are at least 1, --raw-kb 0")
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    with tempfile.TemporaryDirectory(prefix="oddslog-bench-") as directory:
        stack = open_stack(
            os.environ.get("ODDSLOG_STACK", "auto"),
            directory,
            bootstrap_servers=os.environ.get("ODDSLOG_BOOTSTRAP_SERVERS"),
            database_url=os.environ.get("ODDSLOG_DATABASE_URL"),
        )
        try:
            servers = stack.start(say)
            figures = asyncio.run(run(servers, options))
        except OddslogError as error:
            say(f"oddslog: {error}")
            return error.exit_code
        finally:
            stack.destroy()
    report(figures, as_json=options.json)
    return 0


async def run(servers: Servers, options: argparse.Namespace) -> dict[str, Any]:
    """All rounds; the database and topics are of this run and are dropped after it."""
    settings = SimulateSettings(
        events=options.events,
        cycles=1,
        raw_response_bytes=options.raw_kb * 1024,
        started_at=STARTED_AT,
    )
    batches = list(simulate(settings))
    rows = 0
    for batch in batches:
        rows += sum(len(snapshot.markets) for snapshot in batch.changed_betpawa)
        rows += sum(len(snapshot.markets) for snapshot in batch.changed_competitor)
    name = f"bench_{uuid.uuid4().hex[:8]}"
    url = await create_database(servers, name)
    try:
        return await run_rounds(servers, url, name, batches, rows, options)
    finally:
        await drop_database(servers, name)


async def run_rounds(
    servers: Servers,
    url: str,
    name: str,
    batches: Sequence[WriteBatch],
    rows: int,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Each way once a round, in turn; seconds become rows a second."""
    kafka = KafkaConnection(servers.bootstrap_servers)
    engine = make_engine(url)
    await migrate(engine)
    rates: dict[str, list[float]] = {ORM: [], COPY: [], SINK: []}
    feed: list[float] = []
    for number in range(1, options.rounds + 1):
        topic = f"{name}_{number}"
        await create_topic(kafka, topic)
        feed.append(rows / await feed_topic(kafka, topic, batches))
        for way, rate in rates.items():
            await clear_tables(engine)
            if way == ORM:
                seconds = await orm_way(engine, batches, options.per_transaction)
            elif way == COPY:
                seconds = await copy_way(url, batches, options.per_transaction)
            else:
                seconds = await sink_way(url, kafka, topic, options.per_transaction)
            rate.append(rows / seconds)
            say(f"round {number}  {way:<5} {rows / seconds:>9,.0f} market rows/s")
    await engine.dispose()
    medians = {way: statistics.median(values) for way, values in rates.items()}
    ratios = [
        (sink / copy, sink / orm)
        for orm, copy, sink in zip(rates[ORM], rates[COPY], rates[SINK], strict=True)
    ]
    return {
        **{way: round(rate) for way, rate in medians.items()},
        "sink_to_copy": round(statistics.median(r[0] for r in ratios), 3),
        "sink_to_orm": round(statistics.median(r[1] for r in ratios), 2),
        "feed": round(statistics.median(feed)),
        "rows": rows,
        "rounds": options.rounds,
        "raw_kb": options.raw_kb,
    }


def report(figures: dict[str, Any], *, as_json: bool) -> None:
    """The table for people on standard error, the object for machines on standard output."""
    say("")
    say(f"medians of {figures['rounds']} rounds, {figures['rows']:,} market rows each:")
    say(f"  orm   {figures[ORM]:>9,} rows/s   one object a row (as the scraper did)")
    say(f"  copy  {figures[COPY]:>9,} rows/s   bare asyncpg COPY (the limit)")
    say(f"  sink  {figures[SINK]:>9,} rows/s   Kafka backlog to committed rows")
    say(f"  feed  {figures['feed']:>9,} rows/s   batches to acknowledged records")
    say(f"  sink/copy {figures['sink_to_copy']}   sink/orm {figures['sink_to_orm']}")
    if as_json:
        sys.stdout.write(json.dumps(figures) + "\n")


def say(line: str) -> None:
    """One line for people."""
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
