"""PostgreSQL for the commands: an engine, and its errors in one line."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ..schemas.errors import OddslogError, UnreachableError
from ..sink.classify import ErrorClass, classify
from ..sink.database import make_engine
from ..sink.database_access import access_error
from ..sink.database_url import masked_url
from .settings import Settings, variable

__all__ = ["asking", "create_database", "drop_database", "open_engine", "safe_url"]


@asynccontextmanager
async def open_engine(settings: Settings, command: str) -> AsyncIterator[AsyncEngine]:
    """An engine on the configured database, let go of at the end.

    Raises:
        ConfigurationError: no database is configured.
    """
    engine = make_engine(
        settings.require_database_url(),
        schema=settings.database_schema,
        application_name=f"oddslog {command}",
    )
    try:
        yield engine
    finally:
        await engine.dispose()


@contextmanager
def asking(engine: AsyncEngine) -> Iterator[None]:
    """Around the statements of a command: what goes wrong outside of us is one line.

    Raises:
        UnreachableError: PostgreSQL does not answer.
        ConfigurationError: it refuses the user, or has no such database.
    """
    try:
        yield
    except OddslogError:
        raise
    except Exception as error:
        told = _told(error, engine.url.render_as_string(hide_password=False))
        if told is None:
            raise
        raise told from error


def _told(error: Exception, url: str) -> OddslogError | None:
    refused = access_error(error, url)
    if refused is not None or classify(error) is not ErrorClass.TRANSIENT:
        return refused
    return UnreachableError(
        f"PostgreSQL at {masked_url(url)} does not answer ({_reason(error)}): start it, or mend"
        f" {variable('database_url')}"
    )


def _reason(error: BaseException) -> str:
    original = getattr(error, "orig", None) or error
    cause = original.__cause__ or original
    if isinstance(cause, TimeoutError):
        return "no answer in time"
    if isinstance(cause, ConnectionRefusedError):
        return "connection refused"
    lines = str(cause).splitlines()
    return lines[0][:200] if lines else type(cause).__name__


def safe_url(database_url: str) -> str:
    """The URL without any password, for people to read."""
    return masked_url(database_url)


async def create_database(server_url: str, name: str) -> str:
    """Make a database beside the one that the URL names; returns its URL.

    Raises:
        UnreachableError: PostgreSQL does not answer.
        ConfigurationError: the user may not create databases.
    """
    await _on_server(server_url, f'CREATE DATABASE "{name}"')
    return make_url(server_url).set(database=name).render_as_string(hide_password=False)


async def drop_database(server_url: str, name: str) -> None:
    """Drop a database, whoever is connected to it; fine where it is not there."""
    await _on_server(server_url, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


async def _on_server(server_url: str, statement: str) -> None:
    engine = make_engine(server_url, application_name="oddslog demo")
    try:
        with asking(engine):
            async with engine.connect() as connection:
                await _autocommit(connection)
                await connection.execute(text(statement))
    finally:
        await engine.dispose()


async def _autocommit(connection: AsyncConnection) -> None:
    await connection.execution_options(isolation_level="AUTOCOMMIT")
