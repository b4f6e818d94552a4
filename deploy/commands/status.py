"""`oddslog status`: where log, group and tables stand."""
# ruff: noqa: PLC0415 - loaded when the command runs

import typer

from .common import BootstrapServers, Group, Json, Run, Schema, Topic, begin

__all__ = ["status"]


def status(
    bootstrap_servers: BootstrapServers = None,
    topic: Topic = None,
    group: Group = None,
    schema: Schema = None,
    as_json: Json = False,
) -> None:
    """Show lag, ledger and dead letters at a glance.

    Works also while one of the servers is away: it says which, and the exit code is
    3 then.

    Example: oddslog status --json | tail -n 1 | jq .lag_records
    """
    from .. import signals

    run = begin(
        as_json=as_json,
        bootstrap_servers=bootstrap_servers,
        topic=topic,
        group=group,
        database_schema=schema,
    )
    raise typer.Exit(signals.run(_status(run)))


async def _status(run: Run) -> int:
    from ..overview import read_overview, show_overview

    overview = await read_overview(run.settings)
    show_overview(overview, run.out)
    run.out.result(overview.as_json())
    return overview.exit_code
