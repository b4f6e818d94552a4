"""Commands of ours, and programs of others, as processes of their own."""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncEngine

from ...schemas.errors import OddslogError
from ..settings import variable
from ..torture.members import peak_bytes_of
from .pace import Look
from .place import Place

__all__ = ["catch_up", "command", "running", "watch"]

_LOOK_SECONDS = 0.25
_COMMANDS = "oddslog.deploy"
_WRITTEN = text("SELECT coalesce(sum(markets_total), 0) FROM oddslog_ledger")
_Process = asyncio.subprocess.Process


async def catch_up(
    place: Place, engine: AsyncEngine, schema: str, topic: str, count: int, markets: int
) -> tuple[list[Look], int | None]:
    """Let so many sinks write a backlog. Returns the looks, and the peak bytes of one.

    Raises:
        OddslogError: a sink ended before all was written.
    """
    environment = _environment(place, schema, topic)
    arguments = ["sink", "--until-caught-up"]
    async with running([(_COMMANDS, arguments, None)] * count, environment) as members:
        looks = await watch(engine, _WRITTEN, members, markets)
        peaks = [peak_bytes_of(member.pid) for member in members]
        for member in members:
            await member.wait()
    return looks, max((peak for peak in peaks if peak is not None), default=None)


async def command(place: Place, schema: str, topic: str, *arguments: str) -> dict[str, Any]:
    """Run a command of ours on a schema and a topic. Returns what `--json` says.

    Raises:
        OddslogError: it ended with another code than 0.
    """
    environment = _environment(place, schema, topic)
    program = (_COMMANDS, [*arguments, "--json"], None)
    async with running([program], environment, read=True) as (process,):
        output, _ = await process.communicate()
        if process.returncode:
            raise OddslogError(
                f"oddslog {arguments[0]} of the bench ended with code {process.returncode}"
            )
    values: dict[str, Any] = json.loads(output.splitlines()[-1])
    return values


@asynccontextmanager
async def running(
    programs: Sequence[tuple[str, Sequence[str], bytes | None]],
    environment: dict[str, str] | None = None,
    *,
    read: bool = False,
) -> AsyncIterator[list[_Process]]:
    """Modules as processes, with arguments and input; killed at the end if they still run.

    Args:
        programs: a module, its arguments and its standard input, of each.
        environment: None for ours.
        read: whether their standard output is read.
    """
    processes: list[_Process] = []
    try:
        for module, arguments, given in programs:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                module,
                *arguments,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL if given is None else asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE if read else asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
            processes.append(process)
            if process.stdin is not None and given is not None:
                process.stdin.write(given)
                process.stdin.close()
        yield processes
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def watch(
    engine: AsyncEngine,
    written: TextClause,
    processes: list[_Process],
    rows: int,
    most_seconds: float = 3600.0,
) -> list[Look]:
    """What the statement counts over time, up to all rows.

    Raises:
        OddslogError: a process ended in failure, or it takes too long.
    """
    looks: list[Look] = []
    started = time.monotonic()
    async with engine.connect() as connection:
        watching = await connection.execution_options(isolation_level="AUTOCOMMIT")
        while not looks or looks[-1][1] < rows:
            count = int((await watching.execute(written)).scalar_one())
            looks.append((time.monotonic() - started, count))
            failed = next((p.returncode for p in processes if p.returncode), None)
            if failed is not None:
                raise OddslogError(f"a process of the bench ended with code {failed}")
            if looks[-1][0] > most_seconds:
                raise OddslogError(
                    f"{count:,} of {rows:,} rows were written within {most_seconds:.0f} s"
                )
            await asyncio.sleep(_LOOK_SECONDS)
    return looks


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
