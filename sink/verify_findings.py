"""What a verification found: differences, named, and what explains the rest. Pure."""

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

from ..schemas.wire import Kind
from .items import Key

__all__ = ["Difference", "Explained", "Findings", "Found", "key_text"]


class Found(StrEnum):
    """The kinds of difference."""

    MISSING = "missing"
    DIFFERENT = "different"
    UNEXPECTED = "unexpected"
    OTHER_LOG = "other_log"
    ORPHANED = "orphaned"
    CONFIRMATION = "confirmation"


class Explained(StrEnum):
    """Why something that looks like a difference is none; each is counted apart."""

    DEAD_LETTERS = "dead_letters"  # items and records that a letter keeps
    PENDING = "pending"  # confirmations whose snapshot has not come
    DUPLICATES = "duplicates"  # the same snapshot again in the log
    PLAIN_IDS = "plain_ids"  # confirmations by plain id
    ACCEPTED_GAPS = "accepted_gaps"  # offsets that were gone before they were written
    NOT_IN_LOG = "not_in_log"  # rows whose record retention has taken since
    BEFORE_LOG = "before_log"  # rows from before the log
    WITHOUT_LOG = "without_log"  # rows written without Kafka
    OTHER_GENERATIONS = "other_generations"  # rows of registered logs that cannot be read here
    OUTSIDE_LEDGER = "outside_ledger"  # rows of records that the ledger does not ask for
    CONFIRMED_ELSEWHERE = "confirmed_elsewhere"  # later than the log says, by another writer


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference, with where it is in the log and in the tables as far as that is known."""

    found: Found
    what: str
    log_id: int | None = None
    partition: int | None = None
    offset: int | None = None
    item: int | None = None
    key: str | None = None
    table: str | None = None
    row_id: int | None = None
    field: str | None = None

    def line(self) -> str:
        """The difference for people."""
        place = []
        if self.partition is not None and self.offset is not None:
            place.append(f"partition {self.partition} offset {self.offset}")
        if self.key is not None:
            place.append(self.key)
        if self.row_id is not None:
            place.append(f"{self.table} id {self.row_id}")
        return f"{self.found.value}: {', '.join(place)}: {self.what}"


@dataclass(slots=True)
class Findings:
    """Counts of everything, and the first `keep` differences; `not_kept` counts the others."""

    keep: int = 10
    counts: Counter[Found] = field(default_factory=Counter)
    explained: Counter[Explained] = field(default_factory=Counter)
    letters: Counter[str] = field(default_factory=Counter)
    differences: list[Difference] = field(default_factory=list)
    not_kept: int = 0
    records: int = 0
    snapshots: int = 0
    markets: int = 0
    confirmations: int = 0

    @property
    def equal(self) -> bool:
        """Whether there is no difference."""
        return not self.counts.total()

    def add(self, difference: Difference, count: int = 1) -> None:
        """Count a difference, and keep it if it is among the first."""
        self.counts[difference.found] += count
        if len(self.differences) < self.keep:
            self.differences.append(difference)
        else:
            self.not_kept += 1

    def explain(self, why: Explained, count: int = 1) -> None:
        """Count what is no difference."""
        self.explained[why] += count

    def explain_letter(self, status: str) -> None:
        """Count what a dead letter of this status keeps."""
        self.explained[Explained.DEAD_LETTERS] += 1
        self.letters[status] += 1


def key_text(kind: Kind, key: Key) -> str:
    """A natural key for people."""
    bookmaker = f" bookmaker {key.bookmaker_id}" if kind is Kind.BETPAWA else ""
    return f"{kind.value}:{key.event_id}{bookmaker} captured at {key.captured_at.isoformat()}"
