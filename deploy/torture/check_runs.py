"""The check of scrape runs: what the tables say has arrived is what was fed.

Worked out from the rows and the batches alone, without the statement that it judges:
each acknowledged batch has all its fragments, a run is complete exactly when all its
batches are, and its letters are those whose value names it.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from ...schemas.codec import decode
from ...schemas.errors import DecodeError
from ...schemas.records import WriteBatch
from ...sink.run_states import ScrapeRun
from ...sink.runs import read_runs

__all__ = ["FedRuns", "RunsChecked", "check_runs"]

_ROWS = text(
    "SELECT run_id, batch_id, batch_index, batch_count, fragment_count, fragments"
    " FROM oddslog_run_batches ORDER BY run_id, batch_index, batch_id, log_partition"
)
_LETTERS = text(
    "SELECT status, value FROM oddslog_dead_letters"
    " WHERE status IN ('dead', 'waiting') AND reason <> 'undecodable'"
)


@dataclass(slots=True)
class _FedBatch:
    """What was fed as one batch of a run: its fragments, how many batches, whether surely."""

    fragments: int
    of: int | None
    acknowledged: bool


@dataclass(slots=True)
class FedRuns:
    """The batches that were fed, by run and index."""

    batches: dict[tuple[int, int], _FedBatch] = field(default_factory=dict)

    def add(self, batch: WriteBatch, *, acknowledged: bool) -> None:
        """Note one; of a life no two have the same run and index."""
        if batch.scrape_run_id is not None:
            self.batches[batch.scrape_run_id, batch.batch_index] = _FedBatch(
                _fragments_of(batch), batch.batch_count, acknowledged
            )


@dataclass(slots=True)
class RunsChecked:
    """What the check of runs came to; `differences` in words, one for each thing wrong."""

    runs: int = 0
    complete: int = 0
    differences: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Letters:
    """Those of a run that are not in the tables."""

    dead_letters: int = 0
    waiting: int = 0


async def check_runs(connection: AsyncConnection, fed: FedRuns) -> RunsChecked:
    """Check the runs of a database that has caught up, and that nobody writes to."""
    rows = (await connection.execute(_ROWS)).all()
    told = {run.run_id: run for run in await read_runs(connection)}
    letters = _by_run(await connection.execute(_LETTERS))
    arrived: defaultdict[tuple[int, int], defaultdict[UUID, set[int]]] = defaultdict(
        lambda: defaultdict(set)
    )
    result = RunsChecked(runs=len(told))
    for row in rows:
        result.differences += _wrong_about(row, fed)
        arrived[row.run_id, row.batch_index][row.batch_id] |= _numbers(row.fragments)
    whole: defaultdict[int, set[int]] = defaultdict(set)
    for (run_id, index), one in fed.batches.items():
        sets = arrived[run_id, index].values()
        if any(numbers >= set(range(one.fragments)) for numbers in sets):
            whole[run_id].add(index)
        elif one.acknowledged:
            most = max(map(len, sets), default=0)
            result.differences.append(
                f"missing: of batch {index} of run {run_id} {most} of {one.fragments}"
                " fragments have arrived, though it was acknowledged"
            )
    sizes = {run_id: one.of for (run_id, _), one in fed.batches.items()}
    for run_id in sorted({*told, *whole, *letters}):
        one_run = told.get(run_id)
        expected = (len(whole[run_id]) == sizes.get(run_id), len(whole[run_id]))
        result.differences += _misjudged(run_id, one_run, expected, letters[run_id])
        result.complete += one_run is not None and one_run.complete
    return result


def _fragments_of(batch: WriteBatch) -> int:
    """One for each event and kind (all of one event fit into a record), or the only one."""
    betpawa = {one.event_id for one in batch.changed_betpawa}
    betpawa |= {one.event_id for one in batch.unchanged_betpawa}
    competitor = {one.competitor_event_id for one in batch.changed_competitor}
    competitor |= {one.competitor_event_id for one in batch.unchanged_competitor}
    return (len(betpawa) + len(competitor)) or 1


def _numbers(multirange: Iterable[Any]) -> set[int]:
    return {number for part in multirange for number in range(part.lower, part.upper)}


def _wrong_about(row: Any, fed: FedRuns) -> list[str]:
    """What a row says that was not fed so."""
    one = fed.batches.get((row.run_id, row.batch_index))
    name = f"batch {row.batch_index} of run {row.run_id}"
    if one is None:
        return [f"unexpected: {name} has arrived, and was not fed"]
    wrong = []
    if (row.fragment_count, row.batch_count) != (one.fragments, one.of):
        wrong.append(
            f"{name} has {row.fragment_count} fragments and {row.batch_count} batches beside it,"
            f" not {one.fragments} and {one.of}"
        )
    if beyond := _numbers(row.fragments) - set(range(one.fragments)):
        wrong.append(f"unexpected: fragment {min(beyond)} of {name}, which has {one.fragments}")
    return wrong


def _misjudged(
    run_id: int, told: ScrapeRun | None, expected: tuple[bool, int], letters: _Letters
) -> list[str]:
    """What is told of a run, and is not so."""
    if told is None:
        return [f"missing: run {run_id}, of which something has arrived"]
    wrong = []
    if (told.complete, told.batches_arrived) != expected:
        wrong.append(
            f"run {run_id} is told to be {'' if told.complete else 'not '}complete with"
            f" {told.batches_arrived} batches; {expected[1]} have arrived whole"
        )
    if (told.dead_letters, told.waiting) != (letters.dead_letters, letters.waiting):
        wrong.append(
            f"run {run_id} is told to have {told.dead_letters} dead letters, {told.waiting} of"
            f" them waiting; the letters say {letters.dead_letters} and {letters.waiting}"
        )
    return wrong


def _by_run(letters: Iterable[Any]) -> defaultdict[int, _Letters]:
    """By the run that the letter's value names; the column is what is judged."""
    found: defaultdict[int, _Letters] = defaultdict(_Letters)
    for letter in letters:
        try:
            run_id = decode(letter.value).scrape_run_id
        except DecodeError:  # found by the check of letters
            continue
        if run_id is not None:
            found[run_id].dead_letters += 1
            found[run_id].waiting += letter.status == "waiting"
    return found
