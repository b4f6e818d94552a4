"""Backlogs: one, two and four sinks on one, and a long one with the sink's memory."""

from typing import Any

from ..console import Out
from .load import Load, feed_topic
from .pace import rate, thirds
from .place import Place
from .plan import Plan
from .processes import catch_up

__all__ = ["backlog", "feed_backlog", "sinks"]

_MEMBERS = (1, 2, 4)
_RAW_KB = 2
_MOST_RAW_KB = 50
# Backlog of a member's catching up, in loads: long enough for a start, a middle and an end.
_TIMES = 4
# Of the rows, with 50 KB raw responses: 450 bytes a row.
_SHARE_WITH_RAW = 10


async def sinks(place: Place, plan: Plan, out: Out) -> dict[str, Any]:
    """Rows a second of a backlog, of its first, middle and last third; memory of a process."""
    topic = await place.topic()
    load = Load.of(plan.events, _RAW_KB)
    markets = await feed_backlog(place, topic, load.markets * _TIMES, plan.events, _RAW_KB)
    found: dict[str, Any] = {"market_rows": markets}
    for count in _MEMBERS:
        found[f"{count}_sinks"] = await _measure(place, topic, count, markets, out)
    return found


async def backlog(place: Place, plan: Plan, out: Out) -> dict[str, Any]:
    """The same of one sink and a long backlog, with raw responses of 2 KB and of 50 KB."""
    found: dict[str, Any] = {}
    for raw_kb, rows in (
        (_RAW_KB, plan.backlog),
        (_MOST_RAW_KB, plan.backlog // _SHARE_WITH_RAW),
    ):
        topic = await place.topic()
        events = plan.events if raw_kb == _RAW_KB else max(10, plan.events // 4)
        out.note(f"raw {raw_kb} KB: filling the topic with {rows:,} market rows")
        markets = await feed_backlog(place, topic, rows, events, raw_kb)
        measured = await _measure(place, topic, 1, markets, out)
        first, _, last = measured["by_thirds"]
        measured["last_to_first"] = round(last / first, 2)
        found[f"raw_{raw_kb}_kb"] = {"market_rows": markets, **measured}
    return found


async def feed_backlog(place: Place, topic: str, rows: int, events: int, raw_kb: float) -> int:
    """Put at least so many market rows into a topic, some events at a time. Returns how many."""
    markets = first = 0
    while markets < rows:
        load = Load.of(events, raw_kb, first_event_id=first + 1)
        await feed_topic(place, topic, load.batches)
        markets += load.markets
        first += events
    return markets


async def _measure(place: Place, topic: str, count: int, markets: int, out: Out) -> dict[str, Any]:
    async with place.tables() as (engine, schema):
        looks, peak = await catch_up(place, engine, schema, topic, count, markets)
    out.note(f"{count} of them on {markets:,} market rows: {rate(looks):,.0f} rows/s")
    return {
        "rows_a_second": round(rate(looks)),
        "by_thirds": [round(one) for one in thirds(looks)],
        "peak_memory_mib": None if peak is None else round(peak / 1024**2),
    }
