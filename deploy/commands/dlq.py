"""`oddslog dlq`: what could not be written, and why."""
# ruff: noqa: PLC0415 - loaded when the command runs

from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .common import Json, Run, Schema, begin

if TYPE_CHECKING:
    from ..queries import Cause

__all__ = ["app"]

app = typer.Typer(
    help="Dead letters: snapshots and records that could not be written, kept whole.",
    no_args_is_help=True,
)


class Status(StrEnum):
    """What can become of a dead letter."""

    DEAD = "dead"
    WAITING = "waiting"
    WRITTEN = "written"
    REDRIVEN = "redriven"
    DISCARDED = "discarded"


class Reason(StrEnum):
    """Why there is one."""

    UNDECODABLE = "undecodable"
    POISON = "poison"
    CONFLICT = "conflict"
    MISSING_PARENT = "missing_parent"
    UNKNOWN_SNAPSHOT = "unknown_snapshot"


@app.callback()
def _group() -> None:
    """Keep `list` a command of its own: there will be others."""


@app.command("list")
def list_letters(
    status: Annotated[Status | None, typer.Option(help="Only of this status.")] = None,
    reason: Annotated[Reason | None, typer.Option(help="Only of this reason.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Causes at most.")] = 20,
    schema: Schema = None,
    as_json: Json = False,
) -> None:
    """List dead letters by cause, the most frequent first, with an example of each.

    Example: oddslog dlq list --status dead
    """
    from .. import signals

    run = begin(as_json=as_json, database_schema=schema)
    causes = signals.run(_causes(run, status, reason, limit))
    if not causes:
        run.out.say("No dead letters")
    for cause in causes:
        _show(run, cause)
    run.out.result(
        {
            "letters": sum(cause.letters for cause in causes),
            "causes": [_as_json(cause) for cause in causes],
        }
    )


async def _causes(run: Run, status: str | None, reason: str | None, limit: int) -> "list[Cause]":
    from ...sink.migrate import check_migrated
    from ..database import asking, open_engine
    from ..queries import dead_letter_causes

    async with open_engine(run.settings, "dlq list") as engine:
        with asking(engine):
            async with engine.connect() as connection:
                await check_migrated(connection)
                return await dead_letter_causes(
                    connection, status=status, reason=reason, limit=limit
                )


def _show(run: Run, cause: "Cause") -> None:
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
        ],
        title=title,
    )


def _source(example: Mapping[str, Any]) -> str:
    if example["log_id"] is None:
        return "written without a log"
    place = f"topic {example['topic']}, partition {example['partition']}"
    return f"{place}, offset {example['offset']:,}"


def _as_json(cause: "Cause") -> dict[str, object]:
    return {
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
