"""What demo and torture make for themselves: a topic, a group, a database; dropped afterwards."""

import asyncio
import secrets
import shlex
from typing import Any

from pydantic import SecretStr

from ..schemas.errors import OddslogError
from ..sink.topics import create_topic
from .console import Out
from .database import create_database, drop_database, safe_url
from .kafka import drop_topic
from .settings import Settings, variable
from .stack import Servers

__all__ = ["Belongings"]


class Belongings:
    """Their names end at random; nothing else on the servers is touched.

    Attributes:
        name: of topic, group and database.
        settings: the given ones, pointed at them; with the database once it is made.
        complete: whether both are made.
    """

    def __init__(self, what: str, servers: Servers, settings: Settings, out: Out) -> None:
        self.name = f"oddslog_{what}_{secrets.token_hex(4)}"
        self.complete = False
        self._server_url = servers.database_url
        self._out = out
        self._made: list[str] = []
        changes: dict[str, Any] = {
            "bootstrap_servers": servers.bootstrap_servers,
            "topic": self.name,
            "group": self.name,
            "database_schema": "public",
            "dead_letter_topic": None,
            # Nothing is left behind in a registry that we did not make.
            "schema_registry_url": None,
        }
        if servers.kind != "env":
            changes["security_protocol"] = "PLAINTEXT"
        self.settings = settings.model_copy(update=changes)

    async def make(self) -> None:
        """Make topic and database.

        Raises:
            OddslogError: a server is away, or refuses.
        """
        self._out.note(
            f"Kafka is on {self.settings.bootstrap_servers}, PostgreSQL on"
            f" {safe_url(self._server_url)}"
        )
        self._out.note(f"Making topic and database {self.name}")
        # Noted before it is made: an interrupt on the way must not leave it behind.
        self._made.append("topic")
        await create_topic(self.settings.kafka(), self.name)
        self._made.append("database")
        url = await create_database(self._server_url, self.name)
        self.settings = self.settings.model_copy(update={"database_url": SecretStr(url)})
        self.complete = True

    def clean_up(self) -> None:
        """Drop what was made. What cannot be dropped is said, and is no failure."""
        for made in self._made:
            drop = (
                drop_topic(self.settings.kafka(), self.name)
                if made == "topic"
                else drop_database(self._server_url, self.name)
            )
            try:
                asyncio.run(drop)
            except OddslogError as error:
                self._out.warn(f"{made} {self.name} could not be dropped: {error}")
            else:
                self._out.note(f"Dropped {made} {self.name}")

    def say_where(self) -> None:
        """Where everything is, for whoever wants to look at it."""
        values = {
            "bootstrap_servers": self.settings.bootstrap_servers,
            "topic": self.name,
            "group": self.name,
            "database_url": self.settings.require_database_url(),
        }
        self._out.say("Everything is left up. To look at it:", style="bold")
        for field, value in values.items():
            self._out.say(f"  export {variable(field)}={shlex.quote(str(value))}")
        self._out.say('  psql "$ODDSLOG_DATABASE_URL"; oddslog status')
