"""Which columns of a football-data.co.uk match file belong to which bookmaker.

A bookmaker is known by its code in front of the columns, e.g. `B365H`, `B365D`
and `B365A`; a `C` after the code makes them closing odds, `B365CH`. Codes end
in `C` too (`VC`), so `VCH` alone could be either.
"""

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Bookmaker", "Columns", "find_bookmakers"]

AGGREGATES = {"Max", "Avg", "BbMx", "BbAv"}  # over bookmakers; Bb* in seasons before 2019/20
CLOSING = "C"
# Codes that are others in the over/under and handicap columns: Pinnacle.
OTHER_MARKETS = {"PS": "P"}


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of one bookmaker's odds, opening or closing ones.

    Attributes:
        result: home, draw, away.
        total: over and under 2.5 goals.
        asian: home and away, with the handicap of `asian_line`.
        asian_line: the home side's handicap; shared by all bookmakers.
        own: those of the bookmaker alone that the file has, in the file's order.
    """

    result: tuple[str, str, str]
    total: tuple[str, str]
    asian: tuple[str, str]
    asian_line: str
    own: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Bookmaker:
    """A bookmaker's code and columns; the file need not have all of them."""

    code: str
    opening: Columns
    closing: Columns


def find_bookmakers(header: Sequence[str]) -> tuple[Bookmaker, ...]:
    """The bookmakers of a file, in the order of its columns, aggregates left out.

    A code that could be the closing form of a shorter one is taken as that,
    unless it has a closing form itself.
    """
    names = set(header)
    codes = [
        column[:-1]
        for column in header
        if len(column) > 1
        and column.endswith("H")
        and names.issuperset({f"{column[:-1]}D", f"{column[:-1]}A"})
    ]
    closing = {f"{code}{CLOSING}" for code in codes if f"{code}{CLOSING * 2}" not in codes}
    return tuple(
        Bookmaker(code, _columns(code, "", header), _columns(code, CLOSING, header))
        for code in codes
        if code not in closing and code.removesuffix(CLOSING) not in AGGREGATES
    )


def _columns(code: str, closing: str, header: Sequence[str]) -> Columns:
    result, other = code + closing, OTHER_MARKETS.get(code, code) + closing
    home_draw_away = (f"{result}H", f"{result}D", f"{result}A")
    total = (f"{other}>2.5", f"{other}<2.5")
    asian = (f"{other}AHH", f"{other}AHA")
    mine = {*home_draw_away, *total, *asian}
    return Columns(
        result=home_draw_away,
        total=total,
        asian=asian,
        asian_line=f"AH{closing}h",
        own=tuple(column for column in header if column in mine),
    )
