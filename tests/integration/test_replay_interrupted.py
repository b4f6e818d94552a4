"""A replay that is interrupted: Ctrl-C, kill -9, and how it goes on."""

import asyncio
import re
import shlex
import signal
from dataclasses import replace

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from oddslog.schemas import KafkaConnection
from oddslog.schemas.errors import ProtectionError
from oddslog.sink.replay_transaction import write_replayed
from tests.fixtures.sinks import RunSink
from tests.integration.test_replay import replay
from tests.support.command import Command, Result
from tests.support.conservation import feed_events
from tests.support.kafka import delete_records
from tests.support.polls import one
from tests.support.replays import opened_replay
from tests.support.tables import content
from tests.support.waiting import until

EVENTS = 40
SNAPSHOTS = "SELECT count(*) FROM odds_snapshots"
STATES = "SELECT count(*) FROM oddslog_meta WHERE name LIKE 'replay:%'"


def resume_arguments(said: str) -> list[str]:
    """The arguments of the command that an interrupted replay printed."""
    (line,) = re.findall(r"To go on with it.*?: oddslog (.*)", said)
    return shlex.split(line)


async def interrupted(command: Command, engine: AsyncEngine, *arguments: str) -> Result:
    """A slow replay that got SIGINT after its first rows."""
    with command.running("replay", *arguments) as run:
        await until(lambda: one(engine, SNAPSHOTS), "the first rows")
        return await asyncio.to_thread(run.end, signal.SIGINT)


async def test_ctrl_c_says_how_to_go_on(
    command: Command,
    run_sink: RunSink,
    kafka: KafkaConnection,
    topic: str,
    engine: AsyncEngine,
    empty_engine: AsyncEngine,
    empty_url: str,
) -> None:
    """Exit code 130; the printed command does the rest, and the counts are of the whole."""
    await feed_events(kafka, topic, range(EVENTS))
    await run_sink()
    slow = command.but(POLL_RECORDS="2", DATABASE_URL=empty_url)
    result = await interrupted(slow, empty_engine, "--max-rate", "30", "--json")
    assert result.code == 130, result
    assert result.json["complete"] is False
    assert 0 < result.json["records"] < 2 * EVENTS
    assert await one(empty_engine, STATES) == 1
    arguments = resume_arguments(result.err)
    assert arguments[:2] == ["replay", "--resume"]
    assert "--max-rate" in arguments
    done = (await asyncio.to_thread(slow, *arguments, "--json")).ok()
    assert (done.json["records"], done.json["complete"]) == (2 * EVENTS, True)
    assert done.json["tables"]["odds_snapshots"]["inserted"] == EVENTS
    assert await content(empty_engine) == await content(engine)
    assert await one(empty_engine, STATES) == 0
    again = await asyncio.to_thread(slow, *arguments)
    assert again.code == 2
    assert "was interrupted in this database" in again.error


async def test_a_password_is_not_printed(
    command: Command,
    kafka: KafkaConnection,
    topic: str,
    empty_engine: AsyncEngine,
    empty_url: str,
) -> None:
    """The command that goes on names the database without it, and says so."""
    await feed_events(kafka, topic, range(EVENTS))
    password = empty_engine.url.password
    assert isinstance(password, str)
    slow = command.but(POLL_RECORDS="2")
    result = await interrupted(slow, empty_engine, "--database", empty_url, "--max-rate", "40")
    assert result.code == 130, result
    assert password not in result.out + result.err
    assert "the database's password in place of ***" in result.err
    arguments = [word.replace("***", password) for word in resume_arguments(result.err)]
    (await asyncio.to_thread(command, *arguments)).ok()
    assert await one(empty_engine, SNAPSHOTS) == EVENTS


async def test_an_interrupted_dry_run_leaves_nothing(
    command: Command, kafka: KafkaConnection, topic: str, engine: AsyncEngine
) -> None:
    """And there is nothing to go on with."""
    await feed_events(kafka, topic, range(EVENTS))
    arguments = ("--dry-run", "--max-rate", "5")
    with command.running("replay", *arguments) as run:
        await asyncio.to_thread(run.wait_for, "Dry run")
        result = await asyncio.to_thread(run.end, signal.SIGTERM)
    assert result.code == 143, result
    assert "To go on" not in result.err
    assert await one(engine, SNAPSHOTS) == 0
    assert await one(engine, STATES) == 0


@pytest.mark.parametrize("point", ["replay.before_commit", "replay.after_commit"])
async def test_killed_around_a_commit(
    point: str,
    command: Command,
    run_sink: RunSink,
    kafka: KafkaConnection,
    topic: str,
    engine: AsyncEngine,
    empty_engine: AsyncEngine,
    empty_url: str,
) -> None:
    """The next replay tells of it; `--resume latest` goes on, and every record counts once."""
    await feed_events(kafka, topic, range(EVENTS))
    await run_sink()
    into = command.but(POLL_RECORDS="20", DATABASE_URL=empty_url)
    killed = await asyncio.to_thread(into.but(KILL_POINT=f"{point}:3"), "replay")
    assert killed.code == -signal.SIGKILL, killed
    assert 0 < await one(empty_engine, SNAPSHOTS) < EVENTS
    other = await replay(into, "--partition", "0", "--to-offset", "1")
    assert "was not ended" in other.err
    done = await replay(into, "--resume", "latest")
    assert (done.json["records"], done.json["complete"]) == (2 * EVENTS, True)
    assert await content(empty_engine) == await content(engine)
    assert await one(empty_engine, STATES) == 0


async def test_what_retention_took_meanwhile_is_said(
    command: Command, kafka: KafkaConnection, topic: str, engine: AsyncEngine
) -> None:
    """A gap is never passed over."""
    await feed_events(kafka, topic, range(EVENTS), partitions=1)
    into = command.but(POLL_RECORDS="20")
    await asyncio.to_thread(into.but(KILL_POINT="replay.after_commit:1"), "replay")
    assert await one(engine, SNAPSHOTS) == 10
    await delete_records(kafka, topic, {0: 30})
    result = await asyncio.to_thread(into, "replay", "--resume", "latest")
    assert result.code == 4, result
    assert "partition 0: the log no longer holds" in result.err
    assert "Traceback" not in result.err


async def test_the_last_owner_goes_on(
    command: Command, kafka: KafkaConnection, topic: str, engine: AsyncEngine
) -> None:
    """A second process takes a replay over; the first one stops, and says why."""
    await feed_events(kafka, topic, range(EVENTS))
    # So slow that it is at work for as long as a busy machine takes to start the second.
    with command.but(POLL_RECORDS="2").running("replay", "--max-rate", "2") as first:
        await until(lambda: one(engine, SNAPSHOTS), "the first rows")
        done = await replay(command, "--resume", "latest")
        assert done.json["complete"] is True
        _, err = await asyncio.to_thread(first.process.communicate)
    assert first.process.returncode == 4
    assert "oddslog: " in err
    assert await one(engine, SNAPSHOTS) == EVENTS


async def test_a_commit_whose_reply_was_lost(
    kafka: KafkaConnection, topic: str, engine: AsyncEngine
) -> None:
    """The next attempt finds it: nothing is written or counted a second time."""
    await feed_events(kafka, topic, range(EVENTS))
    async with opened_replay(engine, kafka, topic) as (reader, opened):
        polls = reader.read(opened.state.remaining(), max_records=20, max_bytes=1 << 20)
        parts = await anext(polls)
        await polls.aclose()
        first, _ = await write_replayed(opened.target, opened.state, parts, lambda _: None)
        before = await content(engine)
        again, _ = await write_replayed(opened.target, opened.state, parts, lambda _: None)
        assert again == first
        assert again.counts.records == 20
        assert await content(engine) == before
        # And what comes behind it is not taken for it.
        other = replace(opened.state, owner="other")
        with pytest.raises(ProtectionError, match="another process does replay"):
            await write_replayed(opened.target, other, parts, lambda _: None)
