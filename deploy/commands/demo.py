"""`oddslog demo`: the whole path on this machine, compared row by row."""
# ruff: noqa: PLC0415 - loaded when the command runs

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .common import (
    Cycles,
    Directory,
    Events,
    Json,
    Keep,
    LogLevelOption,
    RawKb,
    Run,
    StackOption,
    begin,
)

if TYPE_CHECKING:
    from ..demonstration import DemoResult
    from ..sources import Source

__all__ = ["demo"]

_KIB = 1024
_DEFAULT = Path(".oddslog")


def demo(
    cycles: Cycles = None,
    events: Events = None,
    raw_kb: RawKb = None,
    football_data: Annotated[
        list[Path] | None,
        typer.Option(
            "--football-data",
            metavar="FILE",
            help="Feed real odds from this file instead; may be repeated.",
        ),
    ] = None,
    keep: Keep = False,
    stack: StackOption = None,
    directory: Directory = _DEFAULT,
    log_level: LogLevelOption = None,
    as_json: Json = False,
) -> None:
    """Bring up Kafka and PostgreSQL, feed, sink, and compare every row.

    Makes a topic and a database of its own, and takes everything away again.
    Servers that were up before stay up. Exit code 0 only if every snapshot, market
    and confirmation is in the tables, and nothing else.

    Example: oddslog demo --events 200 --keep
    """
    from ..demonstration import demonstrate

    run = begin(as_json=as_json, default_level="error", stack=stack, log_level=log_level)
    source = _source(cycles, events, raw_kb, football_data)
    result = demonstrate(run.settings, source, directory, run.out, keep=keep)
    _say(run, result)
    run.out.result(result.as_json(with_password=keep))
    raise typer.Exit(0 if result.fine else 1)


def _source(
    cycles: int | None, events: int | None, raw_kb: float | None, files: list[Path] | None
) -> "Source":
    from ..sources import football_data, simulation

    if not files:
        raw_bytes = None if raw_kb is None else int(raw_kb * _KIB)
        return simulation(cycles=cycles, events=events, raw_response_bytes=raw_bytes)
    for name, value in (("--cycles", cycles), ("--events", events), ("--raw-kb", raw_kb)):
        if value is not None:
            raise typer.BadParameter("does not go with --football-data", param_hint=name)
    return football_data(files)


def _say(run: Run, result: "DemoResult") -> None:
    fed, totals, compared = result.fed, result.sunk.totals, result.compared
    run.out.facts(
        [
            ("snapshots", fed.snapshots),
            ("markets", fed.markets),
            ("confirmations", fed.confirmations),
            ("duplicates", totals.duplicates),
            ("dead letters", totals.dead_letters),
            ("missing", compared.missing),
            ("different", compared.different),
            ("unexpected", compared.unexpected),
            ("feed", f"{fed.seconds:.1f} s"),
            (
                "sink",
                f"{result.sunk.seconds:.1f} s ({result.markets_per_second:,.0f} markets a second)",
            ),
        ],
        title="Demo",
    )
    if compared.first_difference is not None:
        run.out.say(f"First difference: {compared.first_difference}", style="red")
    if result.fine:
        run.out.say("Everything that was fed is in the tables, equal in content.", style="green")
    else:
        run.out.say("Not everything that was fed is in the tables.", style="bold red")
