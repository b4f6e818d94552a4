"""The example applications of docs/examples, run as they stand there."""

import asyncio
import importlib.util
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType

import httpx
from sqlalchemy.ext.asyncio import AsyncEngine

from oddslog.ingest import AsyncWriteQueue, MemoryDestination
from oddslog.schemas import KafkaConnection
from oddslog.sink.runs import read_runs
from tests.fixtures.sinks import RunSink
from tests.support.modules import ROOT
from tests.support.polls import one
from tests.support.sink_process import clean_environment
from tests.support.waiting import BUDGET_SECONDS, until
from tests.unit.test_ingest_builders import small

EXAMPLES = ROOT / "docs" / "examples"


def example(name: str) -> ModuleType:
    """A module of the examples."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def said(log: Path) -> str:
    """What the application printed."""
    return log.read_text("utf-8")


@asynccontextmanager
async def served(environment: dict[str, str], log: Path) -> AsyncIterator[httpx.AsyncClient]:
    """The FastAPI application by uvicorn, from its start to its own end after a SIGTERM."""
    listener = socket.create_server(("127.0.0.1", 0))
    words = ["--fd", str(listener.fileno()), "--app-dir", str(EXAMPLES), "scraper:app"]
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "uvicorn", *words,
            env={**clean_environment(), **environment},
            stdout=output, stderr=output, pass_fds=[listener.fileno()],
        )  # fmt: skip
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    listener.close()
    try:
        async with httpx.AsyncClient(base_url=address, timeout=BUDGET_SECONDS) as client:

            async def answers() -> bool:
                assert process.returncode is None, said(log)
                try:
                    return (await client.get("/healthz")).status_code == 200
                except httpx.TransportError:
                    return False

            await until(answers, "the application to answer")
            yield client
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(BUDGET_SECONDS):
            # uvicorn shuts down, and then ends by the signal that it got.
            assert await process.wait() in (0, -signal.SIGTERM), said(log)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_the_fastapi_scraper_hands_over_all_it_scraped(
    kafka: KafkaConnection, topic: str, run_sink: RunSink, engine: AsyncEngine, tmp_path: Path
) -> None:
    """Changed odds are snapshots, unchanged ones confirmations by key; its end drains the queue."""
    environment = {
        "ODDSLOG_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "ODDSLOG_TOPIC": topic,
        "ODDSLOG_SPOOL_DIR": str(tmp_path / "spool"),
    }
    async with served(environment, tmp_path / "log") as client:
        told = [(await client.post("/scrape")).json() for _ in range(3)]
        metrics = (await client.get("/metrics")).text
    assert [(one["changed"], one["unchanged"]) for one in told] == [(120, 0), (40, 80), (40, 80)]
    assert 'oddslog_ingest_batches_enqueued_total{queue="odds"} 9.0' in metrics
    totals = await run_sink()
    assert (totals.snapshots, totals.dead_letters, totals.pending) == (200, 0, 0)
    confirmed = "SELECT count(*) FROM odds_snapshots WHERE last_confirmed_at > captured_at"
    assert await one(engine, confirmed) == 80
    async with engine.connect() as connection:
        runs = await read_runs(connection)
    assert {run.run_id for run in runs if run.complete} == {one["run_id"] for one in told}


async def test_in_a_dual_run_the_old_writer_waits_for_nothing() -> None:
    """A full queue and a stopped one cost a batch of the new tables; it is counted."""
    destination = MemoryDestination()
    destination.gate.clear()
    queue = AsyncWriteQueue(destination, maxsize=1, attempts=1)
    beside = example("dual_run").Beside(queue, patience_seconds=0.05)
    async with queue:
        receipt = await beside.offer(small(0))
        assert receipt is not None
        assert await beside.offer(small(1)) is None
        destination.gate.set()
        await receipt
    assert await beside.offer(small(2)) is None
    assert beside.left_out == 2
    assert [batch.batch_index for batch in destination.batches] == [0]
