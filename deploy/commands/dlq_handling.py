"""`oddslog dlq redrive` and `discard`: what an operator does with dead letters."""
# ruff: noqa: PLC0415 - loaded when the command runs

import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .common import BootstrapServers, Json, LogLevelOption, Run, Schema, begin
from .dlq_common import By, Reason, Since, operator, parse_since, read_ids

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from ..letters import Letter, Selection
    from ..redrive_plan import Wanted
    from ..redriving import Redriver, Verdict

__all__ = ["discard", "redrive"]

Ids = Annotated[list[int] | None, typer.Argument(metavar="[ID]...", help="Letters' numbers.")]

_MOST_LINES = 50
_SAID = {
    "sent": "sent again",
    "would_send": "would be written; nothing was sent",
    "written": "written",
}


def redrive(
    ids: Ids = None,
    reason: Annotated[Reason | None, typer.Option(help="All dead letters of this reason.")] = None,
    cause: Annotated[
        str | None,
        typer.Option(
            "--all-of-cause", metavar="CAUSE", help="All dead letters of a cause of `dlq list`."
        ),
    ] = None,
    since: Since = None,
    edit: Annotated[
        Path | None,
        typer.Option("--edit", metavar="FILE", help="Send this mended JSON for the one letter."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only try in the database, and send nothing.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Send also what would fail again, or was sent too often already."
        ),
    ] = False,
    why: Annotated[
        str | None, typer.Option("--why", metavar="TEXT", help="Kept with the letter.")
    ] = None,
    by: By = None,
    topic: Annotated[
        str | None,
        typer.Option("--topic", metavar="NAME", help="Send there; else where each came from."),
    ] = None,
    bootstrap_servers: BootstrapServers = None,
    schema: Schema = None,
    log_level: LogLevelOption = None,
    as_json: Json = False,
) -> None:
    """Send dead letters to the topic again, those that would be written now.

    Each is tried in the database first, in a transaction that is rolled back. The sink
    marks the letter when it writes it. Exit code 1 where some were not sent.

    Example: oddslog dlq redrive 17 --edit letter.json --why "name was cut"
    """
    from .. import signals
    from ..logs import let_libraries_log
    from ..redrive_plan import Wanted

    selection = _selection(ids, reason, cause, since)
    run = begin(
        as_json=as_json,
        bootstrap_servers=bootstrap_servers,
        database_schema=schema,
        log_level=log_level,
    )
    wanted = Wanted(
        operator(by),
        datetime.now(UTC),
        why,
        _edited(edit, ids),
        force=force,
        dry_run=dry_run,
        topic=topic,
    )
    ended = _Ended()

    async def work() -> None:
        let_libraries_log()
        async with _redriving(run, wanted) as (engine, redriver):
            if edit is not None and ids:
                _check_edit(run, edit, await read_ids(engine, ids))
            async for letters in _pages(engine, sorted(set(ids or ())), selection):
                async for verdict in redriver.redrive(letters):
                    ended.add(run, verdict)

    try:
        signals.run(work())
    finally:
        ended.say(run)
    if not ended.counts:
        run.out.say("No dead letters of these; nothing was sent")
    run.out.result({**ended.as_json(), "dry_run": dry_run})
    raise typer.Exit(1 if ended.counts["refused"] else 0)


def discard(
    ids: Annotated[list[int], typer.Argument(metavar="ID...", help="Letters' numbers.")],
    why: Annotated[str, typer.Option("--why", metavar="TEXT", help="Kept with the letters.")],
    by: By = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    schema: Schema = None,
    as_json: Json = False,
) -> None:
    """Put dead letters aside for good; they are kept, with who did it, when and why.

    Exit code 1 where some were neither dead nor waiting. A database restored from a
    backup does not know of it: the letters are dead there again.

    Example: oddslog dlq discard 17 18 --why "test data of another program"
    """
    from ...schemas.errors import ConfigurationError
    from .. import signals

    if not why.strip():
        raise ConfigurationError("--why needs a reason; it is all that tells later")
    run = begin(as_json=as_json, database_schema=schema)
    wanted = sorted(set(ids))
    if not yes:
        if not sys.stdin.isatty():
            raise ConfigurationError("discard asks first on a terminal; without one, say --yes")
        typer.confirm(f"Discard {_letters(len(wanted))}?", abort=True, err=True)

    async def work() -> tuple[set[int], dict[int, str]]:
        from ..database import asking, open_engine
        from ..letters import discard as put_aside

        async with open_engine(run.settings, "dlq discard") as engine:
            letters = await read_ids(engine, wanted)
            with asking(engine):
                async with engine.begin() as connection:
                    done = await put_aside(connection, wanted, by=operator(by), why=why)
            return done, {one.id: one.status for one in letters if one.id not in done}

    done, kept = signals.run(work())
    run.out.say(f"{_letters(len(done))}: discarded")
    for letter_id, status in kept.items():
        run.out.say(f"letter {letter_id} is {status}: left as it is", style="red")
    run.out.result({"discarded": sorted(done), "left": kept})
    raise typer.Exit(1 if kept else 0)


def _letters(count: int) -> str:
    return f"{count:,} letter{'' if count == 1 else 's'}"


@dataclass
class _Ended:
    """What came of the letters so far."""

    counts: Counter[str] = field(default_factory=Counter)
    refused: list[dict[str, object]] = field(default_factory=list)

    def add(self, run: Run, verdict: "Verdict") -> None:
        self.counts[verdict.outcome] += 1
        if verdict.outcome != "refused":
            return
        if len(self.refused) < _MOST_LINES:
            self.refused.append({"id": verdict.id, "problem": verdict.problem})
            run.out.say(f"letter {verdict.id} {verdict.problem}", style="red")

    def say(self, run: Run) -> None:
        for outcome, words in _SAID.items():
            if self.counts[outcome]:
                run.out.say(f"{_letters(self.counts[outcome])}: {words}")
        more = self.counts["refused"] - len(self.refused)
        if more > 0:
            run.out.say(f"and {more:,} more like these", style="red")
        if self.counts["refused"]:
            run.out.say(f"{_letters(self.counts['refused'])}: not sent", style="red")
        if self.counts["sent"]:
            run.out.note("the sink marks them when it writes them; see: oddslog dlq list")

    def as_json(self) -> dict[str, object]:
        outcomes = ("sent", "would_send", "written", "refused")
        return {**{name: self.counts[name] for name in outcomes}, "problems": self.refused}


def _selection(
    ids: list[int] | None, reason: str | None, cause: str | None, since: str | None
) -> "Selection | None":
    """What to select by where no ids are given.

    Raises:
        ConfigurationError: nothing, or both.
    """
    from ...schemas.errors import ConfigurationError
    from ..letters import Selection

    chosen = reason is not None or cause is not None or since is not None
    if bool(ids) == chosen:
        raise ConfigurationError(
            "name letters by ID, or select by --reason, --all-of-cause or --since; see: oddslog"
            " dlq list"
        )
    return Selection(reason, cause, parse_since(since)) if chosen else None


def _edited(edit: Path | None, ids: list[int] | None) -> bytes | None:
    from ...schemas.codec import encode
    from ...schemas.errors import ConfigurationError
    from ..redrive_plan import read_edit

    if edit is None:
        return None
    if ids is None or len(set(ids)) != 1:
        raise ConfigurationError("--edit mends one letter: name just its ID")
    return encode(read_edit(edit))


def _check_edit(run: Run, edit: Path, letters: "list[Letter]") -> None:
    from ..redrive_plan import changed_identity, check_edit, read_edit

    fragment = read_edit(edit)
    check_edit(letters[0], fragment)
    changed = changed_identity(letters[0], fragment)
    if changed is not None:
        run.out.warn(changed)


@asynccontextmanager
async def _redriving(run: Run, wanted: "Wanted") -> "AsyncIterator[tuple[AsyncEngine, Redriver]]":
    from ...sink.opening import check_database
    from ..database import asking, open_engine
    from ..redriving import Redriver

    async with open_engine(run.settings, "dlq redrive") as engine:
        limits = await check_database(engine)
        redriver = Redriver(engine, run.settings, limits, wanted)
        try:
            with asking(engine):
                yield engine, redriver
        finally:
            await redriver.close()


async def _pages(
    engine: "AsyncEngine", ids: list[int], selection: "Selection | None"
) -> "AsyncIterator[list[Letter]]":
    """The letters, so many at a time as fit into a transaction."""
    from ..letters import next_page

    if selection is None:
        for start in range(0, len(ids), 100):
            yield await read_ids(engine, ids[start : start + 100])
        return
    after = 0
    while True:
        async with engine.connect() as connection:
            letters = await next_page(connection, selection, after)
        if not letters:
            return
        after = letters[-1].id
        yield letters
