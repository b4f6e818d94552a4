"""What a bench makes of its figures, and what it tells other makers' programs."""

import json
from xml.etree import ElementTree as ET

import pytest

from oddslog.deploy.bench.load import Load
from oddslog.deploy.bench.pace import rate, thirds
from oddslog.deploy.bench.peers import libpq, librdkafka, market_rows, missing_peers, require_peers
from oddslog.deploy.bench.plan import Results
from oddslog.deploy.bench.report import markdown, plot
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


def test_tables_and_plot() -> None:
    """Every figure with its name; the longest bar is the greatest rate."""
    results = Results({"system": "a machine"})
    assert plot(results) is None
    rates = {"orm_rows_a_second": 1000, "copy_rows_a_second": 40_000, "sink_to_copy": 0.9}
    results.sections["throughput"] = {"raw_50_kb": {**rates, "sink_rows_a_second": 36_000}}
    results.sections["sinks"] = {"1_sinks": {"by_thirds": [3, 2, 1]}, "hot_share": None}
    text = markdown(results)
    for line in (
        "- system: a machine",
        "## Throughput",
        "| raw 50 kb: copy rows a second | 40,000 |",
        "| raw 50 kb: sink to copy | 0.9 |",
        "| 1 sinks: by thirds | 3 / 2 / 1 |",
        "| hot share | - |",
    ):
        assert line in text.splitlines()
    picture = ET.fromstring(plot(results) or "")  # noqa: S314 - our own
    widths = [float(bar.get("width", "0")) for bar in picture.iter() if bar.tag.endswith("rect")]
    assert widths[1:] == [10, 400, 360]
    assert results.as_json()["sinks"]["hot_share"] is None


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
