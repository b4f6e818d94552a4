"""`oddslog doctor`: is everything there that the sink needs?"""
# ruff: noqa: PLC0415 - loaded when the command runs

import typer

from .common import BootstrapServers, Group, Json, Run, Schema, SpoolDir, Topic, begin

__all__ = ["doctor"]


def doctor(
    bootstrap_servers: BootstrapServers = None,
    topic: Topic = None,
    group: Group = None,
    schema: Schema = None,
    spool_dir: SpoolDir = None,
    as_json: Json = False,
) -> None:
    """Check everything that the sink needs, and say what to do. Changes nothing.

    A line for each check: settings, libraries, spool, brokers, topic, group,
    PostgreSQL, its tables, rights and sequences, the clocks, and the ledger against
    the log. Exit code 0 where nothing fails (warnings are no failure), 1 where
    something does, 2 where a setting or the database's user is wrong, 3 where a server
    is away.

    Example: oddslog doctor --json | tail -n 1 | jq '.findings[] | select(.level != "ok")'
    """
    from .. import signals

    run = begin(
        as_json=as_json,
        bootstrap_servers=bootstrap_servers,
        topic=topic,
        group=group,
        database_schema=schema,
        spool_dir=spool_dir,
    )
    raise typer.Exit(signals.run(_doctor(run)))


async def _doctor(run: Run) -> int:
    from ..doctor import examine
    from .findings import show_findings

    with run.out.busy("looking at everything"):
        findings = await examine(run.settings)
    return show_findings(run, findings)
