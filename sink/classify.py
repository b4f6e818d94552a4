"""What an error of PostgreSQL or its driver means for the next step. Pure.

Recognised by SQLSTATE and class, never by text; whatever is not known is fatal,
so that a new kind of trouble stops the sink instead of making dead letters.
"""

from collections.abc import Iterator
from enum import Enum

import asyncpg
from sqlalchemy import exc as sa_exc

from .errors import CopyEncodeError, VanishedRowError

__all__ = [
    "ErrorClass",
    "classify",
    "classify_sqlstate",
    "column_of",
    "constraint_of",
    "error_chain",
    "is_stale_plan",
    "sqlstate_of",
]


class ErrorClass(Enum):
    """What happens next."""

    TRANSIENT = "transient"  # back off and try again, for ever
    POISON = "poison"  # isolate; dead letter
    WAITING = "waiting"  # isolate; dead letter that waits for its parent
    FATAL = "fatal"  # stop


# Single states first: they are exceptions to their class.
_STATES = {
    "57P04": ErrorClass.FATAL,  # database dropped
    "2200H": ErrorClass.FATAL,  # sequence limit exceeded
    "22003": ErrorClass.FATAL,  # out of range: the schema check names what it can
    "23505": ErrorClass.FATAL,  # natural keys never raise it: a sequence is behind its table
    "23503": ErrorClass.WAITING,  # the parent's row may not be committed yet
    "54000": ErrorClass.POISON,  # a row too large for an index or a field
    "54001": ErrorClass.POISON,  # a document nested too deep for the server's parser
    "55P03": ErrorClass.TRANSIENT,  # lock not available
    "40001": ErrorClass.TRANSIENT,  # serialization failure
    "40P01": ErrorClass.TRANSIENT,  # deadlock
    "40003": ErrorClass.TRANSIENT,  # statement completion unknown
    "25006": ErrorClass.TRANSIENT,  # read only: a standby, for now
    "25P03": ErrorClass.TRANSIENT,  # idle in transaction time-out
    "25P04": ErrorClass.TRANSIENT,  # transaction time-out
}

_CLASSES = {
    "08": ErrorClass.TRANSIENT,  # connection
    "53": ErrorClass.TRANSIENT,  # insufficient resources: disk, memory, connections
    "57": ErrorClass.TRANSIENT,  # operator intervention
    "58": ErrorClass.TRANSIENT,  # system error
    "22": ErrorClass.POISON,  # data exception
    "23": ErrorClass.POISON,  # integrity constraint
}

# Errors that carry no SQLSTATE: the connection is gone, or was not to be had.
_TRANSIENT_CLASSES = (
    OSError,
    TimeoutError,
    sa_exc.InterfaceError,
    sa_exc.OperationalError,
    sa_exc.TimeoutError,
    sa_exc.DisconnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    VanishedRowError,
)

# Of the driver's InterfaceErrors, those that no waiting mends.
_CONFIGURATION_CLASSES = (
    asyncpg.ClientConfigurationError,
    asyncpg.UnsupportedClientFeatureError,
    asyncpg.exceptions.UnsupportedServerFeatureError,
)


def classify_sqlstate(sqlstate: str) -> ErrorClass:
    """The class of a SQLSTATE."""
    return _STATES.get(sqlstate) or _CLASSES.get(sqlstate[:2], ErrorClass.FATAL)


def classify(error: BaseException) -> ErrorClass:
    """The class of anything that a write can raise."""
    if isinstance(error, CopyEncodeError) or _is_encode_error(error):
        return ErrorClass.POISON
    if any(isinstance(link, _CONFIGURATION_CLASSES) for link in error_chain(error)):
        return ErrorClass.FATAL
    sqlstate = sqlstate_of(error)
    if sqlstate is not None:
        if is_stale_plan(error):
            return ErrorClass.TRANSIENT
        return classify_sqlstate(sqlstate)
    # SQLAlchemy has classes of its own for the driver's: look at what it wrapped.
    links = error_chain(error) if isinstance(error, sa_exc.DBAPIError) else (error,)
    if any(isinstance(link, _TRANSIENT_CLASSES) for link in links):
        return ErrorClass.TRANSIENT
    if isinstance(error, sa_exc.DBAPIError) and error.connection_invalidated:
        return ErrorClass.TRANSIENT
    return ErrorClass.FATAL


def sqlstate_of(error: BaseException) -> str | None:
    """The SQLSTATE that PostgreSQL gave, through whatever wraps it."""
    for link in error_chain(error):
        sqlstate = getattr(link, "sqlstate", None)
        if isinstance(sqlstate, str):
            return sqlstate
    return None


def constraint_of(error: BaseException) -> str | None:
    """The constraint that PostgreSQL named."""
    for link in error_chain(error):
        name = getattr(link, "constraint_name", None)
        if isinstance(name, str):
            return name
    return None


def column_of(error: BaseException) -> str | None:
    """The column that PostgreSQL named."""
    for link in error_chain(error):
        name = getattr(link, "column_name", None)
        if isinstance(name, str):
            return name
    return None


def error_chain(error: BaseException) -> Iterator[BaseException]:
    """The error, what SQLAlchemy wrapped, and what the driver's adapter wrapped."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = getattr(link, "orig", None) or link.__cause__


def _is_encode_error(error: BaseException) -> bool:
    """A value the driver could not encode; raised before anything is sent."""
    return any(
        isinstance(link, asyncpg.InterfaceError)
        and isinstance(link, ValueError)
        and not isinstance(link, asyncpg.ClientConfigurationError)
        for link in error_chain(error)
    )


def is_stale_plan(error: BaseException) -> bool:
    """A prepared statement from before a migration; SQLAlchemy drops it, so try again, once."""
    return any(
        isinstance(link, asyncpg.exceptions.InvalidCachedStatementError)
        for link in error_chain(error)
    )
