"""A replay's memory does not grow with what it replays."""

import asyncio
import os
import subprocess
import sys

import orjson

from oddslog.schemas import KafkaConnection
from tests.support.batches import snapshot
from tests.support.command import Command
from tests.support.fragments import holding, record
from tests.support.kafka import produce

MIB = 1024 * 1024
RECORDS = 80
# The child's own peak, and not that of the tests or of the stack.
MEASURE = """
import resource, subprocess, sys
code = subprocess.call([sys.executable, "-m", "oddslog.deploy", "replay", "--json", *sys.argv[1:]])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(code)
"""


def measured(command: Command, *arguments: str) -> tuple[int, int]:
    """How many records it replayed, and the bytes that it held at its peak."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *arguments],
        env=command.environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    unit = 1 if sys.platform == "darwin" else 1024
    peak = int(done.stderr.splitlines()[-1]) * unit
    return orjson.loads(done.stdout.splitlines()[-1])["records"], peak


async def test_memory_is_flat(command: Command, kafka: KafkaConnection, topic: str) -> None:
    """80 MB of records in parts of a megabyte: far less than that above one of them alone."""
    raw = os.urandom(MIB // 2).hex()
    for first in range(0, RECORDS, 10):
        values = [
            holding(record(snapshot(n, raw_response=[raw])), event_id=n)
            for n in range(first, first + 10)
        ]
        await produce(kafka, topic, values)
    small = command.but(POLL_BYTES=str(MIB), RAW_RESPONSE="log")
    few, alone = await asyncio.to_thread(measured, small, "--to-offset", "20")
    # The records of a dry run are rolled back and remembered; all the same.
    every, peak = await asyncio.to_thread(measured, small, "--dry-run")
    assert (few, every) == (20, RECORDS)
    assert peak - alone < 50 * MIB, f"{peak / MIB:.0f} MiB, {alone / MIB:.0f} MiB for 20 records"
