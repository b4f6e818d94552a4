"""`oddslog dlq`: what could not be written, why, and what to do about it."""
# ruff: noqa: PLC0415 - loaded when the command runs

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .common import Json, Run, Schema, begin
from .dlq_common import LetterId, Reason, Since, Status, parse_since
from .dlq_handling import discard, redrive

if TYPE_CHECKING:
    from ..letters import Letter
    from ..queries import Cause

__all__ = ["app"]

app = typer.Typer(
    help="Dead letters: snapshots and records that could not be written, kept whole.",
    no_args_is_help=True,
)


@app.command("list")
def list_letters(
    status: Annotated[Status | None, typer.Option(help="Only of this status.")] = None,
    reason: Annotated[Reason | None, typer.Option(help="Only of this reason.")] = None,
    since: Since = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Causes at most.")] = 20,
    schema: Schema = None,
    as_json: Json = False,
) -> None:
    """List dead letters by cause, the most frequent first, with an example of each.

    Example: oddslog dlq list --status dead --since 2h
    """
    from .. import signals

    moment = parse_since(since)
    run = begin(as_json=as_json, database_schema=schema)

    async def ask() -> "list[Cause]":
        from ...sink.migrate import check_migrated
        from ..database import asking, open_engine
        from ..queries import dead_letter_causes

        async with open_engine(run.settings, "dlq list") as engine:
            with asking(engine):
                async with engine.connect() as connection:
                    await check_migrated(connection)
                    return await dead_letter_causes(
                        connection, status=status, reason=reason, since=moment, limit=limit
                    )

    causes = signals.run(ask())
    if not causes:
        run.out.say("No dead letters")
    for cause in causes:
        _show_cause(run, cause)
    run.out.result(
        {
            "letters": sum(cause.letters for cause in causes),
            "causes": [_cause_json(cause) for cause in causes],
        }
    )


@app.command("show")
def show(
    letter_id: LetterId,
    raw: Annotated[
        Path | None,
        typer.Option("--raw", metavar="FILE", help="Write the original bytes to a new file."),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option("--save", metavar="FILE", help="Write the JSON, indented, to a new file."),
    ] = None,
    schema: Schema = None,
    as_json: Json = False,
) -> None:
    """Show everything of one dead letter, decoded.

    What --json prints and --save writes can be mended and sent: dlq redrive --edit.

    Example: oddslog dlq show 17 --save letter.json
    """
    from ..letter_view import describe

    run = begin(as_json=as_json, database_schema=schema)
    letter = _one(run, letter_id)
    described = describe(letter)
    if raw is not None:
        original = letter.original_value if letter.original_value is not None else letter.value
        _write_new(raw, original or b"")
        run.out.note(f"{len(original or b''):,} original bytes are in {raw}")
    if save is not None:
        _write_new(save, json.dumps(described, indent=2, ensure_ascii=False).encode() + b"\n")
        command = shlex.join(["oddslog", "dlq", "redrive", str(letter_id), "--edit", str(save)])
        run.out.note(f"the letter is in {save}; mend it there, then: {command}")
    if not run.out.as_json:
        # Who has it in a file does not want its thousands of lines here, too.
        _show_letter(run, described, whole=raw is None and save is None)
    run.out.result(described)


@app.command("explain")
def explain(letter_id: LetterId, schema: Schema = None, as_json: Json = False) -> None:
    """Say in plain words what happened to a dead letter, why, and what to do.

    Example: oddslog dlq explain 17
    """
    from ..letter_causes import explain as explain_facts
    from ..letter_view import facts_of

    run = begin(as_json=as_json, database_schema=schema)
    explained = explain_facts(facts_of(_one(run, letter_id)))
    run.out.say(explained.happened, style="bold")
    run.out.say(explained.why)
    run.out.say("What to do:", style="bold")
    for step in explained.steps:
        run.out.say(f"  - {step}")
    run.out.result(
        {
            "id": letter_id,
            "happened": explained.happened,
            "why": explained.why,
            "steps": list(explained.steps),
        }
    )


app.command("redrive")(redrive)
app.command("discard")(discard)


def _one(run: Run, letter_id: int) -> "Letter":
    from .. import signals
    from .dlq_common import read_ids

    async def ask() -> "list[Letter]":
        from ..database import open_engine

        async with open_engine(run.settings, "dlq show") as engine:
            return await read_ids(engine, [letter_id])

    (letter,) = signals.run(ask())
    return letter


def _write_new(path: Path, content: bytes) -> None:
    from ...schemas.errors import ConfigurationError

    try:
        with path.open("xb") as file:
            file.write(content)
    except FileExistsError:
        raise ConfigurationError(f"{path} is there already; name another file") from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror or error}") from error


def _show_letter(run: Run, letter: Mapping[str, Any], *, whole: bool) -> None:
    source, handled, redrives = letter["source"], letter["handled"], letter["redrives"]
    place = "written without a log"
    if source["topic"] is not None:
        number = "the whole record" if source["item"] < 0 else f"item {source['item']}"
        place = (
            f"topic {source['topic']}, partition {source['partition']},"
            f" offset {source['offset']}, {number}"
        )
    facts: list[tuple[str, object]] = [
        ("cause", letter["cause"]),
        ("message", letter["message"]),
        ("event", None if letter["kind"] is None else f"{letter['kind']} {letter['event_id']}"),
        ("source", place),
        ("appended", source["appended_at"]),
        ("first seen", letter["first_seen_at"]),
        ("last seen", letter["last_seen_at"]),
        ("attempts", letter["attempts"]),
        ("sent again", f"{redrives['sent']}, read again {redrives['seen']}"),
        ("handled", _handled(handled)),
        ("published", letter["published_at"]),
        ("key", letter["key"]),
        *((f"header {one['name']}", one["value"]) for one in letter["headers"]),
        ("bytes", letter["value_bytes"]),
        ("mended", letter["mended"]),
    ]
    run.out.facts(facts, title=f"Letter {letter['id']}: {letter['status']}")
    problem = letter["problem"]
    if problem is not None:
        run.out.say(f"The value: {problem['message']}", style="red")
        if "hex" in problem:
            at = problem["at_byte"]
            run.out.say(f"  before byte {at or 0}:  {problem['hex_before'] or '-'}")
            run.out.say(f"  from byte {at or 0}:    {problem['hex_behind'] or '(the end)'}")
    if whole and letter["fragment"] is not None:
        run.out.say(json.dumps(letter["fragment"], indent=2, ensure_ascii=False))
    run.out.note(f"what it means: oddslog dlq explain {letter['id']}")


def _handled(handled: Mapping[str, Any]) -> str | None:
    if handled["by"] is None:
        return None
    return f"by {handled['by']} at {handled['at']}: {handled['why'] or 'no reason given'}"


def _show_cause(run: Run, cause: "Cause") -> None:
    details = [
        f"{name} {value}"
        for name, value in (
            ("SQLSTATE", cause.sqlstate),
            ("constraint", cause.constraint),
            ("field", cause.field),
        )
        if value is not None
    ]
    title = f"{cause.letters:,} {cause.status}: {', '.join([cause.reason, *details])}"
    example = cause.example
    event = "" if example["event_id"] is None else f" {example['kind']} event {example['event_id']}"
    run.out.facts(
        [
            ("first", f"{cause.first_seen_at:%Y-%m-%d %H:%M:%S} UTC"),
            ("last", f"{cause.last_seen_at:%Y-%m-%d %H:%M:%S} UTC"),
            ("example", f"letter {example['id']},{event or ' a whole record'}, {_source(example)}"),
            ("", example["message"]),
            ("cause", cause.name),
        ],
        title=title,
    )


def _source(example: Mapping[str, Any]) -> str:
    if example["log_id"] is None:
        return "written without a log"
    place = f"topic {example['topic']}, partition {example['partition']}"
    return f"{place}, offset {example['offset']:,}"


def _cause_json(cause: "Cause") -> dict[str, object]:
    return {
        "cause": cause.name,
        "status": cause.status,
        "reason": cause.reason,
        "sqlstate": cause.sqlstate,
        "constraint": cause.constraint,
        "field": cause.field,
        "letters": cause.letters,
        "first_seen_at": cause.first_seen_at.isoformat(),
        "last_seen_at": cause.last_seen_at.isoformat(),
        "example": dict(cause.example),
    }
