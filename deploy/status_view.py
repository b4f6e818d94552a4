"""An overview as people see it: from what is known to lines and a table. Pure.

The same for `status` and `status --watch`: the first has all the room it wants, the
second fits what it shows into the terminal, and says how much it leaves out.
"""

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from .overview import Overview, PartitionState
from .words import bytes_words, duration_words, number_words, numbers_words

__all__ = ["WIDE_COLUMNS", "Size", "View", "fitted", "plain_line", "view_of"]

WIDE_COLUMNS = 110
_MOST_MEMBERS, _MOST_CAUSES = 12, 5
_FEW_MEMBERS, _FEW_CAUSES = 3, 3
# Below so many lines of partitions a table says nothing.
_LEAST_ROWS = 3
_STALE_SECONDS = 6.0
_MOST_ERROR_LINES = 3

_GOOD, _WEAK, _BAD, _DIM = "green", "yellow", "red", "dim"


@dataclass(frozen=True, slots=True)
class Size:
    """A terminal's, in characters."""

    width: int
    height: int


@dataclass(frozen=True)
class View:
    """The parts from top to bottom; `table` is None where no side knows a partition."""

    head: Sequence[Text]
    table: Table | None
    foot: Sequence[Text]

    def parts(self) -> list[RenderableType]:
        """All of them."""
        return [*self.head, *([] if self.table is None else [self.table]), *self.foot]


@dataclass(frozen=True, slots=True)
class _Column:
    title: str
    cell: Callable[[Overview, PartitionState], str]
    only_wide: bool = False


def view_of(overview: Overview, *, wide: bool = True) -> View:
    """All of an overview, as long as it may be; errors are not in it."""
    states = overview.partitions()
    return View(
        [_title(overview), _summary(overview)],
        _table(overview, states, wide=wide) if states else None,
        _foot(overview, _MOST_MEMBERS, _MOST_CAUSES),
    )


def fitted(overview: Overview, size: Size, *, every_seconds: float) -> RenderableType:
    """An overview in just one screen: what lags most is kept, the rest is counted."""
    troubles = [part for line in _troubles(overview) for part in _wrapped(line, size.width)]
    summary = _whole(_summary(overview), size.width)
    head = [_clock(overview, size.width, every_seconds), *summary, *troubles]
    states = overview.partitions()
    foot = _foot(overview, _MOST_MEMBERS, _MOST_CAUSES)
    room = size.height - len(head) - 1  # the table's own head
    if len(states) + len(foot) > room:
        foot = _foot(overview, _FEW_MEMBERS, _FEW_CAUSES)
    foot = foot[: max(0, room - min(len(states), _LEAST_ROWS))]
    shown, rest = _most_lagging(states, room - len(foot))
    if rest:
        foot = [_left_out(rest), *foot]
    elif len(states) + len(foot) + 2 <= room:  # air between the parts, where there is room
        head, foot = [*head, Text()], [Text(), *foot]
    table = _table(overview, shown, wide=size.width >= WIDE_COLUMNS) if shown else None
    parts = View([_cut(line) for line in head], table, [_cut(line) for line in foot]).parts()
    return Group(*parts)


def plain_line(overview: Overview) -> str:
    """An overview in one line, for a pipe."""
    words = [overview.at.strftime("%H:%M:%S"), _summary(overview).plain]
    words += [f"{name}: {error}" for name, error in overview.errors.items()]
    view, database = overview.log_view, overview.database_view
    if view is not None:
        words.append(f"members: {len(view.group.members)}")
    if database is not None:
        dead = sum(n for status, _, n in database.state.dead_letters if status == "dead")
        words.append(f"dead letters: {dead:,}")
        words.append(f"waiting: {database.waiting_letters:,}")
        words.append(f"pending: {database.state.pending_confirmations:,}")
    if overview.spool_view is not None:
        words.append(f"spool: {overview.spool_view.fragments:,}")
    return " | ".join(words)


def _title(overview: Overview) -> Text:
    log = overview.log
    if overview.database_view is None:
        known = ""
    else:
        known = " (not written to this database yet)" if log is None else f" (log {log.log_id})"
    return Text(f"Topic {overview.places.topic}{known}, group {overview.places.group}", "bold")


def _clock(overview: Overview, width: int, every_seconds: float) -> Text:
    title = _title(overview)
    told = f"{overview.at:%H:%M:%S} UTC, every {every_seconds:g} s"
    gap = width - title.cell_len - len(told)
    return title.append(" " * gap + told, "not bold dim") if gap >= 2 else title


def _summary(overview: Overview) -> Text:
    """The one line that is read first."""
    if overview.wrong_log is not None:
        return Text(f"{overview.wrong_log}; see: oddslog doctor", _BAD)
    lag = overview.lag_records()
    if lag is None:
        behind = overview.group_lag_records()
        if behind is None:
            return Text("The lag is not known", _WEAK)
        return Text(f"Lag by the group's offsets: {behind:,} records", _WEAK)
    if lag == 0:
        return Text("The tables are level with the log", _GOOD)
    view, pace = overview.log_view, overview.pace
    text = Text(f"Lag: {lag:,} records", _WEAK)
    age = overview.lag_seconds()
    if age is not None:
        text.append(f", the oldest {duration_words(age)} old")
    if view is not None and not view.group.members and view.group.error is None:
        return text.append("; no sink is at work", _BAD)
    if pace.written_total is not None:
        left = overview.catch_up_seconds()
        text.append(", falls behind" if left is None else f", level in {duration_words(left)}")
        text.append(f"; {number_words(pace.written_total)}/s written")
        if pace.appended_total is not None:
            text.append(f", {number_words(pace.appended_total)}/s arriving")
    return text


def _troubles(overview: Overview) -> list[Text]:
    """What does not answer, and since when; and what has not answered for a while."""
    lines = []
    for name, error in overview.errors.items():
        heard = overview.heard.get(name)
        last = "" if heard is None else f" (answered {_ago(overview, heard)} ago)"
        lines.append(Text(f"{name}{last}: {error}", _BAD))
    sides = {"Kafka": overview.kafka, "PostgreSQL": overview.database}
    for name, side in sides.items():
        if side is None:
            lines.append(Text(f"{name} has not answered yet", _WEAK))
        elif name not in overview.errors:
            seconds = (overview.at - overview.heard.get(name, overview.at)).total_seconds()
            if seconds >= _STALE_SECONDS:
                ago = duration_words(seconds)
                lines.append(Text(f"{name} has not answered for {ago}: as of then", _WEAK))
    return lines


def _table(overview: Overview, states: Sequence[PartitionState], *, wide: bool) -> Table:
    known: Sequence[_Column] = _COLUMNS
    if overview.database_view is None:
        known = _COLUMNS_OF_LOG
    elif overview.log_view is None:
        known = _COLUMNS_OF_TABLES
    columns = [column for column in known if wide or not column.only_wide]
    table = Table(box=None, pad_edge=False, padding=(0, 2 if wide else 1, 0, 0))
    for column in columns:
        table.add_column(column.title, justify="right", no_wrap=True)
    for state in states:
        style = _WEAK if state.lag_records else ""
        cells = (column.cell(overview, state) for column in columns)
        table.add_row(*(Text(cell) for cell in cells), style=style)
    return table


def _foot(overview: Overview, most_members: int, most_causes: int) -> list[Text]:
    lines = _members(overview, most_members)
    lines += _letters(overview, most_causes)
    spool = overview.spool_view
    if spool is not None:
        lines.append(_spool(overview))
    elif overview.places.spool_dir is not None and "spool" not in overview.errors:
        lines.append(_fact("spool", f"never used, in {overview.places.spool_dir}"))
    return lines


def _members(overview: Overview, most: int) -> list[Text]:
    view = overview.log_view
    if view is None:
        return []
    group = view.group
    if group.error is not None:
        return [_fact("members", f"not told: {group.error}", _WEAK)]
    if not group.members:
        return [_fact("members", f"none, the group is {group.words}", _WEAK)]
    style = "" if group.state == "Stable" else _WEAK
    lines = [_fact("members", f"{len(group.members)}, the group is {group.words}", style)]
    shown = group.members if len(group.members) <= most else group.members[: most - 1]
    for member in shown:
        has = numbers_words(member.partitions)
        lines.append(_fact("", f"{member.client_id} on {member.host}: partitions {has}"))
    if len(shown) < len(group.members):
        lines.append(_fact("", f"and {len(group.members) - len(shown)} more", _DIM))
    return lines


def _letters(overview: Overview, most: int) -> list[Text]:
    database = overview.database_view
    if database is None:
        return []
    counts = ", ".join(
        f"{count:,} {status} ({reason})"
        for status, reason, count in database.state.dead_letters
        if status != "waiting"  # they have a line of their own
    )
    # Those that were written or discarded since are history.
    style = _WEAK if any(status == "dead" for status, *_ in database.state.dead_letters) else ""
    lines = [_fact("dead letters", counts or "none", style)]
    told = [cause for cause in database.causes if cause.status == "dead"]
    for cause in told[:most]:
        of = (cause.reason, cause.sqlstate, cause.constraint, cause.field)
        why = ", ".join(filter(None, of))
        last = duration_words((overview.at - cause.last_seen_at).total_seconds())
        lines.append(_fact("", f"{cause.letters:,} {why}, last {last} ago"))
    if len(told) > most:
        lines.append(_fact("", f"and {len(told) - most} more causes: oddslog dlq list", _DIM))
    if overview.places.dead_letter_topic is not None and database.unpublished_letters:
        unsent = f"{database.unpublished_letters:,} letters for {overview.places.dead_letter_topic}"
        if database.oldest_unpublished_at is not None:
            unsent += f", first {_ago(overview, database.oldest_unpublished_at)} ago"
        lines.append(_fact("to publish", unsent, _WEAK))
    waiting = f"{database.waiting_letters:,} snapshots for event, bookmaker or run"
    if database.oldest_waiting_at is not None:
        waiting += f", first {_ago(overview, database.oldest_waiting_at)} ago"
    pending = f"{database.state.pending_confirmations:,} confirmations"
    if database.oldest_pending_at is not None:
        pending += f", first {_ago(overview, database.oldest_pending_at)} ago"
    lines.append(_fact("waiting", waiting if database.waiting_letters else "none"))
    lines.append(_fact("pending", pending if database.state.pending_confirmations else "none"))
    lines.append(_fact("database", bytes_words(database.state.size_bytes)))
    return lines


def _spool(overview: Overview) -> Text:
    spool = overview.spool_view
    if spool is None:
        raise AssertionError("only called where there is one")
    words = []
    if spool.rejected:
        words.append(f"{spool.rejected:,} rejected: oddslog spool status")
    if spool.damaged_files:
        words.append(f"{len(spool.damaged_files)} damaged file(s) put aside")
    most = bytes_words(overview.places.spool_bytes)
    held = f"{spool.fragments:,} fragments, {bytes_words(spool.bytes)} of {most}"
    if spool.oldest_at is not None:
        held += f", first {_ago(overview, spool.oldest_at)} ago"
    words.append(held)
    bad = spool.rejected or spool.damaged_files
    return _fact("spool", "; ".join(words), _BAD if bad else _WEAK if spool.fragments else "")


def _most_lagging(
    states: Sequence[PartitionState], room: int
) -> tuple[list[PartitionState], list[PartitionState]]:
    """Those that have room, in their order, and the rest; a line is kept to count it."""
    if len(states) <= room:
        return list(states), []
    by_lag = sorted(states, key=lambda state: (-(state.lag_records or 0), state.partition))
    kept = {state.partition for state in by_lag[: max(0, room - 1)]}
    shown = [state for state in states if state.partition in kept]
    return shown, [state for state in states if state.partition not in kept]


def _left_out(rest: Sequence[PartitionState]) -> Text:
    lag = sum(state.lag_records or 0 for state in rest)
    return Text(f"and {len(rest)} partitions more, {lag:,} records behind", _DIM)


def _age(overview: Overview, state: PartitionState) -> str:
    return "-" if not state.lag_records else duration_words(state.lag_seconds(overview.at))


def _level_in(overview: Overview, state: PartitionState) -> str:
    lag = state.lag_records
    if not lag:
        return "-"
    # A sink goes from partition to partition: one whose turn has not come says nothing.
    return duration_words(overview.pace.catch_up_seconds(lag, state.partition))


def _written(overview: Overview, state: PartitionState) -> str:
    return "-" if state.updated_at is None else f"{_ago(overview, state.updated_at)} ago"


def _ago(overview: Overview, moment: datetime) -> str:
    seconds = (overview.at - moment).total_seconds()
    return duration_words(max(0.0, seconds))


def _fact(name: str, value: str, style: str = "") -> Text:
    return Text(f"  {name:<12}  ").append(value, style)


def _wrapped(line: Text, width: int) -> list[Text]:
    """On as many lines as it takes, up to `_MOST_ERROR_LINES`; the last one may be cut."""
    lines = textwrap.wrap(line.plain, width)
    if len(lines) > _MOST_ERROR_LINES:
        lines[_MOST_ERROR_LINES - 1 :] = [" ".join(lines[_MOST_ERROR_LINES - 1 :])]
    return [Text(part, line.style) for part in lines]


def _whole(line: Text, width: int) -> list[Text]:
    """As it is where it fits, else on several lines."""
    return [line] if line.cell_len <= width else _wrapped(line, width)


def _cut(line: Text) -> Text:
    cut = line.copy()
    cut.no_wrap, cut.overflow = True, "ellipsis"
    return cut


_NUMBER = _Column("partition", lambda _, state: str(state.partition))
_START = _Column("log start", lambda _, state: number_words(state.log_start), only_wide=True)
_END = _Column("log end", lambda _, state: number_words(state.log_end))
_NEXT = _Column("ledger next", lambda _, state: number_words(state.ledger_next))
_GROUP = _Column("group", lambda _, state: number_words(state.group_offset))
_WRITTEN = _Column("written", _written)
_MEMBER = _Column(
    "member", lambda _, state: "-" if state.member is None else state.member.host, only_wide=True
)
_COLUMNS = (
    _NUMBER,
    _START,
    _END,
    _NEXT,
    replace(_GROUP, only_wide=True),
    _Column("lag", lambda _, state: number_words(state.lag_records)),
    _Column("age", _age),
    _Column("rate/s", lambda all_, state: number_words(all_.pace.written.get(state.partition))),
    _Column("level in", _level_in),
    replace(_WRITTEN, only_wide=True),
    _MEMBER,
)
_GROUP_LAG = _Column("lag of group", lambda _, state: number_words(state.group_lag_records))
# Where a side is away: what the other one knows.
_COLUMNS_OF_LOG = (_NUMBER, _START, _END, _GROUP, _GROUP_LAG, _MEMBER)
_COLUMNS_OF_TABLES = (_NUMBER, _NEXT, _WRITTEN)
