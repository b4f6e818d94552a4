"""What the doctor makes of PostgreSQL: one finding each, with what to do."""

from typing import Any

import pytest

from oddslog.deploy.doctor.database import RIGHTS, SequenceFacts
from oddslog.deploy.doctor.finding import exit_code
from oddslog.deploy.doctor.judge_database import NEEDED_RIGHTS, judge_database
from oddslog.sink.migrate import VERSION_TABLE
from oddslog.sink.tables import make_metadata
from tests.support.facts import (
    database_facts,
    only_bad,
)


def but(table: str, *missing: str) -> dict[str, frozenset[str]]:
    """All rights, but these of one table."""
    return {**database_facts().rights, table: frozenset(set(RIGHTS) - set(missing))}


@pytest.mark.parametrize(
    ("changes", "level", "check", "says", "do"),
    [
        ({"version_number": 130012, "version": "13.12"}, "fail", "PostgreSQL", "13.12", "14"),
        ({"in_recovery": True}, "fail", "writable", "standby", "ODDSLOG_DATABASE_URL"),
        (
            {"settings": {"transaction_read_only": "on"}},
            "fail",
            "writable",
            "read-only",
            "default_transaction_read_only",
        ),
        ({"settings": {"fsync": "off"}}, "warn", "crash safety", "fsync off", "Turn it on"),
        ({"connections_free": 4}, "warn", "connections", "4 free", "max_connections"),
        ({"connections_free": 0}, "fail", "connections", "0 free", "max_connections"),
        ({"clock_ahead_seconds": 75.0}, "warn", "clock", "1 m 15 s ahead of", "NTP"),
        ({"clock_ahead_seconds": -3.0}, "warn", "clock", "3.0 s behind", "NTP"),
        (
            {"schema_usage": None, "revision": None, "fits": False, "rights": {}},
            "fail",
            "tables",
            'schema "public" is not there',
            "oddslog migrate",
        ),
        (
            {"schema_usage": False, "revision": None, "fits": False, "rights": {}},
            "fail",
            "tables",
            "lacks USAGE on schema",
            'GRANT USAGE ON SCHEMA "public" TO "sink"',
        ),
        (
            {"revision": None, "fits": False, "rights": {}},
            "fail",
            "tables",
            "not migrated",
            "oddslog migrate",
        ),
        (
            {"revision": "0002", "fits": False},
            "fail",
            "tables",
            "at revision 0002, this version",
            "migrate",
        ),
        (
            {"missing": frozenset({"oddslog_meta"})},
            "fail",
            "tables",
            "oddslog_meta not there",
            "backup",
        ),
        (
            {"rights": but("oddslog_ledger", "UPDATE")},
            "fail",
            "rights",
            "sink lacks 1",
            'GRANT UPDATE ON "public".oddslog_ledger TO "sink"',
        ),
        (
            {"rights": but("market_odds", "INSERT", "DELETE")},
            "fail",
            "rights",
            "sink lacks 1",
            'GRANT INSERT ON "public".market_odds TO "sink"',
        ),
        (
            {"rights": but("events", *RIGHTS)},
            "fail",
            "rights",
            "sink lacks 1",
            'GRANT SELECT ON "public".events TO "sink"',
        ),
        (
            {"rights": but("market_odds", "SELECT")},
            "warn",
            "rights",
            "verify needs to read market_odds",
            "GRANT SELECT",
        ),
        (
            {"sequences": [SequenceFacts("s", "odds_snapshots", "id", 11, 10, usable=False)]},
            "fail",
            "rights",
            "sink lacks 1",
            'GRANT USAGE ON SEQUENCE "public".s TO "sink"',
        ),
        (
            {"overdue": {"odds.old": 1200}},
            "warn",
            "letters",
            "another topic wait too long for their parent: 1,200 of odds.old",
            "oddslog dlq discard",
        ),
        (
            {"sequences": [SequenceFacts("s", "odds_snapshots", "id", 10, 10, usable=True)]},
            "fail",
            "sequences",
            "behind their tables: s",
            "SELECT setval('s', (SELECT max(id) FROM odds_snapshots))",
        ),
        (
            {"parents": frozenset({"events"})},
            "warn",
            "parents",
            "bookmakers, scrape_runs, competitor_events not",
            "Make them",
        ),
        (
            {"parent_keys": {"event_id": "events"}},
            "warn",
            "parents",
            "no foreign key leads to bookmakers, competitor_events, scrape_runs",
            "foreign keys",
        ),
    ],
)
def test_what_is_wrong_with_postgresql(
    changes: dict[str, Any], level: str, check: str, says: str, do: str
) -> None:
    """Each is one finding, and the others stay ok."""
    findings = judge_database(database_facts(**changes))
    bad = only_bad(findings)
    assert (bad.level, bad.check) == (level, check)
    assert says in bad.says
    assert do in bad.do
    assert exit_code(findings) == (1 if level == "fail" else 0)


def test_a_version_table_that_may_not_be_read_is_no_missing_migration() -> None:
    """`oddslog migrate` would not help."""
    facts = database_facts(revision=None, fits=False, rights=but(VERSION_TABLE, "SELECT"))
    findings = judge_database(facts)
    (tables,) = [finding for finding in findings if finding.check == "tables"]
    assert "may not read" in tables.says
    assert tables.do == f'Run: GRANT SELECT ON {VERSION_TABLE} TO "sink"'


def test_more_rights_than_needed_are_only_a_note() -> None:
    """And parents that are not there at all."""
    findings = judge_database(database_facts(superuser=True, parents=frozenset(), parent_keys={}))
    assert exit_code(findings) == 0
    says = " ".join(finding.says for finding in findings)
    assert "superuser: more than the sink needs" in says
    assert "the scraper's tables are not here" in says


def test_each_table_of_ours_has_its_rights() -> None:
    """Whoever adds one says what the sink does to it."""
    assert set(NEEDED_RIGHTS) == {*make_metadata().tables, VERSION_TABLE}
