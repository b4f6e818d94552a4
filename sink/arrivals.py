"""Which fragments of which scrape run a poll brings. Pure.

What is kept of them commutes and may be written any number of times: sets that are
united, counts and times of which the greatest or least stays.
"""

import re
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from ..schemas.records import WriteBatch
from ..schemas.wire import (
    HEADER_BATCH,
    HEADER_FRAGMENT,
    HEADER_MORE,
    HEADER_REDRIVE_OF,
    HEADER_RUN,
)
from .items import LogRecord

__all__ = ["NO_PARTITION", "Arrival", "arrival_of_batch", "arrivals_of", "multirange", "run_of"]

# The partition of what came from no log.
NO_PARTITION = -1

_NO_ARRIVAL = (HEADER_REDRIVE_OF, HEADER_MORE)
_INT4_MAX = 2**31 - 1
_INT8 = range(-(2**63), 2**63)
_RUN = re.compile(rb"-?[0-9]{1,19}")
_FRAGMENT = re.compile(rb"([0-9]{1,10})/([0-9]{1,10})")


@dataclass(slots=True)
class Arrival:
    """The fragments of one batch of a run that came in one transaction.

    `partition` is the lowest of those that they came from: who writes it holds its row
    of the ledger, so no other member writes a row of this name. `batch_index` is None
    where none of the records could be decoded.
    """

    run_id: int
    batch_id: uuid.UUID
    partition: int
    fragment_count: int
    batch_index: int | None = None
    batch_count: int | None = None
    fragments: set[int] = field(default_factory=set)
    first_at: datetime | None = None
    last_at: datetime | None = None


def run_of(record: LogRecord) -> int | None:
    """The scrape run that a record belongs to, also where its value is unreadable."""
    if record.fragment is not None:
        return record.fragment.scrape_run_id
    said = _header(record, HEADER_RUN)
    if said is None or not _RUN.fullmatch(said) or int(said) not in _INT8:
        return None
    return int(said)


def arrivals_of(records: Iterable[LogRecord]) -> list[Arrival]:
    """The arrivals of a poll, in the order in which their rows are to be locked.

    A redriven record is no fragment that is still missing: it is left out. So is a part
    of a fragment that was split again, but for the last one, which comes after the others.
    """
    found: dict[tuple[int, uuid.UUID], Arrival] = {}
    for record in records:
        run_id = run_of(record)
        if run_id is None or any(_header(record, name) is not None for name in _NO_ARRIVAL):
            continue
        one = _one(record, run_id)
        if one is not None:
            key = (run_id, one.batch_id)
            known = found.setdefault(key, one)
            if known is not one:
                _add(known, one)
    return [found[key] for key in sorted(found)]


def arrival_of_batch(batch: WriteBatch) -> Arrival | None:
    """The arrival of a whole batch that came from no log; None where it has no run."""
    if batch.scrape_run_id is None:
        return None
    return Arrival(
        batch.scrape_run_id,
        # The same for the same batch, so that a second attempt counts as the first.
        uuid.UUID(int=batch.batch_index % 2**128),
        NO_PARTITION,
        1,
        batch.batch_index,
        _count(batch.batch_count),
        {0},
    )


def multirange(numbers: Iterable[int]) -> str:
    """A set of numbers as PostgreSQL's multirange text."""
    return "{" + ",".join(f"[{n},{n + 1})" for n in sorted(numbers)) + "}"


def _one(record: LogRecord, run_id: int) -> Arrival | None:
    """The record as an arrival of its own; None where it does not say which fragment it is."""
    partition = NO_PARTITION if record.partition is None else record.partition
    at = record.appended_at
    writes = record.fragment
    if writes is not None:
        if writes.fragment_count > _INT4_MAX:  # Avro holds it, the column does not
            return None
        return Arrival(
            run_id,
            writes.batch_id,
            partition,
            writes.fragment_count,
            writes.batch_index,
            _count(writes.batch_count),
            {writes.fragment_index},
            at,
            at,
        )
    batch_id, fragment = (
        _batch_id(record),
        _FRAGMENT.fullmatch(_header(record, HEADER_FRAGMENT) or b""),
    )
    if batch_id is None or fragment is None:
        return None
    number, count = int(fragment[1]), int(fragment[2])
    if not 1 <= number <= count <= _INT4_MAX:
        return None
    return Arrival(run_id, batch_id, partition, count, None, None, {number - 1}, at, at)


def _add(known: Arrival, other: Arrival) -> None:
    known.partition = min(known.partition, other.partition)
    known.fragment_count = max(known.fragment_count, other.fragment_count)
    known.batch_index = _greatest(known.batch_index, other.batch_index)
    known.batch_count = _greatest(known.batch_count, other.batch_count)
    known.fragments |= other.fragments
    times = [t for t in (known.first_at, known.last_at, other.first_at, other.last_at) if t]
    known.first_at, known.last_at = (min(times), max(times)) if times else (None, None)


def _greatest(one: int | None, other: int | None) -> int | None:
    numbers = [number for number in (one, other) if number is not None]
    return max(numbers, default=None)


def _count(said: int | None) -> int | None:
    """A `batch_count` that says nothing counts as not known."""
    return said if said is not None and said >= 1 else None


def _batch_id(record: LogRecord) -> uuid.UUID | None:
    said = _header(record, HEADER_BATCH)
    try:
        return None if said is None else uuid.UUID(said.decode("ascii"))
    except ValueError:
        return None


def _header(record: LogRecord, name: str) -> bytes | None:
    return _last([value for known, value in record.headers if known == name])


def _last(values: Sequence[bytes | None]) -> bytes | None:
    """Of a header that is there twice the last; without a value it is empty."""
    return (values[-1] or b"") if values else None
