"""What a run of the sink has done, for its summary and its log."""

from dataclasses import dataclass

import structlog

from .transaction import PollResult

__all__ = ["SinkTotals", "log_poll"]

log = structlog.get_logger("oddslog.sink")


@dataclass(slots=True)
class SinkTotals:
    """What a run of the sink has done since its start."""

    polls: int = 0
    records: int = 0
    snapshots: int = 0
    markets: int = 0
    confirmations: int = 0
    pending: int = 0
    duplicates: int = 0
    conflicts: int = 0
    dead_letters: int = 0
    fenced: int = 0
    unstable_ids: int = 0
    missing_ids: int = 0
    retries: int = 0
    halvings: int = 0
    fenced_backends: int = 0
    write_seconds: float = 0.0
    # From the first poll that had something in it to the last commit: the time
    # without joining the group and waiting for records.
    active_seconds: float = 0.0

    def add(self, result: PollResult) -> None:
        """Count a committed poll."""
        self.polls += 1
        for name in (
            "records",
            "snapshots",
            "markets",
            "confirmations",
            "pending",
            "duplicates",
            "conflicts",
            "dead_letters",
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
    if result.dead_letters:
        log.warning("dead_letters_written", count=result.dead_letters)
