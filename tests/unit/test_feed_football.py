"""Match files of football-data.co.uk: two scrapes a match, one clear line for a bad one."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from oddslog.ingest.feeds import FeedError, read_football_data
from oddslog.ingest.feeds.football_columns import find_bookmakers
from oddslog.schemas.records import (
    CompetitorSnapshotKey,
    CompetitorSnapshotWriteData,
    MarketWriteData,
    SnapshotKey,
    SnapshotWriteData,
    WriteBatch,
)

FILE = Path(__file__).parent.parent / "data" / "football" / "T1.csv"
DAY = timedelta(hours=24)
SUMMER = datetime(2025, 8, 15, 19, tzinfo=UTC)  # 20:00 in London
CLOCK_CHANGE = datetime(2025, 10, 26, 12, 30, tzinfo=UTC)  # 12:30, summer time ended at 1:00
WINTER = datetime(2026, 1, 16, 19, 45, tzinfo=UTC)
SECOND_DAY = SUMMER + DAY


@pytest.fixture
def batches() -> list[WriteBatch]:
    """The hand-made file's."""
    return list(read_football_data([FILE]))


def betpawa(batches: list[WriteBatch], event_id: int) -> list[SnapshotWriteData]:
    """The new snapshots of a match at Bet365."""
    return [one for b in batches for one in b.changed_betpawa if one.event_id == event_id]


def competitor(batches: list[WriteBatch], event_id: int) -> list[CompetitorSnapshotWriteData]:
    """The new snapshots of a match at another bookmaker."""
    return [
        one for b in batches for one in b.changed_competitor if one.competitor_event_id == event_id
    ]


def snapshots(
    batches: list[WriteBatch],
) -> list[SnapshotWriteData | CompetitorSnapshotWriteData]:
    """All new ones."""
    found: list[SnapshotWriteData | CompetitorSnapshotWriteData] = []
    for batch in batches:
        found += batch.changed_betpawa
        found += batch.changed_competitor
    return found


def odds(snapshot: SnapshotWriteData | CompetitorSnapshotWriteData) -> dict[str, list[float]]:
    """The prices by the market's name."""
    prices: dict[str, list[float]] = {}
    for market in snapshot.markets:
        assert isinstance(market.outcomes, list)
        prices[market.betpawa_market_name] = [outcome["odds"] for outcome in market.outcomes]
    return prices


def test_every_snapshot_and_confirmation_of_the_file_is_there(batches: list[WriteBatch]) -> None:
    """4 matches at 3 bookmakers, counted by hand; Max and Avg are none."""
    assert sum(len(b.changed_betpawa) for b in batches) == 6
    assert sum(len(b.changed_competitor) for b in batches) == 8
    assert sum(len(one.markets) for one in snapshots(batches)) == 29
    assert [key for b in batches for key in b.unchanged_betpawa] == [
        SnapshotKey(2, 1, CLOCK_CHANGE - DAY)
    ]
    assert [key for b in batches for key in b.unchanged_competitor] == [
        CompetitorSnapshotKey(1, SUMMER - DAY)
    ]


def test_times_are_london_time_and_24_hours_apart(batches: list[WriteBatch]) -> None:
    """In summer, in winter, and over the night when the clocks change."""
    assert [one.captured_at for one in betpawa(batches, 1)] == [SUMMER - DAY, SUMMER]
    assert [one.captured_at for one in betpawa(batches, 3)] == [WINTER - DAY]
    assert [one.captured_at for one in competitor(batches, 3)] == [CLOCK_CHANGE - DAY, CLOCK_CHANGE]


def test_batches_come_in_order_of_time_one_moment_each(batches: list[WriteBatch]) -> None:
    """A confirmation is at its scrape's time and after the snapshot it names."""
    assert [b.confirmed_at for b in batches] == [
        SUMMER - DAY,
        SUMMER,
        SECOND_DAY,
        CLOCK_CHANGE - DAY,
        CLOCK_CHANGE,
        WINTER - DAY,
        WINTER,
    ]
    for batch in batches:
        assert {one.captured_at for one in snapshots([batch])} <= {batch.confirmed_at}
        assert (batch.batch_index, batch.batch_count, batch.scrape_run_id) == (0, 1, None)
    assert batches[4].unchanged_betpawa
    assert batches[1].unchanged_competitor


def test_an_opening_and_a_closing_of_one_moment_share_a_batch(batches: list[WriteBatch]) -> None:
    """The fourth match's opening scrape is at the first one's kick-off."""
    assert [one.event_id for one in batches[1].changed_betpawa] == [1, 4]


def test_a_market_is_told_as_betpawa_tells_it(batches: list[WriteBatch]) -> None:
    """All three, with line and handicap."""
    opening = betpawa(batches, 1)[0]
    assert opening.bookmaker_id == 1
    assert opening.markets == (
        MarketWriteData(
            "3743",
            "1X2 - FT",
            None,
            None,
            None,
            None,
            [
                {"name": "1", "odds": 1.3, "is_active": True},
                {"name": "X", "odds": 6.0, "is_active": True},
                {"name": "2", "odds": 8.5, "is_active": True},
            ],
            ["all", "main"],
        ),
        MarketWriteData(
            "5000",
            "Over/Under - FT",
            2.5,
            None,
            None,
            None,
            [
                {"name": "Over", "odds": 1.36, "is_active": True},
                {"name": "Under", "odds": 3.2, "is_active": True},
            ],
            ["all", "goals"],
        ),
        MarketWriteData(
            "3774",
            "Asian Handicap - FT",
            -1.5,
            "ASIAN",
            -1.5,
            1.5,
            [
                {"name": "1", "odds": 1.83, "is_active": True},
                {"name": "2", "odds": 2.03, "is_active": True},
            ],
            ["all", "handicap"],
        ),
    )
    closing = betpawa(batches, 1)[1]
    assert [market.line for market in closing.markets] == [None, 2.5, -1.75]
    assert odds(closing)["Asian Handicap - FT"] == [2.03, 1.78]


def test_pinnacle_is_ps_and_p(batches: list[WriteBatch]) -> None:
    """PS in 1X2, P in the others, opening and closing."""
    opening, closing = competitor(batches, 2)
    assert list(odds(opening).values()) == [[1.28, 6.56, 9.07], [1.37, 3.26], [1.9, 2.03]]
    assert list(odds(closing).values()) == [[1.29, 6.55, 9.75], [1.41, 2.95], [2.07, 1.85]]


def test_the_raw_response_is_the_bookmakers_own_columns(batches: list[WriteBatch]) -> None:
    """As text, opening ones at the opening, closing ones at the closing."""
    opening, closing = competitor(batches, 4)
    assert opening.raw_response == {
        "PSH": "2.24",
        "PSD": "3.72",
        "PSA": "3.13",
        "P>2.5": "1.65",
        "P<2.5": "",
        "PAHH": "1.96",
        "PAHA": "1.94",
    }
    assert isinstance(closing.raw_response, dict)
    assert list(closing.raw_response)[3:5] == ["PC>2.5", "PC<2.5"]


def test_a_market_needs_all_its_prices_and_its_line(batches: list[WriteBatch]) -> None:
    """A price that is missing or 0, or a missing line, takes the market away."""
    opening, closing = competitor(batches, 4)
    assert list(odds(opening)) == ["1X2 - FT", "Asian Handicap - FT"]
    assert list(odds(closing)) == ["1X2 - FT", "Over/Under - FT", "Asian Handicap - FT"]
    assert list(odds(betpawa(batches, 3)[0])) == ["1X2 - FT"]


def test_a_snapshot_needs_its_1x2(batches: list[WriteBatch]) -> None:
    """Pinnacle has no draw in the third match, before and at kick-off."""
    assert competitor(batches, 6) == []


def test_the_second_scrape_of_a_match(batches: list[WriteBatch]) -> None:
    """Absent is nothing, new without opening odds is new, another line is another snapshot."""
    assert len(betpawa(batches, 3)) == 1
    assert [one.captured_at for one in competitor(batches, 5)] == [WINTER]
    assert [one.markets[1].line for one in betpawa(batches, 4)] == [0.0, -0.25]


def test_ids_count_up_over_files_and_lines() -> None:
    """A second file goes on where the first ended, header bookmakers counted."""
    found = list(read_football_data([FILE, FILE]))
    assert len(betpawa(found, 5)) == 2
    assert competitor(found, 9)[0].markets == competitor(found, 1)[0].markets
    assert {one.event_id for b in found for one in b.changed_betpawa} == {1, 2, 3, 4, 5, 6, 7, 8}
    assert found == list(read_football_data([FILE, FILE]))


def test_a_moment_of_many_matches_is_several_batches() -> None:
    """No more than `batch_events` matches each, counted within the moment."""
    found = list(read_football_data([FILE] * 5, batch_events=2))
    first = [b for b in found if b.confirmed_at == SUMMER - DAY]
    assert [(b.batch_index, b.batch_count, len(b.changed_betpawa)) for b in first] == [
        (0, 3, 2),
        (1, 3, 2),
        (2, 3, 1),
    ]


def _three(code: str) -> Iterator[str]:
    return (f"{code}{side}" for side in "HDA")


def header(*codes: str) -> list[str]:
    """A header with 1X2 columns of these codes."""
    return ["Div", "FTHG", "FTAG", "HS", "AS", *(name for code in codes for name in _three(code))]


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        (("B365", "WH", "VC", "Max", "Avg"), ["B365", "WH", "VC"]),
        (("BbMx", "BbAv", "LB", "PSC", "PS"), ["LB", "PS"]),
        (("V", "VC"), ["V"]),
        (("V", "VC", "VCC"), ["V", "VC"]),
        (("VC", "VCC"), ["VC"]),
        (("BF", "BFE", "BFD", "BFC", "BFEC", "BFDC"), ["BF", "BFE", "BFD"]),
        (("1XB", "1XBC", "MaxC", "AvgC", "Max", "Avg"), ["1XB"]),
        (("B365", "MaxC", "AvgC"), ["B365"]),
    ],
)
def test_bookmakers_are_found_in_any_seasons_header(
    codes: tuple[str, ...], expected: list[str]
) -> None:
    """In the file's order; a closing form is no bookmaker, an aggregate neither."""
    assert [one.code for one in find_bookmakers(header(*codes))] == expected


def test_a_bookmaker_without_bet365_is_still_a_competitor(tmp_path: Path) -> None:
    """A file without Bet365 has no BetPawa snapshots; the byte order mark is in no name."""
    text = "\ufeffDate,Time,HomeTeam,AwayTeam,WHH,WHD,WHA,,\n15/08/2025,20:00,A,B,2,3,4,,\n"
    found = list(read_football_data([write(tmp_path, text)]))
    assert len(found) == 1
    assert found[0].changed_competitor[0].competitor_event_id == 1
    assert not found[0].changed_betpawa


def write(folder: Path, content: str | bytes) -> Path:
    """A match file."""
    path = folder / "M1.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


HEADER = "Date,Time,HomeTeam,AwayTeam,B365H,B365D,B365A"
GOOD = "15/08/2025,20:00,A,B,2,3,4"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "line 1: no column Date, Time, HomeTeam, AwayTeam"),
        ("a,b\n1,2\n", "line 1: no column Date"),
        (HEADER.replace("Time,", ""), "line 1: no column Time; give a match file"),
        ("Date,Time,HomeTeam,AwayTeam,FTHG\n", "line 1: no bookmaker's columns"),
        (f"{HEADER},B365H\n", "line 1: column B365H is there twice"),
        (f"{HEADER}\n{GOOD}\n,20:00,A,B,2,3,4\n", "line 3: Date is missing"),
        (f"{HEADER}\n15/08/2025,,A,B,2,3,4\n", "line 2: Time is missing"),
        (f"{HEADER}\n15/08/2025,20:00, ,B,2,3,4\n", "line 2: HomeTeam is missing"),
        (f"{HEADER}\n15/08/2025,20:00,A,,2,3,4\n", "line 2: AwayTeam is missing"),
        (f"{HEADER}\n2025-08-15,20:00,A,B,2,3,4\n", "line 2: Date and Time must be like"),
        (f"{HEADER}\n31/02/2025,20:00,A,B,2,3,4\n", "line 2: Date and Time must be like"),
        (f"{HEADER}\n01/01/0001,20:00,A,B,2,3,4\n", "line 2: Date and Time must be like"),
        (f"{HEADER}\n15/08/2025,20:00,A,B,2,x,4\n", "line 2: B365D must be a number, not 'x'"),
        (f"{HEADER}\n15/08/2025,20:00,A,B,nan,3,4\n", "line 2: B365H must be a number"),
        (f"{HEADER}\n15/08/2025,20:00,A,B,1e999,3,4\n", "line 2: B365H must be a number"),
        (f"{HEADER}\n15/08/2025,20:00,A,B,1_0,3,4\n", "line 2: B365H must be a number"),
        (f"{HEADER}\n{GOOD}\n15/08/2025,20:00,A\n", "line 3: has 3 fields, but the header has 7"),
        (f"{HEADER}\n{GOOD},5\n", "line 2: has 8 fields, but the header has 7"),
        (f'{HEADER}\n{GOOD}\n"15/08/2025\n', "is no CSV"),
        (
            f"{HEADER}\n{GOOD}\n15/08/2025,20:00,Alav\xe9s,B,2,3,4\n".encode("latin-1"),
            "line 3: is not UTF-8",
        ),
        (f"{HEADER}\n{GOOD}\n".encode("utf-16"), "line 1: is not UTF-8"),
    ],
)
def test_a_broken_file_is_one_clear_line(
    tmp_path: Path, content: str | bytes, problem: str
) -> None:
    """It names the file and the line, before any batch is made."""
    path = write(tmp_path, content)
    with pytest.raises(FeedError) as caught:
        read_football_data([FILE, path])
    message = str(caught.value)
    assert message.startswith(f"{path}, line ")
    assert problem in message
    assert "\n" not in message
    assert caught.value.exit_code == 2


def test_a_file_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    """And a folder is no file."""
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(FeedError, match="cannot be read: ") as caught:
            read_football_data([path])
        assert str(path) in str(caught.value)


def test_a_batch_has_at_least_one_match() -> None:
    """Or all would be lost."""
    with pytest.raises(FeedError, match="batch_events: must be at least 1, not 0"):
        read_football_data([FILE], batch_events=0)


def test_blank_lines_are_passed_over_and_line_numbers_stay(tmp_path: Path) -> None:
    """Blank lines and lines of commas, anywhere; and a separator inside a name is no line end."""
    good = GOOD.replace("A,B", "A\u2028C,B")
    assert (
        len(list(read_football_data([write(tmp_path, f"\n{HEADER}\n\n{good}\n,,,,,,\n\n")]))) == 1
    )
    with pytest.raises(FeedError, match="line 5: Time is missing"):
        read_football_data(
            [write(tmp_path, f"{HEADER}\n\n{good}\n,,,,,,\n15/08/2025,,A,B,2,3,4\n")]
        )
