"""`oddslog feed`: batches into the log."""
# ruff: noqa: PLC0415 - loaded when the command runs

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .common import (
    BootstrapServers,
    Cycles,
    Events,
    Json,
    LogLevelOption,
    RawKb,
    Run,
    Topic,
    begin,
    parse_time,
)

if TYPE_CHECKING:
    from ..sources import Source

__all__ = ["app"]

app = typer.Typer(
    help="Make batches and enqueue them, as a scraper does, and wait until Kafka has them all.",
    no_args_is_help=True,
)

_KIB = 1024


@app.command("simulate")
def simulate(
    events: Events = None,
    cycles: Cycles = None,
    changed_share: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            min=0,
            max=1,
            help="Changed snapshots in a cycle after the first. [0.15]",
        ),
    ] = None,
    raw_kb: RawKb = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Another seed, other odds. [1]")
    ] = None,
    batch_events: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Events in a batch. [50]")
    ] = None,
    cycle_seconds: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="From cycle to cycle, in the data's own time. [60]"),
    ] = None,
    started_at: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Of the first cycle (ISO 8601 with an offset). Not given: the last one is now.",
        ),
    ] = None,
    first_event_id: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Events are numbered from here. [1]")
    ] = None,
    first_run: Annotated[
        int | None,
        typer.Option(
            "--run",
            metavar="ID",
            min=1,
            help="The scrape run of the first cycle, counted up by cycle. Not given: no runs.",
        ),
    ] = None,
    bootstrap_servers: BootstrapServers = None,
    topic: Topic = None,
    log_level: LogLevelOption = None,
    as_json: Json = False,
) -> None:
    """Feed scrapes made up by seed, in the shape of the real load.

    Each event has one BetPawa snapshot and two competitors', of 170, 100 and 70
    markets. The same options, `--started-at` included, give the same batches.

    Example: oddslog feed simulate --events 200 --cycles 3
    """
    from ..sources import simulation

    run = _begin(as_json, bootstrap_servers, topic, log_level)
    source = simulation(
        events=events,
        cycles=cycles,
        changed_share=changed_share,
        raw_response_bytes=None if raw_kb is None else int(raw_kb * _KIB),
        seed=seed,
        batch_events=batch_events,
        cycle_seconds=cycle_seconds,
        started_at=parse_time("--started-at", started_at),
        first_event_id=first_event_id,
        first_run_id=first_run,
    )
    _feed(run, source)


@app.command("football-data")
def football_data(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Match files (CSV).")],
    bootstrap_servers: BootstrapServers = None,
    topic: Topic = None,
    log_level: LogLevelOption = None,
    as_json: Json = False,
) -> None:
    """Feed real odds: match files of football-data.co.uk, season 2019/20 or later.

    Each match is scraped twice: a day before kick-off with the opening odds, and at
    kick-off with the closing odds. The same files give the same ids.

    Example: oddslog feed football-data E0.csv SP1.csv
    """
    from ..sources import football_data as read

    run = _begin(as_json, bootstrap_servers, topic, log_level)
    _feed(run, read(files))


@app.command("ndjson")
def ndjson(
    file: Annotated[str, typer.Argument(metavar="FILE", help="One batch a line; - for a pipe.")],
    strict: Annotated[bool, typer.Option("--strict", help="End at the first bad line.")] = False,
    bootstrap_servers: BootstrapServers = None,
    topic: Topic = None,
    log_level: LogLevelOption = None,
    as_json: Json = False,
) -> None:
    """Feed batches as lines of JSON, with the names of the record classes' fields.

    What is wrong with a line is said with its number; the good lines go in, and the
    exit code is 1.

    Example: scraper --dump | oddslog feed ndjson -
    """
    from ...ingest.feeds import LineError
    from ..sources import ndjson as read

    run = _begin(as_json, bootstrap_servers, topic, log_level)
    bad: list[LineError] = []

    def report(error: LineError) -> None:
        bad.append(error)
        run.out.note(f"oddslog: {error}", style="red")

    _feed(run, read(file, strict=strict, report=report), lambda: len(bad))


def _begin(as_json: bool, servers: str | None, topic: str | None, log_level: str | None) -> Run:
    return begin(
        as_json=as_json,
        plain_text_warnings=False,  # the destination says them, as in a scraper
        bootstrap_servers=servers,
        topic=topic,
        log_level=log_level,
    )


def _feed(run: Run, source: "Source", bad_lines: Callable[[], int] = lambda: 0) -> None:
    from .. import signals
    from ..feeding import FeedTotals, feed

    async def work() -> FeedTotals:
        from ...schemas.errors import UnreachableError
        from ..kafka import usable_topic
        from ..logs import let_libraries_log

        try:
            await usable_topic(run.settings.kafka(), run.settings.topic)
        except UnreachableError as error:
            if run.settings.spool_dir is None:
                raise
            run.out.warn(f"{error}; everything goes to the spool")
        let_libraries_log()
        with run.out.meter("feed", source.total, "batches") as meter, source.open() as batches:
            return await feed(run.settings, batches, run.out, meter)

    totals = signals.run(work())
    totals.bad_lines = bad_lines()
    spooled = f", or in the spool in {run.settings.spool_dir}" if totals.spool_fragments else ""
    run.out.say(
        f"{totals.snapshots:,} snapshots with {totals.markets:,} markets and"
        f" {totals.confirmations:,} confirmations are in topic {run.settings.topic}{spooled}"
    )
    if spooled:
        run.out.warn(
            f"{totals.spool_fragments:,} fragments wait in the spool; the next feed sends them,"
            " or: oddslog spool drain"
        )
    if not totals.fine:
        run.out.say(
            f"Not everything: {totals.failed} batches failed, {totals.rejected} parts were"
            f" rejected, {totals.bad_lines} lines were bad",
            style="red",
        )
    run.out.result(asdict(totals))
    raise typer.Exit(0 if totals.fine else 1)
