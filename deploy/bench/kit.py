"""The bench from its servers to the folder with its results."""

import asyncio
import json
import os
import platform
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from sqlalchemy import text

from ...schemas.version import VERSION
from .. import signals
from ..console import Out
from ..database import asking, open_engine
from ..settings import Settings
from ..stack import open_stack
from .again import again
from .backlog import backlog, sinks
from .documents import documents
from .growth import growth
from .indexes import indexes
from .measure import ingest, latency, steady, throughput
from .peers import peers, require_peers
from .place import Place
from .plan import Plan, Results
from .report import markdown, plot
from .storage import storage

__all__ = ["bench"]

_SECTIONS: dict[str, Callable[[Place, Plan, Out], Awaitable[dict[str, Any]]]] = {
    "throughput": throughput,
    "steady": steady,
    "latency": latency,
    "ingest": ingest,
    "sinks": sinks,
    "backlog": backlog,
    "growth": growth,
    "again": again,
    "indexes": indexes,
    "documents": documents,
    "storage": storage,
    "peers": peers,
}


def bench(settings: Settings, plan: Plan, directory: Path, folder: Path, out: Out) -> Results:
    """Measure, write the results into a folder, and take away what was made.

    Whatever happens on the way, schemas and topics of the bench are dropped, and
    servers that were brought up for it are taken down.

    Raises:
        OddslogError: the servers cannot be had, or one refuses.
        OSError: the folder cannot be written.
    """
    if "peers" in plan.sections:
        require_peers()
    folder.mkdir(parents=True, exist_ok=True)
    url = settings.database_url
    stack = open_stack(
        settings.stack,
        directory,
        bootstrap_servers=settings.bootstrap_servers,
        database_url=None if url is None else url.get_secret_value(),
    )
    was_up = stack.running() is not None
    servers = stack.start(lambda line: out.note(f"  {line}"))
    changes: dict[str, Any] = {
        "bootstrap_servers": servers.bootstrap_servers,
        "database_url": SecretStr(servers.database_url),
    }
    if servers.kind != "env":
        changes["security_protocol"] = "PLAINTEXT"
    place = Place(settings.model_copy(update=changes), out)
    results = Results({"servers": servers.kind})
    try:
        signals.run(_measure(place, plan, results, out))
    finally:
        with signals.shielded("oddslog: cleaning up; once more leaves everything as it is"):
            if results.sections:
                _write(results, folder)
            asyncio.run(place.clean_up())
            if not was_up:
                out.note("Taking the servers down")
                stack.stop()
    return results


async def _measure(place: Place, plan: Plan, results: Results, out: Out) -> None:
    results.machine |= await _machine(place, plan)
    for name in plan.sections:
        out.note(f"Measuring: {name}")
        results.sections[name] = await _SECTIONS[name](place, plan, out)


async def _machine(place: Place, plan: Plan) -> dict[str, Any]:
    async with open_engine(place.settings, "bench") as engine:
        with asking(engine):
            async with engine.connect() as connection:
                version = (await connection.execute(text("SHOW server_version"))).scalar_one()
    cores = os.cpu_count() or 1
    return {
        "oddslog": VERSION,
        "python": platform.python_version(),
        "postgresql": version,
        "system": f"{platform.system()} {platform.machine()}, {cores} cores",
        "load_average": [round(one, 1) for one in os.getloadavg()],
        "events": plan.events,
        "rounds": plan.rounds,
        "cycles": plan.cycles,
        "backlog": plan.backlog,
        "grow_to": plan.grow_to,
    }


def _write(results: Results, folder: Path) -> None:
    text_of = json.dumps(results.as_json(), indent=2) + "\n"
    (folder / "bench.json").write_text(text_of, encoding="utf-8")
    (folder / "bench.md").write_text(markdown(results), encoding="utf-8")
    picture = plot(results)
    if picture is not None:
        (folder / "bench.svg").write_text(picture, encoding="utf-8")
