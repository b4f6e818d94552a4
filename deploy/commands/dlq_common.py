"""What the `dlq` commands share."""
# ruff: noqa: PLC0415 - loaded when the command runs

import re
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from .common import parse_time

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from ..letters import Letter

__all__ = ["By", "LetterId", "Reason", "Since", "Status", "operator", "parse_since", "read_ids"]

_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


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


LetterId = Annotated[int, typer.Argument(metavar="ID", help="The letter's number.")]
Since = Annotated[
    str | None,
    typer.Option(
        "--since",
        metavar="TIME",
        help="Only last seen since: 90m, 2h, 3d, or a time such as 2026-03-01T12:00+00:00.",
    ),
]
By = Annotated[
    str | None, typer.Option("--by", metavar="NAME", help="Who does it; else this user and host.")
]


def parse_since(text: str | None) -> datetime | None:
    """The moment that `--since` means.

    Raises:
        typer.BadParameter: neither a duration nor an aware time.
    """
    if text is None:
        return None
    if found := re.fullmatch(r"(\d{1,6})([mhd])", text):
        return datetime.now(UTC) - timedelta(**{_UNITS[found[2]]: int(found[1])})
    return parse_time("--since", text, also="90m, 2h, 3d or ")


def operator(given: str | None) -> str:
    """Who is at it: as given, or user@host of the system."""
    import getpass
    import socket

    if given is not None:
        return given
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        import os

        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"


async def read_ids(engine: "AsyncEngine", ids: Collection[int]) -> "list[Letter]":
    """The letters of these ids, all of them.

    Raises:
        ConfigurationError: one is not there, or the database is not migrated.
        UnreachableError: PostgreSQL does not answer.
    """
    from ...schemas.errors import ConfigurationError
    from ...sink.migrate import check_migrated
    from ..database import asking
    from ..letters import read_letters

    if any(not 0 < letter_id < 2**63 for letter_id in ids):
        raise ConfigurationError("a letter's number is 1 or more; see them with: oddslog dlq list")
    with asking(engine):
        async with engine.connect() as connection:
            await check_migrated(connection)
            letters = await read_letters(connection, ids)
    missing = sorted(set(ids) - {letter.id for letter in letters})
    if missing:
        named = ", ".join(map(str, missing[:10])) + (" ..." if len(missing) > 10 else "")
        raise ConfigurationError(f"there is no dead letter {named}; see: oddslog dlq list")
    return letters
