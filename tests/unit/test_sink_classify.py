"""Error classes: every SQLSTATE and every class of the driver, as DESIGN 6.3 has them."""

import asyncio
import inspect
from typing import Any

import asyncpg
import pytest
from asyncpg import exceptions as pg
from asyncpg.exceptions import PostgresError
from sqlalchemy import exc

from oddslog.schemas.errors import ConfigurationError
from oddslog.sink.classify import (
    ErrorClass,
    classify,
    classify_sqlstate,
    column_of,
    constraint_of,
    sqlstate_of,
)
from oddslog.sink.errors import CopyEncodeError, GapError, VanishedRowError

TRANSIENT, POISON, WAITING, FATAL = ErrorClass

# Written from the table of DESIGN 6.3, not from the code. All other states are fatal.
SINGLE = {
    "55P03": TRANSIENT,
    "40001": TRANSIENT,
    "40P01": TRANSIENT,
    "40003": TRANSIENT,
    "25006": TRANSIENT,
    "25P03": TRANSIENT,
    "25P04": TRANSIENT,
    "57P04": FATAL,
    "2200H": FATAL,
    "22003": FATAL,
    "23505": FATAL,
    "23503": WAITING,
    "54000": POISON,
    # Beyond the table: a document too deep for the server's stack is its own fault.
    "54001": POISON,
}
BY_CLASS = {
    "08": TRANSIENT,
    "53": TRANSIENT,
    "57": TRANSIENT,
    "58": TRANSIENT,
    "22": POISON,
    "23": POISON,
}
DRIVER: list[Any] = [
    error
    for _, error in inspect.getmembers(pg, inspect.isclass)
    if issubclass(error, BaseException) and not issubclass(error, Warning)
]
SERVER = [error for error in DRIVER if issubclass(error, PostgresError) and error.sqlstate]


def expected(sqlstate: str) -> ErrorClass:
    """The class of a state by the table."""
    return SINGLE.get(sqlstate) or BY_CLASS.get(sqlstate[:2], FATAL)


def test_every_state_that_the_driver_knows() -> None:
    """A few hundred classes, each bare and as SQLAlchemy wraps it."""
    assert len(SERVER) > 200
    assert {state for state in SINGLE if state != "25P04"} <= {e.sqlstate for e in SERVER}
    for error in SERVER:
        made = error("text")
        # A stale plan is of class 0A, and passes when the statement is prepared anew.
        wanted = (
            TRANSIENT
            if issubclass(error, pg.InvalidCachedStatementError)
            else expected(error.sqlstate)
        )
        assert classify(made) is wanted, error
        wrapped = exc.DBAPIError("statement", None, made)
        assert classify(wrapped) is wanted, error
        assert sqlstate_of(wrapped) == error.sqlstate
        for sqlalchemy_class in (exc.OperationalError, exc.InterfaceError, exc.IntegrityError):
            assert classify(sqlalchemy_class("statement", None, made)) is wanted, error


@pytest.mark.parametrize(
    "sqlstate", ["00000", "0A000", "XX000", "XX001", "XX002", "ZZZZZ", "", "2"]
)
def test_unknown_states_are_fatal(sqlstate: str) -> None:
    """A new kind of trouble stops the sink instead of making dead letters."""
    assert classify_sqlstate(sqlstate) is FATAL


@pytest.mark.parametrize("first", ["28", "3D", "42", "25", "40", "55", "54"])
def test_rest_of_a_class_is_fatal(first: str) -> None:
    """Only the states that are named are exceptions."""
    assert classify_sqlstate(f"{first}ZZZ") is FATAL


def test_every_class_of_the_driver_without_a_state() -> None:
    """None is classified by accident: the list is complete."""
    wanted = {
        pg.PostgresError: FATAL,
        pg.FatalPostgresError: FATAL,
        pg.UnknownPostgresError: FATAL,
        pg.InterfaceError: TRANSIENT,
        pg.DataError: FATAL,  # the name in this module is the server's class 22
        asyncpg.exceptions._base.DataError: POISON,
        pg.ClientConfigurationError: FATAL,
        pg.UnsupportedClientFeatureError: FATAL,
        pg.UnsupportedServerFeatureError: FATAL,
        pg.InternalClientError: TRANSIENT,
        pg.ProtocolError: TRANSIENT,
        pg.OutdatedSchemaCacheError: TRANSIENT,
        pg.TargetServerAttributeNotMatched: TRANSIENT,
    }
    stateless = [error for error in DRIVER if error not in SERVER]
    assert set(stateless) <= set(wanted)
    for error in stateless:
        made = error("text")
        assert classify(made) is wanted[error], error
        assert classify(exc.DBAPIError("statement", None, made)) is wanted[error], error


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (ConnectionResetError(), TRANSIENT),
        (OSError(), TRANSIENT),
        (TimeoutError(), TRANSIENT),
        (asyncio.TimeoutError(), TRANSIENT),  # noqa: UP041 - the name that asyncpg raises
        (exc.InterfaceError("", None, Exception()), TRANSIENT),
        (exc.OperationalError("", None, Exception()), TRANSIENT),
        (exc.DBAPIError("", None, Exception(), connection_invalidated=True), TRANSIENT),
        (exc.TimeoutError(), TRANSIENT),
        (exc.DisconnectionError(), TRANSIENT),
        (VanishedRowError(), TRANSIENT),
        (CopyEncodeError(), POISON),
        (exc.DBAPIError("", None, Exception()), FATAL),
        (exc.InvalidRequestError(), FATAL),
        (GapError(), FATAL),
        (ConfigurationError(), FATAL),
        (KeyError(), FATAL),
        (ValueError(), FATAL),
        (MemoryError(), FATAL),
        (AssertionError(), FATAL),
    ],
    ids=lambda value: value.name if isinstance(value, ErrorClass) else type(value).__name__,
)
def test_other_classes(error: BaseException, wanted: ErrorClass) -> None:
    """Lost connections pass; whatever is not known stops."""
    assert classify(error) is wanted


def test_what_the_server_names_is_found_through_the_wrapping() -> None:
    """Constraint and column, for the dead letter."""
    made = pg.NotNullViolationError("text")
    made.constraint_name, made.column_name = "some_check", "line"
    wrapped = exc.IntegrityError("statement", None, made)
    assert (constraint_of(wrapped), column_of(wrapped)) == ("some_check", "line")
    assert (constraint_of(OSError()), column_of(OSError())) == (None, None)
