"""`oddslog runs`: what has arrived of the scrape runs."""
# ruff: noqa: PLC0415 - loaded when the command runs

from typing import TYPE_CHECKING, Annotated

import typer

from .common import Json, Run, Schema, begin

if TYPE_CHECKING:
    from datetime import datetime

    from ...sink.run_states import ScrapeRun

__all__ = ["runs"]

_COLUMNS = ("run", "state", "batches", "fragments", "dead", "first (UTC)", "last (UTC)")


def runs(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Runs at most.")] = 20,
    late_after: Annotated[
        float | None,
        typer.Option(
            "--late-after",
            metavar="SECONDS",
            min=0.0,
            help="After how long without anything new an incomplete run is late (300).",
        ),
    ] = None,
    schema: Schema = None,
    as_json: Json = False,
) -> None:
    """List scrape runs with what has arrived of them: late and marked ones first, then the newest.

    A run is complete when all its batches are there, each with all its fragments; what
    could not be written counts as arrived, and marks the run. A run whose batches do not
    say how many there are (batch_count) is open, and never complete. Times are those at
    which Kafka took the records.

    Example: oddslog runs --limit 5
    """
    from ...sink.run_states import LATE_AFTER_SECONDS
    from .. import signals

    run = begin(as_json=as_json, database_schema=schema)
    found = signals.run(_read(run))
    _show(run, found, limit, LATE_AFTER_SECONDS if late_after is None else late_after)


async def _read(run: Run) -> "list[ScrapeRun]":
    from ...sink.migrate import check_migrated
    from ...sink.runs import read_runs
    from ..database import asking, open_engine

    async with open_engine(run.settings, "runs") as engine:
        with asking(engine):
            async with engine.connect() as connection:
                await check_migrated(connection)
                return await read_runs(connection)


def _show(run: Run, found: "list[ScrapeRun]", limit: int, late_after: float) -> None:
    from ...sink.run_states import RunState, by_urgency

    listed = by_urgency(found, late_after)[:limit]
    late = sum(one.state(late_after) is RunState.LATE for one in found)
    marked = sum(one.marked for one in found)
    if listed:
        run.out.table(
            _COLUMNS,
            [_row(one, late_after) for one in listed],
            numbers=("run", "batches", "fragments", "dead"),
        )
        run.out.say(f"{len(found):,} runs, {late:,} late, {marked:,} marked")
    else:
        run.out.say("No scrape runs")
    run.out.result(
        {
            "runs": [_as_json(one, late_after) for one in listed],
            "kept": len(found),
            "late": late,
            "marked": marked,
        }
    )


def _row(one: "ScrapeRun", late_after: float) -> list[object]:
    state = one.state(late_after).value
    expected = "?" if one.batches_expected is None else f"{one.batches_expected:,}"
    return [
        str(one.run_id),
        f"{state}, marked" if one.marked else state,
        f"{one.batches_arrived:,} of {expected}",
        f"{one.fragments_arrived:,} of {one.fragments_expected:,}",
        f"{one.dead_letters:,} ({one.waiting:,} waiting)" if one.waiting else one.dead_letters,
        _moment(one.first_arrival_at),
        _moment(one.last_arrival_at),
    ]


def _moment(at: "datetime") -> str:
    from datetime import UTC

    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def _as_json(one: "ScrapeRun", late_after: float) -> dict[str, object]:
    return {
        "run_id": one.run_id,
        "state": one.state(late_after).value,
        "marked": one.marked,
        "batches_arrived": one.batches_arrived,
        "batches_expected": one.batches_expected,
        "fragments_arrived": one.fragments_arrived,
        "fragments_expected": one.fragments_expected,
        "dead_letters": one.dead_letters,
        "waiting": one.waiting,
        "first_arrival_at": one.first_arrival_at.isoformat(),
        "last_arrival_at": one.last_arrival_at.isoformat(),
    }
