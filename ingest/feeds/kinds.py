"""The markets that the simulator's bookmakers offer: 170 of them, of 78 kinds.

A `Slot` is one market of an event: what kind, which line, priced how. BetPawa
offers all of them and each competitor a part, spread over the whole list.
"""

from dataclasses import dataclass
from functools import cache

from . import pricing as p

__all__ = ["Slot", "catalogue", "offered"]

MAIN, GOALS, HANDICAP, HALVES = ["all", "main"], ["all", "goals"], ["all", "handicap"], ["halves"]
SCORE, COMBO, TEAMS, PLAYERS = ["score"], ["combo"], ["all", "teams"], ["players"]
CORNERS, CARDS = ["corners", "specials"], ["cards", "specials"]

PERIODS = (("full", "FT"), ("first", "1H"), ("second", "2H"))
SIDES = ((0, "Home"), (1, "Away"))


@dataclass(frozen=True, slots=True)
class Slot:
    """One market of an event, without its odds.

    `price` is None for goalscorer markets, whose outcomes are the event's own
    players; `scorers` says then which. `keyed`: the outcomes are a dict by name
    and not a list.
    """

    market_id: str
    name: str
    groups: list[str]
    price: p.Pricer | None
    line: float | None = None
    handicap_type: str | None = None
    handicap_home: float | None = None
    keyed: bool = False
    scorers: str | None = None


@cache
def catalogue() -> tuple[Slot, ...]:
    """Every market of an event, the 1X2 first; always the same ones."""
    return (
        *_results(),
        *_totals(),
        *_handicaps(),
        *_scores(),
        *_combined(),
        *_sides(),
        *_first_goals(),
        *_scorers(),
        *_specials("corners", "Corners", CORNERS, 4100, (7.5, 8.5, 9.5, 10.5, 11.5, 12.5), 1.5),
        *_specials("cards", "Bookings", CARDS, 4200, (2.5, 3.5, 4.5, 5.5), 0.5),
    )


def offered(count: int) -> tuple[int, ...]:
    """The numbers of `count` slots spread evenly over the catalogue, the first included."""
    slots = len(catalogue())
    return tuple(n for n in range(slots) if n * count // slots != (n - 1) * count // slots)


def _results() -> list[Slot]:
    slots = []
    for n, (grid, period) in enumerate(PERIODS):
        groups = MAIN if n == 0 else HALVES
        slots += [
            Slot(str(3743 + n), f"1X2 - {period}", groups, p.on_grid(grid, p.result())),
            Slot(
                str(4693 + n),
                f"Double Chance - {period}",
                groups,
                p.on_grid(grid, p.double_chance(), winners=2.0),
            ),
            Slot(str(4703 + n), f"Draw No Bet - {period}", groups, p.on_grid(grid, p.asian(0))),
            Slot(
                str(3795 + n),
                f"Both Teams To Score - {period}",
                GOALS if n == 0 else HALVES,
                p.on_grid(grid, p.both_score()),
            ),
            Slot(
                str(4834 + n),
                f"Odd/Even - {period}",
                GOALS if n == 0 else HALVES,
                p.on_grid(grid, p.odd_even()),
                keyed=True,
            ),
        ]
    return slots


def _totals() -> list[Slot]:
    full = (0.5, 1.5, 1.75, 2.0, 2.25, 2.5, 2.75, 3.0, 3.25, 3.5, 4.5, 5.5, 6.5)
    half = (0.5, 0.75, 1.0, 1.25, 1.5, 2.5, 3.5)
    slots = []
    for n, ((grid, period), lines) in enumerate(zip(PERIODS, (full, half, half), strict=True)):
        groups = GOALS if n == 0 else HALVES
        slots += [
            Slot(
                str(5000 + n),
                f"Over/Under - {period}",
                groups,
                p.on_grid(grid, p.total(line)),
                line=line,
            )
            for line in lines
        ]
        slots += [
            Slot(
                str(5010 + 3 * side + n),
                f"{label} Team Over/Under - {period}",
                TEAMS,
                p.on_grid(grid, p.side_count(side, line)),
                line=line,
            )
            for side, label in SIDES
            for line in ((0.5, 1.5, 2.5, 3.5, 4.5) if n == 0 else (0.5, 1.5, 2.5))
        ]
    return slots


def _handicaps() -> list[Slot]:
    full = (-2.5, -2.0, -1.5, -1.25, -1.0, -0.75, -0.5, -0.25, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5)
    half = (-1.0, -0.5, -0.25, 0.25, 0.5, 1.0)
    asian = [("full", "FT", line) for line in full] + [("first", "1H", line) for line in half]
    european = [("full", "FT", line) for line in (-3, -2, -1, 1, 2, 3)]
    european += [("first", "1H", line) for line in (-1, 1)]
    return [_handicap("3774", "Asian Handicap", *one, p.asian(one[2])) for one in asian] + [
        _handicap("4724", "European Handicap", *one, p.result(one[2])) for one in european
    ]


def _handicap(
    market_id: str, name: str, grid: str, period: str, line: float, outcomes: list[p.Outcome]
) -> Slot:
    return Slot(
        market_id if period == "FT" else f"{market_id}{period}",
        f"{name} - {period}",
        HANDICAP,
        p.on_grid(grid, outcomes),
        line=line,
        handicap_type=name.split(maxsplit=1)[0].upper(),
        handicap_home=line,
    )


def _scores() -> list[Slot]:
    return [
        Slot("4847", "Correct Score - FT", SCORE, p.on_grid("full", p.correct_score(4))),
        Slot("4848", "Correct Score - 1H", SCORE, p.on_grid("first", p.correct_score(2))),
        Slot("4849", "Correct Score - 2H", SCORE, p.on_grid("second", p.correct_score(2))),
        Slot("4850", "Half Time/Full Time", SCORE, p.half_full),
        Slot("4851", "Winning Margin", SCORE, p.on_grid("full", p.winning_margin(4))),
        Slot("4852", "Exact Goals - FT", GOALS, p.on_grid("full", p.exact_count(6))),
        Slot("4853", "Exact Goals - 1H", HALVES, p.on_grid("first", p.exact_count(3))),
        Slot("4854", "Exact Goals - 2H", HALVES, p.on_grid("second", p.exact_count(3))),
        Slot(
            "4855",
            "Multigoals",
            GOALS,
            p.on_grid(
                "full",
                p.goal_ranges(((1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (2, 5), (3, 4), (3, 5))),
                winners=None,
            ),
        ),
        Slot("4856", "Highest Scoring Half", HALVES, p.halves()),
        Slot("4857", "Home Team Highest Scoring Half", TEAMS, p.halves(0)),
        Slot("4858", "Away Team Highest Scoring Half", TEAMS, p.halves(1)),
    ]


def _combined() -> list[Slot]:
    lines = (1.5, 2.5, 3.5, 4.5)
    with_total = [
        ("4910", "1X2 & Over/Under", p.result(), 1.0),
        ("4911", "Double Chance & Over/Under", p.double_chance(), 2.0),
        ("4912", "Both Teams To Score & Over/Under", p.both_score(), 1.0),
    ]
    slots = [
        Slot(market_id, name, COMBO, p.on_grid("full", part, p.total(line), winners=won), line=line)
        for market_id, name, part, won in with_total
        for line in lines
    ]
    result_both = p.on_grid("full", p.result(), p.both_score())
    double_both = p.on_grid("full", p.double_chance(), p.both_score(), winners=2.0)
    return [
        *slots,
        Slot("4913", "1X2 & Both Teams To Score", COMBO, result_both),
        Slot("4914", "Double Chance & Both Teams To Score", COMBO, double_both),
    ]


def _sides() -> list[Slot]:
    slots = []
    for side, label in SIDES:
        outcomes = {
            "Clean Sheet": p.clean_sheet(side),
            "Win To Nil": p.win_to_nil(side),
            "To Win By 2+": p.wins_by(side, 2),
            "Odd/Even": p.odd_even(side),
            "Exact Goals": p.exact_count(3, side),
        }
        slots += [
            Slot(
                str(4930 + 10 * side + n),
                f"{label} Team {name}",
                TEAMS,
                p.on_grid("full", parts),
                keyed=name == "Odd/Even",
            )
            for n, (name, parts) in enumerate(outcomes.items())
        ]
        ranges = p.on_grid("full", p.goal_ranges(((1, 2), (1, 3), (2, 3)), side), winners=None)
        slots.append(Slot(str(4935 + 10 * side), f"{label} Team Multigoals", TEAMS, ranges))
    return slots


def _first_goals() -> list[Slot]:
    return [
        Slot("4950", "First Team To Score", GOALS, p.first_goal()),
        Slot("4951", "Last Team To Score", GOALS, p.first_goal(0.98)),
        Slot("4952", "First Team To Score - 1H", HALVES, p.first_goal(0.45)),
        Slot("4953", "First Team To Score - 2H", HALVES, p.first_goal(0.55)),
        Slot("4954", "First Goal Time - 15 Minutes", GOALS, p.first_goal_time(15)),
        Slot("4955", "First Goal Time - 10 Minutes", GOALS, p.first_goal_time(10)),
    ]


def _scorers() -> list[Slot]:
    names = {"anytime": "Anytime", "first": "First", "last": "Last"}
    return [
        Slot(str(4960 + n), f"{name} Goalscorer", PLAYERS, None, scorers=scorers)
        for n, (scorers, name) in enumerate(names.items())
    ]


def _specials(
    grid: str, label: str, groups: list[str], first_id: int, lines: tuple[float, ...], lead: float
) -> list[Slot]:
    slots = [
        Slot(str(first_id), f"{label} 1X2", groups, p.on_grid(grid, p.result())),
        Slot(
            str(first_id + 1),
            f"{label} Odd/Even",
            groups,
            p.on_grid(grid, p.odd_even()),
            keyed=True,
        ),
    ]
    slots += [
        Slot(
            str(first_id + 2),
            f"{label} Over/Under",
            groups,
            p.on_grid(grid, p.total(line)),
            line=line,
        )
        for line in lines
    ]
    slots += [
        Slot(
            str(first_id + 3),
            f"{label} Handicap",
            groups,
            p.on_grid(grid, p.asian(line)),
            line=line,
            handicap_type="ASIAN",
            handicap_home=line,
        )
        for line in (-lead - 1, -lead, lead, lead + 1)
    ]
    slots += [
        Slot(
            str(first_id + 4 + side),
            f"{side_label} Team {label} Over/Under",
            groups,
            p.on_grid(grid, p.side_count(side, line)),
            line=line,
        )
        for side, side_label in SIDES
        for line in (lines[0] // 2 + 0.5, lines[0] // 2 + 1.5)
    ]
    return slots
