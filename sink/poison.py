"""When too many fail, the cause is not the records: the sliding window of poison. Pure."""

from collections import Counter, deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from .errors import TooMuchPoisonError

__all__ = ["PoisonTally", "PoisonWindow", "cause_of"]

# The last 1,000 snapshots and records are judged (DESIGN 6.4). Of them:
_WINDOW = 1000
# ... more than a quarter: what is wrong with one kind of snapshot only, or with one
# of three bookmakers, is seen, and a bad batch (150 snapshots) among good ones passes.
_MOST_SHARE = 0.25
# ... and not a burst at the start, when little is in the window yet.
_FEWEST_POISONED = 100


@dataclass(slots=True)
class PoisonTally:
    """What a poll brings to the window: how many came, and the poisoned ones by cause."""

    judged: int = 0
    causes: Counter[str] = field(default_factory=Counter)


def cause_of(
    reason: str, sqlstate: str | None, constraint_name: str | None, field_name: str | None
) -> str:
    """The name of a cause, as `--accept-poison` takes it: reason/SQLSTATE/constraint/field.

    Without what is not known; which market it was does not make another cause.
    """
    named = field_name and ".".join(part.partition("[")[0] for part in field_name.split("."))
    return "/".join(part for part in (reason, sqlstate, constraint_name, named) if part)


class PoisonWindow:
    """The last 1,000 outcomes of committed polls.

    Args:
        accepted: causes that the operator goes on with; one stands for all that
            begin with it (`poison` for `poison/22P02/markets.outcomes`).
        command: that an error says to start, with `--accept-poison` behind it.
    """

    def __init__(self, accepted: Collection[str] = (), *, command: str = "oddslog sink") -> None:
        self._command = command
        self._accepted = tuple(accepted)
        self._polls: deque[PoisonTally] = deque()

    def check(self, tally: PoisonTally) -> None:
        """Judge a poll before its commit, together with what came before.

        Raises:
            TooMuchPoisonError: too many are poisoned; the top cause is named.
        """
        judged, causes = tally.judged, Counter(self._counted(tally.causes))
        for poll in reversed(self._polls):
            if judged >= _WINDOW:
                break
            # Of a poll that is only partly in the window its share.
            share = min(1.0, (_WINDOW - judged) / max(1, poll.judged))
            judged += round(poll.judged * share)
            for cause, count in poll.causes.items():
                causes[cause] += round(count * share)
        poisoned = sum(causes.values())
        if poisoned >= _FEWEST_POISONED and poisoned > judged * _MOST_SHARE:
            (cause, count), *_ = causes.most_common(1)
            raise TooMuchPoisonError(cause, count, poisoned, judged, command=self._command)

    def add(self, tally: PoisonTally) -> None:
        """Remember a poll that is committed."""
        if not tally.judged:
            return
        self._polls.append(PoisonTally(tally.judged, Counter(self._counted(tally.causes))))
        # Whole polls, as long as the window stays full without the oldest.
        total = sum(poll.judged for poll in self._polls)
        while total - self._polls[0].judged >= _WINDOW:
            total -= self._polls.popleft().judged

    def _counted(self, causes: Mapping[str, int]) -> dict[str, int]:
        return {cause: count for cause, count in causes.items() if not self._is_accepted(cause)}

    def _is_accepted(self, cause: str) -> bool:
        return any(cause == name or cause.startswith(f"{name}/") for name in self._accepted)
