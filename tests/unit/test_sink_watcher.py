"""The watcher: it asks, notes what it hears, and is in nobody's way."""

import asyncio

import pytest

from oddslog.sink import watcher as watcher_module
from oddslog.sink.consumer import LogReadError
from oddslog.sink.database import make_engine
from oddslog.sink.positions import LogRange
from oddslog.sink.watcher import Held, Watcher
from tests.support.waiting import BUDGET_SECONDS, until


class Kafka:
    """Answers as the test says: ends, an error, or never."""

    def __init__(self) -> None:
        self.end = 7
        self.error: LogReadError | None = None
        self.silent = False
        self.asked_in_silence = asyncio.Event()

    async def ranges(self, partitions: range) -> dict[int, LogRange]:
        if self.silent:
            self.asked_in_silence.set()
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error
        return {number: LogRange(0, self.end) for number in partitions}

    async def committed(self, partitions: range) -> dict[int, int | None]:
        return dict.fromkeys(partitions)


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch) -> Kafka:
    """A Kafka that is asked often."""
    monkeypatch.setattr(watcher_module, "_ASK_SECONDS", 0.02)
    monkeypatch.setattr(watcher_module, "_VIEW_SECONDS", 0.02)
    return Kafka()


async def test_servers_that_are_away_are_noted_and_nothing_else(kafka: Kafka) -> None:
    """It goes on, whatever they do, and ends at a stop, though one never answers."""
    engine = make_engine("postgresql://nobody@127.0.0.1:1/nothing")
    held = Held(3, {0: 5, 2: 7})
    watcher = Watcher(engine, kafka, lambda: held)
    stopping = asyncio.Event()
    running = asyncio.create_task(watcher.run(stopping))
    await until(lambda: [view.lag_records for view in watcher.views] == [2, 0], "the lags")
    await until(lambda: watcher.database.failed_at is not None, "a refusal")
    assert watcher.database.answered_at is None
    kafka.error = LogReadError(TimeoutError())
    await until(lambda: watcher.kafka.error == "TimeoutError", "an error of Kafka's")
    assert [view.lag_records for view in watcher.views] == [2, 0]  # as it was known last
    kafka.error, kafka.end = None, 9
    await until(lambda: [view.lag_records for view in watcher.views] == [4, 2], "new lags")
    kafka.silent = True
    async with asyncio.timeout(BUDGET_SECONDS):
        await kafka.asked_in_silence.wait()
        stopping.set()
        await running
    await engine.dispose()


async def test_its_own_bug_ends_the_sink(kafka: Kafka) -> None:
    """A task that is dead in silence would show old numbers for ever."""
    engine = make_engine("postgresql://nobody@127.0.0.1:1/nothing")

    def held() -> Held:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        await Watcher(engine, kafka, held).run(asyncio.Event())
    await engine.dispose()
