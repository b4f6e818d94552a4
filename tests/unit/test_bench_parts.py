"""What a bench makes of its figures: rates of a backlog, tables, the plot."""

from xml.etree import ElementTree as ET

import pytest

from oddslog.deploy.bench.pace import rate, thirds
from oddslog.deploy.bench.plan import Results
from oddslog.deploy.bench.report import markdown, plot


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
