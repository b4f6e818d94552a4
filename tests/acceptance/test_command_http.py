"""`oddslog sink` with its HTTP port: the address, and the page in a real browser."""

import json
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path

import pytest

from oddslog.deploy.stack import Servers
from oddslog.sink.http_server import Answer, HttpServer, Request
from oddslog.sink.page import render_page
from tests.support.command import Command, Running
from tests.support.http import ask_at_once

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
Browse = Callable[..., str]


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
def taken() -> Iterator[int]:
    """A port of the loopback that somebody has."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


@pytest.fixture
def browse(tmp_path: Path) -> Browse:
    """Loads a page in headless Chromium; the document as it is then."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip("there is no Chromium here; on Debian: apt-get install chromium")

    def load(address: str, *options: str) -> str:
        done = subprocess.run(
            [
                browser,
                "--headless=new",
                "--disable-gpu",
                *(["--no-sandbox"] if os.geteuid() == 0 else []),
                f"--user-data-dir={tmp_path / 'browser'}",
                "--enable-logging=stderr",
                "--virtual-time-budget=12000",
                *options,
                "--dump-dom",
                f"http://{address}/",
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
        assert console == []  # what the policy refuses is said there, too
        return unescape(done.stdout)

    return load


def address_of(sink: Running) -> str:
    """Where the sink's log says that it listens."""
    sink.wait_for("http_listening")
    return str(json.loads(sink.said[-1])["address"])


def test_a_wrong_address_is_one_line(command: Command) -> None:
    """Exit 2, before anything is asked."""
    wrong = command("sink", "--http-address", "9464")
    assert wrong.code == 2
    assert wrong.error.startswith("--http-address must be host:port")


def test_an_address_that_was_asked_for_and_is_taken_ends_the_sink(
    command: Command, taken: int
) -> None:
    """Nobody is to believe that it is watched when it is not."""
    wrong = command.but(HTTP_ADDRESS=f"127.0.0.1:{taken}")("sink")
    assert wrong.code == 2
    assert wrong.error.startswith(f"ODDSLOG_HTTP_ADDRESS: cannot listen on 127.0.0.1:{taken} (")


def test_the_default_address_may_be_another_sinks(command: Command) -> None:
    """A warning, and it writes; with `off` not even that."""
    with socket.socket() as holder:
        try:
            holder.bind(("127.0.0.1", 9464))
            holder.listen()
        except OSError:
            pass  # then somebody else has it, which is as good
        with command.running("sink") as sink:
            sink.wait_for("http_not_listening")
            sink.wait_for("partition_placed")
            sink.end().ok()
        with command.running("sink", "--http-address", "off") as sink:
            sink.wait_for("partition_placed")
            assert "http_" not in sink.end().ok().err


def test_a_run_until_caught_up_listens_where_it_is_asked_to(command: Command, taken: int) -> None:
    """Else it leaves the port to the service."""
    quiet = command("sink", "--until-caught-up", "--log-level", "info").ok()
    assert "http_" not in quiet.err
    at = f"127.0.0.1:{taken}"
    assert command("sink", "--until-caught-up", "--http-address", at).code == 2


def test_the_page_in_a_browser(command: Command, topic: str, browse: Browse) -> None:
    """The first view, and what its script makes of it: numbers, no error, nothing refused."""
    command("feed", "simulate", "--events", "5", "--seed", "3").ok()
    with command.running("sink", "--http-address", "127.0.0.1:0") as sink:
        address = address_of(sink)
        sink.wait_for("partition_placed")
        page = browse(address, f"--screenshot={command.folder}/page.png")
        told = json.loads(ask_at_once(address, "/status.json").text)
        sink.end().ok()
    for text in ("<h1>oddslog sink</h1>", ">ready<", f"topic {topic}", "Partitions"):
        assert text in page
    assert told["overview"]["lag_records"] == 0
    assert f"<dd>{told['sink']['totals']['snapshots']}</dd>" in page


def test_the_page_renews_itself(browse: Browse) -> None:
    """By its script, under its own policy; without one, by the browser's refresh."""
    views = 0

    def answer(request: Request) -> Answer:
        nonlocal views
        if request.path == "/":
            views += 1
        nonce = f"n{views}"
        policy = f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'"
        shown = render_page({"version": f"view-{views}", "problems": []}, nonce).encode()
        headers = (("Content-Security-Policy", f"{policy}; img-src data:; connect-src 'self'"),)
        return Answer(200, shown, "text/html; charset=utf-8", headers)

    server = HttpServer("127.0.0.1", 0, answer)
    server.start()
    try:
        page = browse(server.address)
    finally:
        server.stop()
    found = re.findall(r"view-(\d+)", page)
    assert len(found) == 1
    assert int(found[0]) >= 2
