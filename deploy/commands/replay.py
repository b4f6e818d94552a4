"""`oddslog replay`: a part of the log into the tables once more."""
# ruff: noqa: PLC0415 - loaded when the command runs

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...schemas.errors import ProtectionError
from .common import (
    AcceptPoison,
    BootstrapServers,
    FromTime,
    Json,
    LogLevelOption,
    Partitions,
    Run,
    Schema,
    Topic,
    ToTime,
    begin,
    parse_time,
)

if TYPE_CHECKING:
    from ...sink.replay_opening import ReplayRequest
    from ..replaying import ReplayRun

__all__ = ["replay"]

_RANGE, _FILTER, _HOW = "Which part of the log", "Which writes of it", "How"


def replay(
    partition: Partitions = None,
    from_offset: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="The first offset.", rich_help_panel=_RANGE),
    ] = None,
    to_offset: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            help="Up to this offset, without it.",
            rich_help_panel=_RANGE,
        ),
    ] = None,
    from_time: FromTime = None,
    to_time: ToTime = None,
    captured_from: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Snapshots captured from this time on, and their confirmations.",
            rich_help_panel=_FILTER,
        ),
    ] = None,
    captured_to: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Snapshots captured before this time.", rich_help_panel=_FILTER
        ),
    ] = None,
    event: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND:ID",
            help="Only of this event, as betpawa:123 or competitor:123; may be repeated.",
            rich_help_panel=_FILTER,
        ),
    ] = None,
    scrape_run: Annotated[
        list[int] | None,
        typer.Option(
            "--run",
            metavar="ID",
            help="Only of this scrape run; may be repeated.",
            rich_help_panel=_FILTER,
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Do all of it, roll each transaction back, and say what would be written.",
            rich_help_panel=_HOW,
        ),
    ] = False,
    resume: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="Go on with a replay that was interrupted, behind its last transaction;"
            " `latest` is the last one in this database.",
            rich_help_panel=_HOW,
        ),
    ] = None,
    max_rate: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="At most so many records a second.", rich_help_panel=_HOW
        ),
    ] = None,
    adopt: Annotated[
        bool,
        typer.Option(
            "--adopt",
            help="Of an empty database that takes the whole log: set the ledger at the end, so"
            " that a sink goes on from there.",
            rich_help_panel=_HOW,
        ),
    ] = False,
    accept_gap: Annotated[
        bool,
        typer.Option(
            "--accept-gap",
            help="With --adopt: also where the log's beginning is gone; the gap is noted.",
            rich_help_panel=_HOW,
        ),
    ] = False,
    accept_poison: AcceptPoison = None,
    database: Annotated[
        str | None,
        typer.Option(
            "--database",
            metavar="URL",
            help="Into this database instead of ODDSLOG_DATABASE_URL. A password is better kept"
            " in that variable, or in the file that ODDSLOG_DATABASE_URL_FILE names.",
        ),
    ] = None,
    bootstrap_servers: BootstrapServers = None,
    topic: Topic = None,
    schema: Schema = None,
    log_level: LogLevelOption = None,
    as_json: Json = False,
) -> None:
    """Write a part of the log into the tables once more, beside the running sink.

    What is there already stays as it is, so that it may run twice. The ledger does not
    move. Ctrl-C lets the running transaction finish and says how to go on.

    Example: oddslog replay --from-time 2026-03-01T00:00Z --to-time 2026-03-02T00:00Z --dry-run
    """
    import asyncio
    import shlex

    from ...sink.replay import ReplayOptions
    from ...sink.replay_filters import ReplayFilter, parse_event
    from ...sink.replay_opening import ReplayRequest
    from ...sink.replay_spans import SpanChoice
    from ..database import safe_url
    from ..replaying import run_replay

    run = begin(
        as_json=as_json,
        bootstrap_servers=bootstrap_servers,
        topic=topic,
        database_url=database,
        database_schema=schema,
        log_level=log_level,
    )
    request = ReplayRequest(
        SpanChoice(
            tuple(partition or ()),
            from_offset,
            to_offset,
            parse_time("--from-time", from_time),
            parse_time("--to-time", to_time),
        ),
        ReplayFilter(
            parse_time("--captured-from", captured_from),
            parse_time("--captured-to", captured_to),
            frozenset(map(parse_event, event or ())),
            frozenset(scrape_run or ()),
        ),
        dry_run=dry_run,
        adopt=adopt,
        accept_gap=accept_gap,
        resume=resume,
        store_raw=run.settings.raw_response == "database",
    )
    request.check()
    options = ReplayOptions(
        run.settings.poll_records, run.settings.poll_bytes, max_rate, tuple(accept_poison or ())
    )
    again = {
        "--bootstrap-servers": bootstrap_servers,
        "--topic": topic,
        "--database": database and safe_url(database),
        "--schema": schema,
        "--max-rate": max_rate,
    }

    def resume_command(replay_id: str) -> str:
        words = ["oddslog", "replay", "--resume", replay_id]
        for name, value in again.items():
            words += [] if value is None else [name, str(value)]
        for cause in accept_poison or ():
            words += ["--accept-poison", cause]
        return shlex.join(words)

    ended = asyncio.run(run_replay(run.settings, request, options, run.out, resume_command))
    _say(run, request, ended)
    if ended.signal_number is not None:
        raise typer.Exit(128 + ended.signal_number)
    if ended.adopted is False:
        raise ProtectionError(
            "everything is written, but a sink has begun on this database meanwhile: the ledger is"
            " left to it, and it meets what is there as duplicates"
        )


def _say(run: Run, request: "ReplayRequest", ended: "ReplayRun") -> None:
    state = ended.state
    if state is None:
        run.out.note("Stopped before anything was written")
        run.out.result({"complete": False, "records": 0, "seconds": round(ended.seconds, 3)})
        return
    tables = _tables(ended)
    if request.dry_run:
        title, inserted = "Dry run: nothing was written", "would insert"
        conflicts = "would conflict"
    else:
        title = "Replayed" if state.finished else "Stopped; what was written stays"
        inserted, conflicts = "inserted", "conflicts"
    columns = ["table", inserted, "already there", conflicts]
    run.out.table(
        columns,
        [[name, *(counts.get(key, 0) for key in _COUNTS)] for name, counts in tables.items()],
        title=title,
        numbers=columns[1:],
    )
    counts = state.counts
    letters = counts.dead_letters.total()
    facts: list[tuple[str, object]] = [
        ("records", counts.records),
        ("confirmations", counts.confirmations),
        ("confirmations that wait for their snapshot", counts.waiting_keys),
        ("confirmed by plain id", counts.confirmed_ids),
        ("plain ids without a row", counts.missing_ids),
        ("plain ids that cannot be trusted, left out", counts.unstable_ids),
        ("left out by the filters", counts.filtered),
        ("dead letters", letters),
        *((f"  {reason}", number) for reason, number in sorted(counts.dead_letters.items())),
        ("  of them known before", counts.known_letters),
        ("older dead letters that are written now", counts.settled_letters),
    ]
    always = ("records", "confirmations", "dead letters")
    shown = [(name, value) for name, value in facts if value or name in always]
    run.out.facts([*shown, ("seconds", round(ended.seconds, 2))])
    if ended.adopted:
        run.out.say("The ledger is set: a sink goes on behind what was replayed")
    run.out.result({**_as_json(request, ended), "tables": tables})


_COUNTS = ("inserted", "already_there", "conflicts")


def _tables(ended: "ReplayRun") -> dict[str, dict[str, int]]:
    from ...sink.sql import snapshot_statements

    tables: dict[str, dict[str, int]] = {}
    for kind, counts in ended.state.counts.kinds.items() if ended.state else ():
        names = snapshot_statements(kind)
        tables[names.snapshots_table] = {name: getattr(counts, name) for name in _COUNTS}
        tables[names.markets_table] = {
            "inserted": counts.markets_inserted,
            "already_there": counts.markets_already_there,
        }
    return tables


def _as_json(request: "ReplayRequest", ended: "ReplayRun") -> dict[str, Any]:
    state = ended.state
    if state is None:
        return {}
    counts = state.counts
    return {
        "replay_id": None if request.dry_run else state.replay_id,
        "topic": state.topic,
        "dry_run": request.dry_run,
        "complete": state.finished,
        "adopted": bool(ended.adopted),
        "records": counts.records,
        "confirmations": counts.confirmations,
        "waiting_confirmations": counts.waiting_keys,
        "confirmed_ids": counts.confirmed_ids,
        "missing_ids": counts.missing_ids,
        "unstable_ids": counts.unstable_ids,
        "filtered": counts.filtered,
        "dead_letters": dict(counts.dead_letters),
        "known_letters": counts.known_letters,
        "settled_letters": counts.settled_letters,
        "partitions": {
            str(partition): {
                "from_offset": span.start,
                "to_offset": span.end,
                "next_offset": span.next_offset,
            }
            for partition, span in state.spans.items()
        },
        "retries": ended.retries,
        "seconds": round(ended.seconds, 3),
    }
