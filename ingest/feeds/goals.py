"""A small model of a match, from which all its odds are priced.

Goals (and corners, and cards) of the two sides are independent Poisson numbers.
Every market of one match is priced from the same grids, so that its odds fit
each other as a bookmaker's do: the favourite in 1X2 is the favourite in the
handicaps, and many goals in over/under are many goals in the correct score.
"""

import math
from dataclasses import dataclass
from itertools import product

__all__ = ["MATCH_TYPES", "Grid", "Match"]

# A share of each side's goals falls into the first half (seen in any league table).
FIRST_HALF = 0.45

# Expected goals of the home and the away side: from a clear home favourite to a
# clear away favourite, with few and with many goals. Sixteen are enough that two
# events seldom look alike and few enough that their markets are built only once.
MATCH_TYPES: tuple[tuple[float, float], ...] = (
    (1.45, 1.15),
    (1.30, 1.30),
    (1.75, 0.95),
    (2.20, 0.75),
    (2.80, 0.60),
    (3.30, 0.85),
    (1.10, 0.85),
    (0.90, 1.05),
    (1.05, 1.60),
    (0.80, 1.95),
    (0.65, 2.60),
    (1.85, 1.55),
    (1.60, 1.90),
    (2.35, 1.35),
    (1.20, 2.30),
    (1.55, 1.35),
)


@dataclass(frozen=True, slots=True)
class Grid:
    """The joint distribution of two counts: the chances of the scores, which sum to 1.

    The scores are the same ones in the same order for every match.
    """

    scores: tuple[tuple[int, int], ...]
    chances: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Match:
    """All grids of one match type: `full`, `first` and `second` half, `corners`, `cards`."""

    home_goals: float
    away_goals: float
    grids: dict[str, Grid]

    @classmethod
    def of_type(cls, match_type: int) -> "Match":
        """The match of one of `MATCH_TYPES`."""
        home, away = MATCH_TYPES[match_type]
        means = {
            "full": (home, away, 9),
            "first": (home * FIRST_HALF, away * FIRST_HALF, 6),
            "second": (home * (1 - FIRST_HALF), away * (1 - FIRST_HALF), 6),
            "corners": (3.9 + home, 3.6 + away, 16),
            "cards": (1.6 + away / 3, 1.7 + home / 3, 9),
        }
        return cls(home, away, {name: _grid(*mean) for name, mean in means.items()})


def _poisson(mean: float, highest: int) -> list[float]:
    return [math.exp(-mean) * mean**count / math.factorial(count) for count in range(highest + 1)]


def _grid(home_mean: float, away_mean: float, highest: int) -> Grid:
    home, away = _poisson(home_mean, highest), _poisson(away_mean, highest)
    whole = sum(home) * sum(away)  # what lies above `highest` is spread over the rest
    return Grid(
        tuple(product(range(highest + 1), range(highest + 1))),
        tuple(ph * pa / whole for ph, pa in product(home, away)),
    )
