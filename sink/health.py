"""Whether the sink is alive and ready, told from what was noted of it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from .observed import Trouble

__all__ = ["STUCK_SECONDS", "Answers", "Standing", "stuckness", "unreadiness"]

# The loop stamps once a second: so long without is a loop that stands still.
STUCK_SECONDS = 30.0
# A server is asked every five seconds, and has five to answer.
_SILENT_SECONDS = 20.0


@dataclass(slots=True)
class Answers:
    """When a server (by its `name`) answered and when it failed to, last; monotonic."""

    name: str
    answered_at: float | None = None
    failed_at: float | None = None
    error: str = ""

    def answered(self, now: float) -> None:
        """Note an answer."""
        self.answered_at = now

    def failed(self, now: float, error: str) -> None:
        """Note that there was none; `error` is its class."""
        self.failed_at, self.error = now, error

    def problem(self, now: float) -> str | None:
        """Why the server does not count as reachable; None where it does."""
        answered_at, failed_at = self.answered_at, self.failed_at
        if answered_at is None:
            return f"{self.name} has not answered yet{self._why()}"
        silent = now - answered_at
        if silent > _SILENT_SECONDS or (failed_at is not None and failed_at > answered_at):
            return f"{self.name} has not answered for {silent:.0f} s{self._why()}"
        return None

    def _why(self) -> str:
        return f" ({self.error})" if self.error else ""


@dataclass(frozen=True, slots=True)
class Standing:
    """What a member is about: `joined` is false while the group shares out its partitions."""

    joined: bool = False
    stopping: bool = False
    assigned: int = 0
    placing: int = 0
    troubles: Mapping[str, Trouble] = field(default_factory=dict)


def stuckness(beat_at: float, now: float, stuck_seconds: float) -> str | None:
    """None while the loop moves; else why it does not count as alive."""
    still = now - beat_at
    return f"the event loop has stood still for {still:.0f} s" if still > stuck_seconds else None


def unreadiness(standing: Standing, database: Answers, now: float) -> list[str]:
    """Why the sink does not write what comes, a line each; none where it does.

    A member without partitions is ready: the others have them all.
    """
    problems = []
    if standing.stopping:
        problems.append("the sink is stopping")
    elif not standing.joined:
        problems.append("no partitions are assigned yet: the group is sharing them out")
    elif standing.placing:
        problems.append(f"{standing.placing} partition(s) wait for their position")
    if problem := database.problem(now):
        problems.append(problem)
    problems += [
        f"{place} has failed for {now - trouble.since:.0f} s, {trouble.attempts} time(s), last:"
        f" {trouble.error}{f' ({trouble.sqlstate})' if trouble.sqlstate else ''}"
        for place, trouble in sorted(standing.troubles.items())
        # A passing one (a deadlock, a moved leader) is no reason to be taken out; nor are the
        # copies of dead letters: the data does not wait for them.
        if now - trouble.since > _SILENT_SECONDS and place != "letters"
    ]
    return problems
