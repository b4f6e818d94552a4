"""The demo: real servers, a feed, a sink, and a comparison of every row."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..sink import SinkOptions, migrate
from . import signals
from .belongings import Belongings
from .compare import Comparison, compare
from .console import Out
from .database import open_engine, safe_url
from .feeding import FeedTotals, feed
from .settings import Settings
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
        kept = keep and demo.belongings.complete
        raise
    finally:
        if kept:
            demo.belongings.say_where()
        else:
            with signals.shielded("oddslog: cleaning up; once more leaves everything as it is"):
                demo.belongings.clean_up()
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
        self.belongings = Belongings("demo", servers, settings, out)

    async def run(self, source: Source) -> DemoResult:
        """Everything between the servers' start and their end."""
        await self.belongings.make()
        settings = self.belongings.settings
        async with open_engine(settings, "demo") as engine:
            await migrate(engine)
            with (
                self._out.meter("feed", source.total, "batches") as meter,
                source.open() as batches,
            ):
                fed = await feed(settings, batches, self._out, meter)
            options = SinkOptions(
                poll_records=settings.poll_records,
                poll_bytes=settings.poll_bytes,
                store_raw=settings.raw_response == "database",
                until_caught_up=True,
            )
            sunk = await run_sink(engine, settings, options, self._out, signals=False)
            with self._out.busy("Comparing every row with what was fed"), source.open() as again:
                compared = await compare(
                    engine,
                    signals.interruptible(again),
                    raw_response=settings.raw_response == "database",
                )
        return DemoResult(settings, fed, sunk, compared)
