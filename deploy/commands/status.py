"""`oddslog status`: where log, group and tables stand."""
# ruff: noqa: PLC0415 - loaded when the command runs

from typing import Annotated

import typer

from .common import BootstrapServers, Group, Json, Run, Schema, SpoolDir, Topic, begin

__all__ = ["status"]

_SHORTEST_SECONDS, _LONGEST_SECONDS, _EVERY_SECONDS = 0.2, 3600.0, 2.0


def status(
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Show it again and again, until Ctrl-C.")
    ] = False,
    every: Annotated[
        float | None,
        typer.Option(
            "--every",
            metavar="SECONDS",
            min=_SHORTEST_SECONDS,
            max=_LONGEST_SECONDS,
            help="With --watch: how often; 2 where not given.",
        ),
    ] = None,
    bootstrap_servers: BootstrapServers = None,
    topic: Topic = None,
    group: Group = None,
    schema: Schema = None,
    spool_dir: SpoolDir = None,
    as_json: Json = False,
) -> None:
    """Show lag, rate, members, ledger, dead letters and spool at a glance.

    Works also while one of the servers is away: it says which, and the exit code is
    3 then. With --watch it goes on until Ctrl-C (exit code 0), whatever is away; in a
    pipe one line a refresh, with --json one object a line.

    Example: oddslog status --json | tail -n 1 | jq .lag_records
    """
    from .. import signals

    if every is not None and not watch:
        raise typer.BadParameter("only goes with --watch", param_hint="--every")
    run = begin(
        as_json=as_json,
        bootstrap_servers=bootstrap_servers,
        topic=topic,
        group=group,
        database_schema=schema,
        spool_dir=spool_dir,
    )
    if not watch:
        raise typer.Exit(signals.run(_status(run)))
    from ..watching import watch as show_until_ended

    try:
        signals.run(show_until_ended(run.settings, run.out, every_seconds=every or _EVERY_SECONDS))
    except signals.Ended:
        raise
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


async def _status(run: Run) -> int:
    from ..looking import read_overview
    from ..status_view import WIDE_COLUMNS, view_of

    overview = await read_overview(run.settings)
    run.out.show(*view_of(overview, wide=run.out.width >= WIDE_COLUMNS).parts())
    for error in overview.errors.values():
        run.out.note(f"oddslog: {error}", style="red")
    run.out.result(overview.as_json())
    return overview.exit_code
