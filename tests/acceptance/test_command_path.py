"""The command on real servers: from an empty database to rows, and what can be wrong."""

import json
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from oddslog.deploy.stack import Servers
from oddslog.schemas import KafkaConnection
from tests.fixtures.servers import create_database, drop_database
from tests.support.command import Command
from tests.support.kafka import make_anew, produce

BATCH = {
    "changed_betpawa": [
        {
            "event_id": 1,
            "bookmaker_id": 1,
            "captured_at": "2026-03-01T12:00:00+00:00",
            "markets": [
                {"betpawa_market_id": "1", "betpawa_market_name": "1X2", "outcomes": []},
            ],
        }
    ]
}


@pytest.fixture
def command(servers: Servers, database_url: str, topic: str, tmp_path: Path) -> Command:
    """On a fresh topic and a fresh, migrated database."""
    return Command(
        {
            "BOOTSTRAP_SERVERS": servers.bootstrap_servers,
            "DATABASE_URL": database_url,
            "TOPIC": topic,
            "GROUP": topic,
        },
        tmp_path,
    )


@pytest.fixture
async def empty_url(servers: Servers, new_name: str) -> AsyncIterator[str]:
    """A database that nothing was migrated in."""
    name = f"{new_name}_empty"
    yield await create_database(servers, name)
    await drop_database(servers, name)


def batch_of(market_id: str, event_id: int = 1) -> str:
    """A line of JSON: one batch of one snapshot of one market."""
    text = json.dumps(BATCH).replace('_id": "1"', f'_id": "{market_id}"')
    return text.replace('"event_id": 1', f'"event_id": {event_id}')


async def test_round_trip(command: Command, kafka: KafkaConnection, topic: str) -> None:
    """Fed, sunk, shown: every command agrees about what is where, each a program started anew."""
    command = replace(command, fresh=True)
    simulated = ("feed", "simulate", "--events", "20", "--seed", "7", "--run", "812")
    fed = command(*simulated, "--json").ok().json
    assert fed["batches"] == 2
    assert fed["snapshots"] + fed["confirmations"] == 120
    assert fed["markets"] > 6800
    assert (fed["failed"], fed["rejected"], fed["bad_lines"]) == (0, 0, 0)
    assert fed["seconds"] > 0

    before = command("status", "--json").ok().json
    assert before["lag_records"] == 120
    assert before["log_id"] is None

    sunk = command("sink", "--until-caught-up", "--json").ok().json
    assert sunk["caught_up"]
    for name in ("snapshots", "markets", "confirmations"):
        assert sunk[name] == fed[name], name

    after = command("status", "--json").ok().json
    assert after["lag_records"] == 0
    assert sum(p["ledger_next"] for p in after["partitions"]) == 120
    assert [p["group_offset"] for p in after["partitions"]] == [
        p["ledger_next"] for p in after["partitions"]
    ]
    assert after["dead_letters"] == []
    assert after["pending_confirmations"] == 0

    (log,) = command("ledger", "show", "--json").ok().json["logs"]
    assert (log["topic"], log["generation"], log["partition_count"]) == (topic, 1, 3)
    assert sum(row["snapshots_total"] for row in log["partitions"]) == fed["snapshots"]
    runs = command("runs", "--json").ok().json["runs"]
    assert {run["run_id"]: run["state"] for run in runs} == {812: "complete", 813: "complete"}


async def test_people_get_text_and_no_json(command: Command) -> None:
    """The same commands without `--json`."""
    fed = command("feed", "simulate", "--events", "2").ok()
    assert "snapshots with" in fed.out
    assert "feed: 2 of 2 batches" in fed.err
    assert "Lag: 12 records" in command("status").ok().out
    sunk = command("sink", "--until-caught-up").ok()
    assert "Caught up with the log" in sunk.out
    assert "sink: 12 of 12 records" in sunk.err
    assert "The tables are level with the log" in command("status").ok().out
    assert "generation 1, 3 partitions" in command("ledger", "show").ok().out
    assert command("dlq", "list").ok().out == "No dead letters\n"


async def test_dead_letters_are_listed_by_cause(
    command: Command, kafka: KafkaConnection, topic: str
) -> None:
    """With their number, times, and where an example is."""
    await produce(kafka, topic, [b"junk", b"more junk"], partition=1)
    poison = [batch_of("x" * 60, event_id) for event_id in (5, 6, 7)]
    command("feed", "ndjson", "-", stdin="\n".join(poison)).ok()
    assert command("sink", "--until-caught-up", "--json").ok().json["dead_letters"] == 5
    listed = command("dlq", "list", "--json").ok().json
    assert listed["letters"] == 5
    poisoned, undecodable = listed["causes"]
    assert (poisoned["reason"], poisoned["letters"]) == ("poison", 3)
    assert poisoned["field"] == "markets[].betpawa_market_id"
    assert poisoned["example"]["event_id"] in (5, 6, 7)
    assert (undecodable["reason"], undecodable["letters"]) == ("undecodable", 2)
    assert undecodable["example"]["topic"] == topic
    assert (undecodable["example"]["partition"], undecodable["example"]["offset"]) == (1, 1)
    text = command("dlq", "list", "--reason", "poison").ok().out
    assert "3 dead: poison, field markets[].betpawa_market_id" in text
    assert "undecodable" not in text
    assert "No dead letters" in command("dlq", "list", "--status", "waiting").ok().out
    states = command("status", "--json").ok().json["dead_letters"]
    assert {state["reason"]: state["letters"] for state in states} == {
        "poison": 3,
        "undecodable": 2,
    }


async def test_bad_lines_are_named_and_the_good_ones_go_in(command: Command) -> None:
    """Exit code 1, as not everything is there."""
    lines = "\n".join([batch_of("1"), "no json", '{"evnets": 1}', "", batch_of("2", 2)])
    result = command("feed", "ndjson", "-", "--json", stdin=lines)
    assert result.code == 1
    assert "standard input, line 2: is no JSON" in result.err
    assert "standard input, line 3: evnets: is not known here" in result.err
    assert (result.json["batches"], result.json["bad_lines"]) == (2, 2)
    assert (result.json["snapshots"], result.json["markets"]) == (2, 2)


async def test_strict_ends_at_the_first_bad_line(command: Command) -> None:
    """What came before it is in the log."""
    lines = "\n".join([batch_of("1"), "no json", batch_of("2", 2)])
    result = command("feed", "ndjson", "-", "--strict", stdin=lines)
    assert result.code == 2
    assert "standard input, line 2: is no JSON" in result.err
    assert "Traceback" not in result.err
    assert command("status", "--json").ok().json["lag_records"] == 1


async def test_a_snapshot_that_is_too_large_is_named(command: Command) -> None:
    """The rest of its batch goes in."""
    large = json.loads(batch_of("1", 8))
    large["changed_betpawa"][0]["raw_response"] = {"pad": "x" * 11_000_000}
    large["changed_betpawa"] += json.loads(batch_of("2", 9))["changed_betpawa"]
    result = command("feed", "ndjson", "-", "--json", stdin=json.dumps(large))
    assert result.code == 1
    assert "rejected: betpawa event 8" in result.err
    assert (result.json["failed"], result.json["rejected"]) == (1, 1)
    assert (result.json["snapshots"], result.json["markets"]) == (1, 1)


@pytest.mark.parametrize(
    "arguments", ["feed simulate", "topics", "sink", "ledger adopt --from end"]
)
async def test_a_topic_that_is_missing_is_exit_code_2(command: Command, arguments: str) -> None:
    """And it says how to make it. Nothing makes it by the way."""
    missing = command.but(TOPIC="no.such.topic")
    result = missing(*arguments.split())
    assert result.code == 2
    assert "no.such.topic is not there" in result.error
    assert "oddslog topics --create" in result.error
    assert missing("topics").code == 2


@pytest.mark.parametrize("arguments", ["sink", "ledger show", "dlq list", "status"])
async def test_a_database_that_is_not_migrated_is_exit_code_2(
    command: Command, empty_url: str, arguments: str
) -> None:
    """It says what to run."""
    result = command.but(DATABASE_URL=empty_url)(*arguments.split())
    assert result.code == 2
    assert result.error == "the database is not migrated; run: oddslog migrate"


async def test_migrate_can_be_looked_at_first(command: Command, empty_url: str) -> None:
    """`--sql` prints what would run and changes nothing."""
    fresh = command.but(DATABASE_URL=empty_url)
    looked = fresh("migrate", "--sql").ok()
    assert "CREATE TABLE oddslog_ledger" in looked.out
    assert fresh("ledger", "show").code == 2
    migrated = fresh("migrate", "--json").ok().json
    assert migrated["from"] is None
    assert migrated["statements"] > 10
    assert fresh("migrate", "--json").ok().json == {
        "from": migrated["to"],
        "to": migrated["to"],
        "statements": 0,
        "dry_run": False,
    }
    assert "nothing to do" in fresh("migrate").ok().out


async def test_migrate_into_a_schema(command: Command, empty_url: str) -> None:
    """Other commands find the tables there by the setting, and only there."""
    fresh = command.but(DATABASE_URL=empty_url)
    fresh("migrate", "--schema", "odds").ok()
    fresh("ledger", "show", "--schema", "odds").ok()
    fresh.but(DATABASE_SCHEMA="odds")("dlq", "list").ok()
    assert fresh("ledger", "show").code == 2


async def test_topics_makes_what_is_missing_and_leaves_the_rest(
    command: Command, new_name: str
) -> None:
    """A second `--create` changes nothing, and says so."""
    fresh = command.but(TOPIC=f"{new_name}.made")
    made = fresh("topics", "--create", "--partitions", "5", "--json").ok().json
    assert (made["made"], made["partitions"], made["cleanup_policy"]) == (True, 5, "delete")
    with_letters = fresh.but(DEAD_LETTER_TOPIC=f"{new_name}.dead")
    again = with_letters("topics", "--create", "--partitions", "7", "--json").ok()
    assert (again.json["made"], again.json["partitions"]) == (False, 5)
    letters = again.json["dead_letter_topic"]
    assert (letters["topic"], letters["made"]) == (f"{new_name}.dead", True)
    assert (letters["partitions"], letters["cleanup_policy"]) == (1, "delete")
    assert "with 5 partitions: left as it is" in again.err


async def test_a_compacted_topic_is_exit_code_1(
    command: Command, kafka: KafkaConnection, new_name: str
) -> None:
    """Compaction would delete snapshots; feed and sink refuse it."""
    admin = AIOKafkaAdminClient(**kafka.client_options())
    await admin.start()
    try:
        configs = {"cleanup.policy": "compact"}
        await admin.create_topics([NewTopic(f"{new_name}.c", 1, 1, topic_configs=configs)])
    finally:
        await admin.close()
    compacted = command.but(TOPIC=f"{new_name}.c")
    result = compacted("topics", "--json")
    assert result.code == 1
    assert "cleanup.policy=compact" in result.json["problems"][0]
    for refusing in (("feed", "simulate"), ("sink",)):
        refused = compacted(*refusing)
        assert refused.code == 2
        assert "cleanup.policy=compact" in refused.error


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_sink_stops_gracefully(command: Command, number: signal.Signals) -> None:
    """A service that is told to stop was fine; its log is JSON."""
    command("feed", "simulate", "--events", "2", "--cycles", "1").ok()
    with command.running("sink", "--json") as sink:
        sink.wait_for("partition_placed")
        result = sink.end(number)
    assert result.code == 0
    assert result.json["caught_up"] is False
    events = [json.loads(line)["event"] for line in result.err.splitlines() if line[0] == "{"]
    assert events[-1] == "sink_stopping"
    assert "Traceback" not in result.err


async def test_adopt_moves_to_a_topic_made_anew(
    command: Command, kafka: KafkaConnection, topic: str
) -> None:
    """Without it the sink stops with exit code 4; with it, it goes on."""
    command("feed", "simulate", "--events", "4", "--cycles", "1").ok()
    command("sink", "--until-caught-up").ok()
    await make_anew(kafka, topic)
    stopped = command("sink", "--until-caught-up")
    assert stopped.code == 4
    assert "oddslog ledger adopt" in stopped.err

    asked = command("ledger", "adopt", "--from", "start")
    assert asked.code == 2
    assert "add --yes" in asked.err
    adopted = command("ledger", "adopt", "--from", "start", "--yes", "--json").ok().json
    assert (adopted["generation"], adopted["partition_count"]) == (2, 3)
    command("feed", "simulate", "--events", "2", "--cycles", "1", "--seed", "2").ok()
    sunk = command("sink", "--until-caught-up", "--json").ok().json
    assert sunk["records"] == 6
    logs = command("ledger", "show", "--json").ok().json["logs"]
    assert [log["generation"] for log in logs] == [1, 2]


async def test_adopt_from_the_end_leaves_out_what_is_there(command: Command) -> None:
    """Only what comes from now on is written."""
    command("feed", "simulate", "--events", "4", "--cycles", "1").ok()
    adopted = command("ledger", "adopt", "--from", "end", "--yes").ok()
    assert "12 records that the log holds now will NOT be written" in adopted.out
    command("feed", "ndjson", "-", stdin=batch_of("1", 90)).ok()
    sunk = command("sink", "--until-caught-up", "--json").ok().json
    assert (sunk["records"], sunk["snapshots"]) == (1, 1)


async def test_adopt_refuses_while_a_sink_runs(command: Command) -> None:
    """It would go on with the old generation."""
    with command.running("sink") as sink:
        sink.wait_for("partition_placed")
        result = command("ledger", "adopt", "--from", "end", "--yes")
        assert result.code == 2
        assert "stop every sink first" in result.error


async def test_status_with_one_server_away(command: Command) -> None:
    """It shows the other one, and the exit code says that something is missing."""
    command("feed", "simulate", "--events", "2", "--cycles", "1").ok()
    command("sink", "--until-caught-up").ok()
    no_kafka = command.but(BOOTSTRAP_SERVERS="127.0.0.1:1")("status", "--json")
    assert no_kafka.code == 3
    assert set(no_kafka.json["errors"]) == {"Kafka"}
    assert sum(p["ledger_next"] for p in no_kafka.json["partitions"]) == 6
    no_database = command.but(DATABASE_URL="postgresql://me:hush@127.0.0.1:1/x")("status", "--json")
    assert no_database.code == 3
    assert set(no_database.json["errors"]) == {"PostgreSQL"}
    assert sum(p["log_end"] for p in no_database.json["partitions"]) == 6
    assert "hush" not in no_database.out + no_database.err


async def test_wrong_credentials_are_exit_code_2(command: Command, database_url: str) -> None:
    """Waiting would not help."""
    wrong_user = database_url.replace("://", "://nobody_", 1)
    for url, says in (
        (wrong_user, "refuses this user or password"),
        (f"{database_url}_missing", "there is no such database"),
    ):
        for arguments in (("migrate",), ("sink",)):
            result = command.but(DATABASE_URL=url)(*arguments)
            assert result.code == 2
            assert says in result.error
