"""The README's code is run as it stands there."""

import re
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from oddslog.schemas import KafkaConnection, SnapshotKey
from tests.fixtures.sinks import RunSink

README = Path(__file__).parents[2] / "README.md"


async def test_the_scrapers_example_works(
    kafka: KafkaConnection, topic: str, run_sink: RunSink, engine: AsyncEngine
) -> None:
    """The example feeds one snapshot and its confirmation, and both arrive."""
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    namespace: dict[str, object] = {"__name__": "readme"}
    exec(compile(code, str(README), "exec"), namespace)  # noqa: S102 - our own README
    scrape = namespace["scrape"]
    assert callable(scrape)
    key = await scrape(kafka.bootstrap_servers, topic)
    assert isinstance(key, SnapshotKey)
    totals = await run_sink()
    assert (totals.snapshots, totals.markets, totals.confirmations) == (1, 1, 1)
    async with engine.connect() as connection:
        row = (
            await connection.execute(
                text("SELECT event_id, captured_at, last_confirmed_at FROM odds_snapshots")
            )
        ).one()
    assert (row.event_id, row.captured_at) == (key.event_id, key.captured_at)
    assert row.last_confirmed_at > row.captured_at
