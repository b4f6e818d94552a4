"""`oddslog bench`: figures in a folder, and nothing left on the servers."""

from pathlib import Path

import asyncpg
from aiokafka.admin import AIOKafkaAdminClient

from oddslog.deploy.stack import Servers
from oddslog.schemas import KafkaConnection
from tests.support.command import Command


async def test_bench_writes_its_results_and_leaves_nothing(
    servers: Servers, kafka: KafkaConnection, tmp_path: Path
) -> None:
    """All three ways side by side, with their ratios; JSON, tables and a plot."""
    command = Command(
        {
            "BOOTSTRAP_SERVERS": servers.bootstrap_servers,
            "DATABASE_URL": servers.database_url,
            "STACK": "env",
        },
        tmp_path,
    )
    arguments = ("--events", "10", "--rounds", "1", "--section", "throughput", "--to", "found")
    values = command("bench", *arguments, "--json").ok().json
    assert values["machine"]["rounds"] == 1
    for load in ("raw_0_kb", "raw_50_kb"):
        found = values["throughput"][load]
        assert found["sink_to_copy"] > 0
        assert {f"{way}_rows_a_second" for way in ("orm", "copy", "sink")} <= found.keys()
    names = {path.name for path in tmp_path.joinpath("found").iterdir()}
    assert names == {"bench.json", "bench.md", "bench.svg"}
    assert [name for name in await names_on(servers, kafka) if "oddslog_bench" in name] == []


async def names_on(servers: Servers, kafka: KafkaConnection) -> list[str]:
    """Schemas and topics."""
    connection = await asyncpg.connect(servers.database_url)
    try:
        rows = await connection.fetch("SELECT nspname FROM pg_namespace")
    finally:
        await connection.close()
    admin = AIOKafkaAdminClient(**kafka.client_options())
    await admin.start()
    try:
        return [*(row["nspname"] for row in rows), *await admin.list_topics()]
    finally:
        await admin.close()
