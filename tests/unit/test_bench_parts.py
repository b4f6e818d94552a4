"""What a bench makes of its figures, and what it tells other makers' programs."""

import json
from xml.etree import ElementTree as ET

import pytest

from oddslog.deploy.bench.load import Load
from oddslog.deploy.bench.pace import rate, rate_after_first, thirds
from oddslog.deploy.bench.peers import libpq, librdkafka, market_rows, missing_peers, require_peers
from oddslog.deploy.bench.plan import SECTIONS, Results
from oddslog.deploy.bench.report import markdown, plot
from oddslog.deploy.bench.tables import TABLES
from oddslog.schemas import KafkaConnection
from oddslog.schemas.errors import ConfigurationError
from oddslog.sink.sql import MARKET_COLUMNS


def test_rates_count_from_the_last_look_that_saw_nothing() -> None:
    """Joining a group is not the sink's pace; one commit at an even pace is its own."""
    samples = [(0.0, 0), (5.0, 0), (6.0, 300), (8.0, 500), (9.0, 900)]
    assert rate(samples) == 900 / 4
    assert thirds(samples) == pytest.approx([300, 300 / 2.25, 300 / 0.75])


def test_a_backlog_that_is_written_at_once() -> None:
    """Between two looks: no division by nothing."""
    assert rate([(0.0, 0), (0.25, 900)]) == 3600
    assert thirds([(0.0, 0), (0.25, 900)]) == pytest.approx([3600] * 3)


def test_who_reads_for_long_before_the_first_commit_gains_nothing() -> None:
    """Only what is written behind it counts; where that is all there is, the whole."""
    looks = [(0.0, 0), (4.0, 0), (4.1, 500), (6.1, 900)]
    assert rate_after_first(looks) == pytest.approx(200)
    assert rate_after_first([(0.0, 0), (0.5, 900)]) == rate([(0.0, 0), (0.5, 900)])


def test_tables_targets_and_plot() -> None:
    """A table a section, with all its figures; the longest bar is the greatest rate."""
    machine = {
        "system": "a machine",
        "servers": "local",
        "load_average": [0.1, 0.2, 0.3],
        "events": 1200,
    }
    results = Results(machine)
    assert plot(results) is None
    assert "| at least 8 times one object a row (ORM) | - | not measured |" in markdown(results)
    rates = {"orm_rows_a_second": 1000, "copy_rows_a_second": 40_000, "sink_to_copy": 0.9}
    results.sections["throughput"] = {
        "raw_0_kb": {"sink_to_copy": 0.9, "sink_to_orm": 8.5, "sink_own_cpu_us_a_row": 7.0},
        "raw_50_kb": {**rates, "sink_rows_a_second": 36_000, "sink_to_orm": 6},
    }
    pace = {"rows_a_second": 5, "by_thirds": [3, 2, 1], "peak_memory_mib": 290}
    results.sections["sinks"] = {"market_rows": 4000, "1_sinks": pace}
    results.sections["backlog"] = {"raw_50_kb": {"market_rows": 1_000_000, **pace}}
    results.sections["indexes"] = {
        name: {"copy_rows_a_second": 7000, "to_as_it_is": 1.2, "index_bytes_a_row": 25.3}
        for name in ("as_it_is", "without_snapshot_id", "without_any")
    }
    peer = {"rows_a_second": 20_000, "seconds_from_start": 9.0, "sink_to_it": 1.8, "version": "3"}
    results.sections["peers"] = {"market_rows": 9, "sink": pace, "quix": peer}
    lines = markdown(results).splitlines()
    assert (
        "(servers as processes); a machine, load average at the start 0.1 / 0.2 / 0.3" in lines[0]
    )
    for line in (
        "| bare asyncpg COPY, rows/s | - | 40,000 |",
        "| sink / COPY, median of the rounds | 0.9 | 0.9 |",
        "| 1 | 5 | 3 / 2 / 1 | 290 |",
        "| 50 KB raw | 1,000,000 | 5 | 3 / 2 / 1 | 290 |",
        "| without the index on `snapshot_id` | 7,000 | 1.2 | 25.3 |",
        "| without any index | 7,000 | 1.2 | 25.3 |",
        "| quix 3 | 20,000 | 9.0 | 1.8 |",
        "| sink at least 0.85 of bare COPY of the same rows | 0.9; 0.9 with 50 KB raw | met |",
        "| at least 8 times one object a row (ORM) | 8.5; 6 with 50 KB raw"
        " | **missed** with 50 KB raw |",
        "| own CPU time at most 6 µs a market row | 7.0 µs | **missed** |",
        # 290 MiB are 304 MB.
        "| peak memory of a sink under 300 MB | 290 MiB with 50 KB raw | **missed** |",
    ):
        assert line in lines
    picture = ET.fromstring(plot(results) or "")  # noqa: S314 - our own
    widths = [float(bar.get("width", "0")) for bar in picture.iter() if bar.tag.endswith("rect")]
    assert widths[1:] == [10, 400, 360, 200]
    assert results.as_json()["backlog"]["raw_50_kb"]["peak_memory_mib"] == 290


def test_every_section_has_its_table() -> None:
    """Also where a figure is missing, as of a run that was interrupted."""
    assert set(TABLES) == set(SECTIONS)
    for make in TABLES.values():
        assert make({"market_rows": 1})[1].startswith("| ")


def test_other_programs_are_told_of_the_same_servers() -> None:
    """In the words of librdkafka and libpq; what is not set is left out."""
    assert librdkafka(KafkaConnection("one:9092")) == {
        "bootstrap.servers": "one:9092",
        "security.protocol": "plaintext",
    }
    secured = KafkaConnection(
        "one:9092",
        security_protocol="SASL_SSL",
        sasl_username="me",
        sasl_password="secret",
        ssl_cafile="ca.pem",
    )
    told = librdkafka(secured)
    assert told["security.protocol"] == "sasl_ssl"
    assert told["ssl.ca.location"] == "ca.pem"
    assert (told["sasl.mechanism"], told["sasl.password"]) == ("SCRAM-SHA-512", "secret")
    assert libpq("postgresql+asyncpg://me:p%40ss@host/odds?sslmode=require") == {
        "host": "host",
        "port": "5432",
        "dbname": "odds",
        "user": "me",
        "password": "p@ss",
        "sslmode": "require",
    }


def test_other_programs_get_every_market_row_without_nulls() -> None:
    """One message a row, of the columns that COPY fills, in their order."""
    load = Load.of(2, 0)
    rows = [json.loads(value) for _, value in market_rows(load)]
    assert len(rows) == load.markets
    assert all(set(row) == set(MARKET_COLUMNS) for row in rows)
    assert not any(value is None for row in rows for value in row.values())
    assert len({row["snapshot_id"] for row in rows}) == 6


def test_without_the_other_programs_their_section_says_what_to_install() -> None:
    """They are not among what a user or the tests need."""
    assert missing_peers() == ["quixstreams", "pathway"]
    with pytest.raises(
        ConfigurationError, match=r"quixstreams and pathway: install oddslog\[peers\]"
    ):
        require_peers()
