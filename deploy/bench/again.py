"""The log once more: `replay` into a database that has its rows or has not, and `verify`."""

import statistics
from typing import Any

from ..console import Out
from .backlog import feed_backlog
from .place import Place
from .plan import Plan
from .processes import catch_up, command

__all__ = ["again"]

_RAW_KB = 2
_REPLAY = ("replay", "--from-offset", "0")
_WRITTEN, _EMPTY, _VERIFY, _QUICK = (
    "replay_of_what_is_there",
    "replay_into_empty_tables",
    "verify",
    "verify_quick",
)


async def again(place: Place, plan: Plan, out: Out) -> dict[str, Any]:
    """Market rows a second of the log, as the commands themselves take the time."""
    topic = await place.topic()
    rows = await feed_backlog(place, topic, plan.events, plan.events, _RAW_KB)
    rates: dict[str, list[float]] = {name: [] for name in (_WRITTEN, _EMPTY, _VERIFY, _QUICK)}

    async def measure(name: str, schema: str, *arguments: str) -> None:
        values = await command(place, schema, topic, *arguments)
        rates[name].append(rows / values["seconds"])
        out.note(f"{name.replace('_', ' ')}: {rates[name][-1]:,.0f} market rows/s")

    async with place.tables() as (engine, schema):
        await catch_up(place, engine, schema, topic, 1, rows)
        for _ in range(plan.rounds):
            await measure(_WRITTEN, schema, *_REPLAY)
            await measure(_VERIFY, schema, "verify")
            await measure(_QUICK, schema, "verify", "--quick")
            async with place.tables() as (_, empty):
                await measure(_EMPTY, empty, *_REPLAY)
    medians = {f"{name}_rows_a_second": round(statistics.median(r)) for name, r in rates.items()}
    return {"market_rows": rows, **medians}
