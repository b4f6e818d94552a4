"""What the metrics say beside the totals: by label, as histograms, with the moment. Pure.

Written on the event loop's thread, read from any: each value is replaced whole.
"""

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import TypeVar

from ..schemas.metric import SECONDS_BOUNDS, Buckets

__all__ = ["PLACES", "Observed", "Trouble"]

L = TypeVar("L", bound=Hashable)

# Where the sink tries again for as long as it takes.
PLACES = ("transaction", "placing", "poll", "sweep", "letters")
# Causes come from the tables' own names, so they are few; but nothing may grow for ever.
_MOST_LABELS = 500
_RECORDS_BOUNDS = (1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0)
_BYTES_BOUNDS = tuple(float(1024 * 4**power) for power in range(1, 11))  # 4 KiB to 1 GiB


@dataclass(frozen=True, slots=True)
class Trouble:
    """A place that has failed, and not succeeded since: from when (monotonic), and how at last."""

    since: float
    attempts: int
    error: str
    sqlstate: str | None


@dataclass(slots=True)
class Observed:
    """Of one member since its start; `last_success` is in Unix time."""

    transaction_seconds: Buckets = field(default_factory=lambda: Buckets(SECONDS_BOUNDS))
    copy_seconds: Buckets = field(default_factory=lambda: Buckets(SECONDS_BOUNDS))
    poll_records: Buckets = field(default_factory=lambda: Buckets(_RECORDS_BOUNDS))
    poll_bytes: Buckets = field(default_factory=lambda: Buckets(_BYTES_BOUNDS))
    letters: Counter[tuple[str, ...]] = field(default_factory=Counter)
    retries: Counter[tuple[str, ...]] = field(default_factory=Counter)
    swept: Counter[str] = field(default_factory=Counter)
    troubles: dict[str, Trouble] = field(default_factory=dict)
    last_success: float | None = None

    def failed(self, place: str, error: str, sqlstate: str | None, now: float) -> None:
        """Count a failure that is tried again; `now` is monotonic."""
        _count(self.retries, (place, error, sqlstate or ""), 1, (place, "other", ""))
        before = self.troubles.get(place)
        self.troubles[place] = Trouble(
            before.since if before else now, before.attempts + 1 if before else 1, error, sqlstate
        )

    def succeeded(self, place: str) -> None:
        """Note that what failed there, if it did, works again."""
        self.troubles.pop(place, None)

    def add_letters(self, letters: Counter[tuple[str, str]]) -> None:
        """Count committed dead letters by reason and cause."""
        for (reason, cause), count in letters.items():
            _count(self.letters, (reason, cause), count, (reason, "other"))


def _count(counter: Counter[L], label: L, count: int, other: L) -> None:
    known = label in counter or len(counter) < _MOST_LABELS
    counter[label if known else other] += count
