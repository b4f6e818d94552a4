"""What the doctor makes of this machine, and what all its findings come to."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from oddslog.deploy.doctor.finding import Level, exit_code, fail, failed, ok, warn
from oddslog.deploy.doctor.host import (
    HostFacts,
    SpoolFacts,
    ask_host,
    ask_spool,
    judge_host,
    judge_spool,
)
from oddslog.deploy.doctor.judge_database import judge_database
from oddslog.deploy.doctor.judge_kafka import judge_kafka
from oddslog.schemas import ConfigurationError, UnreachableError
from tests.support.facts import (
    database_facts,
    kafka_facts,
    only_bad,
)

GIB = 1024**3


def test_all_is_well() -> None:
    """Then nothing is to be done, and the exit code is 0."""
    findings = [
        *judge_kafka(kafka_facts(), "odds.writes", 45.0),
        *judge_database(database_facts()),
        *judge_host(HostFacts({"fastavro": True}, None)),
    ]
    assert [finding for finding in findings if finding.level is not Level.OK or finding.do] == []
    assert exit_code(findings) == 0


@pytest.mark.parametrize(
    ("facts", "level", "says"),
    [
        (HostFacts({"fastavro": None}, None), "fail", "fastavro cannot be loaded"),
        (HostFacts({"fastavro": False}, None), "warn", "ten times slower"),
        (HostFacts({"aiokafka": False}, None), "warn", "hundred times slower"),
        (HostFacts({"fastavro": True}, 100), "warn", "at most 100 a process"),
    ],
)
def test_what_is_wrong_with_this_machine(facts: HostFacts, level: str, says: str) -> None:
    """Each is one finding."""
    bad = only_bad(judge_host(facts))
    assert bad.level == level
    assert says in bad.says


def test_this_installation_is_compiled() -> None:
    """The wheels of the lock have everything."""
    facts = ask_host()
    assert set(facts.libraries.values()) == {True}
    assert {finding.level for finding in judge_host(facts)} == {Level.OK}


def test_aiokafka_without_its_extensions_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """As its own variable switches them off."""
    monkeypatch.setenv("AIOKAFKA_NO_EXTENSIONS", "1")
    assert ask_host().libraries["aiokafka"] is False


@pytest.mark.parametrize(
    ("changes", "level", "says"),
    [
        ({}, "ok", "can be written, 20 GiB free"),
        ({"problem": "Permission denied"}, "fail", "cannot be written: Permission denied"),
        ({"file_system": "nfs4"}, "fail", "is on nfs4, where SQLite's log is not safe"),
        ({"free_bytes": 2 * GIB}, "warn", "has room for 2.0 GiB, and the spool may take 10 GiB"),
        ({"free_bytes": 2 * GIB, "spooled_bytes": 9 * GIB}, "ok", "can be written"),
    ],
)
def test_the_spools_folder(changes: dict[str, Any], level: str, says: str) -> None:
    """It must take all that it may be asked to take."""
    facts = SpoolFacts("/spool", None, "ext4", 20 * GIB, 0, 10 * GIB)
    finding = judge_spool(replace(facts, **changes))
    assert finding.level == level
    assert says in finding.says
    assert bool(finding.do) == (level != "ok")


def test_a_folder_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    """Also one that is not there yet."""
    assert ask_spool(str(tmp_path), GIB).problem is None
    assert list(tmp_path.iterdir()) == []
    assert ask_spool(str(tmp_path / "a" / "b"), GIB).problem is None
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    assert ask_spool(str(tmp_path / "file"), GIB).problem is not None
    assert ask_spool(str(tmp_path / "file" / "spool"), GIB).problem is not None


def test_the_exit_code_is_that_of_the_worst() -> None:
    """Warnings are none."""
    assert exit_code([ok("a", "b"), warn("a", "b", "c")]) == 0
    findings = [ok("a", "b"), fail("a", "b", "c")]
    assert exit_code(findings) == 1
    findings.append(failed("a", ConfigurationError("wrong\n user")))
    assert exit_code(findings) == 2
    assert findings[-1].line() == "fail  a                   wrong user"
    findings.append(failed("a", UnreachableError("away")))
    assert exit_code(findings) == 3
