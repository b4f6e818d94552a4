"""The conservation check: what was acknowledged is in the tables, and nothing else.

Worked out from the journal and the seed. A batch that was enqueued and never
acknowledged may be there, whole or in part, and then as it was fed.
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
from .journal import Journal, read_journals
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
_COUNTS = {
    "snapshots_total": "(SELECT count(*) FROM odds_snapshots)"
    " + (SELECT count(*) FROM competitor_odds_snapshots)",
    "markets_total": "(SELECT count(*) FROM market_odds)"
    " + (SELECT count(*) FROM competitor_market_odds)",
    "dead_letters_total": "(SELECT count(*) FROM oddslog_dead_letters)",
}


@dataclass(slots=True)
class Conservation:
    """What the check came to.

    `missing`, `duplicates`, `different` and `unexpected` count snapshots and
    confirmations as `Comparison` does, and dead letters; `unequal_counts` are
    the figures in which ledger, log and tables do not agree.
    """

    compared: Comparison
    acknowledged: int = 0
    unknown: int = 0
    dead_letters: int = 0
    missing: int = 0
    duplicates: int = 0
    unexpected: int = 0
    unequal_counts: list[str] = field(default_factory=list)
    letter_difference: str | None = None

    @property
    def first_difference(self) -> str | None:
        """The first one, in words; None where everything is as it must be."""
        counts = self.unequal_counts[0] if self.unequal_counts else None
        return self.compared.first_difference or self.letter_difference or counts

    def as_json(self) -> dict[str, int]:
        """Its figures."""
        return {
            "batches_acknowledged": self.acknowledged,
            "batches_unknown": self.unknown,
            "snapshots": self.compared.snapshots,
            "markets": self.compared.markets,
            "confirmations": self.compared.confirmations,
            "dead_letters": self.dead_letters,
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
    return result


class _Fed:
    """What was fed, made once more; after `acknowledged` was walked through."""

    def __init__(self, seed: int, journal: Journal) -> None:
        self._seed = seed
        self._journal = journal
        self.unknown: list[WriteBatch] = []
        self.poisoned: set[SnapshotId] = set()
        self.maybe_poisoned: set[SnapshotId] = set()
        self.garbage = {garbage_key(name) for name in journal.garbage}
        self.maybe_garbage = {garbage_key(name) for name in journal.unknown_garbage}

    def acknowledged(self) -> Iterator[WriteBatch]:
        """The acknowledged batches, without what is poisoned."""
        sure = self._journal.acknowledged
        last: dict[int, int] = {}
        for name in (*sure, *self._journal.unknown):
            last[name.life] = max(name.number, last.get(name.life, 0))
        for life in sorted(last):
            for fed in islice(batches(self._seed, life), last[life] + 1):
                poisoned = {key for key, _ in snapshots_by_id(fed.poisoned)}
                if fed.id in sure:
                    self.poisoned |= poisoned
                    yield fed.good
                elif fed.id in self._journal.unknown:
                    self.maybe_poisoned |= poisoned
                    self.unknown.append(fed.good)


async def _check_letters(connection: AsyncConnection, fed: _Fed, result: Conservation) -> None:
    sources: Counter[tuple[int, int, int]] = Counter()
    found: set[SnapshotId | bytes] = set()
    for letter in await connection.execute(_LETTERS):
        result.dead_letters += 1
        sources[letter.log_partition, letter.log_offset, letter.item] += 1
        names = _names(letter)
        if names and names <= (fed.poisoned | fed.maybe_poisoned | fed.garbage | fed.maybe_garbage):
            found |= names
        else:
            result.unexpected += 1
            _note(result, f"unexpected dead letter {letter.id}: {letter.reason} {names}")
    for source, letters in sources.items():
        if letters > 1:
            result.duplicates += letters - 1
            _note(result, f"{letters} dead letters of one source {source}")
    for name in (fed.poisoned | fed.garbage) - found:
        result.missing += 1
        _note(result, f"missing dead letter: {name!r}")


def _names(letter: Any) -> set[SnapshotId | bytes]:
    """Which poisoned snapshot or garbage a letter is of; nothing where it is neither."""
    if letter.status != "dead":
        return set()
    if letter.reason == "undecodable":
        return {bytes(letter.record_key or b"")}
    if letter.reason != "poison":
        return set()
    try:
        held = decode(letter.value)
    except DecodeError:
        return set()
    return {
        (letter.kind, letter.event_id, one["bookmaker_id"] or 0, one["captured_at"])
        for one in held.snapshots
    }


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
            )


def _note(result: Conservation, difference: str) -> None:
    result.letter_difference = result.letter_difference or difference
