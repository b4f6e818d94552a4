"""Where a bench works: schemas and topics of its own, on servers that may be anyone's."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from ...schemas.errors import OddslogError
from ...sink import migrate
from ...sink.database import make_engine
from ...sink.topics import create_topic
from ..console import Out
from ..database import asking
from ..kafka import drop_topic
from ..settings import Settings

__all__ = ["Place"]


class Place:
    """Makes what a measurement needs; all of it is taken away again.

    Attributes:
        settings: point at the servers, a topic and a schema are added to them.
    """

    def __init__(self, settings: Settings, out: Out) -> None:
        self.settings = settings
        self._out = out
        self._prefix = f"oddslog_bench_{secrets.token_hex(4)}"
        self._count = 0
        self._topics: list[str] = []
        self._schemas: list[str] = []

    def name(self) -> str:
        """A name that nothing on the servers has yet."""
        self._count += 1
        return f"{self._prefix}_{self._count}"

    async def topic(self) -> str:
        """A new topic, as `oddslog topics --create` makes it."""
        name = self.name()
        self._topics.append(name)  # before it is made: an interrupt must not leave it
        await create_topic(self.settings.kafka(), name)
        return name

    @asynccontextmanager
    async def tables(self) -> AsyncIterator[tuple[AsyncEngine, str]]:
        """Empty tables in a schema of their own: an engine, and the schema's name."""
        schema = self.name()
        url = self.settings.require_database_url()
        engine = make_engine(url, schema=schema, application_name="oddslog bench")
        self._schemas.append(schema)
        try:
            with asking(engine):
                await migrate(engine, schema=schema)
            yield engine, schema
        finally:
            await engine.dispose()
        await self._drop_schema(schema)

    async def clean_up(self) -> None:
        """Drop what is left. What cannot be dropped is said, and is no failure."""
        for name in list(self._schemas):
            try:
                await self._drop_schema(name)
            except OddslogError as error:
                self._out.warn(f"schema {name} could not be dropped: {error}")
        for name in self._topics:
            try:
                await drop_topic(self.settings.kafka(), name)
            except OddslogError as error:
                self._out.warn(f"topic {name} could not be dropped: {error}")
        self._topics.clear()

    async def _drop_schema(self, schema: str) -> None:
        engine = make_engine(self.settings.require_database_url(), application_name="oddslog bench")
        try:
            with asking(engine):
                async with engine.begin() as connection:
                    await connection.execute(text(f'DROP SCHEMA IF EXISTS "{schema}" CASCADE'))
        finally:
            await engine.dispose()
        self._schemas.remove(schema)
