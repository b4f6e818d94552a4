"""Which faults happen, when, to whom: all of it by seed. Pure.

The same seed and surroundings give the same steps. First each kind comes once; then
kinds are dealt like cards from a shuffled deck, so each comes up about as often as it
is in the deck, also in a short run.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from random import Random

__all__ = [
    "FEEDER_POINTS",
    "LOCKED_MARKERS",
    "SINK_POINTS",
    "Fault",
    "Step",
    "Surroundings",
    "certain",
    "pace",
    "steps",
]

SINK_POINTS = (
    "sink.before_copy",
    "sink.in_copy",
    "sink.rows_written",
    "sink.before_commit",
    "sink.after_commit",
    "sink.before_offsets",
    "sink.after_offsets",
)
LOCKED_MARKERS = ("PGCOPY", "PGCOPY", "COMMIT;")
"""What a sink is about to send when the ledger's rows are locked."""

FEEDER_POINTS = (
    "ingest.before_send",
    "ingest.after_send",
    "ingest.after_ack",
    "ingest.before_spool",
    "ingest.after_spool",
    "ingest.before_spool_delete",
    "ingest.after_spool_delete",
)


class Fault(StrEnum):
    """What is done; the values are the names in the result."""

    SINK_KILLED = "sink_killed"
    SINK_KILLED_AT_POINT = "sink_killed_at_point"
    SINK_STOPPED = "sink_stopped"
    SINK_FROZEN = "sink_frozen"
    SINK_FROZEN_AT_POINT = "sink_frozen_at_point"
    SINK_FROZEN_LONG = "sink_frozen_long"
    FEEDER_KILLED = "feeder_killed"
    FEEDER_KILLED_AT_POINT = "feeder_killed_at_point"
    FEEDER_STOPPED = "feeder_stopped"
    FEEDER_FROZEN = "feeder_frozen"
    POSTGRES_CUT = "postgres_cut"
    POSTGRES_STALLED = "postgres_stalled"
    POSTGRES_DELAYED = "postgres_delayed"
    POSTGRES_REFUSED = "postgres_refused"
    COMMIT_UNSENT = "commit_unsent"
    COMMIT_REPLY_LOST = "commit_reply_lost"
    BACKEND_TERMINATED = "backend_terminated"
    TABLE_LOCKED = "table_locked"
    KAFKA_CUT = "kafka_cut"
    KAFKA_STALLED = "kafka_stalled"
    KAFKA_DELAYED = "kafka_delayed"
    KAFKA_REFUSED = "kafka_refused"
    KAFKA_RESTARTED = "kafka_restarted"
    POSTGRES_RESTARTED = "postgres_restarted"


# Cards of each kind. What costs the most time and shuts out most other things is rare.
_DECK = {
    Fault.SINK_KILLED: 4,
    Fault.SINK_KILLED_AT_POINT: 5,
    Fault.SINK_STOPPED: 2,
    Fault.SINK_FROZEN: 2,
    Fault.SINK_FROZEN_AT_POINT: 2,
    Fault.SINK_FROZEN_LONG: 3,
    Fault.FEEDER_KILLED: 2,
    Fault.FEEDER_KILLED_AT_POINT: 2,
    Fault.FEEDER_STOPPED: 1,
    Fault.FEEDER_FROZEN: 1,
    Fault.POSTGRES_CUT: 3,
    Fault.POSTGRES_STALLED: 2,
    Fault.POSTGRES_DELAYED: 2,
    Fault.POSTGRES_REFUSED: 1,
    Fault.COMMIT_UNSENT: 3,
    Fault.COMMIT_REPLY_LOST: 3,
    Fault.BACKEND_TERMINATED: 3,
    Fault.TABLE_LOCKED: 2,
    Fault.KAFKA_CUT: 3,
    Fault.KAFKA_STALLED: 2,
    Fault.KAFKA_DELAYED: 2,
    Fault.KAFKA_REFUSED: 1,
    Fault.KAFKA_RESTARTED: 1,
    Fault.POSTGRES_RESTARTED: 1,
}
_OF_KAFKA_PROXY = {
    Fault.KAFKA_CUT,
    Fault.KAFKA_STALLED,
    Fault.KAFKA_DELAYED,
    Fault.KAFKA_REFUSED,
}
_OF_OWN_SERVERS = {Fault.KAFKA_RESTARTED, Fault.POSTGRES_RESTARTED}
_OF_FEEDER = {
    Fault.FEEDER_KILLED,
    Fault.FEEDER_KILLED_AT_POINT,
    Fault.FEEDER_STOPPED,
    Fault.FEEDER_FROZEN,
}

# 10 minutes at a mean of 1.1 s are about 550 steps; some find nothing to break.
_PAUSE_SECONDS = (0.5, 1.7)
# What three sinks take on two idle cores, at most.
_START_SECONDS = 8.0
# Some outlast the group's session (4 s), some do not.
_SECONDS = (0.5, 6.0)
# A frozen sink holds its locks until it wakes up.
_FROZEN_SECONDS = (3.0, 8.0)
# Until the others end its backend: longer than the rebalance time-out (10 s) and a look.
_FROZEN_LONG_SECONDS = (20.0, 30.0)
_LASTING = {
    Fault.SINK_FROZEN: _FROZEN_SECONDS,
    Fault.SINK_FROZEN_AT_POINT: _FROZEN_SECONDS,
    Fault.SINK_FROZEN_LONG: _FROZEN_LONG_SECONDS,
    Fault.FEEDER_FROZEN: _FROZEN_SECONDS,
}
_DELAY_SECONDS = (0.01, 0.3)
_TABLES = ("odds_snapshots", "market_odds", "competitor_odds_snapshots", "oddslog_ledger")
# Of PostgreSQL: at once, immediate, fast, and smart (which waits for its clients).
_KAFKA_SIGNALS = ("SIGKILL", "SIGTERM")
_POSTGRES_SIGNALS = ("SIGKILL", "SIGQUIT", "SIGINT", "SIGTERM")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What can be broken: so many sinks, and whether these are in the kit's hands."""

    sinks: int = 3
    kafka_proxy: bool = True
    own_servers: bool = True

    def left_out(self) -> frozenset[Fault]:
        """The kinds that cannot be done here."""
        kafka = frozenset() if self.kafka_proxy else frozenset(_OF_KAFKA_PROXY)
        return kafka | (frozenset() if self.own_servers else frozenset(_OF_OWN_SERVERS))


@dataclass(frozen=True, slots=True)
class Step:
    """One fault, after a pause.

    Attributes:
        pause_seconds: since the step before.
        fault: what is done.
        seat: to which sink; -1 is the feeder.
        seconds: for how long, where it lasts.
        detail: a kill point, bytes, a table or a signal's name, where one is needed.
        count: the how-manieth coming to the kill point.
        delay_seconds: of each piece of bytes, where they are delayed.
    """

    pause_seconds: float
    fault: Fault
    seat: int
    seconds: float
    detail: str
    count: int
    delay_seconds: float

    def __str__(self) -> str:
        """For the log of faults."""
        whom = "feeder" if self.seat < 0 else f"sink {self.seat}"
        return f"{self.fault} {whom} {self.seconds:.1f} s {self.detail}".rstrip()


def pace(start_seconds: float, faults_seconds: float) -> float:
    """By how much the pauses are longer than they say, at least 1.

    On a machine that is busy with other things a process takes long to get to work,
    and faults at the usual pace would leave nothing to break.

    Args:
        start_seconds: what the sinks took to get to work at first.
        faults_seconds: for how long there are faults. Each kind comes in two thirds of it.
    """
    first = len(Fault) * sum(_PAUSE_SECONDS) / 2
    return max(1.0, min(start_seconds / _START_SECONDS, faults_seconds * 2 / 3 / first))


def steps(seed: int, surroundings: Surroundings) -> Iterator[Step]:
    """The steps of a seed, without end."""
    chance = Random(f"torture/{seed}/faults")  # noqa: S311 - no secret
    left_out = surroundings.left_out()
    deck = [kind for kind, cards in _DECK.items() for _ in range(cards) if kind not in left_out]
    dealt = [kind for kind in _DECK if kind not in left_out]
    while True:
        chance.shuffle(dealt)
        for fault in dealt:
            yield _step(chance, fault, surroundings.sinks)
        dealt = deck


def certain(seed: int, fault: Fault, surroundings: Surroundings) -> Step:
    """A step of a kind that finds what to break where all are at work and nothing is broken."""
    chance = Random(f"torture/{seed}/{fault}")  # noqa: S311 - no secret
    return replace(_step(chance, fault, surroundings.sinks), detail=_detail(fault, 0.0), count=1)


def _step(chance: Random, fault: Fault, sinks: int) -> Step:
    # Every number is drawn for every kind, so that what one kind needs moves no other.
    pause = chance.uniform(*_PAUSE_SECONDS)
    seat = chance.randrange(sinks)
    to_feeder = chance.random() < 1 / (sinks + 1)
    seconds = chance.uniform(*_LASTING.get(fault, _SECONDS))
    detail = _detail(fault, chance.random())
    count = chance.choice((1, 1, 1, 2, 4))
    delay = chance.uniform(*_DELAY_SECONDS)
    if fault in _OF_FEEDER or (fault in _OF_KAFKA_PROXY and to_feeder):
        seat = -1
    return Step(pause, fault, seat, seconds, detail, count, delay)


def _detail(fault: Fault, drawn: float) -> str:
    choices = {
        Fault.SINK_KILLED_AT_POINT: SINK_POINTS,
        Fault.SINK_FROZEN_AT_POINT: SINK_POINTS,
        Fault.SINK_FROZEN_LONG: LOCKED_MARKERS,
        Fault.FEEDER_KILLED_AT_POINT: FEEDER_POINTS,
        Fault.TABLE_LOCKED: _TABLES,
        Fault.KAFKA_RESTARTED: _KAFKA_SIGNALS,
        Fault.POSTGRES_RESTARTED: _POSTGRES_SIGNALS,
    }.get(fault, ("",))
    return choices[int(drawn * len(choices))]
