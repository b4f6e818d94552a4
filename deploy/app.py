"""The front of the `oddslog` command: its commands and what they have in common."""

from typing import Annotated

import typer

from ..schemas.version import VERSION
from .commands import (
    bench,
    config,
    demo,
    dlq,
    doctor,
    feed,
    ledger,
    migrate,
    replay,
    runs,
    schema,
    sink,
    spool,
    stack,
    status,
    topics,
    torture,
    verify,
)

__all__ = ["app"]

_TRY, _RUN, _LOOK = "Try it", "Run it", "Look"

app = typer.Typer(
    name="oddslog",
    help="A durable write log between an odds scraper and PostgreSQL, on Kafka.",
    epilog="Exit codes: 0 fine, 1 found a difference, 2 wrong usage or configuration,"
    " 3 a server is unreachable, 4 stopped to protect data."
    " Settings are read from ODDSLOG_... variables; see: oddslog config",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"oddslog {VERSION}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool,
        typer.Option("--version", help="Say the version.", callback=_version, is_eager=True),
    ] = False,
    _debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an unexpected error.")
    ] = False,
) -> None:
    pass


app.command("demo", rich_help_panel=_TRY)(demo.demo)
app.command("torture", rich_help_panel=_TRY)(torture.torture)
app.command("bench", rich_help_panel=_TRY)(bench.bench)
app.add_typer(stack.app, name="stack", rich_help_panel=_TRY)
app.command("migrate", rich_help_panel=_RUN)(migrate.migrate)
app.command("topics", rich_help_panel=_RUN)(topics.topics)
app.add_typer(feed.app, name="feed", rich_help_panel=_RUN)
app.command("sink", rich_help_panel=_RUN)(sink.sink)
app.command("replay", rich_help_panel=_RUN)(replay.replay)
app.command("verify", rich_help_panel=_LOOK)(verify.verify)
app.command("status", rich_help_panel=_LOOK)(status.status)
app.command("runs", rich_help_panel=_LOOK)(runs.runs)
app.command("doctor", rich_help_panel=_LOOK)(doctor.doctor)
app.add_typer(ledger.app, name="ledger", rich_help_panel=_LOOK)
app.add_typer(dlq.app, name="dlq", rich_help_panel=_LOOK)
app.add_typer(schema.app, name="schema", rich_help_panel=_LOOK)
app.add_typer(spool.app, name="spool", rich_help_panel=_LOOK)
app.command("config", rich_help_panel=_LOOK)(config.config)
