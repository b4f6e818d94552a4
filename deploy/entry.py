"""The `oddslog` command's beginning and end: nothing it may meet there is a traceback.

Exit codes: 0 fine, 1 found a difference (or a bug), 2 wrong usage or
configuration, 3 a server is unreachable, 4 stopped to protect data; 128 and the
signal's number where a signal ended it.
"""
# ruff: noqa: PLC0415 - loaded inside `main`, where an interrupt is caught

import os
import sys
from importlib.util import find_spec

__all__ = ["main"]

_NEEDED = (
    "typer",
    "rich",
    "pydantic_settings",
    "sqlalchemy",
    "asyncpg",
    "alembic",
    "prometheus_client",
)
_INSTALL = "pip install 'oddslog[sink]'"
_SIGPIPE = 13


def main() -> None:
    """Run the command that the arguments name, and exit."""
    try:
        from . import signals

        # Before the long imports: a container's first process gets no signal that it
        # has not asked for, and would be waited for until it is killed.
        signals.install()
        code = _run(sys.argv[1:])
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = _interrupted()
    except BrokenPipeError:
        code = _quiet_pipe()
    except OSError as error:
        code = _fail_of_system(error)
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    if not all(_is_there(name) for name in _NEEDED):
        return _fail(f"the command needs its extra; install it with: {_INSTALL}", 2)
    from ..schemas import kill_points
    from ..schemas.errors import OddslogError

    kill_points.arm_from_environment()
    try:
        from .running import run

        return run(arguments)
    except OddslogError as error:
        notes = getattr(error, "__notes__", ())
        return _fail(". ".join([str(error), *notes]), error.exit_code)
    except OSError:
        raise
    except Exception as error:
        return _fail_of_ours(error)


def _interrupted() -> int:
    from . import signals

    return signals.exit_code()


def _is_there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ImportError:
        return False


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"oddslog: {' '.join(message.split())}\n")
    return code


def _fail_of_system(error: OSError) -> int:
    """A full disk, a file that may not be written: not a bug, and not a traceback."""
    _trace()
    reason = error.strerror or f"{type(error).__name__}: {error}"
    where = f"{error.filename}: " if error.filename else ""
    try:
        return _fail(f"{where}{reason}", 2)
    finally:
        # What is still in the buffer would fail again at exit, with a traceback.
        _quiet_pipe()


def _fail_of_ours(error: Exception) -> int:
    _trace()
    what = f"{type(error).__name__}: {error}"[:500]
    return _fail(f"unexpected error: {what}. This is a bug; run again with ODDSLOG_DEBUG=1", 1)


def _trace() -> None:
    if "--debug" in sys.argv or os.environ.get("ODDSLOG_DEBUG", "") not in ("", "0"):
        import traceback

        traceback.print_exc()


def _quiet_pipe() -> int:
    """Whoever read our output has gone; Python must not complain of it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 128 + _SIGPIPE
