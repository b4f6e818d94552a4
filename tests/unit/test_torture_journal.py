"""The feeder's journal: what it says after a kill at any byte."""

from pathlib import Path

import pytest

from oddslog.deploy.torture.journal import Did, JournalWriter, read_journals
from oddslog.deploy.torture.load import BatchId

A, B, C = BatchId(0, 0), BatchId(0, 1), BatchId(1, 0)


def write(folder: Path, life: int, *entries: tuple[Did, BatchId]) -> Path:
    """The journal of one life."""
    with JournalWriter(folder, life) as journal:
        for did, batch in entries:
            journal.note(did, batch)
    (path,) = folder.glob(f"*{life}.ndjson")
    return path


def test_what_has_no_acknowledgement_is_unknown(tmp_path: Path) -> None:
    """Failed or never heard of again: parts of it may be in the log."""
    write(
        tmp_path,
        0,
        (Did.ENQUEUED, A),
        (Did.ENQUEUED, B),
        (Did.ENQUEUED, C),
        (Did.ACKNOWLEDGED, B),
        (Did.FAILED, C),
    )
    journal = read_journals(tmp_path)
    assert journal.acknowledged == {B}
    assert journal.unknown == {A, C}


def test_a_later_life_may_acknowledge_what_an_earlier_one_enqueued(tmp_path: Path) -> None:
    """All lives count together."""
    write(tmp_path, 0, (Did.ENQUEUED, A), (Did.ENQUEUED, B))
    write(tmp_path, 1, (Did.ENQUEUED, A), (Did.ACKNOWLEDGED, A))
    journal = read_journals(tmp_path)
    assert (journal.acknowledged, journal.unknown) == ({A}, {B})


def test_garbage_is_counted_for_itself(tmp_path: Path) -> None:
    """A batch and the garbage behind it are two records."""
    write(
        tmp_path,
        0,
        (Did.ENQUEUED, A),
        (Did.GARBAGE_SENT, A),
        (Did.GARBAGE_SENT, B),
        (Did.GARBAGE_ACKNOWLEDGED, B),
    )
    journal = read_journals(tmp_path)
    assert (journal.garbage, journal.unknown_garbage) == ({B}, {A})
    assert (journal.acknowledged, journal.unknown) == (set(), {A})


def test_a_journal_that_is_cut_anywhere_says_less_and_nothing_wrong(tmp_path: Path) -> None:
    """A torn line counts as not written."""
    path = write(tmp_path, 0, (Did.ENQUEUED, A), (Did.ACKNOWLEDGED, A), (Did.ENQUEUED, B))
    whole = path.read_bytes()
    ends = [n for n, byte in enumerate(whole, start=1) if byte == ord("\n")]
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        journal = read_journals(tmp_path)
        lines = sum(end <= length for end in ends)
        assert journal.acknowledged == ({A} if lines >= 2 else set())
        assert journal.unknown == ({A} if lines == 1 else {B} if lines == 3 else set())


def test_a_life_never_writes_over_another(tmp_path: Path) -> None:
    """Two feeders of one life would be a bug of the kit."""
    write(tmp_path, 3, (Did.ENQUEUED, A))
    with pytest.raises(FileExistsError):
        JournalWriter(tmp_path, 3)


def test_no_journal_says_nothing(tmp_path: Path) -> None:
    """The feeder may be killed before its first entry."""
    assert read_journals(tmp_path).acknowledged == set()
