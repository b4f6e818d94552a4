"""What a bench measures, and what comes of it. Pure."""

from dataclasses import dataclass, field
from typing import Any

__all__ = ["SECTIONS", "Plan", "Results"]

SECTIONS = (
    "throughput",
    "steady",
    "latency",
    "ingest",
    "sinks",
    "backlog",
    "growth",
    "again",
    "indexes",
    "documents",
    "storage",
    "peers",
)


@dataclass(frozen=True)
class Plan:
    """How much of what.

    Attributes:
        events: of the load; each has three snapshots of about 113 market rows.
        rounds: how often each way runs; medians count.
        cycles: of the steady state.
        backlog: market rows of the long one; a tenth of them with 50 KB raw responses.
        grow_to: market rows up to which the tables grow.
        sections: those that are measured, of `SECTIONS`.
    """

    events: int = 1200
    rounds: int = 3
    cycles: int = 20
    backlog: int = 1_000_000
    grow_to: int = 3_000_000
    sections: tuple[str, ...] = SECTIONS


@dataclass(slots=True)
class Results:
    """The figures by section, with where they were measured."""

    machine: dict[str, Any] = field(default_factory=dict)
    sections: dict[str, dict[str, Any]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The object of `--json`."""
        return {"machine": self.machine, **self.sections}
