"""What the commands share: their options, and how one begins."""

from dataclasses import dataclass
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
    "BootstrapServers",
    "Directory",
    "Group",
    "Json",
    "Level",
    "LogLevelOption",
    "Run",
    "Schema",
    "SpoolDir",
    "StackOption",
    "Topic",
    "begin",
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
