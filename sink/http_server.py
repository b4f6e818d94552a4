"""A small HTTP server in threads of its own, so that it answers while the event loop does not.

GET and HEAD only, one request a connection, few at a time, each ended after some seconds.
Where all places are taken, who has asked nothing yet makes room for who comes: a probe is
answered however many connections stand idle.
"""

import contextlib
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import structlog

__all__ = ["Answer", "HttpServer", "Request"]

log = structlog.get_logger("oddslog.sink")

_MOST_REQUESTS = 16  # at the same time
_READ_SECONDS = 5.0
_REQUEST_SECONDS = 30.0
_POLL_SECONDS = 0.25  # how long an end may take to be seen


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked: a path without its query, and the formats that are liked."""

    path: str
    accept: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is said to it."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = field(default=())


class HttpServer:
    """Listens from its making on, answers from `start` to `stop`.

    Args:
        host: a name or address of this machine.
        port: 0 for any that is free.
        answer: asked in a thread of the request's own.

    Raises:
        OSError: it cannot listen there: the port is taken, or no such address.
    """

    def __init__(self, host: str, port: int, answer: Callable[[Request], Answer]) -> None:
        self._server = _Server(host, port, answer)
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": _POLL_SECONDS},
            name="oddslog-http",
            daemon=True,
        )

    @property
    def address(self) -> str:
        """Where it listens, as host:port."""
        host, port = self._server.server_address[:2]
        return f"[{host!s}]:{port}" if ":" in str(host) else f"{host!s}:{port}"

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Listen no more; blocks for a quarter of a second. Open requests are cut."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()
        self._server.cut(older_than_seconds=0.0)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = _MOST_REQUESTS

    def __init__(self, host: str, port: int, answer: Callable[[Request], Answer]) -> None:
        self.answer = answer
        self._lock = threading.Lock()
        self._began: dict[socket.socket, float] = {}  # monotonic, by connection with a place
        self._unasked: dict[socket.socket, None] = {}  # of them, in the order in which they came
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        # Not HTTPServer's: it looks our own name up, which may take half a minute.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._take_place(request):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread could be started
            self._leave_place(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._leave_place(request)

    def asked(self, request: socket.socket) -> None:
        """A whole request was read: the connection keeps its place until it is answered."""
        with self._lock:
            self._unasked.pop(request, None)

    def service_actions(self) -> None:
        """Called between requests: cut those that trickle."""
        self.cut(older_than_seconds=_REQUEST_SECONDS)

    def cut(self, *, older_than_seconds: float) -> None:
        now = time.monotonic()
        with self._lock:
            began = list(self._began.items())
        for request, at in began:
            if now - at >= older_than_seconds:
                _cut(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever asked has gone, mostly: no traceback on standard error."""
        error = sys.exception()
        log.debug("http_request_failed", reason=type(error).__name__)

    def _take_place(self, request: socket.socket) -> bool:
        """Whether there is a place, if need be that of who has been silent for longest."""
        with self._lock:
            if len(self._began) >= _MOST_REQUESTS:
                silent = next(iter(self._unasked), None)
                if silent is None:
                    return False
                del self._unasked[silent], self._began[silent]
                _cut(silent)  # its thread ends by that
            self._began[request] = time.monotonic()
            self._unasked[request] = None
        return True

    def _leave_place(self, request: socket.socket) -> None:
        with self._lock:
            self._began.pop(request, None)
            self._unasked.pop(request, None)


def _cut(request: socket.socket) -> None:
    with contextlib.suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _READ_SECONDS

    def version_string(self) -> str:
        return "oddslog"

    def do_GET(self) -> None:
        self.server.asked(self.connection)
        self._say(self._answer())

    do_HEAD = do_GET  # noqa: N815

    def _refuse(self) -> None:
        allowed = (("Allow", "GET, HEAD"),)
        self._say(Answer(405, b"only GET and HEAD\n", headers=allowed))

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _refuse  # noqa: N815

    def _answer(self) -> Answer:
        request = Request(self.path.partition("?")[0], self.headers.get("Accept", ""))
        try:
            return self.server.answer(request)
        except Exception:
            log.exception("http_answer_failed", path=request.path)
            return Answer(500, b"unexpected error; the sink's log has it\n")

    def _say(self, answer: Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        for name, value in answer.headers:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Probes come every few seconds: nothing is logged."""
