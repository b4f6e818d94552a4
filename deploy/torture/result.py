"""What a torture is asked, how far it is, and what it came to."""

import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .check import Conservation

__all__ = ["Plan", "Progress", "TortureResult"]


@dataclass(frozen=True)
class Plan:
    """What was asked for."""

    minutes: float
    seed: int
    sinks: int


@dataclass(slots=True)
class Progress:
    """How far it is; written by the kit's tasks.

    Attributes:
        faults: what really happened, by kind.
        findings: what must not happen: a process that ends without a reason, ...
        ends_at: when the faults end, on the monotonic clock; 0 before they begin.
        phase: what is being done before they begin and once they have ended.
        lag_records: between tables and log; None where nobody can tell.
        lag_last_seen: the last that could be told, and
        lag_seen_at: when that was asked for, on the monotonic clock.
        lag_at_end: what had been seen last when the faults ended.
        letters_to_sweep: that wait for a parent which comes; None where nobody can tell.
        zombies: sinks that stood still while a living one waited for their locks.
    """

    faults: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    ends_at: float = 0.0
    phase: str = ""
    lag_records: int | None = None
    lag_last_seen: int | None = None
    lag_seen_at: float = 0.0
    lag_at_end: int | None = None
    letters_to_sweep: int | None = None
    zombies: int = 0

    def find(self, finding: str) -> None:
        """Keep a finding."""
        self.findings.append(finding)

    def see_lag(
        self, lag_records: int | None, letters_to_sweep: int | None, asked_at: float
    ) -> None:
        """Note the lag as it was told; None where a server did not answer."""
        self.lag_records = lag_records
        self.letters_to_sweep = letters_to_sweep
        if lag_records is not None:
            self.lag_last_seen, self.lag_seen_at = lag_records, asked_at

    @property
    def left_to_write(self) -> int | None:
        """Records and letters; None where a server did not answer."""
        if self.lag_records is None or self.letters_to_sweep is None:
            return None
        return self.lag_records + self.letters_to_sweep

    def seconds_left(self) -> float:
        """Of the faults."""
        return max(0.0, self.ends_at - time.monotonic())

    def line(self) -> str:
        """All of it in one line."""
        minutes, seconds = divmod(round(self.seconds_left()), 60)
        phase = self.phase or f"{minutes}:{seconds:02} left"
        lag = "unknown" if self.lag_records is None else f"{self.lag_records:,} records"
        found = f", {len(self.findings)} findings" if self.findings else ""
        waiting = f", letters waiting {self.letters_to_sweep:,}" if self.letters_to_sweep else ""
        return f"torture: {phase}, {self.faults.total():,} faults, lag {lag}{waiting}{found}"


@dataclass(frozen=True)
class TortureResult:
    """What it came to."""

    plan: Plan
    seconds: float
    conserved: Conservation
    progress: Progress
    restarts: int
    late_parents: int
    fenced: int
    sink_peak_bytes: int | None
    left_out: list[str]
    folder: Path

    @property
    def first_difference(self) -> str | None:
        """What is wrong first; None where nothing is."""
        found = self.progress.findings
        return self.conserved.first_difference or (found[0] if found else None)

    @property
    def fine(self) -> bool:
        """Whether nothing was lost, doubled or changed, and every process did as it should."""
        return self.first_difference is None

    def as_json(self) -> dict[str, Any]:
        """The object of `--json`."""
        return {
            "seconds": round(self.seconds, 3),
            "seed": self.plan.seed,
            "faults": dict(sorted(self.progress.faults.items())),
            "faults_total": self.progress.faults.total(),
            "restarts": self.restarts,
            "zombies": self.progress.zombies,
            "fenced": self.fenced,
            "lag_records_at_end": self.progress.lag_at_end,
            "late_parents": self.late_parents,
            **self.conserved.as_json(),
            "sink_peak_bytes": self.sink_peak_bytes,
            "left_out": self.left_out,
            "findings": self.progress.findings,
            "first_difference": self.first_difference,
        }
