"""`oddslog spool`, and a feed through a spool, as a child process."""

import base64
import json
from pathlib import Path

import pytest

from oddslog.deploy.stack import Servers
from oddslog.schemas.codec import decode
from tests.acceptance.test_command_usage import closed_port
from tests.integration.test_ingest_contract_kafka import event_ids, read_topic
from tests.support.command import Command
from tests.support.spools import open_store


@pytest.fixture
def away(tmp_path: Path) -> Command:
    """With brokers that refuse, and a spool."""
    return Command(
        {"BOOTSTRAP_SERVERS": f"127.0.0.1:{closed_port()}", "SPOOL_DIR": str(tmp_path / "spool")},
        tmp_path,
    )


def fed(command: Command, events: int = 6) -> int:
    """Feed into the spool; returns how many fragments are inside."""
    result = command(
        "feed", "simulate", "--events", str(events), "--cycles", "1", "--raw-kb", "0", "--json"
    ).ok()
    assert result.json["failed"] == 0
    assert "everything goes to the spool" in result.err
    assert "oddslog spool drain" in result.err
    return int(result.json["spool_fragments"])


def damage(folder: Path) -> None:
    """Change a byte in the middle of the first value."""
    with open_store(folder) as store:
        value = store.page(1, 1)[0].value
    data = bytearray((folder / "spool.sqlite").read_bytes())
    data[data.index(value[-1000:]) + 500] ^= 1
    (folder / "spool.sqlite").write_bytes(data)


def test_fed_while_away_looked_at_and_checked(away: Command, tmp_path: Path) -> None:
    """Without any server: what is inside, and that it is whole."""
    count = fed(away)
    assert count == 3 * 6
    status = away("spool", "status", "--json").ok().json
    assert (status["fragments"], status["rejected"], status["in_use"]) == (count, 0, False)
    assert status["bytes"] > 10_000
    assert status["oldest_at"] is not None
    verified = away("spool", "verify", "--json").ok().json
    assert verified == {"fragments": count, "snapshots": count, "problems": [], "fine": True}
    assert f"{count} fragments with" in away("spool", "verify").ok().out
    assert str(tmp_path / "spool") in away("spool", "status").ok().out


def test_damage_is_found_rejected_and_exported(away: Command, tmp_path: Path) -> None:
    """Verify names it and changes nothing; export keeps it, and everything else."""
    count = fed(away)
    folder = tmp_path / "spool"
    damage(folder)
    before = (folder / "spool.sqlite").read_bytes()
    verified = away("spool", "verify", "--json")
    assert verified.code == 1
    assert "is damaged: its CRC-32" in verified.json["problems"][0]
    assert verified.json["snapshots"] == count - 1
    assert (folder / "spool.sqlite").read_bytes() == before
    with open_store(folder) as store:
        store.page(10**9, 10**6)  # as the drainer reads
    status = away("spool", "status", "--json").ok().json
    assert (status["fragments"], status["rejected"]) == (count - 1, 1)
    assert list(status["reasons"].values()) == [1]

    target = tmp_path / "out.ndjson"
    done = away("spool", "export", str(target), "--all", "--json").ok().json
    assert (done["rejected"], done["waiting"], done["removed"]) == (1, count - 1, 0)
    lines = [json.loads(line) for line in target.read_text().splitlines()]
    assert [line["state"] for line in lines] == ["rejected"] + ["waiting"] * (count - 1)
    assert "CRC-32" in lines[0]["reason"]
    for line in lines[1:]:
        writes = decode(base64.b64decode(line["value"]))
        assert str(writes.batch_id) == line["batch_id"] == line["headers"]["oddslog-batch"]
        assert base64.b64decode(line["key"]).decode() == f"{line['kind']}:{line['event_id']}"

    again = away("spool", "export", str(target))
    assert (again.code, "is there already" in again.error) == (2, True)
    removed = away("spool", "export", str(tmp_path / "two"), "--remove-rejected", "--json").ok()
    assert removed.json["removed"] == 1
    assert away("spool", "status", "--json").ok().json["rejected"] == 0


def test_while_a_queue_has_it(away: Command, tmp_path: Path) -> None:
    """Looking and checking work; what would change it says in one line who is there."""
    count = fed(away)
    with open_store(tmp_path / "spool"):
        assert away("spool", "status", "--json").ok().json["in_use"] is True
        assert away("spool", "verify", "--json").ok().json["fragments"] == count
        for arguments in (["spool", "drain"], ["feed", "simulate", "--events", "1"]):
            refused = away(*arguments)
            assert refused.code == 2
            assert "is in use by another queue or command" in refused.err.splitlines()[-1]


def test_what_is_asked_wrongly_is_one_line(away: Command, tmp_path: Path) -> None:
    """No folder set, no spool in it, no folder for the durability."""
    unset = Command({}, tmp_path)
    refused = unset("spool", "status")
    assert (refused.code, "ODDSLOG_SPOOL_DIR is not set" in refused.error) == (2, True)
    for name in ("verify", "drain"):
        refused = away("spool", name)
        assert (refused.code, "there is no spool in" in refused.error) == (2, True)
    refused = unset.but(DURABILITY="spool")("feed", "simulate")
    assert (refused.code, "ODDSLOG_SPOOL_DIR" in refused.error) == (2, True)
    assert not (tmp_path / "spool").exists()


async def test_drain_sends_everything_and_ends(
    away: Command, servers: Servers, topic: str, tmp_path: Path
) -> None:
    """Exit code 3 while the brokers are away, and nothing is lost by that."""
    count = fed(away)
    refused = away("spool", "drain")
    assert refused.code == 3
    assert f"{count} fragments are still in the spool" in refused.err.splitlines()[-1]
    here = away.but(BOOTSTRAP_SERVERS=servers.bootstrap_servers, TOPIC=topic)
    assert here("spool", "drain", "--json").ok().json == {"fragments": count, "rejected": 0}
    assert len(event_ids(await read_topic(servers.bootstrap_servers, topic))) == count
    assert here("spool", "drain", "--json").ok().json == {"fragments": 0, "rejected": 0}
    assert here("spool", "status", "--json").ok().json["fragments"] == 0
    # And a feed that goes through the spool leaves nothing behind in it.
    result = here.but(DURABILITY="spool")("feed", "simulate", "--events", "2", "--json").ok()
    assert result.json["spool_fragments"] == 0
