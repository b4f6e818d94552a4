"""The feeder's journal: what was handed over, and what was acknowledged.

One file a life of the feeder, a line an entry, written by one `write` each: SIGKILL
leaves at most the last line torn, which then counts as not written. An entry is
there before a batch is enqueued, and another after its receipt has resolved; so
what is acknowledged by the journal was acknowledged, and what is not named in it
was never enqueued.
"""

import json
import os
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Self

from .load import BatchId

__all__ = ["Did", "Journal", "JournalWriter", "read_journals"]

_PATTERN = "journal-*.ndjson"


class Did(StrEnum):
    """What an entry says."""

    ENQUEUED = "enqueued"  # about to be
    ACKNOWLEDGED = "acknowledged"
    FAILED = "failed"  # the receipt raised: parts of it may be in the log
    GARBAGE_SENT = "garbage_sent"  # about to be
    GARBAGE_ACKNOWLEDGED = "garbage_acknowledged"


class JournalWriter:
    """Appends to the journal of one life; the file must not be there yet."""

    def __init__(self, folder: Path, life: int) -> None:
        path = folder / f"journal-{life:05d}.ndjson"
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)

    def note(self, did: Did, batch: BatchId) -> None:
        """Write an entry; when this returns, it survives the process."""
        line = json.dumps({"did": did, "life": batch.life, "number": batch.number}) + "\n"
        written = os.write(self._handle, line.encode())
        if written != len(line):
            raise OSError(f"the journal took {written} of {len(line)} bytes: is the disk full?")

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(slots=True)
class Journal:
    """What the journals of all lives say."""

    entries: dict[Did, set[BatchId]] = field(default_factory=lambda: {did: set() for did in Did})

    @property
    def acknowledged(self) -> set[BatchId]:
        """Batches that must be in the tables."""
        return self.entries[Did.ACKNOWLEDGED]

    @property
    def unknown(self) -> set[BatchId]:
        """Batches that may be in the tables, whole or in part."""
        return self.entries[Did.ENQUEUED] - self.acknowledged

    @property
    def garbage(self) -> set[BatchId]:
        """Batches whose garbage must be a dead letter."""
        return self.entries[Did.GARBAGE_ACKNOWLEDGED]

    @property
    def unknown_garbage(self) -> set[BatchId]:
        """Batches whose garbage may be a dead letter."""
        return self.entries[Did.GARBAGE_SENT] - self.garbage

    def add(self, line: bytes) -> None:
        """Take an entry in."""
        entry = json.loads(line)
        self.entries[Did(entry["did"])].add(BatchId(entry["life"], entry["number"]))


def read_journals(folder: Path) -> Journal:
    """Everything that was noted; a torn last line of a file was not."""
    journal = Journal()
    for path in sorted(folder.glob(_PATTERN)):
        *whole, _torn = path.read_bytes().split(b"\n")
        for line in whole:
            journal.add(line)
    return journal
