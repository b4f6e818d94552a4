"""`oddslog torture`: break everything by seed, and prove that nothing was lost."""
# ruff: noqa: PLC0415 - loaded when the command runs

from typing import TYPE_CHECKING, Annotated

import typer

from .common import (
    Json,
    Keep,
    LogLevelOption,
    Run,
    StackOption,
    begin,
)

if TYPE_CHECKING:
    from ..torture.result import TortureResult

__all__ = ["torture"]


def torture(
    minutes: Annotated[
        float, typer.Option(metavar="M", min=0.1, help="How long faults are made.")
    ] = 10.0,
    seed: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="The same seed, the same feed and the same faults."),
    ] = None,
    sinks: Annotated[
        int, typer.Option(metavar="N", min=1, max=12, help="Members of the group.")
    ] = 3,
    keep: Keep = False,
    stack: StackOption = None,
    log_level: LogLevelOption = None,
    as_json: Json = False,
) -> None:
    """Kill, freeze, cut and restart everything at random, and check that nothing was lost.

    A feeder and the sinks, each behind proxies, on servers of its own (a local
    stack; with --stack env the configured ones, which are not restarted). Some rows
    that snapshots refer to come late, some never; a sink that stands still has to be
    fenced. At the end each acknowledged snapshot must be in the tables exactly once
    and equal, each poisoned one a dead letter, each without its row a waiting one,
    and nothing else there. Exit code 1 where that is not so.

    Example: oddslog torture --minutes 1 --seed 1
    """
    import secrets

    from ..torture.kit import torture as run_torture
    from ..torture.result import Plan

    run = begin(as_json=as_json, default_level="error", stack=stack, log_level=log_level)
    if seed is None:
        seed = secrets.randbelow(1_000_000)
    result = run_torture(run.settings, Plan(minutes, seed, sinks), run.out, keep=keep)
    _say(run, result)
    run.out.result(result.as_json())
    raise typer.Exit(0 if result.fine else 1)


def _say(run: Run, result: "TortureResult") -> None:
    values = result.as_json()
    peak = result.sink_peak_bytes
    names = (
        "seed",
        "seconds",
        "faults_total",
        "restarts",
        "fenced",
        "batches_acknowledged",
        "batches_unknown",
        "snapshots",
        "markets",
        "confirmations",
        "dead_letters",
        "late_parents",
        "swept",
        "waiting",
        "missing",
        "duplicates",
        "different",
        "unexpected",
    )
    run.out.facts(
        [
            *((name.replace("_", " "), values[name]) for name in names),
            ("sink's peak memory", None if peak is None else f"{peak / 1024**2:,.0f} MiB"),
        ],
        title="Torture",
    )
    run.out.facts(sorted(result.progress.faults.items()), title="Faults")
    for finding in result.progress.findings:
        run.out.say(f"Finding: {finding}", style="red")
    if result.fine:
        run.out.say("Nothing was lost, doubled or changed.", style="green")
    else:
        run.out.say(
            f"First difference, seed {result.plan.seed}: {result.first_difference}",
            style="bold red",
        )
