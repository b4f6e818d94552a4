"""Catching up with one, two and four sinks, each a process of its own."""

import asyncio
import os
import sys
import time
from itertools import pairwise
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from ...schemas.errors import OddslogError
from ..console import Out
from ..settings import variable
from ..torture.members import peak_bytes_of
from .load import Load, feed_topic
from .place import Place
from .plan import Plan

__all__ = ["rate", "sinks", "thirds"]

_MEMBERS = (1, 2, 4)
_LOOK_SECONDS = 0.25
_LEAST_SECONDS = 0.001
_MOST_SECONDS = 3600.0
_RAW_KB = 2
# Backlog of a member's catching up, in loads: long enough for a start, a middle and an end.
_TIMES = 4
_WRITTEN = text("SELECT coalesce(sum(markets_total), 0) FROM oddslog_ledger")
_Sample = tuple[float, int]


async def sinks(place: Place, plan: Plan, out: Out) -> dict[str, Any]:
    """Rows a second of a backlog, of its first, middle and last third; memory of a process."""
    topic = await place.topic()
    markets = 0
    for number in range(_TIMES):
        load = Load.of(plan.events, _RAW_KB, first_event_id=number * plan.events + 1)
        await feed_topic(place, topic, load.batches)
        markets += load.markets
    found: dict[str, Any] = {"market_rows": markets}
    for count in _MEMBERS:
        async with place.tables() as (engine, schema):
            samples, peak = await _catch_up(place, engine, schema, topic, count, markets)
        rates = thirds(samples)
        found[f"{count}_sinks"] = {
            "rows_a_second": round(rate(samples)),
            "by_thirds": [round(one) for one in rates],
            "peak_memory_mib": None if peak is None else round(peak / 1024**2),
        }
        out.note(f"{count} sinks: {rate(samples):,.0f} market rows/s")
    return found


async def _catch_up(
    place: Place, engine: AsyncEngine, schema: str, topic: str, count: int, markets: int
) -> tuple[list[_Sample], int | None]:
    environment = _environment(place, schema, topic)
    members = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "oddslog.deploy",
            "sink",
            "--until-caught-up",
            env=environment,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        for _ in range(count)
    ]
    try:
        samples = await _watch(engine, members, markets)
        peaks = [peak_bytes_of(member.pid) for member in members]
        for member in members:
            await member.wait()
    finally:
        for member in members:
            if member.returncode is None:
                member.kill()
                await member.wait()
    return samples, max((peak for peak in peaks if peak is not None), default=None)


async def _watch(
    engine: AsyncEngine, members: list[asyncio.subprocess.Process], markets: int
) -> list[_Sample]:
    """The ledger's count of market rows over time, up to the last of them."""
    samples: list[_Sample] = []
    started = time.monotonic()
    async with engine.connect() as connection:
        watching = await connection.execution_options(isolation_level="AUTOCOMMIT")
        while not samples or samples[-1][1] < markets:
            written = int((await watching.execute(_WRITTEN)).scalar_one())
            samples.append((time.monotonic() - started, written))
            failed = next((m.returncode for m in members if m.returncode), None)
            if failed is not None or samples[-1][0] > _MOST_SECONDS:
                raise OddslogError(f"a sink of the bench ended with code {failed}")
            await asyncio.sleep(_LOOK_SECONDS)
    return samples


def rate(samples: list[_Sample]) -> float:
    """Rows a second, from the last look that saw none."""
    began = moment(samples, 0)
    return samples[-1][1] / max(samples[-1][0] - began, _LEAST_SECONDS)


def thirds(samples: list[_Sample]) -> list[float]:
    """The same of the first, middle and last third of the rows."""
    rows = samples[-1][1]
    times = [moment(samples, rows * n / 3) for n in range(4)]
    return [rows / 3 / max(end - start, _LEAST_SECONDS) for start, end in pairwise(times)]


def moment(samples: list[_Sample], rows: float) -> float:
    """When so many were written: between two looks, as if at an even pace."""
    before = max((one for one in samples if one[1] <= rows), default=(0.0, 0))
    after = next((one for one in samples if one[1] > rows), before)
    if after[1] == before[1]:
        return next(at for at, written in samples if written == before[1])
    return before[0] + (after[0] - before[0]) * (rows - before[1]) / (after[1] - before[1])


def _environment(place: Place, schema: str, topic: str) -> dict[str, str]:
    settings = place.settings
    values = {
        "bootstrap_servers": settings.bootstrap_servers,
        "security_protocol": settings.security_protocol,
        "topic": topic,
        "group": place.name(),
        "database_url": settings.require_database_url(),
        "database_schema": schema,
        "http_address": "off",
        "raw_response": "database",
    }
    ours = {variable(name): value for name, value in values.items()}
    return {**os.environ, **ours, f"{variable('database_url')}_FILE": ""}
