"""The simulator's events: who plays, and what each bookmaker's page shows now."""

from dataclasses import dataclass
from datetime import timedelta
from random import Random

from ...schemas.records import MarketWriteData
from .goals import MATCH_TYPES
from .kinds import catalogue, offered
from .names import COMPETITIONS, TEAMS
from .pool import REMOVED, STEPS, MarketPool, is_suspended
from .raw import EventInfo
from .settings import SimulateSettings

__all__ = ["Event", "make_event"]

# The slots of the BetPawa snapshot and of the two competitors', 340 an event.
BOARDS = tuple(offered(count) for count in (170, 100, 70))
SCORERS = {number for number, slot in enumerate(catalogue()) if slot.scorers}

# Of 256 random bytes: those below MOVE move an open market's odds, those below SUSPEND
# or REMOVE take it off; those below REOPEN bring back one that is off. A snapshot that
# changed so differs in about a third of its markets.
MOVE, SUSPEND, REMOVE, REOPEN = 80, 86, 90, 128

# For each level of odds: random byte -> a state on that step of the ladder or beside it.
LEVELS = tuple(
    bytes(min(STEPS - 1, max(0, level + byte % 3 - 1)) for byte in range(256))
    for level in range(STEPS)
)


@dataclass(slots=True)
class Board:
    """One bookmaker's page of one event; `move` alone changes it."""

    slots: tuple[int, ...]
    states: bytearray  # of each slot
    last_changed: int = 0  # the cycle of the latest snapshot

    def move(self, cycle: int, random: Random) -> None:
        """Changes some markets; the 1X2, which is the first, always."""
        draws = random.randbytes(len(self.states))
        first = _neighbour(self.states[0], draws[0])
        self.states[:] = map(_moved, self.states, draws)
        self.states[0] = first
        self.last_changed = cycle


def _moved(state: int, draw: int) -> int:
    if state == REMOVED or is_suspended(state):
        return draw % STEPS if draw < REOPEN else state
    if draw < MOVE:
        return _neighbour(state, draw)
    if draw < SUSPEND:
        return state + STEPS
    return REMOVED if draw < REMOVE else state


def _neighbour(step: int, draw: int) -> int:
    up = draw % 2 == 0
    if step == 0 or (up and step < STEPS - 1):
        return step + 1
    return step - 1


@dataclass(frozen=True, slots=True)
class Event:
    """One event and its boards: the BetPawa one, then the two competitors'."""

    info: EventInfo
    match_type: int
    teams: tuple[int, int]
    boards: tuple[Board, ...]

    def markets(self, board: Board, pool: MarketPool) -> tuple[MarketWriteData, ...]:
        """The markets that the board shows now, without the removed ones."""
        rows = pool.rows(self.match_type)
        return tuple(
            [
                self._scorers(pool, slot, state) if slot in SCORERS else pool[rows[slot] + state]
                for slot, state in zip(board.slots, board.states, strict=True)
                if state != REMOVED
            ]
        )

    def _scorers(self, pool: MarketPool, slot: int, state: int) -> MarketWriteData:
        return pool.scorers(self.match_type, slot, state, self.teams)


def make_event(settings: SimulateSettings, number: int) -> Event:
    """The event as it stands before the first cycle; `number` counts from 0.

    It depends on the seed and its own id only.
    """
    event_id = settings.first_event_id + number
    random = Random(f"{settings.seed}/event/{event_id}")  # noqa: S311 - odds, no secrets
    home = random.randrange(len(TEAMS))
    away = (home + random.randrange(1, len(TEAMS))) % len(TEAMS)
    competition, region, competition_id = COMPETITIONS[random.randrange(len(COMPETITIONS))]
    info = EventInfo(
        event_id=event_id,
        home=TEAMS[home],
        away=TEAMS[away],
        competition=competition,
        region=region,
        competition_id=competition_id,
        kick_off=settings.started_at + timedelta(minutes=15 * random.randrange(1, 7 * 96)),
    )
    boards = tuple(
        Board(slots, bytearray(random.randbytes(len(slots)).translate(LEVELS[level])))
        for slots, level in zip(BOARDS, random.choices(range(STEPS), k=len(BOARDS)), strict=True)
    )
    return Event(info, random.randrange(len(MATCH_TYPES)), (home, away), boards)
