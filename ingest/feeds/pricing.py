"""Ways to price the outcomes of a market from the grids of a match."""

import math
from collections.abc import Callable, Sequence
from itertools import product
from operator import mul

from .goals import FIRST_HALF, Match

__all__ = [
    "Outcome",
    "Priced",
    "Pricer",
    "asian",
    "both_score",
    "clean_sheet",
    "correct_score",
    "double_chance",
    "exact_count",
    "first_goal",
    "first_goal_time",
    "goal_ranges",
    "half_full",
    "halves",
    "odd_even",
    "on_grid",
    "result",
    "side_count",
    "total",
    "win_to_nil",
    "winning_margin",
    "wins_by",
    "yes_no",
]

HALF_TIME = 45  # minutes

# How much of a stake wins at a score: 1, 0, or between for a quarter line.
Weight = Callable[[int, int], float]
Outcome = tuple[str, Weight]
Priced = list[tuple[str, float]]
Pricer = Callable[[Match], Priced]


def on_grid(grid: str, *parts: Sequence[Outcome], winners: float | None = 1.0) -> Pricer:
    """Prices outcomes on one grid; several parts make a combined market, "1 & Over".

    `winners` is how many outcomes win together: the probabilities are scaled to it,
    which is what returned stakes (whole lines, draw no bet) come to. None: no scaling.
    """
    combined = [
        (" & ".join(name for name, _ in one), [weight for _, weight in one])
        for one in product(*parts)
    ]
    table: tuple[list[float], ...] = ()  # of each outcome, its weight at each score

    def price(match: Match) -> Priced:
        nonlocal table
        scores, chances = match.grids[grid].scores, match.grids[grid].chances
        if not table:  # the scores are the same for every match: once is enough
            table = tuple(
                [math.prod(weight(h, a) for weight in weights) for h, a in scores]
                for _, weights in combined
            )
        sums = [sum(map(mul, weights, chances)) for weights in table]
        scale = 1.0 if winners is None else winners / (sum(sums) or 1.0)
        return [(name, c * scale) for (name, _), c in zip(combined, sums, strict=True)]

    return price


def result(handicap: int = 0) -> list[Outcome]:
    """Home, draw, away; with a European handicap on the home side."""
    return [
        ("1", lambda h, a: h + handicap > a),
        ("X", lambda h, a: h + handicap == a),
        ("2", lambda h, a: h + handicap < a),
    ]


def double_chance() -> list[Outcome]:
    """Two of the three results; two outcomes win."""
    return [
        ("1X", lambda h, a: h >= a),
        ("X2", lambda h, a: h <= a),
        ("12", lambda h, a: h != a),
    ]


def asian(line: float) -> list[Outcome]:
    """Home and away with `line` on the home side; line 0 is draw no bet."""
    return [
        ("1", lambda h, a: min(1.0, max(0.0, 2 * (h - a + line)))),
        ("2", lambda h, a: min(1.0, max(0.0, 2 * (a - h - line)))),
    ]


def total(line: float) -> list[Outcome]:
    """Over and under a line of both sides together; quarter lines too."""
    return [
        ("Over", lambda h, a: min(1.0, max(0.0, 2 * (h + a - line)))),
        ("Under", lambda h, a: min(1.0, max(0.0, 2 * (line - h - a)))),
    ]


def side_count(side: int, line: float) -> list[Outcome]:
    """Over and under a half line of one side (0 home, 1 away)."""
    return [
        ("Over", lambda h, a: (h, a)[side] > line),
        ("Under", lambda h, a: (h, a)[side] < line),
    ]


def yes_no(test: Callable[[int, int], bool]) -> list[Outcome]:
    """A thing that happens or does not."""
    return [("Yes", test), ("No", lambda h, a: not test(h, a))]


def clean_sheet(side: int) -> list[Outcome]:
    """A side lets in no goal."""
    return yes_no(lambda h, a: (a, h)[side] == 0)


def win_to_nil(side: int) -> list[Outcome]:
    """A side wins and lets in no goal."""
    return yes_no(lambda h, a: (h, a)[side] > (a, h)[side] == 0)


def wins_by(side: int, margin: int) -> list[Outcome]:
    """A side wins by so many goals or more."""
    return yes_no(lambda h, a: (h, a)[side] - (a, h)[side] >= margin)


def both_score() -> list[Outcome]:
    """Both sides score, or not."""
    return yes_no(lambda h, a: h > 0 and a > 0)


def odd_even(side: int | None = None) -> list[Outcome]:
    """Odd or even count of one side or of both."""

    def count(h: int, a: int) -> int:
        return h + a if side is None else (h, a)[side]

    return [
        ("Odd", lambda h, a: count(h, a) % 2 == 1),
        ("Even", lambda h, a: count(h, a) % 2 == 0),
    ]


def correct_score(highest: int) -> list[Outcome]:
    """Each score up to `highest` a side, then the three others."""
    scores = list(product(range(highest + 1), repeat=2))
    exact: list[Outcome] = [(f"{x}-{y}", _is_score(x, y)) for x, y in scores]
    others: list[Outcome] = [
        ("Any other home win", lambda h, a: h > a and h > highest),
        ("Any other draw", lambda h, a: h == a and h > highest),
        ("Any other away win", lambda h, a: h < a and a > highest),
    ]
    return exact + others


def _is_score(x: int, y: int) -> Weight:
    return lambda h, a: h == x and a == y


def exact_count(highest: int, side: int | None = None) -> list[Outcome]:
    """Exactly 0, 1, ... and `highest` or more."""

    def exactly(wanted: int) -> Weight:
        def weight(h: int, a: int) -> bool:
            count = h + a if side is None else (h, a)[side]
            return count == wanted or count > wanted == highest

        return weight

    return [(f"{n}+" if n == highest else str(n), exactly(n)) for n in range(highest + 1)]


def goal_ranges(ranges: Sequence[tuple[int, int]], side: int | None = None) -> list[Outcome]:
    """From .. to goals; the ranges overlap, so several win."""

    def within(low: int, high: int) -> Weight:
        return lambda h, a: low <= (h + a if side is None else (h, a)[side]) <= high

    return [(f"{low}-{high}", within(low, high)) for low, high in ranges]


def winning_margin(highest: int) -> list[Outcome]:
    """Home or away by 1, 2, ... and `highest` or more, or the draw."""

    def by(sign: int, wanted: int) -> Weight:
        def weight(h: int, a: int) -> bool:
            margin = sign * (h - a)
            return margin == wanted or margin > wanted == highest

        return weight

    sides = product((("1", 1), ("2", -1)), range(1, highest + 1))
    margins: list[Outcome] = [
        (f"{label} by {n}{'+' * (n == highest)}", by(sign, n)) for (label, sign), n in sides
    ]
    return [*margins, ("Draw", lambda h, a: h == a)]


def half_full(match: Match) -> Priced:
    """The result at half time and at full time."""
    chances = {f"{ht}/{ft}": 0.0 for ht in "1X2" for ft in "1X2"}
    first = _spread(match, "first", lambda h, a: h - a)
    second = _spread(match, "second", lambda h, a: h - a)
    for (lead, p1), (gain, p2) in product(first, second):
        chances[f"{_sign(lead)}/{_sign(lead + gain)}"] += p1 * p2
    return list(chances.items())


def _sign(margin: int) -> str:
    return "1" if margin > 0 else "2" if margin < 0 else "X"


def halves(side: int | None = None) -> Pricer:
    """Which half has more goals, of one side or of both."""

    def goals(h: int, a: int) -> int:
        return h + a if side is None else (h, a)[side]

    def price(match: Match) -> Priced:
        chances = {"1st half": 0.0, "2nd half": 0.0, "Equal": 0.0}
        first, second = _spread(match, "first", goals), _spread(match, "second", goals)
        for (early, p1), (late, p2) in product(first, second):
            key = "1st half" if early > late else "2nd half" if early < late else "Equal"
            chances[key] += p1 * p2
        return list(chances.items())

    return price


def _spread(match: Match, grid: str, count: Callable[[int, int], int]) -> list[tuple[int, float]]:
    """The chances of each value of a number that the score gives."""
    chances: dict[int, float] = {}
    cells = match.grids[grid]
    for score, chance in zip(cells.scores, cells.chances, strict=True):
        value = count(*score)
        chances[value] = chances.get(value, 0.0) + chance
    return list(chances.items())


def first_goal(share: float = 1.0) -> Pricer:
    """Who scores the first goal (or the last) of a `share` of the match, if anyone."""

    def price(match: Match) -> Priced:
        home, away = match.home_goals * share, match.away_goals * share
        none = math.exp(-home - away)
        home_first = home / (home + away) * (1 - none)
        return [("1", home_first), ("None", none), ("2", 1 - none - home_first)]

    return price


def first_goal_time(minutes: int) -> Pricer:
    """The interval of so many minutes in which the first goal falls."""

    def price(match: Match) -> Priced:
        goals = match.home_goals + match.away_goals
        priced: Priced = []
        left = 1.0
        for start in range(0, 2 * HALF_TIME, minutes):
            end = start + minutes
            after = math.exp(-goals * _played(end))
            priced.append((f"{start + 1}-{end}", left - after))
            left = after
        return [*priced, ("No goal", left)]

    return price


def _played(minute: int) -> float:
    """The share of a match's goals up to a minute."""
    if minute <= HALF_TIME:
        return minute / HALF_TIME * FIRST_HALF
    return FIRST_HALF + (minute - HALF_TIME) / HALF_TIME * (1 - FIRST_HALF)
