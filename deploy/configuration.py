"""Reading the settings, and telling where each came from and what is wrong with it."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from ..schemas.errors import ConfigurationError
from .settings import PREFIX, Settings, variable

__all__ = ["SECRETS", "Configuration", "read_configuration"]

SECRETS = ("database_url", "sasl_password", "ssl_keyfile_password", "schema_registry_url")
_FILE = "_FILE"
# Variables that are read elsewhere: by the entry point, and by tests (a kill point).
_OTHER_VARIABLES = ("ODDSLOG_DEBUG", "ODDSLOG_KILL_POINT")
_OPTIONS = {"database_schema": "--schema", "database_url": "--database"}


@dataclass(frozen=True)
class Configuration:
    """The settings, and what there is to say about them.

    Attributes:
        settings: checked.
        origins: where each setting came from, in words, by field.
        warnings: a line for each variable that looks like a setting and is none.
    """

    settings: Settings
    origins: Mapping[str, str]
    warnings: tuple[str, ...]


def read_configuration(options: Mapping[str, Any] | None = None) -> Configuration:
    """Read options, environment and secret files.

    Args:
        options: fields that the command line gave; None means not given.

    Raises:
        ConfigurationError: a wrong value, or a file that cannot be read. One line,
            which names the variable and never repeats a secret.
    """
    given = {name: value for name, value in (options or {}).items() if value is not None}
    environment = {
        name.upper(): value
        for name, value in os.environ.items()
        if name.upper().startswith(PREFIX) and value
    }
    files = dict(_secret_files(environment))
    origins = {field: _origin(field, given, environment, files) for field in Settings.model_fields}
    try:
        settings = Settings(**{field: _read(field, path) for field, path in files.items()} | given)
    except ValidationError as error:
        raise ConfigurationError(_explained(error, origins)) from None
    return Configuration(settings, origins, tuple(_unknown(environment)))


def _secret_files(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for field in SECRETS:
        name = variable(field)
        if name + _FILE not in environment:
            continue
        if name in environment:
            raise ConfigurationError(f"{name} and {name}{_FILE} are both set; keep one of them")
        yield field, environment[name + _FILE]


def _read(field: str, path: str) -> str:
    name = variable(field) + _FILE
    try:
        text = Path(path).read_text(encoding="utf-8").strip("\r\n")
    except OSError as error:
        raise ConfigurationError(
            f"{name}: {path} cannot be read: {error.strerror or error}"
        ) from error
    except UnicodeDecodeError:
        raise ConfigurationError(f"{name}: {path} is not UTF-8 text") from None
    if not text:
        raise ConfigurationError(f"{name}: {path} is empty")
    return text


def _origin(
    field: str,
    given: Mapping[str, Any],
    environment: Mapping[str, str],
    files: Mapping[str, str],
) -> str:
    if field in given:
        return _OPTIONS.get(field, f"--{field.replace('_', '-')}")
    if field in files:
        return f"{variable(field)}{_FILE} ({files[field]})"
    return variable(field) if variable(field) in environment else "default"


def _explained(error: ValidationError, origins: Mapping[str, str]) -> str:
    problems = []
    for item in error.errors(include_url=False):
        if not item["loc"]:  # a relation between settings; its text names them
            problems.append(_own_words(item["msg"]))
            continue
        field = str(item["loc"][0])
        problem = _allowed(Settings.model_fields[field]) or _own_words(item["msg"])
        shown = "" if field in SECRETS else f", not {str(item['input'])[:80]!r}"
        problems.append(f"{origins[field]} {problem}{shown}")
    return "; ".join(problems)


def _own_words(message: str) -> str:
    text = message.removeprefix("Value error, ")
    return text if text is not message else text[:1].lower() + text[1:]


def _allowed(field: FieldInfo) -> str | None:
    """What a setting may be, in words, where its type says it."""
    choices = _choices(field.annotation)
    if choices:
        return f"must be one of {', '.join(choices)}"
    if field.annotation is int:
        bounds = {type(bound).__name__: bound for bound in field.metadata}
        return f"must be a whole number from {bounds['Ge'].ge} to {bounds['Le'].le}"
    return None


def _choices(annotation: Any) -> list[str]:
    if get_origin(annotation) is Literal:
        return [str(choice) for choice in get_args(annotation)]
    return [choice for part in get_args(annotation) for choice in _choices(part)]


def _unknown(environment: Mapping[str, str]) -> Iterator[str]:
    settings = [variable(field) for field in Settings.model_fields]
    known = [*settings, *(variable(field) + _FILE for field in SECRETS), *_OTHER_VARIABLES]
    for name in sorted(environment):
        if name in known:
            continue
        ends = [known_name.removeprefix(PREFIX) for known_name in known]
        nearest = get_close_matches(name.removeprefix(PREFIX), ends, 1)
        hint = f"; did you mean {PREFIX}{nearest[0]}?" if nearest else "; see: oddslog config"
        yield f"{name} is no setting and has no effect{hint}"
