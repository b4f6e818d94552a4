"""What becomes of a dead letter when a record that was sent again for it is read.

The letter is marked where the record was written, and keeps the new failure where it
was not: there is no second letter for it, so that a letter cannot breed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from ..schemas.redrive import Redrive, read_redrive
from .dead_letters import DISCARDED, REDRIVEN, WRITTEN, DeadLetter
from .items import WHOLE_RECORD, LogRecord

__all__ = ["Attempt", "HeldLetter", "Step", "next_step", "split_redriven", "status_after"]

_SETTLED = frozenset({WRITTEN, REDRIVEN})


class Step(Enum):
    """What is done to the letter."""

    NOTHING = "nothing"  # there is no letter, and all was written
    MARK = "mark"  # written: `redriven`
    REFUSE = "refuse"  # failed again: the letter stays, with the new reason
    COUNT = "count"  # an attempt that a later one has overtaken
    OWN = "own"  # failed, and no letter of its own to go into: it becomes one


@dataclass(slots=True)
class HeldLetter:
    """A letter as the database has it; `redrives` is the highest count seen."""

    id: int
    log_id: int
    status: str
    redrives: int


@dataclass(slots=True)
class Attempt:
    """One record that was sent again.

    `failure` goes into the letter that it names. `letters` are what else of it could
    not be written: of a whole record's parts, which have letters of their own.
    """

    record: LogRecord
    redrive: Redrive
    failure: DeadLetter | None
    letters: list[DeadLetter]


def split_redriven(
    records: Sequence[LogRecord], letters: Sequence[DeadLetter]
) -> tuple[list[DeadLetter], list[Attempt]]:
    """The letters of ordinary records, and the records that were sent again with theirs."""
    named = {id(r): found for r in records if r.headers and (found := read_redrive(r.headers))}
    if not named:
        return list(letters), []
    ordinary = [letter for letter in letters if id(letter.record) not in named]
    attempts = []
    for record in records:
        redrive = named.get(id(record))
        if redrive is None:
            continue
        own = [letter for letter in letters if letter.record is record]
        attempt = _attempt(record, redrive, own)
        if attempt is None:  # not what a redrive sends: an ordinary record
            ordinary += own
        else:
            attempts.append(attempt)
    return ordinary, attempts


def _attempt(record: LogRecord, redrive: Redrive, letters: list[DeadLetter]) -> Attempt | None:
    if record.error is not None:
        return Attempt(record, redrive, letters[0], [])
    fragment = record.fragment
    if fragment is None:
        return None
    keyed = len(fragment.snapshots) + len(fragment.confirmations)
    if redrive.item == WHOLE_RECORD and (keyed or fragment.unchanged_ids):
        return Attempt(record, redrive, None, letters)
    if keyed == 1:
        return Attempt(record, redrive, letters[0] if letters else None, [])
    return None


def next_step(held: HeldLetter | None, attempt: Attempt) -> Step:
    """What to do to the letter that the attempt names; None where there is none."""
    failed = attempt.failure is not None
    if held is None:
        return Step.OWN if failed else Step.NOTHING
    if not failed:
        return Step.MARK
    if attempt.redrive.count < held.redrives:
        return Step.COUNT
    return Step.OWN if held.status in _SETTLED else Step.REFUSE


def status_after(held: HeldLetter, attempt: Attempt) -> str:
    """The letter's status after `MARK` or `REFUSE`."""
    if attempt.failure is None:
        return WRITTEN if held.status == WRITTEN else REDRIVEN
    return DISCARDED if held.status == DISCARDED else attempt.failure.status
