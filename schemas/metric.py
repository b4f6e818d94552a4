"""Metrics: how one is described, and a histogram that costs next to nothing. Pure."""

from bisect import bisect_left
from dataclasses import dataclass, field
from enum import StrEnum

__all__ = ["SECONDS_BOUNDS", "Buckets", "Metric", "MetricKind"]

# From a small transaction to the five minutes after which PostgreSQL ends one.
SECONDS_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class MetricKind(StrEnum):
    """What Prometheus makes of a metric."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric as it is exposed.

    Attributes:
        name: whole, with `_total` where it is a counter.
        kind: counter, gauge or histogram.
        unit: what it counts, in words or as a base unit (seconds, bytes).
        labels: the names of its labels.
        help: what it says, in one sentence.
    """

    name: str
    kind: MetricKind
    unit: str
    help: str
    labels: tuple[str, ...] = ()


@dataclass(slots=True)
class Buckets:
    """A histogram: written by one thread, read by any (what it reads may be half an update).

    `bounds` are the upper ends, inclusive; `counts` has one more, for what is above.
    """

    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    sum: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def cumulative(self) -> list[tuple[str, float]]:
        """Upper end and how many were up to it, as Prometheus wants them; `+Inf` last."""
        counts = list(self.counts)
        ends = [*(repr(float(bound)) for bound in self.bounds), "+Inf"]
        return [(end, float(sum(counts[: n + 1]))) for n, end in enumerate(ends)]
