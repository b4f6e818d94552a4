"""`oddslog runs` on real servers: fed, sunk and listed."""

import json
from pathlib import Path

import pytest

from oddslog.deploy.stack import Servers
from tests.support.command import Command

MARKET = {"betpawa_market_id": "1", "betpawa_market_name": "1X2", "outcomes": []}


@pytest.fixture
def command(servers: Servers, database_url: str, topic: str, tmp_path: Path) -> Command:
    """On a fresh topic and a fresh, migrated database."""
    return Command(
        {
            "BOOTSTRAP_SERVERS": servers.bootstrap_servers,
            "DATABASE_URL": database_url,
            "TOPIC": topic,
            "GROUP": topic,
        },
        tmp_path,
    )


def line(run_id: int, index: int, event_id: int, count: int | None = 2, name: str = "1X2") -> str:
    """A batch of one snapshot as a line of JSON."""
    snapshot = {
        "event_id": event_id,
        "bookmaker_id": 1,
        "captured_at": "2026-03-01T12:00:00+00:00",
        "markets": [{**MARKET, "betpawa_market_name": name}],
    }
    batch = {
        "changed_betpawa": [snapshot],
        "scrape_run_id": run_id,
        "batch_index": index,
        "batch_count": count,
    }
    return json.dumps(batch)


async def test_runs_are_listed_with_what_has_arrived(command: Command) -> None:
    """A whole one, a marked one, an incomplete one, and one that does not say its batches."""
    empty = command("runs", "--json").ok()
    assert empty.json == {"runs": [], "kept": 0, "late": 0, "marked": 0}
    assert command("runs").ok().out == "No scrape runs\n"
    lines = [
        *(line(1, index, index) for index in (0, 1)),
        *(line(2, index, 2 + index, name="x" * (1 + 300 * index)) for index in (0, 1)),
        line(3, 0, 4),
        line(4, 0, 5, None),
    ]
    command("feed", "ndjson", "-", stdin="\n".join(lines)).ok()
    command("sink", "--until-caught-up").ok()

    listed = command("runs", "--late-after", "0", "--json").ok().json
    runs = {run["run_id"]: run for run in listed["runs"]}
    assert {run_id: run["state"] for run_id, run in runs.items()} == {
        1: "complete",
        2: "complete",
        3: "late",
        4: "open",
    }
    assert (listed["kept"], listed["late"], listed["marked"]) == (4, 1, 1)
    assert {run["run_id"] for run in listed["runs"][:2]} == {2, 3}
    assert (runs[2]["marked"], runs[2]["dead_letters"]) == (True, 1)
    assert (runs[3]["batches_arrived"], runs[3]["batches_expected"]) == (1, 2)
    assert runs[4]["batches_expected"] is None

    shown = command("runs", "--limit", "2").ok().out.splitlines()
    assert shown[0].split()[:4] == ["run", "state", "batches", "fragments"]
    assert shown[1].split()[:5] == ["2", "complete,", "marked", "2", "of"]
    assert len(shown) == 4
    assert shown[-1] == "4 runs, 0 late, 1 marked"
