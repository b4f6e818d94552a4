"""What the commands share: their options, and how one begins."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from ..configuration import Configuration, read_configuration
from ..console import Out
from ..logs import configure_logs
from ..plain_text import warn_of_plain_text
from ..settings import LogLevel, Settings

__all__ = [
    "AcceptPoison",
    "BootstrapServers",
    "Cycles",
    "Directory",
    "Events",
    "FromTime",
    "Group",
    "Json",
    "Keep",
    "Level",
    "LogLevelOption",
    "Partitions",
    "RawKb",
    "Run",
    "Schema",
    "SpoolDir",
    "StackOption",
    "ToTime",
    "Topic",
    "begin",
    "parse_time",
]


class Level(StrEnum):
    """The choices of `--log-level`."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class StackChoice(StrEnum):
    """The choices of `--stack`."""

    AUTO = "auto"
    LOCAL = "local"
    DOCKER = "docker"
    ENV = "env"


Json = Annotated[bool, typer.Option("--json", help="End standard output with one JSON object.")]
BootstrapServers = Annotated[
    str | None,
    typer.Option("--bootstrap-servers", metavar="HOST:PORT,...", help="Kafka's addresses."),
]
Topic = Annotated[str | None, typer.Option("--topic", metavar="NAME", help="The log's topic.")]
Group = Annotated[
    str | None, typer.Option("--group", metavar="NAME", help="The sink's consumer group.")
]
Schema = Annotated[
    str | None,
    typer.Option("--schema", metavar="NAME", help="The PostgreSQL schema with the tables."),
]
SpoolDir = Annotated[
    str | None, typer.Option("--spool-dir", metavar="FOLDER", help="The spool's folder.")
]
LogLevelOption = Annotated[
    Level | None,
    typer.Option(
        "--log-level",
        metavar="LEVEL",
        help="debug, info, warning or error: the lowest level that is logged.",
    ),
]
Directory = Annotated[
    Path,
    typer.Option("--directory", metavar="FOLDER", help="Where the local stack keeps its data."),
]
StackOption = Annotated[
    StackChoice | None,
    typer.Option(
        "--stack",
        metavar="FROM",
        help="Where the servers come from: auto, docker, local, or env (the configured ones).",
    ),
]

# A part of the log, of `replay` and `verify`.
_RANGE = "Which part of the log"
Partitions = Annotated[
    list[int] | None,
    typer.Option(
        "--partition",
        min=0,
        metavar="N",
        help="Only this partition; may be repeated. Without it, all of them.",
        rich_help_panel=_RANGE,
    ),
]
FromTime = Annotated[
    str | None,
    typer.Option(
        "--from-time",
        metavar="TIME",
        help="What was appended to the log from this time on, as 2026-03-01T12:00Z.",
        rich_help_panel=_RANGE,
    ),
]
ToTime = Annotated[
    str | None,
    typer.Option(
        "--to-time",
        metavar="TIME",
        help="What was appended before this time.",
        rich_help_panel=_RANGE,
    ),
]
AcceptPoison = Annotated[
    list[str] | None,
    typer.Option(
        "--accept-poison",
        metavar="CAUSE",
        help="Go on however many fail for this cause, each a dead letter; may be repeated."
        " The cause is as the command named it when it stopped.",
    ),
]

# Simulated odds, of `feed simulate` and `demo`.
Events = Annotated[int | None, typer.Option(metavar="N", min=1, help="Events in a cycle. [1300]")]
Cycles = Annotated[int | None, typer.Option(metavar="N", min=1, help="Scrapes of all events. [2]")]
RawKb = Annotated[
    float | None,
    typer.Option(metavar="KIB", min=0, help="Size of a raw response; 0 for none. [2]"),
]

# Servers that a command makes for itself, of `demo` and `torture`.
Keep = Annotated[bool, typer.Option("--keep", help="Leave servers and data up, to look at them.")]


@dataclass(frozen=True)
class Run:
    """A command that has begun."""

    configuration: Configuration
    out: Out

    @property
    def settings(self) -> Settings:
        """The effective settings."""
        return self.configuration.settings


def begin(
    *,
    as_json: bool = False,
    default_level: LogLevel = "warning",
    plain_text_warnings: bool = True,
    **options: Any,
) -> Run:
    """Read the settings, set up the logs, and warn of variables that do nothing.

    Args:
        as_json: whether `--json` was given.
        default_level: of the logs, where nothing says another.
        plain_text_warnings: False where the command's own parts say them.
        options: fields of the settings that the command line gave, None where not.

    Raises:
        ConfigurationError: a wrong setting.
    """
    configuration = read_configuration(options)
    out = Out(as_json=as_json)
    configure_logs(configuration.settings.log_level or default_level)
    for warning in configuration.warnings:
        out.warn(warning)
    if plain_text_warnings:
        warn_of_plain_text(configuration.settings)
    return Run(configuration, out)


def parse_time(option: str, text: str | None, *, also: str = "") -> datetime | None:
    """The aware time that an option means; None where it was not given.

    `also` is what else it may be, for the error.

    Raises:
        typer.BadParameter: no time, or one that does not say of which time zone it is.
    """
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no time; it looks like {also}2026-03-01T12:00Z", param_hint=option
        ) from None
    if time.tzinfo is None:
        raise typer.BadParameter(
            f"{text!r} does not say of which time zone it is; for UTC write"
            f" {time.isoformat(timespec='minutes')}Z, else as"
            f" {time.isoformat(timespec='minutes')}+01:00",
            param_hint=option,
        )
    return time
