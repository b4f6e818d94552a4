"""Which part of a log the tables must hold, may hold, and cannot hold. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from .errors import WrongLogError
from .positions import Gap, LastApplied, LogRange

__all__ = ["LogSpan", "Logs", "ReadableLog", "Source", "Where", "check_span"]


class Source(NamedTuple):
    """The record that a row says it was written from."""

    log_id: int | None
    partition: int | None
    offset: int | None


class Where(Enum):
    """Where the record is that a row names."""

    NOWHERE = "nowhere"  # written without Kafka
    BROKEN = "broken"  # only a part of the three is there
    UNKNOWN_LOG = "unknown log"  # never registered
    UNREADABLE = "unreadable"  # an older generation, another cluster, a topic that is gone
    NOT_IN_LOG = "not in the log"  # retention has taken it
    MUST = "must"  # below the ledger: everything must be in the tables
    MAY = "may"  # outside what the ledger says: a replay may have written it
    BEYOND = "beyond"  # the log has no such record


@dataclass(frozen=True, slots=True)
class LogSpan:
    """A partition: what the log holds of it, and what the ledger says.

    Without a ledger row (`next_offset` is `start_offset`) nothing must be there.
    """

    held: LogRange
    start_offset: int
    next_offset: int
    ids_valid_from: int = 0
    last: LastApplied | None = None
    gaps: Sequence[Gap] = ()

    @property
    def must(self) -> LogRange:
        """What must be in the tables."""
        start = max(self.start_offset, self.held.start)
        return LogRange(start, max(start, self.next_offset))

    @property
    def may(self) -> tuple[LogRange, LogRange]:
        """What may be there beside it: before the ledger's start, and after its end."""
        before = LogRange(self.held.start, max(self.held.start, self.start_offset))
        after = max(self.next_offset, self.held.start)
        return before, LogRange(after, max(after, self.held.end))

    @property
    def whole(self) -> bool:
        """Whether the log still holds everything that was written from it."""
        return self.held.start <= self.start_offset and not self.gaps


@dataclass(frozen=True)
class ReadableLog:
    """A registered log that Kafka still has; `generations` are all log ids of its topic."""

    log_id: int
    topic: str
    spans: Mapping[int, LogSpan]
    generations: tuple[int, ...] = ()


@dataclass(frozen=True)
class Logs:
    """All logs that this database knows; `unread` have filled it and cannot be read."""

    readable: Mapping[int, ReadableLog]
    registered: frozenset[int]
    unread: frozenset[int] = field(default_factory=frozenset)

    @property
    def whole(self) -> bool:
        """Whether all that was ever written from a log can still be read."""
        return not self.unread and all(
            span.whole for log in self.readable.values() for span in log.spans.values()
        )

    @property
    def never_refilled(self) -> bool:
        """Whether each row had its id before anyone could name it by that id."""
        return len(self.registered) == 1 and all(
            span.ids_valid_from == 0
            for log in self.readable.values()
            for span in log.spans.values()
        )

    def where(self, source: Source) -> Where:
        """Where the record is that a row names."""
        log_id, partition, offset = source
        if log_id is None and partition is None and offset is None:
            return Where.NOWHERE
        if log_id is None or partition is None or offset is None:
            return Where.BROKEN
        if log_id not in self.registered:
            return Where.UNKNOWN_LOG
        log = self.readable.get(log_id)
        if log is None:
            return Where.UNREADABLE
        span = log.spans.get(partition)
        if span is None or not 0 <= offset < span.held.end:
            return Where.BEYOND
        if offset < span.held.start:
            return Where.NOT_IN_LOG
        must = span.must
        return Where.MUST if must.start <= offset < must.end else Where.MAY


def check_span(topic: str, partition: int, span: LogSpan) -> None:
    """Refuse a log that cannot be the one that filled this database.

    Raises:
        WrongLogError: it ends before the ledger.
    """
    if span.next_offset > span.held.end:
        raise WrongLogError(
            f"topic {topic}, partition {partition}: the ledger is at offset {span.next_offset}, the"
            f" log ends at {span.held.end}: this is not the log that filled this database"
        )
