"""The names of metrics: one typed place, by Prometheus' rules."""

import re

import pytest

from oddslog.ingest.metric_names import INGEST_METRICS
from oddslog.schemas.metric import Buckets, Metric, MetricKind
from oddslog.sink import metric_names
from oddslog.sink.metric_names import SINK_METRICS

METRICS = [*SINK_METRICS, *INGEST_METRICS]


def test_every_name_is_there_once() -> None:
    """Of both sides together: they may share a registry."""
    names = [metric.name for metric in METRICS]
    assert len(names) == len(set(names))
    assert len(names) > 40
    assert metric_names.LAG_RECORDS in SINK_METRICS


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_name_says_what_it_is(metric: Metric) -> None:
    """Prefix, base unit, `_total` for a counter alone; a sentence of help."""
    assert re.fullmatch(r"oddslog_(sink|ingest|build)_[a-z_]*[a-z]", metric.name)
    assert metric.name.endswith("_total") is (metric.kind is MetricKind.COUNTER)
    for unit in ("seconds", "bytes"):
        if metric.unit == unit:
            assert re.search(rf"_{unit}(_|$)", metric.name)
    assert not re.search(r"_(ms|millis|kb|mb|minutes)(_|$)", metric.name)
    assert metric.help[0].isupper()
    assert metric.unit
    assert len(set(metric.labels)) == len(metric.labels)


def test_a_histogram_counts_up_to_its_bounds() -> None:
    """Inclusive, cumulative, with all in the last."""
    buckets = Buckets((1.0, 10.0))
    for value in (0.5, 1.0, 1.5, 10.0, 11.0):
        buckets.observe(value)
    assert buckets.cumulative() == [("1.0", 2.0), ("10.0", 4.0), ("+Inf", 5.0)]
    assert buckets.sum == 24.0
