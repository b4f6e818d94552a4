"""What a command says: to people, to machines, in its log, and at its end."""

import errno
import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest
import structlog

from oddslog.deploy import entry, logs
from oddslog.deploy.console import Out
from oddslog.deploy.logs import LibraryLogs, configure_logs, let_libraries_log
from oddslog.schemas import ConfigurationError, ProtectionError, UnreachableError


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """The command configures a process of its own; this one goes on."""
    root = logging.getLogger()
    handlers, level, last = list(root.handlers), root.level, logging.lastResort
    yield
    structlog.reset_defaults()
    root.handlers[:], logging.lastResort = handlers, last
    root.setLevel(level)


def test_people_read_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    """Progress is beside it."""
    out = Out()
    out.say("result")
    out.note("progress")
    out.result({"a": 1})
    assert capsys.readouterr() == ("result\n", "progress\n")


def test_with_json_standard_output_is_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    """People read standard error then."""
    out = Out(as_json=True)
    out.say("result")
    out.facts([("one", 1000), ("no", None)], title="Facts")
    out.table(["a", "b"], [[1, True]], numbers=["a"])
    out.result({"a": 1})
    said, noted = capsys.readouterr()
    assert json.loads(said) == {"a": 1}
    assert "one  1,000" in noted
    assert "no   -" in noted
    assert "1  yes" in noted


def test_long_lines_are_not_wrapped_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    """Nor is anything taken for markup."""
    out = Out()
    out.say("[bold]" + "x " * 200)
    assert capsys.readouterr().out == "[bold]" + "x " * 200 + "\n"


def test_progress_in_a_pipe_is_a_line_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    """And now and then one on the way."""
    with Out().meter("feed", 20, "batches") as meter:
        meter.advance()
        meter.move_to(20)
    assert capsys.readouterr().err.startswith("feed: 20 of 20 batches in ")


def test_logs_are_json_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    """From the level on that was asked for."""
    configure_logs("info")
    structlog.get_logger("oddslog.sink").info("partition_placed", partition=3)
    structlog.get_logger("oddslog.sink").debug("poll_written")
    said, noted = capsys.readouterr()
    assert said == ""
    (line,) = noted.splitlines()
    assert (
        json.loads(line).items()
        >= {
            "event": "partition_placed",
            "level": "info",
            "partition": 3,
        }.items()
    )


def test_libraries_are_silent_until_the_servers_were_found(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A server that is away is one line of ours."""
    configure_logs("warning")
    logging.getLogger("aiokafka").error("Unable connect to %s", "kafka:9092")
    assert capsys.readouterr() == ("", "")
    let_libraries_log()
    logging.getLogger("aiokafka").error("Unable connect to %s", "kafka:9092")
    logging.getLogger("aiokafka").info("nothing of interest")
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["message"] == "Unable connect to kafka:9092"


def test_libraries_say_the_same_once_in_ten_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    """What was held back is counted; another message is another matter."""
    configure_logs("warning")
    now = 0.0
    handler = LibraryLogs(lambda: now)

    def say(message: str, *values: object, logger: str = "aiokafka") -> None:
        handler.handle(logging.LogRecord(logger, logging.ERROR, "", 0, message, values, None))

    for port in range(20):
        now += 0.1
        say("cannot connect to port %d", port)
    say("another")
    say("cannot connect to port %d", 1, logger="asyncio")
    now = 10.2
    say("cannot connect to port %d", 99)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["logger"], line["message"], line.get("held_back")) for line in lines] == [
        ("aiokafka", "cannot connect to port 0", None),
        ("aiokafka", "another", None),
        ("asyncio", "cannot connect to port 1", None),
        ("aiokafka", "cannot connect to port 99", 19),
    ]


def test_a_log_goes_where_standard_error_is_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """A progress bar takes its place for a while, and puts lines above itself."""
    configure_logs("info")
    other = io.StringIO()
    monkeypatch.setattr(sys, "stderr", other)
    structlog.get_logger().info("above_the_bar")
    assert "above_the_bar" in other.getvalue()


def end_of(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code of a command that raises this."""
    import oddslog.deploy.running

    def fail(_arguments: object) -> int:
        raise error

    monkeypatch.setattr(oddslog.deploy.running, "run", fail)
    monkeypatch.setattr(entry, "_quiet_pipe", lambda: 141)
    monkeypatch.setattr(sys, "argv", ["oddslog", "sink"])
    with pytest.raises(SystemExit) as ended:
        entry.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (ConfigurationError("no such\n topic"), 2, "oddslog: no such topic\n"),
        (UnreachableError("Kafka is away"), 3, "oddslog: Kafka is away\n"),
        (ProtectionError("a gap"), 4, "oddslog: a gap\n"),
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 141, ""),
        (
            PermissionError(errno.EACCES, "Permission denied", "/data/state.json"),
            2,
            "oddslog: /data/state.json: Permission denied\n",
        ),
        (OSError(errno.ENOSPC, "No space left"), 2, "oddslog: No space left\n"),
        (
            TypeError("odd"),
            1,
            "oddslog: unexpected error: TypeError: odd. This is a bug; run again with"
            " ODDSLOG_DEBUG=1\n",
        ),
    ],
)
def test_every_end_is_one_line_and_its_code(
    error: BaseException,
    code: int,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The table of exit codes."""
    monkeypatch.delenv("ODDSLOG_DEBUG", raising=False)
    assert end_of(error, monkeypatch) == code
    assert capsys.readouterr().err == says


def test_a_bug_shows_its_traceback_where_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And only there."""
    monkeypatch.setenv("ODDSLOG_DEBUG", "1")
    assert end_of(TypeError("odd"), monkeypatch) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_quietened_logs_say_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """For an interrupted feed, whose batches would each be logged in full."""
    configure_logs("info")
    logs.quieten_logs()
    structlog.get_logger("oddslog.ingest").error("write_batch_failed")
    assert capsys.readouterr().err == ""
