"""Alert rules, their tests, dashboard and runbook agree with the metrics and with one another."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from oddslog.ingest.metric_names import INGEST_METRICS
from oddslog.schemas.metric import MetricKind
from oddslog.sink.metric_names import SINK_METRICS
from tests.support.modules import ROOT

FOLDER = ROOT / "deploy" / "observability"
ALERTS, ALERTS_TEST = FOLDER / "alerts.yaml", FOLDER / "alerts_test.yaml"
RUNBOOK = "docs/runbook.md"
METRICS = {metric.name: metric for metric in (*SINK_METRICS, *INGEST_METRICS)}


def rules() -> list[dict[str, Any]]:
    """Every alert rule."""
    groups = yaml.safe_load(ALERTS.read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard_queries() -> list[str]:
    """Every query of the dashboard, and what fills its choices."""

    def inside(value: Any) -> Iterator[str]:
        match value:
            case dict():
                if isinstance(value.get("expr"), str):
                    yield value["expr"]
                for inner in value.values():
                    yield from inside(inner)
            case list():
                for inner in value:
                    yield from inside(inner)
            case str() if value.startswith("label_values("):
                yield value
            case _:
                pass

    return list(inside(json.loads((FOLDER / "dashboard.json").read_text("utf-8"))))


def series() -> set[str]:
    """Every name that a scrape may have: a histogram has three."""
    found = set()
    for name, metric in METRICS.items():
        histogram = metric.kind is MetricKind.HISTOGRAM
        found |= {name + end for end in ("_bucket", "_sum", "_count")} if histogram else {name}
    return found


def selectors(query: str) -> list[tuple[str, set[str]]]:
    """Metrics that a query asks for, with the labels that it chooses by."""
    return [
        (name, set(re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", chosen)))
        for name, chosen in re.findall(r"\b(oddslog_\w+)(?:\{([^}]*)\})?", query)
    ]


@pytest.mark.parametrize(
    "query", [*(rule["expr"] for rule in rules()), *dashboard_queries()], ids=lambda query: query
)
def test_every_metric_that_is_asked_for_exists_with_its_labels(query: str) -> None:
    """A wrong name alerts nobody, ever."""
    found = selectors(query)
    assert found
    for name, labels in found:
        assert name in series(), name
        metric = METRICS[re.sub("_(bucket|sum|count)$", "", name) if name not in METRICS else name]
        assert labels <= {*metric.labels, "job"}, name


def test_counters_are_asked_for_their_growth_alone() -> None:
    """Their value says how long the process has run."""
    for query in (*(rule["expr"] for rule in rules()), *dashboard_queries()):
        for name in re.findall(r"\boddslog_\w+_(?:total|bucket|sum|count)\b", query):
            assert re.search(rf"(?:rate|increase)\({name}[^\[()]*\[", query), query


def test_the_dashboard_shows_every_metric() -> None:
    """Or it is said here that it need not be seen."""
    shown = {name for query in dashboard_queries() for name, _ in selectors(query)}
    left_out = {
        "oddslog_build_info",
        "oddslog_sink_last_success_timestamp_seconds",  # the lag says it better
        "oddslog_sink_kept_pending_total",  # pending says how many there are
        "oddslog_sink_published_letters_total",
        "oddslog_sink_sweeps_total",
        "oddslog_ingest_dropped_ids_total",  # logged once
        "oddslog_ingest_producer_generations_total",
    }
    assert {re.sub("_(bucket|sum|count)$", "", name) for name in shown} == set(METRICS) - left_out


def test_every_alert_says_how_urgent_it_is_and_what_to_do() -> None:
    """With a section of its own in the runbook, which has no other."""
    text = (ROOT / RUNBOOK).read_text("utf-8")
    sections = dict(
        re.findall(r"^## (Oddslog\w+)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    )
    for rule in rules():
        name, said = rule["alert"], rule["annotations"]
        assert rule["labels"]["severity"] in {"critical", "warning"}, name
        assert set(said) == {"summary", "description", "runbook_url"}, name
        assert said["runbook_url"] == f"{RUNBOOK}#{name.lower()}", name
        parts = re.findall(r"^\*\*(\w+)\.\*\*", sections[name], re.MULTILINE)
        assert parts == ["Symptom", "Look", "Do"], name
        assert text.count(f"](#{name.lower()})") >= 1, f"{name} is not in the runbook's table"
    assert list(sections) == [rule["alert"] for rule in rules()]


def test_every_alert_has_a_test_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    """A rule that cannot fire, or always does, is worse than none."""
    told: dict[str, set[bool]] = {}
    for test in yaml.safe_load(ALERTS_TEST.read_text("utf-8"))["tests"]:
        for case in test["alert_rule_test"]:
            told.setdefault(case["alertname"], set()).add(bool(case.get("exp_alerts")))
    assert told == {rule["alert"]: {True, False} for rule in rules()}


def test_the_rules_fire_as_their_tests_say(tmp_path: Path) -> None:
    """By Prometheus' own tool, which also checks their grammar."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool on the PATH (Debian: apt-get install prometheus)")
    for kind, path in (("check", ALERTS), ("test", ALERTS_TEST)):
        done = subprocess.run(
            [promtool, kind, "rules", str(path)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
