"""The HTTP port: what it answers, to whom not, and that it answers while the loop does not."""

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from structlog.testing import capture_logs

from oddslog.schemas import ConfigurationError
from oddslog.sink import http_server
from oddslog.sink.http_server import Answer, HttpServer, Request
from oddslog.sink.recent import Recent
from oddslog.sink.serving import serve
from oddslog.sink.site import Site
from tests.support.http import ask, ask_at_once
from tests.support.waiting import until

PATHS = ("/", "/metrics", "/livez", "/readyz", "/status.json")


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """A site without a sink yet, on a free port."""
    async with serve("127.0.0.1", 0, stuck_seconds=0.3) as site:
        assert site is not None
        yield site


@pytest.fixture
def server() -> Iterator[HttpServer]:
    """A server that says what was asked."""
    server = HttpServer("127.0.0.1", 0, lambda request: Answer(200, request.path.encode()))
    server.start()
    yield server
    server.stop()


@pytest.mark.parametrize("path", PATHS)
async def test_every_path_answers_before_there_is_a_sink(site: Site, path: str) -> None:
    """A probe that comes early gets an answer; `HEAD` the same without a body."""
    reply = await ask(site.address, path)
    assert reply.status == (503 if path == "/readyz" else 200)
    assert reply.text
    assert reply.headers["cache-control"] == "no-store"
    head = await ask(site.address, path, "HEAD")
    assert (head.status, head.text) == (reply.status, "")
    assert int(head.headers["content-length"]) > 0


async def test_readiness_says_why_not(site: Site) -> None:
    """In one line."""
    assert (await ask(site.address, "/readyz")).text == "the sink is starting\n"


async def test_what_is_not_there_is_404_and_names_what_is(site: Site) -> None:
    """A query is no part of the path."""
    reply = await ask(site.address, "/../etc/passwd")
    assert reply.status == 404
    assert "/metrics" in reply.text
    assert (await ask(site.address, "/livez?verbose=1")).status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_only_reading_is_allowed(site: Site, method: str) -> None:
    """Nothing can be changed here."""
    reply = await ask(site.address, "/", method)
    assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD")


async def test_the_page_may_load_nothing(site: Site) -> None:
    """Its policy allows its own style and script, by nonces that are new each time."""
    first, second = [await ask(site.address, "/") for _ in range(2)]
    policy = first.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    nonce = policy.split("nonce-")[1].split("'")[0]
    assert f'<script nonce="{nonce}">' in first.text
    assert nonce not in second.text


async def test_metrics_come_in_the_format_that_is_asked_for(site: Site) -> None:
    """Text for whoever says nothing, OpenMetrics for Prometheus."""
    plain = await ask(site.address, "/metrics")
    assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
    accept = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"}
    modern = await ask(site.address, "/metrics", headers=accept)
    assert modern.headers["content-type"].startswith("application/openmetrics-text")
    assert modern.text.endswith("# EOF\n")
    for reply in (plain, modern):
        assert 'oddslog_build_info{version="' in reply.text


async def test_a_loop_that_stands_still_is_told(site: Site) -> None:
    """From a thread of its own, while the loop is blocked; and alive again afterwards."""
    assert (await ask(site.address, "/livez")).text == "alive\n"
    replies: dict[str, Any] = {}

    def look() -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            replies["livez"] = ask_at_once(site.address, "/livez")
            if replies["livez"].status == 503:
                break
        replies["readyz"] = ask_at_once(site.address, "/readyz")
        replies["metrics"] = ask_at_once(site.address, "/metrics")

    looking = threading.Thread(target=look)
    looking.start()
    looking.join()  # this thread is the loop's
    assert replies["livez"].status == 503
    assert "the event loop has stood still" in replies["livez"].text
    assert replies["readyz"].status == 503
    assert replies["metrics"].status == 200

    async def alive() -> bool:
        return (await ask(site.address, "/livez")).status == 200

    await until(alive, "the loop to be alive again")


async def test_a_port_that_is_taken_is_one_line() -> None:
    """An error where it was asked for, a warning where it is only the default."""
    async with serve("127.0.0.1", 0) as first:
        assert first is not None
        port = int(first.address.rpartition(":")[2])
        with pytest.raises(ConfigurationError, match=f"cannot listen on 127.0.0.1:{port}") as told:
            async with serve("127.0.0.1", port):
                pass
        assert "Address already in use" in str(told.value)
        with capture_logs() as logs:
            async with serve("127.0.0.1", port, required=False) as second:
                assert second is None
        assert [line["event"] for line in logs] == ["http_not_listening"]
        assert (await ask(first.address, "/livez")).status == 200
    async with serve("127.0.0.1", port) as again:  # the port was given back
        assert again is not None


async def test_an_address_that_is_not_ours_is_one_line() -> None:
    """Of another machine, say."""
    with pytest.raises(ConfigurationError, match=r"cannot listen on 192\.0\.2\.1:1 "):
        async with serve("192.0.2.1", 1):
            pass


async def test_nobody_asks_the_servers_more_than_every_few_seconds() -> None:
    """However many look, and however long a look takes."""
    looks = 0
    may_end = asyncio.Event()

    async def look() -> dict[str, int]:
        nonlocal looks
        looks += 1
        await may_end.wait()
        return {"lag_records": looks}

    recent = Recent(look, fresh_seconds=60.0, wait_seconds=0.05)
    early = await asyncio.gather(*(recent.get() for _ in range(5)))
    assert [seen.value for seen in early] == [None] * 5
    may_end.set()
    await until(lambda: recent._seen_at is not None, "the look to end")
    late = await asyncio.gather(*(recent.get() for _ in range(5)))
    assert [seen.value for seen in late] == [{"lag_records": 1}] * 5
    assert looks == 1
    await recent.close()


async def test_a_look_that_fails_keeps_what_was_seen() -> None:
    """With the error beside it."""
    answers: list[Any] = [{"fine": 1}, RuntimeError("a bug")]

    async def look() -> dict[str, int]:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return dict(answer)

    recent = Recent(look, fresh_seconds=0.0)
    await recent.get()
    seen = await recent.get()
    assert (seen.value, seen.error) == ({"fine": 1}, "RuntimeError: a bug")


def test_a_request_that_trickles_is_cut(
    server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody holds a thread for ever, one byte at a time."""
    monkeypatch.setattr(http_server, "_REQUEST_SECONDS", 0.2)
    host, _, port = server.address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=0.05) as slow:
        for _byte in range(400):
            try:
                slow.sendall(b"G")
                if slow.recv(100) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:
                break  # cut between two bytes
        else:
            raise AssertionError("it was never cut")
    assert ask_at_once(server.address, "/still-there").text == "/still-there"


def test_idle_connections_do_not_silence_the_probes(server: HttpServer) -> None:
    """Who came first and asked nothing makes room, one for each that comes, and no other."""
    host, _, port = server.address.rpartition(":")
    held = [socket.create_connection((host, int(port)), timeout=20) for _ in range(16)]
    try:
        for _ in range(3):
            assert ask_at_once(server.address, "/livez").text == "/livez"
        assert held[0].recv(100) == b""
        held[-1].sendall(b"GET /last HTTP/1.0\r\n\r\n")
        assert held[-1].recv(1000).startswith(b"HTTP/1.0 200")
    finally:
        for connection in held:
            connection.close()


def test_who_is_being_answered_keeps_the_place() -> None:
    """With 16 of them there is no place; there is one again when they have their answers."""
    begun = threading.Semaphore(0)
    may_end = threading.Event()

    def answer(request: Request) -> Answer:
        begun.release()
        may_end.wait(20)
        return Answer(200, request.path.encode())

    server = HttpServer("127.0.0.1", 0, answer)
    server.start()
    try:
        with ThreadPoolExecutor(16) as asking:
            answers = [asking.submit(ask_at_once, server.address, f"/{n}") for n in range(16)]
            assert all(begun.acquire(timeout=20) for _ in range(16))
            with pytest.raises(OSError):  # noqa: PT011 - closed, at this point or that
                ask_at_once(server.address, "/one-more")
            may_end.set()
            assert [one.result().text for one in answers] == [f"/{n}" for n in range(16)]
        assert _asked_until_there_is_room(server.address) == "/room"
    finally:
        server.stop()


def _asked_until_there_is_room(address: str) -> str:
    deadline = time.monotonic() + 20
    while True:
        try:
            return ask_at_once(address, "/room").text
        except OSError:
            assert time.monotonic() < deadline


async def test_slow_looks_leave_room_for_the_probes() -> None:
    """Four look at the servers at a time, the fifth is told so; probes are answered."""
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def look() -> dict[str, int]:
        begun.set()
        await may_end.wait()
        return {"lag_records": 1}

    async with serve("127.0.0.1", 0, overview=look) as site:
        assert site is not None
        paths = ["/", "/status.json"] * 4
        looking = [asyncio.create_task(ask(site.address, path)) for path in paths]
        # The other four are refused at once; only then all eight have arrived.
        await until(lambda: sum(task.done() for task in looking) == 4, "the refusals")
        done = {task for task in looking if task.done()}
        assert {task.result().status for task in done} == {503}
        assert "try again" in done.pop().result().text
        assert (await ask(site.address, "/livez")).status == 200
        may_end.set()
        statuses = sorted([(await task).status for task in looking])
        assert statuses == [200] * 4 + [503] * 4
        assert (await ask(site.address, "/status.json")).status == 200


def test_an_answer_that_fails_is_500_and_logged() -> None:
    """No traceback to whoever asked."""

    def fail(_request: Request) -> Answer:
        raise RuntimeError("s3cret")

    server = HttpServer("127.0.0.1", 0, fail)
    server.start()
    try:
        with capture_logs() as logs:
            reply = ask_at_once(server.address, "/")
    finally:
        server.stop()
    assert reply.status == 500
    assert "s3cret" not in reply.text
    assert [line["event"] for line in logs] == ["http_answer_failed"]
