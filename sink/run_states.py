"""What is known of a scrape run, and what that makes of it. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

__all__ = ["LATE_AFTER_SECONDS", "RunState", "ScrapeRun", "by_urgency"]

# The batches of a run follow each other within seconds. What may come in between and
# passes by itself takes less than this: a batch's three attempts (37 s), a member that
# is missed and replaced (a session time-out of 45 s, a rebalance), a restarted broker.
LATE_AFTER_SECONDS = 300.0


class RunState(StrEnum):
    """Where a run stands."""

    COMPLETE = "complete"  # all batches are there, each with all its fragments
    ARRIVING = "arriving"  # not all, and something came lately
    LATE = "late"  # not all, and nothing has come for a while
    OPEN = "open"  # whole as far as it is there; its batches do not say how many there are


@dataclass(frozen=True, slots=True)
class ScrapeRun:
    """What has arrived of a scrape run.

    Batches are told apart by their `batch_index`: one that was enqueued again after a
    failed receipt is still one. `batches_expected` is None where no batch said its
    `batch_count`: such a run is never complete. `fragments_expected` are those of the
    batches that something came of. Times are those of the log (when the brokers took
    it), `idle_seconds` how long ago the last was. `dead_letters` are letters of this run
    that are not in the tables; `waiting` of them wait for their event, bookmaker or run.
    """

    run_id: int
    batches_expected: int | None
    batches_arrived: int
    batches_begun: int
    fragments_arrived: int
    fragments_expected: int
    dead_letters: int
    waiting: int
    first_arrival_at: datetime
    last_arrival_at: datetime
    idle_seconds: float

    @property
    def complete(self) -> bool:
        """Everything has arrived; what could not be written counts as arrived."""
        return self.batches_expected is not None and self.batches_arrived >= self.batches_expected

    @property
    def marked(self) -> bool:
        """Something of it is not in the tables: it has dead letters."""
        return self.dead_letters > 0

    def state(self, late_after_seconds: float = LATE_AFTER_SECONDS) -> RunState:
        """Where it stands, if it may be silent for so long."""
        if self.complete:
            return RunState.COMPLETE
        if self.batches_expected is None and self.batches_arrived == self.batches_begun:
            return RunState.OPEN
        return RunState.LATE if self.idle_seconds > late_after_seconds else RunState.ARRIVING


def by_urgency(runs: Iterable[ScrapeRun], late_after_seconds: float) -> list[ScrapeRun]:
    """Late and marked runs first, then the newest."""

    def key(run: ScrapeRun) -> tuple[bool, datetime, int]:
        late = run.state(late_after_seconds) is RunState.LATE
        return (late or run.marked, run.last_arrival_at, run.run_id)

    return sorted(runs, key=key, reverse=True)
