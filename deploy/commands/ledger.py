"""`oddslog ledger`: up to where the tables are complete."""
# ruff: noqa: PLC0415 - loaded when the command runs

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from ...schemas.errors import ConfigurationError
from .common import BootstrapServers, Group, Json, Run, Schema, Topic, begin

if TYPE_CHECKING:
    from ..adoption import Adoption
    from ..queries import KnownLog

__all__ = ["app"]

app = typer.Typer(
    help="The ledger says, inside the database, up to where the tables are complete.",
    no_args_is_help=True,
)


class From(StrEnum):
    """The choices of `ledger adopt --from`."""

    START = "start"
    END = "end"


@app.command("show")
def show(schema: Schema = None, as_json: Json = False) -> None:
    """Show every log that filled this database, with its partitions.

    Example: oddslog ledger show
    """
    from .. import signals

    run = begin(as_json=as_json, database_schema=schema)
    signals.run(_show(run))


async def _show(run: Run) -> None:
    from ...sink.migrate import check_migrated
    from ..database import asking, open_engine
    from ..queries import known_logs

    async with open_engine(run.settings, "ledger show") as engine:
        with asking(engine):
            async with engine.connect() as connection:
                await check_migrated(connection)
                logs = await known_logs(connection)
    if not logs:
        run.out.say("No log has been written to this database yet")
    for log in logs:
        run.out.say(
            f"Log {log.log_id}: topic {log.topic}, generation {log.generation},"
            f" {log.partition_count} partitions, cluster {log.cluster_id}",
            style="bold",
        )
        run.out.table(*_rows(log), numbers=tuple(_COLUMNS.values()))
    run.out.result({"logs": [_as_json(log) for log in logs]})


_COLUMNS = {
    "partition": "partition",
    "next_offset": "next offset",
    "start_offset": "start",
    "records_total": "records",
    "snapshots_total": "snapshots",
    "markets_total": "markets",
    "duplicates_total": "dupl.",
    "dead_letters_total": "dead",
}


def _rows(log: "KnownLog") -> tuple[list[str], list[list[object]]]:
    rows = [
        [*(getattr(row, name) for name in _COLUMNS), f"{row.updated_at:%Y-%m-%d %H:%M:%S}"]
        for row in log.rows.values()
    ]
    return [*_COLUMNS.values(), "updated (UTC)"], rows


def _as_json(log: "KnownLog") -> dict[str, object]:
    return {
        "log_id": log.log_id,
        "cluster_id": log.cluster_id,
        "topic": log.topic,
        "generation": log.generation,
        "partition_count": log.partition_count,
        "created_at": log.created_at.isoformat(),
        "partitions": [
            {
                name: value.isoformat() if name == "updated_at" else value
                for name, value in row._mapping.items()  # noqa: SLF001 - SQLAlchemy's public name
                if name != "log_id"
            }
            for row in log.rows.values()
        ],
    }


@app.command("adopt")
def adopt(
    start: Annotated[
        From,
        typer.Option(
            "--from",
            help="start: write all that the new log holds; end: only what comes from now on.",
        ),
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    bootstrap_servers: BootstrapServers = None,
    topic: Topic = None,
    group: Group = None,
    schema: Schema = None,
    as_json: Json = False,
) -> None:
    """Move this database to another log on purpose: a new cluster, or a topic made anew.

    Registers the topic, as it is now, as a new generation. The rows in the tables
    stay. Stop every sink before.

    Example: oddslog ledger adopt --from start
    """
    from .. import signals
    from ..adoption import adopt as carry_out
    from ..adoption import prepare

    run = begin(
        as_json=as_json,
        bootstrap_servers=bootstrap_servers,
        topic=topic,
        group=group,
        database_schema=schema,
    )
    plan = signals.run(prepare(run.settings, from_end=start is From.END))
    _confirm(run, plan, yes=yes)
    log_id, generation = signals.run(carry_out(run.settings, plan))
    run.out.say(f"Done: log {log_id}, generation {generation}. Start the sinks again")
    run.out.result(
        {
            "log_id": log_id,
            "generation": generation,
            "cluster_id": plan.log.cluster_id,
            "topic": plan.log.topic,
            "partition_count": plan.log.partition_count,
            "from": start.value,
        }
    )


def _confirm(run: Run, plan: "Adoption", *, yes: bool) -> None:
    import sys

    for line in plan.lines():
        run.out.say(line)
    if yes:
        return
    if not sys.stdin.isatty():
        raise ConfigurationError("nothing was done: without a terminal to ask on, add --yes")
    if not typer.confirm("Go on?", err=True):
        raise ConfigurationError("nothing was done")
