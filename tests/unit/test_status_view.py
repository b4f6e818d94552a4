"""What `status` shows, as text: in a terminal of any size, whatever is away."""

from dataclasses import replace
from datetime import timedelta

import pytest
from rich.console import Console

from oddslog.deploy.log_look import LogView
from oddslog.deploy.overview import Overview
from oddslog.deploy.status_view import Size, fitted, plain_line, view_of
from oddslog.sink.positions import LogRange
from tests.support.overviews import AT, cause, kafka_away, lagging, level, postgresql_away

STATES = {
    "level": level(),
    "lagging": lagging(),
    "many": lagging(48, 12),
    "no sink": lagging(6, 0),
    "Kafka away": kafka_away(lagging()),
    "PostgreSQL away": postgresql_away(lagging()),
    "both away": kafka_away(postgresql_away(lagging())),
    "not heard yet": replace(level(), kafka=None, database=None),
}


def screen(overview: Overview, width: int = 80, height: int = 24) -> list[str]:
    """The lines of one screen."""
    console = Console(width=width, height=height, highlight=False)
    with console.capture() as captured:
        console.print(fitted(overview, Size(width, height), every_seconds=2.0))
    return captured.get().removesuffix("\n").split("\n")


def text_of(overview: Overview, width: int = 240) -> str:
    """All of it, as in a pipe."""
    console = Console(width=width, highlight=False)
    with console.capture() as captured:
        for part in view_of(overview).parts():
            console.print(part)
    return captured.get()


@pytest.mark.parametrize("name", STATES)
@pytest.mark.parametrize("size", [(80, 24), (140, 40), (80, 12), (40, 10), (200, 60)])
def test_each_picture_fits_its_terminal(name: str, size: tuple[int, int]) -> None:
    """A line too many would scroll the first ones away."""
    lines = screen(STATES[name], *size)
    assert len(lines) <= size[1]
    assert max(map(len, lines)) <= size[0]
    assert lines[0].startswith("Topic odds.writes")


def test_the_first_lines_say_how_it_stands() -> None:
    """Lag, age, and when it is gone, before anything that may be cut off."""
    title, summary, *_ = screen(lagging())
    assert title.endswith("12:00:00 UTC, every 2 s")
    assert summary.startswith(
        "Lag: 78,000 records, the oldest 1 m 55 s old, level in 20 s; 4,206/s written"
    )
    assert screen(level())[1].strip() == "The tables are level with the log"


def test_more_comes_in_than_is_written() -> None:
    """Then there is no time to name."""
    overview = lagging()
    slow = replace(overview, pace=replace(overview.pace, appended=dict.fromkeys(range(12), 400.0)))
    assert ", falls behind; 4,206/s written, 4,800/s arriving" in text_of(slow)


def test_no_sink_at_work_is_said() -> None:
    """The first thing to know at night."""
    assert "; no sink is at work" in text_of(lagging(6, 0))
    assert "members       none, the group is Empty" in text_of(lagging(6, 0))


def test_each_partition_has_its_row() -> None:
    """Ledger, log end, lag, age, rate, time to catch up, and who has it."""
    rows = text_of(lagging()).splitlines()
    (row,) = [line.split() for line in rows if line.split()[:1] == ["1"]]
    assert " ".join(row) == (
        "1 1,000 1,234,568 1,232,568 1,229,568 2,000 15 s 350 6.1 s 2.0 s ago 10.0.0.2"
    )


def test_what_lags_most_is_kept_and_the_rest_is_counted() -> None:
    """With 48 partitions on 24 lines."""
    lines = screen(lagging(48, 12))
    rows = [line.split() for line in lines]
    shown = [int(row[0]) for row in rows if row[0].isdigit() and row[1].startswith("1,")]
    assert shown == list(range(48 - len(shown), 48))
    rest = 48 - len(shown)
    behind = sum(1000 * (number + 1) for number in range(rest))
    assert f"and {rest} partitions more, {behind:,} records behind" in lines


def test_a_wide_terminal_shows_who_has_what() -> None:
    """A narrow one has the members below."""
    assert "member" in screen(level(), 140, 40)[3]
    assert "member" not in screen(level())[2]
    assert any("10.0.0.3: partitions 2, 5, 8, 11" in line for line in screen(level()))


def test_kafka_away_leaves_what_the_tables_know() -> None:
    """And says where it was looked for, since when, and what to do."""
    lines = screen(kafka_away(lagging()))
    text = " ".join(line.strip() for line in lines)
    assert "The lag is not known" in text
    assert "Kafka (answered 1 m 15 s ago): Kafka at kafka-1.example:9092" in text
    assert "start it, or mend ODDSLOG_BOOTSTRAP_SERVERS" in text
    assert "1,233,567" in text
    assert "1,234 poison, markets[].betpawa_market_name, last 3 m 00 s ago" in text
    assert "log end" not in text


def test_postgresql_away_leaves_what_the_log_knows() -> None:
    """The lag by the group's offsets is no more than a hint, and called so."""
    text = " ".join(line.strip() for line in screen(postgresql_away(lagging())))
    assert "Lag by the group's offsets: 60,000 records" in text
    assert "PostgreSQL (answered 1 m 15 s ago): PostgreSQL at postgresql://sink:***@" in text
    assert "lag of group" in text
    assert "3, the group is Stable" in text
    assert "dead letters" not in text


def test_a_side_that_hangs_is_told_by_its_age() -> None:
    """It has not failed yet, and what is shown is old."""
    stalled = replace(level(), heard={"Kafka": AT - timedelta(seconds=8), "PostgreSQL": AT})
    assert "Kafka has not answered for 8.0 s: as of then" in "\n".join(screen(stalled))
    silent = replace(level(), kafka=None)
    assert "Kafka has not answered yet" in "\n".join(screen(silent))


def test_dead_letters_are_told_by_cause() -> None:
    """The most frequent first; where there are many, how to see the others."""
    overview = lagging()
    view = overview.database_view
    assert view is not None
    causes = [cause("poison", 90 - number, sqlstate="22001") for number in range(7)]
    text = text_of(replace(overview, database=replace(view, causes=causes)))
    assert "90 poison, 22001, last 3 m 00 s ago" in text
    assert "and 2 more causes: oddslog dlq list" in text
    assert "waiting       42 snapshots for event, bookmaker or run, first 12 m" in text


def test_the_spool_is_shown_where_one_is_set() -> None:
    """With what will never be sent."""
    text = text_of(lagging())
    assert (
        "2 rejected: oddslog spool status; 310 fragments, 40 MiB of 10 GiB, first 1 m 35 s" in text
    )
    assert "never used, in /var/lib/scraper/spool" in text_of(replace(level(), spool=None))
    unset = replace(level(), spool=None, places=replace(level().places, spool_dir=None))
    assert "spool" not in text_of(unset)


def test_a_pipe_gets_a_line() -> None:
    """With all that a person would grep for."""
    assert plain_line(lagging()) == (
        "12:00:00 | Lag: 78,000 records, the oldest 1 m 55 s old, level in 20 s; 4,206/s written,"
        " 300/s arriving | members: 3 | dead letters: 1,241 | waiting: 42 | pending: 3 | spool: 310"
    )
    assert "Kafka: Kafka at kafka-1.example" in plain_line(kafka_away(lagging()))


def test_json_has_it_all() -> None:
    """Under the names that scripts know."""
    found = lagging().as_json()
    assert (found["lag_records"], found["lag_seconds"], found["catch_up_seconds"]) == (
        78_000,
        115.0,
        20.0,
    )
    assert (
        found["partitions"][1].items()
        >= {
            "partition": 1,
            "log_start": 1000,
            "log_end": 1_234_568,
            "ledger_next": 1_232_568,
            "group_offset": 1_229_568,
            "lag_records": 2000,
            "lag_seconds": 15.0,
            "written_per_second": 350.5,
            "member": "10.0.0.2",
        }.items()
    )
    assert found["members"][0]["partitions"] == [0, 3, 6, 9]
    assert found["dead_letter_causes"][0]["letters"] == 1234
    assert found["waiting_letters"] == 42
    assert found["spool"]["rejected"] == 2
    away = postgresql_away(lagging()).as_json()
    assert (away["lag_records"], away["group_lag_records"]) == (None, 60_000)
    assert away["dead_letters"] is None
    assert away["partitions"][0]["lag_records"] is None


def test_a_partition_that_was_never_written_lags_whole() -> None:
    """From where the log begins, which is not always 0."""
    overview = level(1, 1)
    view, database = overview.log_view, overview.database_view
    assert view is not None
    assert database is not None
    fresh = replace(
        overview,
        kafka=replace(view, log=replace(view.log, ranges={0: LogRange(100, 350)})),
        database=replace(database, state=replace(database.state, logs=[])),
    )
    assert fresh.lag_records() == 250
    assert "not written to this database yet" in text_of(fresh)


def moved(*, cluster: str | None = None, partitions: int | None = None) -> Overview:
    """A level overview whose log is another than the one that the ledger has."""
    seen = level()
    assert isinstance(seen.kafka, LogView)
    topic = seen.kafka.log.topic
    topic = replace(
        topic,
        cluster_id=cluster or topic.cluster_id,
        partitions=partitions or topic.partitions,
    )
    return replace(seen, kafka=replace(seen.kafka, log=replace(seen.kafka.log, topic=topic)))


@pytest.mark.parametrize(
    ("overview", "says"),
    [
        (moved(cluster="other"), "was filled from topic odds.writes of cluster cluster, and this"),
        (moved(partitions=3), "Topic odds.writes has 3 partitions and had 12: it was made anew"),
        (
            replace(lagging(), ahead=frozenset({2})),
            "another log: partition 2 goes on at offset 1,231,569, and the log ends at 1,234,569",
        ),
    ],
)
def test_a_ledger_of_another_log_has_no_lag(overview: Overview, says: str) -> None:
    """It says so where the lag would be, and how to find out more."""
    assert overview.lag_records() is None
    summary = screen(overview, 200, 60)[1]
    assert says in summary
    assert "see: oddslog doctor" in summary
    assert overview.as_json()["wrong_log"] in summary
    assert says in text_of(overview)


def test_tables_that_were_asked_later_are_not_ahead() -> None:
    """Between the two looks a sink has written more: no lag, and no negative one."""
    seen = level()
    assert isinstance(seen.kafka, LogView)
    ranges = {number: LogRange(0, held.end - 5) for number, held in seen.kafka.log.ranges.items()}
    before = replace(seen, kafka=replace(seen.kafka, log=replace(seen.kafka.log, ranges=ranges)))
    assert before.may_be_ahead
    assert not seen.may_be_ahead
    assert before.lag_records() == 0
    assert before.wrong_log is None


def test_the_summary_is_whole_on_80_columns() -> None:
    """What is read first is not cut; waiting letters are told once."""
    lines = screen(lagging(), 80, 24)
    assert " ".join(lines[1:3]).endswith("4,206/s written, 300/s arriving")
    assert "waiting (missing_parent)" not in "\n".join(lines)
    assert any("42 snapshots for event, bookmaker or run, first 12 m 00 s ago" in x for x in lines)
