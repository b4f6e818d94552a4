"""`oddslog bench`: figures in a folder, and nothing left on the servers."""

from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiokafka.admin import AIOKafkaAdminClient

from oddslog.deploy.stack import Servers
from oddslog.schemas import KafkaConnection
from tests.support.command import Command
from tests.support.waiting import until

SMALL = ("--events", "10", "--rounds", "1", "--to", "found", "--json")


@pytest.fixture
def bench(servers: Servers, tmp_path: Path) -> Command:
    """The command on the tests' servers."""
    return Command(
        {
            "BOOTSTRAP_SERVERS": servers.bootstrap_servers,
            "DATABASE_URL": servers.database_url,
            "STACK": "env",
        },
        tmp_path,
    )


async def test_bench_writes_its_results_and_leaves_nothing(
    bench: Command, servers: Servers, kafka: KafkaConnection, tmp_path: Path
) -> None:
    """The ways side by side, with their ratios, and what a change of the tables brings."""
    sections = ("--section", "throughput", "--section", "indexes", "--section", "documents")
    values = bench("bench", *SMALL, *sections).ok().json
    assert values["machine"]["rounds"] == 1
    for load in ("raw_0_kb", "raw_50_kb"):
        found = values["throughput"][load]
        assert found["sink_to_copy"] > 0
        assert {f"{way}_rows_a_second" for way in ("orm", "copy", "sink")} <= found.keys()
    check_variants(values)
    names = {path.name for path in tmp_path.joinpath("found").iterdir()}
    assert names == {"bench.json", "bench.md", "bench.svg"}
    await nothing_is_left(servers, kafka)


def check_variants(values: dict[str, Any]) -> None:
    """COPY without each index that the migrations make, and with either type."""
    indexes = values["indexes"]
    for columns in ("id", "snapshot_id", "betpawa_market_id"):
        assert indexes[f"without_{columns}"]["index_bytes_a_row"] > 0
    assert indexes["as_it_is"]["to_as_it_is"] == 1
    assert {"without_any", "with_foreign_keys"} <= indexes.keys()
    documents = values["documents"]
    assert documents["as_migrated"] == "json"
    # The same text with every key's length beside it: the type was changed.
    sizes = [documents[name]["table_bytes_a_row"] for name in ("json", "jsonb")]
    assert sizes[0] < sizes[1]


@pytest.mark.faults
async def test_the_long_parts_at_their_smallest(
    bench: Command, servers: Servers, kafka: KafkaConnection
) -> None:
    """A backlog, growing tables, the log once more, storage: each has its figures."""
    sections = [
        word for name in ("backlog", "growth", "again", "storage") for word in ("--section", name)
    ]
    size = ("--backlog", "3000", "--grow-to", "9000")
    values = bench("bench", *SMALL, *size, *sections).ok().json
    assert values["backlog"]["raw_50_kb"]["market_rows"] >= 300
    assert values["backlog"]["raw_2_kb"]["rows_a_second"] > 0
    rows = [int(name.split("_")[1]) for name in values["growth"]]
    assert rows[0] == 0
    assert all(row >= 3000 * step for step, row in enumerate(rows))
    again = values["again"]
    assert again["replay_into_empty_tables_rows_a_second"] > 0
    assert again["verify_quick_rows_a_second"] > 0
    assert values["storage"]["raw_2_kb"]["synchronous_commit_off"]["sink_rows_a_second"] > 0
    assert ("lz4" in values["storage"]["raw_50_kb"]) == values["storage"]["lz4_in_this_build"]
    await nothing_is_left(servers, kafka)


async def nothing_is_left(servers: Servers, kafka: KafkaConnection) -> None:
    """A topic that the controller has deleted is for a moment still in a broker's list."""

    async def is_clean() -> bool:
        return not any("oddslog_bench" in name for name in await names_on(servers, kafka))

    await until(is_clean, "schemas or topics of the bench are left")


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
