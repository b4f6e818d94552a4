"""Pathway from a topic of rows into a table, until it is killed: a process of its own."""

import json
import sys

import pathway as pw

__all__ = ["main"]


class Row(pw.Schema):  # type: ignore[misc]  # it has no types here
    """A market row."""

    snapshot_id: int
    captured_at: pw.DateTimeUtc
    betpawa_market_id: str
    betpawa_market_name: str
    line: float
    handicap_type: str
    handicap_home: float
    handicap_away: float
    outcomes: pw.Json
    market_groups: pw.Json


def main() -> None:
    """Run with what standard input says."""
    given = json.load(sys.stdin)
    rows = pw.io.kafka.read(
        {**given["kafka"], "group.id": given["group"], "auto.offset.reset": "earliest"},
        given["topic"],
        schema=Row,
        format="json",
    )
    pw.io.postgres.write(rows, given["database"], given["table"], schema_name=given["schema"])
    pw.run(monitoring_level=pw.MonitoringLevel.NONE)


if __name__ == "__main__":
    main()
