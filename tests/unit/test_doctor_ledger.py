"""What the doctor makes of the ledger and the log: where a sink would stop."""

import pytest

from oddslog.deploy.doctor.finding import Finding, Level
from oddslog.deploy.doctor.judge_ledger import judge_ledger
from oddslog.sink.ledger import LogIdentity
from oddslog.sink.positions import LastApplied, LogRange
from tests.support.facts import (
    known_log,
    ledger_row,
)

IDENTITY = LogIdentity("cluster", "odds.writes", 1)


def placed(
    next_offset: int | None,
    held: LogRange,
    *,
    committed: int | None = None,
    last: LastApplied | None = None,
    found: LastApplied | None = None,
) -> Finding:
    """The finding for a log of one partition."""
    rows = {} if next_offset is None else {0: ledger_row(next_offset, last)}
    logs = [] if next_offset is None else [known_log()]
    return judge_ledger(
        logs,
        {1: rows},
        IDENTITY,
        {0: held},
        {0: committed},
        {} if found is None else {0: found},
    )


@pytest.mark.parametrize(
    ("finding", "level", "says"),
    [
        (placed(None, LogRange(0, 5)), "ok", "nothing was written yet; 5 records"),
        (placed(None, LogRange(3, 5)), "fail", "offsets 0 to 2 are gone"),
        (placed(10, LogRange(0, 30), committed=10), "ok", "1 partitions go on, 20 to write"),
        (placed(10, LogRange(20, 30), committed=10), "fail", "offsets 10 to 19 are gone"),
        (placed(10, LogRange(0, 5), committed=10), "fail", "not the log that filled"),
        (placed(10, LogRange(0, 30), committed=25), "warn", "20 records are written again"),
        (
            placed(10, LogRange(10, 30), committed=10, last=LastApplied(9, 1)),
            "warn",
            "is gone from the log",
        ),
        (
            placed(
                10,
                LogRange(0, 30),
                committed=10,
                last=LastApplied(9, 1),
                found=LastApplied(9, 1),
            ),
            "ok",
            "1 last records are those remembered",
        ),
        (
            placed(
                10,
                LogRange(0, 30),
                committed=10,
                last=LastApplied(9, 1),
                found=LastApplied(9, 2),
            ),
            "fail",
            "offset 9 is not the one that was written to this database",
        ),
    ],
)
def test_the_ledger_against_the_log(finding: Finding, level: str, says: str) -> None:
    """As the sink would take its positions."""
    assert finding.check == "positions"
    assert finding.level == level
    assert says in finding.says


def test_another_cluster_or_a_topic_made_anew_is_told() -> None:
    """With the command for a move on purpose."""
    row = ledger_row(10, LastApplied(9, 1))
    other = judge_ledger(
        [known_log("elsewhere")], {1: {0: row}}, IDENTITY, {0: LogRange(0, 5)}, {0: None}, {}
    )
    assert other.level is Level.FAIL
    assert "filled from topic odds.writes of cluster elsewhere" in other.says
    assert "oddslog ledger adopt" in other.do
    fewer = judge_ledger(
        [known_log(partitions=3)], {1: {0: row}}, IDENTITY, {0: LogRange(0, 5)}, {0: None}, {}
    )
    assert "has 1 partitions and had 3: it was made anew" in fewer.says
    unwritten = judge_ledger(
        [known_log("elsewhere")],
        {1: {0: ledger_row(0)}},
        IDENTITY,
        {0: LogRange(0, 5)},
        {0: None},
        {},
    )
    assert unwritten.level is Level.OK


def test_the_newest_generation_counts() -> None:
    """The one before it was left on purpose."""
    finding = judge_ledger(
        [known_log(), known_log(generation=2)],
        {1: {0: ledger_row(90)}, 2: {0: ledger_row(3)}},
        IDENTITY,
        {0: LogRange(0, 5)},
        {0: 3},
        {},
    )
    assert finding.level is Level.OK
    assert "2 to write" in finding.says
