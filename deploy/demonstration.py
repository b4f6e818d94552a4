"""The demo: real servers, a feed, a sink, and a comparison of every row."""

import asyncio
import secrets
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from ..schemas.errors import OddslogError
from ..schemas.records import WriteBatch
from ..sink import SinkOptions, migrate
from ..sink.topics import create_topic
from . import signals
from .compare import Comparison, compare
from .console import Out
from .database import create_database, drop_database, open_engine, safe_url
from .feeding import FeedTotals, feed
from .kafka import drop_topic
from .settings import Settings, variable
from .sinking import SinkRun, run_sink
from .sources import Source
from .stack import Servers, Stack, open_stack

__all__ = ["DemoResult", "demonstrate"]


@dataclass(frozen=True)
class DemoResult:
    """What a demo came to."""

    settings: Settings
    fed: FeedTotals
    sunk: SinkRun
    compared: Comparison

    @property
    def fine(self) -> bool:
        """Whether everything that was fed is in the tables, and nothing else."""
        return self.fed.fine and self.compared.equal and self.sunk.totals.dead_letters == 0

    @property
    def markets_per_second(self) -> float:
        """Market rows by the whole time of the sink, its start included."""
        return self.sunk.totals.markets / self.sunk.seconds

    def as_json(self, *, with_password: bool) -> dict[str, Any]:
        """The object of `--json`."""
        url = self.settings.require_database_url()
        return {
            "snapshots": self.fed.snapshots,
            "markets": self.fed.markets,
            "confirmations": self.fed.confirmations,
            "duplicates": self.sunk.totals.duplicates,
            "dead_letters": self.sunk.totals.dead_letters,
            "missing": self.compared.missing,
            "unexpected": self.compared.unexpected,
            "different": self.compared.different,
            "feed_seconds": round(self.fed.seconds, 3),
            "sink_seconds": round(self.sunk.seconds, 3),
            "markets_per_second": round(self.markets_per_second),
            "bootstrap_servers": self.settings.bootstrap_servers,
            "database_url": url if with_password else safe_url(url),
        }


def demonstrate(
    settings: Settings, source: Source, directory: Path, out: Out, *, keep: bool
) -> DemoResult:
    """Bring servers up, feed, sink, compare, and take away what was made.

    Whatever happens on the way, an interrupt too, the topic and the database are
    dropped and servers that were brought up for it are taken down; with `keep`
    only an interrupt does that.

    Raises:
        OddslogError: one of the parts.
        KeyboardInterrupt: after everything was taken away.
    """
    url = settings.database_url
    stack = open_stack(
        settings.stack,
        directory,
        bootstrap_servers=settings.bootstrap_servers,
        database_url=None if url is None else url.get_secret_value(),
    )
    was_up = stack.running() is not None
    servers = stack.start(lambda line: out.note(f"  {line}"))
    demo = _Demo(servers, settings, out)
    kept = False
    try:
        result = signals.run(demo.run(source))
        kept = keep
    except Exception:
        kept = keep and demo.prepared
        raise
    finally:
        if kept:
            demo.say_where()
        else:
            with signals.shielded("oddslog: cleaning up; once more leaves everything as it is"):
                demo.clean_up()
                _take_down(stack, out, was_up=was_up)
    return result


def _take_down(stack: Stack, out: Out, *, was_up: bool) -> None:
    if was_up:
        return
    out.note("Taking the servers down")
    stack.stop()


class _Demo:
    """One demo on servers that are up: its own topic, group and database."""

    def __init__(self, servers: Servers, settings: Settings, out: Out) -> None:
        self._out = out
        self._server_url = servers.database_url
        self._name = f"oddslog_demo_{secrets.token_hex(4)}"
        self._made: list[str] = []
        self.prepared = False
        changes: dict[str, Any] = {
            "bootstrap_servers": servers.bootstrap_servers,
            "topic": self._name,
            "group": self._name,
            "database_schema": "public",
        }
        if servers.kind != "env":
            changes["security_protocol"] = "PLAINTEXT"
        self.settings = settings.model_copy(update=changes)

    async def run(self, source: Source) -> DemoResult:
        """Everything between the servers' start and their end."""
        await self._prepare()
        async with open_engine(self.settings, "demo") as engine:
            await migrate(engine)
            with (
                self._out.meter("feed", source.total, "batches") as meter,
                source.open() as batches,
            ):
                fed = await feed(self.settings, batches, self._out, meter)
            options = SinkOptions(
                poll_records=self.settings.poll_records,
                poll_bytes=self.settings.poll_bytes,
                store_raw=self.settings.raw_response == "database",
                until_caught_up=True,
            )
            sunk = await run_sink(engine, self.settings, options, self._out, signals=False)
            with self._out.busy("Comparing every row with what was fed"), source.open() as again:
                compared = await compare(
                    engine,
                    _interruptible(again),
                    raw_response=self.settings.raw_response == "database",
                )
        return DemoResult(self.settings, fed, sunk, compared)

    async def _prepare(self) -> None:
        self._out.note(
            f"Kafka is on {self.settings.bootstrap_servers}, PostgreSQL on"
            f" {safe_url(self._server_url)}"
        )
        self._out.note(f"Making topic and database {self._name}")
        # Noted before it is made: an interrupt on the way must not leave it behind.
        self._made.append("topic")
        await create_topic(self.settings.kafka(), self._name)
        self._made.append("database")
        url = await create_database(self._server_url, self._name)
        self.settings = self.settings.model_copy(update={"database_url": SecretStr(url)})
        self.prepared = True

    def clean_up(self) -> None:
        """Drop what was made. What cannot be dropped is said, and is no failure."""
        for made in self._made:
            drop = (
                drop_topic(self.settings.kafka(), self._name)
                if made == "topic"
                else drop_database(self._server_url, self._name)
            )
            try:
                asyncio.run(drop)
            except OddslogError as error:
                self._out.warn(f"{made} {self._name} could not be dropped: {error}")
            else:
                self._out.note(f"Dropped {made} {self._name}")

    def say_where(self) -> None:
        """Where everything is, for whoever wants to look at it."""
        values = {
            "bootstrap_servers": self.settings.bootstrap_servers,
            "topic": self._name,
            "group": self._name,
            "database_url": self.settings.require_database_url(),
        }
        self._out.say("Everything is left up. To look at it:", style="bold")
        for field, value in values.items():
            self._out.say(f"  export {variable(field)}={shlex.quote(str(value))}")
        self._out.say('  psql "$ODDSLOG_DATABASE_URL"; oddslog status')


def _interruptible(batches: Iterator[WriteBatch]) -> Iterator[WriteBatch]:
    """The batches, until this task is cancelled: their reader does not await."""
    task = asyncio.current_task()
    for batch in batches:
        if task is not None and task.cancelling():
            raise asyncio.CancelledError
        yield batch
