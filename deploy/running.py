"""Running the typer application, with its own errors as one line."""

from collections.abc import Sequence

import typer

from ..schemas.errors import ConfigurationError
from . import signals
from .app import app

__all__ = ["run"]

# The common root of typer's usage errors: which module defines it differs by version.
_UsageError: type[Exception] = typer.BadParameter.__bases__[0]


def run(arguments: Sequence[str]) -> int:
    """Run a command.

    Returns:
        The exit code.

    Raises:
        ConfigurationError: wrong usage, in one line.
        Exception: whatever else the command raised.
    """
    command = typer.main.get_command(app)
    try:
        code = command.main(list(arguments), prog_name="oddslog", standalone_mode=False)
    except KeyboardInterrupt:
        return signals.exit_code()
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # typer makes code 1 of it
            raise BrokenPipeError from None
        raise
    except typer.Abort:
        raise ConfigurationError("nothing was done") from None
    except _UsageError as error:
        if not str(error):  # no arguments: the help was printed
            return ConfigurationError.exit_code
        raise ConfigurationError(_usage(error)) from None
    if code == signals.INTERRUPTED:  # typer has caught a KeyboardInterrupt
        return signals.exit_code()
    return int(code or 0)


def _usage(error: Exception) -> str:
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    context = getattr(error, "ctx", None)
    path = "oddslog" if context is None else context.command_path
    message = message.replace("Value error, ", "").rstrip(".")
    return f"{message}{'' if message.endswith('?') else '.'} See: {path} --help"
