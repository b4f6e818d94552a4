"""What a run of the sink has done, for its summary and its log."""

import time
from dataclasses import dataclass, field, fields
from typing import Any

import structlog

from .classify import sqlstate_of
from .dead_letters import MISSING_PARENT
from .observed import Observed
from .poller import Poll
from .transaction import PollResult
from .trouble import error_name

__all__ = ["SinkTotals", "log_poll"]

log = structlog.get_logger("oddslog.sink")


@dataclass(slots=True)
class SinkTotals:
    """What a run of the sink has done since its start; `observed` is for the metrics."""

    polls: int = 0
    records: int = 0
    snapshots: int = 0
    markets: int = 0
    confirmations: int = 0
    pending: int = 0
    duplicates: int = 0
    conflicts: int = 0
    dead_letters: int = 0
    published: int = 0
    redriven: int = 0
    fenced: int = 0
    unstable_ids: int = 0
    missing_ids: int = 0
    retries: int = 0
    halvings: int = 0
    fenced_backends: int = 0
    rebalances: int = 0
    went_back: int = 0
    offset_commit_failures: int = 0
    sweeps: int = 0
    write_seconds: float = 0.0
    # From the first poll that had something in it to the last commit: the time
    # without joining the group and waiting for records.
    active_seconds: float = 0.0
    observed: Observed = field(default_factory=Observed, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """The plain numbers by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "observed"}

    def took(self, poll: Poll) -> None:
        """Count a poll that is to be written."""
        self.observed.poll_records.observe(poll.records)
        self.observed.poll_bytes.observe(poll.bytes)

    def retried(self, place: str, error: Exception) -> None:
        """Count a failure that is tried again."""
        self.retries += 1
        self.observed.failed(place, error_name(error), sqlstate_of(error), time.monotonic())

    def swept(self, **outcomes: int) -> None:
        """Count a sweep that went through."""
        self.sweeps += 1
        self.observed.swept.update(outcomes)
        self.observed.succeeded("sweep")

    def add(self, result: PollResult, seconds: float = 0.0) -> None:
        """Count a committed poll, and how long its transaction took."""
        self.polls += 1
        self.write_seconds += seconds
        self.went_back += len(result.went_back)
        self.observed.transaction_seconds.observe(seconds)
        self.observed.copy_seconds.observe(result.copy_seconds)
        self.observed.add_letters(result.letters)
        self.observed.last_success = time.time()
        self.observed.succeeded("transaction")
        for name in (
            "records",
            "snapshots",
            "markets",
            "confirmations",
            "pending",
            "duplicates",
            "conflicts",
            "dead_letters",
            "redriven",
            "fenced",
            "unstable_ids",
            "missing_ids",
        ):
            setattr(self, name, getattr(self, name) + getattr(result, name))


def log_poll(result: PollResult, seconds: float) -> None:
    """Log a committed poll, and what an operator has to hear of it."""
    log.debug(
        "poll_written",
        records=result.records,
        snapshots=result.snapshots,
        markets=result.markets,
        confirmations=result.confirmations,
        duplicates=result.duplicates,
        dead_letters=result.dead_letters,
        fenced=result.fenced,
        write_ms=round(seconds * 1000, 1),
    )
    if result.unstable_ids:
        log.warning("unstable_id", count=result.unstable_ids)
    if result.redriven:
        log.info("redriven_read", count=result.redriven)
    waiting = sum(n for (reason, _), n in result.letters.items() if reason == MISSING_PARENT)
    if waiting:
        log.info("letters_waiting", count=waiting)
    if result.dead_letters > waiting:
        log.warning("dead_letters_written", count=result.dead_letters - waiting)
