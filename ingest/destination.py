"""Where batches go: the seam between the queue and whatever stores them.

`KafkaDestination` is the normal one, `MemoryDestination` is for a scraper's own
tests; the sink's `DatabaseDestination` fits in by its shape alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

from ..schemas.errors import RejectedError
from ..schemas.records import WriteBatch
from ..schemas.wire import Kind

__all__ = [
    "SPOOL_STATS",
    "Delivery",
    "Destination",
    "RejectedPart",
    "RejectedPartsError",
    "Spooling",
    "SpoolingDelivery",
]


class Delivery(Protocol):
    """One stamped batch on its way. Used by one task at a time."""

    async def attempt(self, deadline_seconds: float) -> None:
        """Store what is not stored yet; return when all of it is.

        Returns or raises within about `deadline_seconds`. May be cancelled at
        any await; what was stored until then stays stored, and the rest can be
        attempted again.

        Raises:
            RejectedError: parts of the batch never can be stored; all others are.
            Exception: not all of it is stored; try again later.
        """
        ...

    def describe(self) -> dict[str, object]:
        """What is not stored yet, as fields of a log line. Never blocks or raises."""
        ...


@runtime_checkable
class SpoolingDelivery(Protocol):
    """A delivery with a local spool behind it: the queue's last resort.

    Attributes:
        spooled: whether the spool has what the destination has not.
    """

    spooled: bool

    async def spool(self) -> None:
        """Store what is not stored yet in the spool; fsynced when it returns.

        Raises:
            RejectedError: parts of the batch never can be stored; all others are.
            DeliveryError: it has no room, or fails; nothing was put into it.
        """
        ...


class Destination(Protocol):
    """Something that stores batches. Used by one queue at a time."""

    async def start(self) -> None:
        """Get ready. An outage is no reason to raise; a wrong set-up is.

        Raises:
            ConfigurationError: no batch could ever be stored like this.
        """
        ...

    async def stop(self) -> None:
        """Let go of everything held, within seconds; harmless a second time."""
        ...

    async def prepare(self, batch: WriteBatch) -> Delivery:
        """Make a stamped batch ready to be stored.

        May take CPU, and yields to the event loop every few milliseconds. Does
        no I/O that can fail: a part that cannot be stored is remembered and
        reported by `attempt`, after the others are stored.
        """
        ...


# What `stats` says of a spool.
SPOOL_STATS = ("spool_fragments", "spool_bytes", "spool_max_bytes", "spool_rejected")


@runtime_checkable
class Spooling(Protocol):
    """A destination that may have a spool."""

    def stats(self) -> dict[str, int]:
        """The numbers of SPOOL_STATS. Never blocks."""
        ...


@dataclass(frozen=True, slots=True)
class RejectedPart:
    """A part of a batch that can never be stored, and why.

    `captured_at` is None where the part is more than one snapshot; `event_id`
    is None for confirmations by plain id.
    """

    kind: Kind
    event_id: int | None
    captured_at: datetime | None
    reason: str

    def __str__(self) -> str:
        event = "ids" if self.event_id is None else f"event {self.event_id}"
        moment = "" if self.captured_at is None else f" captured {self.captured_at.isoformat()}"
        return f"{self.kind.value} {event}{moment}: {self.reason}"


class RejectedPartsError(RejectedError):
    """Parts of a batch can never be stored; all other parts of it are."""

    def __init__(self, parts: Sequence[RejectedPart]) -> None:
        listed = "; ".join(str(part) for part in parts)
        super().__init__(f"{len(parts)} part(s) can never be stored: {listed}")
        self.parts = tuple(parts)

    def __reduce__(self) -> tuple[type, tuple[tuple[RejectedPart, ...]]]:
        return type(self), (self.parts,)
