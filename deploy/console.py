"""What a command says: to people, and to machines.

Results for people go to standard output; progress and notes go to standard
error. With `--json` everything for people goes to standard error, and the last
line of standard output is one JSON object.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import typer
from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

__all__ = ["Meter", "Out"]

# A pipe has no width: lines for it are not wrapped.
_WIDTH_OF_A_PIPE = 240
_PLAIN_EVERY_SECONDS = 5.0


class Meter(Protocol):
    """A progress that can be told how far it is."""

    def advance(self, count: int = 1) -> None:
        """So many more are done."""

    def move_to(self, done: int) -> None:
        """So many are done by now."""


class Out:
    """The two outputs of a command."""

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        self._notes = _console(stderr=True)
        self._people = self._notes if as_json else _console(stderr=False)

    def say(self, text: str, style: str = "") -> None:
        """A line of the result, for people."""
        self._people.print(Text(text, style=style), soft_wrap=True)

    @property
    def width(self) -> int:
        """Of the result for people, in characters."""
        return self._people.width

    @property
    def terminal(self) -> Console | None:
        """The console of the result, where that is a terminal."""
        return self._people if self._people.is_terminal else None

    def show(self, *parts: RenderableType) -> None:
        """Lines and tables of the result, for people."""
        for part in parts:
            self._people.print(part, soft_wrap=isinstance(part, Text))

    def line(self, text: str) -> None:
        """A line of standard output, there at once also in a pipe."""
        typer.echo(text)
        sys.stdout.flush()

    def note(self, text: str, style: str = "dim") -> None:
        """A line about what is going on."""
        self._notes.print(Text(text, style=style), soft_wrap=True)

    def warn(self, text: str) -> None:
        """A line that should not be missed and stops nothing."""
        self.note(f"oddslog: warning: {text}", style="yellow")

    def table(
        self,
        columns: Sequence[str],
        rows: Sequence[Sequence[object]],
        *,
        title: str | None = None,
        numbers: Sequence[str] = (),
    ) -> None:
        """A table for people; the columns named in `numbers` are aligned to the right."""
        table = Table(
            title=title, title_justify="left", title_style="bold", box=None, pad_edge=False
        )
        for column in columns:
            right = column in numbers
            table.add_column(column, justify="right" if right else "left", overflow="fold")
        for row in rows:
            table.add_row(*(Text(_shown(value)) for value in row))
        self._people.print(table)

    def facts(self, pairs: Sequence[tuple[str, object]], *, title: str | None = None) -> None:
        """Names with their values, one a line."""
        if title:
            self.say(title, style="bold")
        width = max((len(name) for name, _ in pairs), default=0)
        for name, value in pairs:
            self.say(f"  {name:<{width}}  {_shown(value)}")

    def result(self, values: object) -> None:
        """The JSON object at the end, where it was asked for."""
        if self.as_json:
            typer.echo(json.dumps(values, default=str))

    @contextmanager
    def meter(self, label: str, total: int | None, unit: str) -> Iterator[Meter]:
        """A progress bar on a terminal, a few plain lines elsewhere.

        Args:
            label: what is being done.
            total: how many there are, None where nobody knows.
            unit: of what, in the plural.
        """
        if self._notes.is_terminal:
            with _Bar(self._notes, label, total, unit) as bar:
                yield bar
        else:
            plain = _Plain(self, label, total, unit)
            yield plain
            plain.finish()

    @contextmanager
    def busy(self, label: str) -> Iterator[None]:
        """A spinner on a terminal, one plain line elsewhere."""
        if self._notes.is_terminal:
            with self._notes.status(label):
                yield
        else:
            self.note(label)
            yield

    @contextmanager
    def live(self, label: str) -> Iterator[Callable[[str], None]]:
        """One line that is renewed by what it is called with; nothing but on a terminal."""
        if self._notes.is_terminal:
            with self._notes.status(Text(label)) as status:
                yield lambda text: status.update(Text(text))
        else:
            yield lambda _text: None


class _Rate(ProgressColumn):
    """How many a second, of late."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else _rate(speed), style="dim")


class _Bar:
    def __init__(self, console: Console, label: str, total: int | None, unit: str) -> None:
        count = "{task.completed:,.0f}"
        if total is not None:
            count += f" of {total:,}"
        self._total = total
        self._progress = Progress(
            TextColumn("{task.description:<8}"),
            BarColumn(bar_width=None),
            TextColumn(f"{count} {unit}"),
            _Rate(),
            TimeElapsedColumn(),
            *(() if total is None else (TextColumn("left:"), TimeRemainingColumn())),
            console=console,
        )
        self._task: TaskID = self._progress.add_task(label, total=total)

    def __enter__(self) -> "_Bar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._total is None:  # stop the pulse of a bar without an end
            task = self._progress.tasks[0]
            self._progress.update(self._task, total=max(1, int(task.completed)))
        self._progress.stop()

    def advance(self, count: int = 1) -> None:
        self._progress.advance(self._task, count)

    def move_to(self, done: int) -> None:
        self._progress.update(self._task, completed=done)


class _Plain:
    def __init__(self, out: Out, label: str, total: int | None, unit: str) -> None:
        self._out = out
        self._label = label
        self._total = total
        self._of = f" of {total:,}" if total is not None else ""
        self._unit = unit
        self._done = 0
        self._started = self._said = time.monotonic()

    def advance(self, count: int = 1) -> None:
        self.move_to(self._done + count)

    def move_to(self, done: int) -> None:
        self._done = done
        if time.monotonic() - self._said >= _PLAIN_EVERY_SECONDS:
            self._said = time.monotonic()
            self._say(self._pace())

    def finish(self) -> None:
        self._say(f" in {time.monotonic() - self._started:.1f} s")

    def _pace(self) -> str:
        rate = self._done / (time.monotonic() - self._started)
        if self._total is None or not rate:
            return f", {_rate(rate)}"
        return f", {_rate(rate)}, {(self._total - self._done) / rate:,.0f} s left"

    def _say(self, tail: str) -> None:
        self._out.note(f"{self._label}: {self._done:,}{self._of} {self._unit}{tail}")


def _rate(a_second: float) -> str:
    return f"{a_second:,.0f}/s" if a_second >= 10 else f"{a_second:.1f}/s"


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = _WIDTH_OF_A_PIPE
    return console


def _shown(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.2f}" if isinstance(value, float) else str(value)
