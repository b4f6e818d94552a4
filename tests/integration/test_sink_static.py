"""Static membership: a sink that is restarted under its name disturbs nobody."""

from collections.abc import Iterable
from functools import partial

from sqlalchemy.ext.asyncio import AsyncEngine

from oddslog.deploy.kafka_clients import admin_client
from oddslog.deploy.log_look import read_group
from oddslog.schemas import KafkaConnection
from oddslog.schemas.codec import snapshot_part
from tests.support.batches import snapshot
from tests.support.fragments import holding
from tests.support.kafka import produce
from tests.support.polls import one
from tests.support.running import Running, running
from tests.support.waiting import until

SESSION_SECONDS = 30.0  # longer than the restart, however busy the machine


def noting_revocations(member: Running) -> list[list[int]]:
    """What the group takes from a member from now on."""
    noted: list[list[int]] = []
    revoked = member.sink.revoked

    async def note(partitions: Iterable[int]) -> None:
        noted.append(list(partitions))
        await revoked(noted[-1])

    member.sink.revoked = note  # type: ignore[method-assign]
    return noted


async def test_a_restart_moves_no_partition(
    kafka: KafkaConnection, topic: str, engine: AsyncEngine
) -> None:
    """Its partitions wait for it; the other member goes on, and what came meanwhile is written."""
    member = partial(running, kafka, topic, engine, session_timeout_seconds=SESSION_SECONDS)
    async with member(group_instance_id="sink-0") as stays:
        await stays.until_placed(3)
        async with member(group_instance_id="sink-1") as leaves:
            await until(lambda: len(stays.placed + leaves.placed) == 3 and leaves.placed, "shares")
            shares = stays.placed, leaves.placed
            noted = noting_revocations(stays)
            async with admin_client(kafka) as admin:
                members = (await read_group(admin, topic, topic)).members
            assert {(m.client_id, *m.partitions) for m in members} == {
                ("sink-0", *shares[0]),
                ("sink-1", *shares[1]),
            }
            await leaves.stop()
        for partition in range(3):
            values = [holding(snapshot_part(snapshot(partition + 1)).record)]
            await produce(kafka, topic, values, partition=partition)
        async with member(group_instance_id="sink-1") as back:
            await back.until_placed(len(shares[1]))
            assert (stays.placed, back.placed) == shares

            async def all_written() -> bool:
                return bool(await one(engine, "SELECT sum(next_offset) = 3 FROM oddslog_ledger"))

            await until(all_written, "all three records")
            assert noted == []
            await back.stop()
