"""Attempts: a stale plan is tried again once in a row, everything transient for ever."""

import asyncio
from collections.abc import Sequence
from typing import Any

import asyncpg
import pytest
from sqlalchemy import exc

from oddslog.sink import attempts as attempts_module
from oddslog.sink import trouble as trouble_module
from oddslog.sink.attempts import Attempts
from oddslog.sink.errors import FatalDatabaseError
from oddslog.sink.halving import PollHalves
from oddslog.sink.items import PartitionPart
from oddslog.sink.options import SinkOptions
from oddslog.sink.totals import SinkTotals
from oddslog.sink.transaction import PollResult
from oddslog.sink.turn import Turn

STALE = exc.DBAPIError("x", None, asyncpg.exceptions.InvalidCachedStatementError("stale"))
GONE = ConnectionResetError()
PARTS = [PartitionPart(0, 0, 5, [], None)]


class Server:
    """Raises what it is told to, one a write, and then writes."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.written: list[Sequence[PartitionPart]] = []

    async def write_poll(
        self, _engine: Any, _log_id: int, parts: Sequence[PartitionPart], *_: Any, **__: Any
    ) -> PollResult:
        if self.errors:
            raise self.errors.pop(0)
        self.written.append(parts)
        return PollResult()


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trouble_module, "_BACKOFF_BASE_SECONDS", 0.0)


def attempts(monkeypatch: pytest.MonkeyPatch, server: Server) -> tuple[Attempts, SinkTotals]:
    """On such a server."""
    monkeypatch.setattr(attempts_module, "write_poll", server.write_poll)
    totals = SinkTotals()
    engine: Any = None
    return Attempts(engine, {}, SinkOptions(), asyncio.Event(), totals, Turn()), totals


@pytest.mark.parametrize("errors", [[STALE], [GONE] * 20, [STALE, GONE, STALE, GONE]])
async def test_what_passes(monkeypatch: pytest.MonkeyPatch, errors: list[Exception]) -> None:
    """Written in the end, once."""
    server = Server(*errors)
    made, totals = attempts(monkeypatch, server)
    plan = PollHalves(PARTS)
    commit = await made.write_next(1, plan, lambda _: True)
    assert commit is not None
    assert server.written == [PARTS]
    assert totals.retries == len(errors)
    assert await made.write_next(1, plan, lambda _: True) is None


async def test_a_plan_that_stays_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice in a row: it stops, in one line."""
    server = Server(STALE, STALE)
    made, totals = attempts(monkeypatch, server)
    with pytest.raises(FatalDatabaseError, match="0A000"):
        await made.write_next(1, PollHalves(PARTS), lambda _: True)
    assert totals.retries == 1


async def test_parts_that_are_no_longer_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Left out, whichever group they are in."""
    server = Server()
    made, _ = attempts(monkeypatch, server)
    assert await made.write_next(1, PollHalves(PARTS), lambda _: False) is None
    assert server.written == []
