"""The simulator's markets, built once and shared between snapshots.

A snapshot of 170 markets is picked from ready-made ones: records are frozen and
their outcomes are never changed, so a cycle of 442,000 markets needs some
16,000 objects and about a second. Goalscorer markets,
which name the players of their event, are built anew.
"""

import math
from random import Random
from typing import Any

from ...schemas.records import MarketWriteData
from .goals import Match
from .kinds import Slot, catalogue
from .names import PLAYERS_A_TEAM, players
from .pricing import Priced

__all__ = ["REMOVED", "STATES", "STEPS", "MarketPool", "is_suspended"]

# A market's state: its odds stand on one step of a ladder; a suspended market is
# STEPS higher; a removed one has no row.
STEPS = 6
STATES = 2 * STEPS
REMOVED = 255

STEP_DRIFT = 0.035  # odds move by about 3.5 % a step
MARGIN = 1.06  # what a bookmaker's probabilities sum to
IMPOSSIBLE = 1e-9

SIDES = ("home",) * PLAYERS_A_TEAM + ("away",) * PLAYERS_A_TEAM + (None,)


def is_suspended(state: int) -> bool:
    """Whether a market that is there takes no bets in this state."""
    return state >= STEPS


class MarketPool(dict[int, MarketWriteData]):
    """The markets by match type, slot and state; built at the first look-up.

    The key is `(match_type * slots + slot) * STATES + state`. The same seed
    gives the same markets in whatever order they are asked for.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._seed = seed
        self._slots = catalogue()
        self._matches: dict[int, Match] = {}
        self._prices: dict[tuple[int, int], Priced] = {}
        self._scorer_odds: dict[tuple[int, int, int], list[float]] = {}

    def __missing__(self, key: int) -> MarketWriteData:
        rest, state = divmod(key, STATES)
        match_type, slot_number = divmod(rest, len(self._slots))
        slot = self._slots[slot_number]
        active = not is_suspended(state)
        outcomes = [
            {"name": name, "odds": _odds(chance, n, state), "is_active": active}
            for n, (name, chance) in enumerate(self._chances(match_type, slot_number))
        ]
        market = self[key] = _market(slot, _keyed(outcomes) if slot.keyed else outcomes)
        return market

    def rows(self, match_type: int) -> range:
        """The key of each slot's market in state 0; add the state."""
        slots = len(self._slots)
        return range(match_type * slots * STATES, (match_type + 1) * slots * STATES, STATES)

    def scorers(
        self, match_type: int, slot_number: int, state: int, teams: tuple[int, int]
    ) -> MarketWriteData:
        """A goalscorer market with the players of the two teams."""
        key = (match_type, slot_number, state % STEPS)
        odds = self._scorer_odds.get(key)
        if odds is None:
            odds = self._scorer_odds[key] = self._price_scorers(*key)
        active = not is_suspended(state)
        names = (*players(teams[0]), *players(teams[1]), "No goal")
        outcomes: list[dict[str, Any]] = [
            {"name": name, "odds": price, "is_active": active, "team": side}
            for name, price, side in zip(names, odds, SIDES, strict=False)  # anytime: no "No goal"
        ]
        return _market(self._slots[slot_number], outcomes)

    def _match(self, match_type: int) -> Match:
        match = self._matches.get(match_type)
        if match is None:
            match = self._matches[match_type] = Match.of_type(match_type)
        return match

    def _chances(self, match_type: int, slot_number: int) -> Priced:
        """The possible outcomes of a market, each a little off by the bookmaker's opinion."""
        priced = self._prices.get((match_type, slot_number))
        if priced is None:
            price = self._slots[slot_number].price
            if price is None:
                raise KeyError(f"slot {slot_number} has the players of its event")
            opinion = self._random(match_type, slot_number)
            priced = [
                (name, chance * opinion.uniform(0.98, 1.02))
                for name, chance in price(self._match(match_type))
                if chance > IMPOSSIBLE
            ]
            self._prices[match_type, slot_number] = priced
        return priced

    def _price_scorers(self, match_type: int, slot_number: int, step: int) -> list[float]:
        match = self._match(match_type)
        opinion = self._random(match_type, slot_number)
        # The first of a team scores most; the shares of the twelve sum to about 0.95.
        shares = [0.16 * 0.86**n * opinion.uniform(0.9, 1.1) for n in range(PLAYERS_A_TEAM)]
        teams = (match.home_goals, match.away_goals)
        rates = [goals * share for goals in teams for share in shares]
        goalless = math.exp(-match.home_goals - match.away_goals)
        if self._slots[slot_number].scorers == "anytime":
            chances = [1 - math.exp(-rate) for rate in rates]
        else:
            chances = [rate / sum(rates) * (1 - goalless) for rate in rates] + [goalless]
        return [_odds(chance, n, step) for n, chance in enumerate(chances)]

    def _random(self, match_type: int, slot_number: int) -> Random:
        return Random(f"{self._seed}/market/{match_type}/{slot_number}")  # noqa: S311


def _odds(chance: float, outcome: int, state: int) -> float:
    """The decimal odds at a step of the ladder, rounded as bookmakers do.

    Every other outcome moves the other way.
    """
    drift = STEP_DRIFT * (state % STEPS - (STEPS - 1) / 2)
    odds = (1 + (drift if outcome % 2 else -drift)) / (chance * MARGIN)
    if odds < 10:
        return max(1.01, round(odds, 2))
    return round(odds * 2) / 2 if odds < 40 else min(1001, round(odds))


def _keyed(outcomes: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        str(outcome["name"]).lower(): {"odds": outcome["odds"], "is_active": outcome["is_active"]}
        for outcome in outcomes
    }


def _market(slot: Slot, outcomes: list[dict[str, Any]] | dict[str, Any]) -> MarketWriteData:
    return MarketWriteData(
        betpawa_market_id=slot.market_id,
        betpawa_market_name=slot.name,
        line=slot.line,
        handicap_type=slot.handicap_type,
        handicap_home=slot.handicap_home,
        handicap_away=None if slot.handicap_home is None else -slot.handicap_home,
        outcomes=outcomes,
        market_groups=slot.groups,
    )
