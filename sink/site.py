"""What the sink's HTTP port answers: metrics, health, and a page for people."""

import asyncio
import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from ..schemas.version import VERSION
from .health import stuckness, unreadiness
from .http_server import Answer, Request
from .metrics import exposition
from .page import render_page
from .recent import Recent, Seen
from .service import Sink

__all__ = ["Site"]

# Longer than `Recent` lets anybody wait: beyond it the loop stands still.
_LOOP_SECONDS = 8.0
# Of those that ask the servers, at the same time; the HTTP server has 16 places for all.
_MOST_SLOW = 4
_JSON = "application/json; charset=utf-8"
_HTML = "text/html; charset=utf-8"


class Site:
    """Answers in the threads of the HTTP server, for the sink of one event loop.

    `sink` is set when there is one; `beat_at` (monotonic) by the loop, every second.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, overview: Recent | None, stuck_seconds: float
    ) -> None:
        self.sink: Sink | None = None
        self._stuck_seconds = stuck_seconds
        self.address = ""  # where it is reached, as host:port
        self.beat_at = time.monotonic()
        self._loop = loop
        self._overview = overview
        self._slow_places = threading.BoundedSemaphore(_MOST_SLOW)
        self._routes: dict[str, Callable[[Request], Answer]] = {
            "/": self._slowly(self._page),
            "/metrics": self._metrics,
            "/livez": self._livez,
            "/readyz": self._readyz,
            "/status.json": self._slowly(self._status),
        }

    def answer(self, request: Request) -> Answer:
        """What the path asks for."""
        route = self._routes.get(request.path)
        if route is None:
            known = " ".join(self._routes)
            return Answer(404, f"nothing here; there are: {known}\n".encode())
        return route(request)

    def _slowly(self, route: Callable[[Request], Answer]) -> Callable[[Request], Answer]:
        """The route for a few at a time, so that probes and metrics always have a place."""

        def answer(request: Request) -> Answer:
            if not self._slow_places.acquire(blocking=False):
                busy = f"{_MOST_SLOW} others look just now; try again in a few seconds\n"
                return Answer(503, busy.encode(), headers=(("Retry-After", "5"),))
            try:
                return route(request)
            finally:
                self._slow_places.release()

        return answer

    def _metrics(self, request: Request) -> Answer:
        body, content_type = exposition(self.sink, request.accept)
        return Answer(200, body, content_type)

    def _livez(self, _request: Request) -> Answer:
        stuck = self._stuck(time.monotonic())
        return _said([stuck] if stuck else [], "alive")

    def _readyz(self, _request: Request) -> Answer:
        problems = self._problems()
        empty = self.sink is not None and not problems and not self.sink.standing().assigned
        return _said(
            problems,
            "ready, without partitions: the group has more members than partitions"
            if empty
            else "ready",
        )

    def _status(self, _request: Request) -> Answer:
        return Answer(200, json.dumps(self._gathered(), default=str).encode() + b"\n", _JSON)

    def _page(self, _request: Request) -> Answer:
        nonce = secrets.token_urlsafe(16)
        policy = (
            f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}';"
            " connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none';"
            " frame-ancestors 'none'"
        )
        headers = (("Content-Security-Policy", policy), ("Referrer-Policy", "no-referrer"))
        return Answer(200, render_page(self._gathered(), nonce).encode(), _HTML, headers)

    def _stuck(self, now: float) -> str | None:
        return stuckness(self.beat_at, now, self._stuck_seconds)

    def _problems(self) -> list[str]:
        now = time.monotonic()
        if stuck := self._stuck(now):
            return [stuck]
        if self.sink is None:
            return ["the sink is starting"]
        return unreadiness(self.sink.standing(), self.sink.watcher.database, now)

    def _gathered(self) -> dict[str, Any]:
        """Everything that the page shows."""
        seen = self._seen()
        problems = self._problems()
        return {
            "version": VERSION,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "ready": not problems,
            "problems": problems,
            "sink": None if self.sink is None else _of_sink(self.sink),
            "overview": seen.value,
            "overview_age_seconds": _rounded(seen.age_seconds),
            "overview_error": seen.error,
        }

    def _seen(self) -> Seen:
        if self._overview is None:
            return Seen()
        asked = asyncio.run_coroutine_threadsafe(self._overview.get(), self._loop)
        try:
            return asked.result(_LOOP_SECONDS)
        except Exception as error:
            # The loop stands still, or has ended meanwhile.
            asked.cancel()
            return Seen(error=f"the event loop did not answer ({type(error).__name__})")


def _of_sink(sink: Sink) -> dict[str, Any]:
    watcher, standing, wall = sink.watcher, sink.standing(), time.time()
    views = watcher.views
    return {
        "assigned_partitions": standing.assigned,
        "placing_partitions": standing.placing,
        "retrying": {
            place: f"{trouble.attempts} time(s), last {trouble.error}"
            for place, trouble in sorted(standing.troubles.items())
        },
        "last_success": _moment(sink.totals.observed.last_success),
        "partitions": [
            {
                "partition": view.number,
                "next_offset": view.next_offset,
                "log_end": view.end,
                "lag_records": view.lag_records,
                "lag_seconds": _rounded(_lag_seconds(view.oldest_at, wall)),
            }
            for view in views
        ],
        "totals": {name: _rounded(value) for name, value in sink.totals.as_dict().items()},
        "dead_letter_causes": _by_cause(sink.totals.observed.letters),
    }


def _lag_seconds(oldest_at: float | None, wall: float) -> float:
    return 0.0 if oldest_at is None else max(0.0, wall - oldest_at)


def _by_cause(letters: Mapping[tuple[str, ...], int]) -> list[dict[str, Any]]:
    counted = sorted(dict(letters).items(), key=lambda item: -item[1])
    return [{"cause": labels[-1], "letters": count} for labels, count in counted]


def _moment(unix_seconds: float | None) -> str | None:
    if unix_seconds is None:
        return None
    return datetime.fromtimestamp(unix_seconds, UTC).isoformat(timespec="seconds")


def _rounded(value: Any) -> Any:
    return round(value, 1) if isinstance(value, float) else value


def _said(problems: list[str], fine: str) -> Answer:
    text = "\n".join(problems) if problems else fine
    return Answer(503 if problems else 200, f"{text}\n".encode())
