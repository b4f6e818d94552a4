"""`oddslog sink`: the service that writes the log into PostgreSQL."""
# ruff: noqa: PLC0415 - loaded when the command runs

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from .common import (
    AcceptPoison,
    BootstrapServers,
    Group,
    Json,
    LogLevelOption,
    Run,
    Schema,
    Topic,
    begin,
)

if TYPE_CHECKING:
    from ..sinking import SinkRun

__all__ = ["sink"]


class Start(StrEnum):
    """The choices of `--start-from`."""

    EARLIEST = "earliest"
    LATEST = "latest"


def sink(
    until_caught_up: Annotated[
        bool,
        typer.Option("--until-caught-up", help="End when everything in the log is written."),
    ] = False,
    accept_gap: Annotated[
        bool,
        typer.Option(
            "--accept-gap", help="Go on where records are gone from the log, and note the gap."
        ),
    ] = False,
    accept_poison: AcceptPoison = None,
    start_from: Annotated[
        Start | None,
        typer.Option(
            "--start-from",
            help="Where a database begins that has nothing of this log yet; without it, at the"
            " log's first record.",
        ),
    ] = None,
    bootstrap_servers: BootstrapServers = None,
    topic: Topic = None,
    group: Group = None,
    schema: Schema = None,
    http_address: Annotated[
        str | None,
        typer.Option(
            "--http-address",
            metavar="HOST:PORT",
            help="Where metrics, health and the page are answered; off for none."
            " --until-caught-up answers only where this (or its variable) is set.",
        ),
    ] = None,
    log_level: LogLevelOption = None,
    as_json: Json = False,
) -> None:
    """Write the log into PostgreSQL, each snapshot exactly once, until it is stopped.

    Any number of them may run and share the partitions. SIGTERM or Ctrl-C lets the
    running transaction finish; a second one ends at once, which loses nothing.

    Example: oddslog sink --until-caught-up
    """
    import asyncio

    from ...sink import SinkOptions
    from ...sink.placing import PlacingOptions

    run = begin(
        as_json=as_json,
        default_level="warning" if until_caught_up else "info",
        bootstrap_servers=bootstrap_servers,
        topic=topic,
        group=group,
        database_schema=schema,
        http_address=http_address,
        log_level=log_level,
    )
    # Several sinks may share a machine, and only one of them can have the default port.
    chosen = run.configuration.origins["http_address"] != "default"
    options = SinkOptions(
        poll_records=run.settings.poll_records,
        poll_bytes=run.settings.poll_bytes,
        store_raw=run.settings.raw_response == "database",
        parent_wait_seconds=run.settings.parent_wait_seconds,
        run_retention_seconds=run.settings.run_retention_seconds,
        rebalance_timeout_seconds=run.settings.rebalance_timeout_seconds,
        accept_poison=tuple(accept_poison or ()),
        until_caught_up=until_caught_up,
        placing=PlacingOptions(accept_gap, None if start_from is None else start_from.value),
    )

    async def work() -> "SinkRun":
        from ..database import open_engine
        from ..sinking import run_sink, serve_status

        site = None
        if chosen or not until_caught_up:
            site = serve_status(run.settings, required=chosen)
        async with open_engine(run.settings, "sink") as engine:
            return await run_sink(engine, run.settings, options, run.out, site=site)

    ended = asyncio.run(work())
    _say(run, ended, until_caught_up=until_caught_up)
    if until_caught_up and ended.signal_number is not None:
        raise typer.Exit(128 + ended.signal_number)


def _say(run: Run, ended: "SinkRun", *, until_caught_up: bool) -> None:
    totals, seconds = ended.totals, ended.seconds
    caught_up = until_caught_up and ended.signal_number is None
    values = totals.as_dict()
    if until_caught_up or run.out.as_json:
        title = "Caught up with the log" if caught_up else "Stopped; what was written stays"
        shown = [
            (name.replace("_", " "), round(value, 2) if isinstance(value, float) else value)
            for name, value in values.items()
            if value or name in ("records", "snapshots", "markets", "confirmations")
        ]
        rate = totals.markets / seconds if seconds else 0.0
        run.out.facts(
            [*shown, ("seconds", round(seconds, 2)), ("markets a second", round(rate))], title=title
        )
    run.out.result({**values, "seconds": round(seconds, 3), "caught_up": caught_up})
