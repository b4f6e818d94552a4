"""Positions: where a partition is read on, and when to stop instead. Pure.

The table of DESIGN 6.2: the ledger says where the tables end; the log says what
it still holds; the group's offset is only a hint that the database went back.
"""

from dataclasses import dataclass
from datetime import datetime

from .errors import GapError, WrongLogError

__all__ = ["Gap", "LastApplied", "LedgerRow", "LogRange", "Placement", "first_offset", "place"]


@dataclass(frozen=True, slots=True)
class LastApplied:
    """The last record that was written from a partition."""

    offset: int
    crc32: int


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """A partition's row of the ledger."""

    partition: int
    next_offset: int
    ids_valid_from: int
    last: LastApplied | None
    start_offset: int = 0
    updated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class LogRange:
    """What a partition of the log holds: `start` inclusive, `end` exclusive."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Gap:
    """Offsets that are gone: from inclusive, to exclusive."""

    from_offset: int
    to_offset: int


@dataclass(frozen=True, slots=True)
class Placement:
    """Where to read on.

    `seek_to` is the last applied record where there is one to `check`, else
    `next_offset`. `unchecked`: retention took the record to check. `went_back`:
    the database is behind what it once had (a restored backup).
    """

    seek_to: int
    next_offset: int
    check: LastApplied | None
    gap: Gap | None = None
    unchecked: bool = False
    went_back: bool = False


def first_offset(
    partition: int, log: LogRange, *, accept_gap: bool, start: int | None
) -> tuple[int, Gap | None]:
    """Where a partition without a ledger row begins.

    Args:
        partition: for the error.
        log: what the partition holds.
        accept_gap: go on over a gap, and note it.
        start: an explicit start (`--start-from`), which is no gap.

    Raises:
        GapError: the log does not begin at offset 0.
    """
    if start is not None:
        return start, None
    if log.start == 0:
        return 0, None
    gap = Gap(0, log.start)
    if not accept_gap:
        raise GapError(_gap_text(partition, gap))
    return log.start, gap


def place(row: LedgerRow, log: LogRange, *, committed: int | None, accept_gap: bool) -> Placement:
    """Where a partition with a ledger row is read on.

    Args:
        row: the ledger's.
        log: what the partition holds now.
        committed: how far this database is known to have been: the group's offset,
            or None.
        accept_gap: go on over a gap, and note it.

    Raises:
        GapError: the next record is gone.
        WrongLogError: the log ends before the ledger.
    """
    if row.next_offset > log.end:
        raise WrongLogError(
            f"partition {row.partition}: the ledger is at offset {row.next_offset}, the log ends at"
            f" {log.end}: this is not the log that filled this database. If the log was moved on"
            " purpose, see: oddslog ledger adopt --help"
        )
    # True until the group's offset is the ledger's again, so perhaps more than once
    # for one restore: what is then noted must stand being noted twice.
    # Where the group knows nothing (another one, or its offsets expired), this may be a
    # restored database too; to take an intact one for it costs nothing: the ids that
    # older records name are then all below the floors.
    if committed is None:
        went_back = row.next_offset > row.start_offset
    else:
        went_back = row.next_offset < committed
    if row.next_offset < log.start:
        gap = Gap(row.next_offset, log.start)
        if not accept_gap:
            raise GapError(_gap_text(row.partition, gap))
        return Placement(log.start, log.start, None, gap=gap, went_back=went_back)
    if row.last is None:
        return Placement(row.next_offset, row.next_offset, None, went_back=went_back)
    if row.last.offset < log.start:
        return Placement(
            row.next_offset, row.next_offset, None, unchecked=True, went_back=went_back
        )
    return Placement(row.last.offset, row.next_offset, row.last, went_back=went_back)


def _gap_text(partition: int, gap: Gap) -> str:
    return (
        f"partition {partition}: offsets {gap.from_offset} to {gap.to_offset - 1} are gone from the"
        " log and are not in this database. Restore what you can, then: oddslog sink --accept-gap"
    )
