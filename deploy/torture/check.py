"""The conservation check: what was acknowledged is in the tables, and nothing else.

Worked out from the journal and the seed. A batch that was enqueued and never
acknowledged may be there, whole or in part, and then as it was fed. A snapshot whose
parent came late was written by a poll or by the sweep, and its letter says so; one
whose parent never came is waiting.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ...schemas.codec import decode
from ...schemas.errors import DecodeError
from ...schemas.records import WriteBatch
from ..compare import Comparison, SnapshotId, compare, snapshots_by_id
from ..kafka import LogState
from ..signals import interruptible
from .check_runs import FedRuns, RunsChecked, check_runs
from .journal import Journal, read_journals
from .lateness import Family
from .load import batches, garbage_key

__all__ = ["Conservation", "check_conserved"]

_LETTERS = text(
    "SELECT id, status, reason, kind, event_id, record_key, value, log_partition, log_offset, item"
    " FROM oddslog_dead_letters ORDER BY id"
)
_LEDGER = text(
    "SELECT partition, next_offset, snapshots_total, markets_total, dead_letters_total"
    " FROM oddslog_ledger"
)
# The sweep wrote those rows, and counts them in no total: the letter has the row's source.
_IS_SWEPT = (
    "EXISTS (SELECT FROM oddslog_dead_letters AS d WHERE d.status = 'written'"
    " AND (d.log_id, d.log_partition, d.log_offset) = (s.log_id, s.log_partition, s.log_offset))"
)
_SNAPSHOTS = "(SELECT count(*) FROM {table} AS s WHERE {condition})"
_MARKETS = (
    "(SELECT count(*) FROM {markets} AS m WHERE NOT EXISTS"
    " (SELECT FROM {table} AS s WHERE s.id = m.snapshot_id AND {condition}))"
)
_TABLES = {
    "betpawa": ("odds_snapshots", "market_odds", "event_id", "bookmaker_id"),
    "competitor": (
        "competitor_odds_snapshots",
        "competitor_market_odds",
        "competitor_event_id",
        "0",
    ),
}


def _sum(template: str, condition: str) -> str:
    return " + ".join(
        template.format(table=table, markets=markets, condition=condition)
        for table, markets, _, _ in _TABLES.values()
    )


_SWEPT = text(f"SELECT {_sum(_SNAPSHOTS, _IS_SWEPT)}")
_COUNTS = {
    "snapshots_total": _sum(_SNAPSHOTS, f"NOT {_IS_SWEPT}"),
    "markets_total": _sum(_MARKETS, _IS_SWEPT),
    "dead_letters_total": "(SELECT count(*) FROM oddslog_dead_letters)",
}
# Which of these snapshots have no row.
_ROWLESS = """
    SELECT u.event_id, u.bookmaker_id, u.captured_at
    FROM unnest(CAST(:event_ids AS int[]), CAST(:bookmaker_ids AS int[]),
                CAST(:captured_ats AS timestamptz[])) AS u(event_id, bookmaker_id, captured_at)
    WHERE NOT EXISTS (SELECT FROM {table} AS s WHERE s.{event} = u.event_id
                      AND {bookmaker} = u.bookmaker_id AND s.captured_at = u.captured_at)
"""


@dataclass(slots=True)
class Conservation:
    """What the check came to.

    `missing`, `duplicates`, `different` and `unexpected` count snapshots and
    confirmations as `Comparison` does, and letters; `unequal_counts` are the
    figures in which ledger, log and tables do not agree. `swept` are the rows that
    the sweep wrote, `waiting` the letters whose parent never came; `runs` is what came
    of the scrape runs.
    """

    compared: Comparison
    acknowledged: int = 0
    unknown: int = 0
    dead_letters: int = 0
    swept: int = 0
    waiting: int = 0
    missing: int = 0
    duplicates: int = 0
    unexpected: int = 0
    unequal_counts: list[str] = field(default_factory=list)
    letter_difference: str | None = None
    runs: RunsChecked = field(default_factory=RunsChecked)

    @property
    def first_difference(self) -> str | None:
        """The first one, in words; None where everything is as it must be."""
        others = (*self.unequal_counts, *self.runs.differences)
        return (
            self.compared.first_difference
            or self.letter_difference
            or (others[0] if others else None)
        )

    def as_json(self) -> dict[str, int]:
        """Its figures."""
        return {
            "batches_acknowledged": self.acknowledged,
            "batches_unknown": self.unknown,
            "snapshots": self.compared.snapshots,
            "markets": self.compared.markets,
            "confirmations": self.compared.confirmations,
            "dead_letters": self.dead_letters,
            "swept": self.swept,
            "waiting": self.waiting,
            "runs": self.runs.runs,
            "runs_complete": self.runs.complete,
            "runs_different": len(self.runs.differences),
            "missing": self.compared.missing + self.missing,
            "duplicates": self.compared.duplicates + self.duplicates,
            "different": self.compared.different,
            "unexpected": self.compared.unexpected + self.unexpected,
        }


async def check_conserved(
    engine: AsyncEngine, folder: Path, seed: int, log: LogState
) -> Conservation:
    """Check a database that has caught up with its log, and that nobody writes to.

    Args:
        engine: of the database; it is only read.
        folder: of the journals.
        seed: of what was fed.
        log: the log's ends.
    """
    journal = read_journals(folder)
    fed = _Fed(seed, journal)
    compared = await compare(engine, interruptible(fed.acknowledged()), maybe=fed.unknown)
    result = Conservation(compared, len(journal.acknowledged), len(journal.unknown))
    async with engine.connect() as connection:
        await _check_letters(connection, fed, result)
        await _check_counts(connection, log, result)
        result.runs = await check_runs(connection, fed.runs)
    return result


class _Fed:
    """What was fed, made once more; after `acknowledged` was walked through."""

    def __init__(self, seed: int, journal: Journal) -> None:
        self._seed = seed
        self._journal = journal
        self.unknown: list[WriteBatch] = []
        self.poisoned: set[SnapshotId] = set()
        self.maybe_poisoned: set[SnapshotId] = set()
        self.orphaned: set[SnapshotId] = set()
        self.maybe_orphaned: set[SnapshotId] = set()
        self.late: set[SnapshotId] = set()
        self.runs = FedRuns()
        self.garbage = {garbage_key(name) for name in journal.garbage}
        self.maybe_garbage = {garbage_key(name) for name in journal.unknown_garbage}

    def acknowledged(self) -> Iterator[WriteBatch]:
        """The acknowledged batches, without what never gets into the tables."""
        sure = self._journal.acknowledged
        last: dict[int, int] = {}
        for name in (*sure, *self._journal.unknown):
            last[name.life] = max(name.number, last.get(name.life, 0))
        for life in sorted(last):
            family = Family(self._seed, life)
            for fed in islice(batches(self._seed, life), last[life] + 1):
                if fed.id not in sure and fed.id not in self._journal.unknown:
                    continue
                self.runs.add(fed.batch, acknowledged=fed.id in sure)
                poisoned = {key for key, _ in snapshots_by_id(fed.poisoned)}
                orphaned = {key for key, _ in snapshots_by_id(fed.orphaned)}
                self.late |= {key for key, one in snapshots_by_id(fed.good) if family.waits(one)}
                if fed.id in sure:
                    self.poisoned |= poisoned
                    self.orphaned |= orphaned
                    yield fed.good
                else:
                    self.maybe_poisoned |= poisoned
                    self.maybe_orphaned |= orphaned
                    self.unknown.append(fed.good)

    def letters(self) -> dict[tuple[str, str], set[SnapshotId | bytes]]:
        """By status and reason: what letters may be of."""
        return {
            ("dead", "poison"): {*self.poisoned, *self.maybe_poisoned},
            ("dead", "undecodable"): {*self.garbage, *self.maybe_garbage},
            ("waiting", "missing_parent"): {*self.orphaned, *self.maybe_orphaned},
            ("written", "missing_parent"): {*self.late},
        }


async def _check_letters(connection: AsyncConnection, fed: _Fed, result: Conservation) -> None:
    sources: Counter[tuple[int, int, int]] = Counter()
    found: set[SnapshotId | bytes] = set()
    written: set[SnapshotId] = set()
    allowed = fed.letters()
    for letter in await connection.execute(_LETTERS):
        result.dead_letters += 1
        result.waiting += letter.status == "waiting"
        sources[letter.log_partition, letter.log_offset, letter.item] += 1
        names = _names(letter)
        if not names or not names <= allowed.get((letter.status, letter.reason), set()):
            result.unexpected += 1
            told = (
                f"{letter.status}, {letter.reason}: {', '.join(map(_told, names)) or 'unreadable'}"
            )
            _note(result, f"unexpected dead letter {letter.id}: {told}")
        elif letter.status == "written":
            written |= {name for name in names if not isinstance(name, bytes)}
        else:
            found |= names
    for source, letters in sources.items():
        if letters > 1:
            result.duplicates += letters - 1
            _note(result, f"{letters} dead letters of one source {source}")
    for name in (fed.poisoned | fed.garbage | fed.orphaned) - found:
        result.missing += 1
        _note(result, f"missing dead letter: {_told(name)}")
    await _check_written(connection, written, result)


async def _check_written(
    connection: AsyncConnection, written: set[SnapshotId], result: Conservation
) -> None:
    """What a letter calls written has its row, also where nobody knows whether it was fed."""
    for kind, (table, _, event, bookmaker) in _TABLES.items():
        keys = sorted(key for key in written if key[0] == kind)
        rowless = await connection.execute(
            text(_ROWLESS.format(table=table, event=event, bookmaker=bookmaker)),
            {
                "event_ids": [key[1] for key in keys],
                "bookmaker_ids": [key[2] for key in keys],
                "captured_ats": [key[3] for key in keys],
            },
        )
        for row in rowless:
            result.missing += 1
            name = _told((kind, *row))
            _note(result, f"missing: {name}, whose dead letter says written")
    result.swept = (await connection.execute(_SWEPT)).scalar_one()


def _names(letter: Any) -> set[SnapshotId | bytes]:
    """Which snapshots or garbage a letter is of; nothing where nobody can tell."""
    if letter.reason == "undecodable":
        return {bytes(letter.record_key or b"")}
    try:
        held = decode(letter.value)
    except DecodeError:
        return set()
    return {
        (letter.kind, letter.event_id, one["bookmaker_id"] or 0, one["captured_at"])
        for one in held.snapshots
    }


def _told(name: SnapshotId | bytes) -> str:
    if isinstance(name, bytes):
        return f"garbage {name.decode(errors='replace')}"
    kind, event_id, bookmaker_id, captured_at = name
    bookmaker = f" bookmaker {bookmaker_id}" if bookmaker_id else ""
    return f"{kind}:{event_id}{bookmaker} captured at {captured_at.isoformat()}"


async def _check_counts(connection: AsyncConnection, log: LogState, result: Conservation) -> None:
    rows = {row.partition: row for row in await connection.execute(_LEDGER)}
    for partition, held in sorted(log.ranges.items()):
        row = rows.get(partition)
        next_offset = None if row is None else row.next_offset
        if next_offset != held.end and (held.end or row is not None):
            result.unequal_counts.append(
                f"partition {partition}: the ledger is at {next_offset}, the log ends at {held.end}"
            )
    for name, count in _COUNTS.items():
        counted = (await connection.execute(text(f"SELECT {count}"))).scalar_one()
        total = sum(getattr(row, name) for row in rows.values())
        if counted != total:
            result.unequal_counts.append(
                f"{name} of the ledger is {total}, the tables have {counted}"
                " (without what the sweep wrote)"
            )


def _note(result: Conservation, difference: str) -> None:
    result.letter_difference = result.letter_difference or difference
