"""Whose turn the loop is, and what one INSERT of snapshots takes."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oddslog.schemas.wire import Kind
from oddslog.sink.items import Key, LogRecord, SnapshotItem
from oddslog.sink.rows import insert_pieces
from oddslog.sink.turn import Turn, commit_follows, long_statement
from tests.support.batches import NOON
from tests.support.fragments import record

DATA = record()
HALF_A_PIECE = "x" * (512 * 1024)


async def test_decoding_stands_back_between_short_statements() -> None:
    """It goes on in long ones, from the COMMIT on, and when the transaction is over."""
    turn = Turn()
    with turn.transaction():
        assert not turn.decoding.is_set()
        with long_statement():
            assert turn.decoding.is_set()
        assert not turn.decoding.is_set()
        commit_follows()
        assert turn.decoding.is_set()
    with pytest.raises(ConnectionResetError), turn.transaction():
        raise ConnectionResetError
    assert turn.decoding.is_set()


async def test_decoding_does_not_wait_for_a_short_statement_that_takes_long() -> None:
    """A transaction that waits for a lock must not keep the member from polling."""
    turn = Turn()
    with turn.transaction():
        async with asyncio.timeout(10):
            await turn.wait()
        assert not turn.decoding.is_set()


async def test_other_tasks_have_no_turn() -> None:
    """A sweep's statements beside the transaction say nothing of it."""
    turn = Turn()

    async def sweep() -> None:
        with long_statement():
            assert not turn.decoding.is_set()
        commit_follows()

    beside = asyncio.create_task(sweep())
    with turn.transaction():
        await beside
        assert not turn.decoding.is_set()


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from([None, "{}", HALF_A_PIECE]))))
def test_pieces_are_all_snapshots_in_the_order_of_their_keys(
    made: list[tuple[int, str | None]],
) -> None:
    """Each of bounded size; a single one that is larger goes alone."""
    snapshots = [
        SnapshotItem(
            Kind.BETPAWA,
            Key(event, 1, NOON),
            {**DATA, "raw_response": raw},
            LogRecord(0, offset, None, None, (), None),
            0,
        )
        for offset, (event, raw) in enumerate(made)
    ]
    pieces = list(insert_pieces(snapshots, store_raw=True))
    inserted = [snapshot for piece in pieces for snapshot in piece]
    assert inserted == sorted(snapshots, key=lambda snapshot: snapshot.key)
    assert all(piece for piece in pieces)
    sizes = [sum(len(s.data["raw_response"] or "") for s in piece) for piece in pieces]
    assert max(sizes, default=0) <= 2 * len(HALF_A_PIECE)
    assert len(list(insert_pieces(snapshots, store_raw=False))) == (1 if snapshots else 0)
