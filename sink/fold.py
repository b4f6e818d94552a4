"""Fold: what a poll comes to when each natural key is written once. Pure.

Every write is idempotent and commutes, so a poll may be folded in log order: the
first snapshot of a key is written, and those that follow it are compared with
what the tables then have of the key; confirmations of one key become their
maximum.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from .items import ConfirmationItem, IdItem, Key, SnapshotItem

__all__ = [
    "FoldedSnapshots",
    "Settled",
    "fold_confirmations",
    "fold_ids",
    "fold_snapshots",
    "settle",
]


@dataclass(slots=True)
class FoldedSnapshots:
    """The first snapshot of each key, and those that follow one, both in log order."""

    firsts: list[SnapshotItem] = field(default_factory=list)
    followers: list[SnapshotItem] = field(default_factory=list)


@dataclass(slots=True)
class Settled:
    """What came of followers; `left` are those whose key nobody has written yet."""

    duplicates: list[SnapshotItem] = field(default_factory=list)
    conflicts: list[SnapshotItem] = field(default_factory=list)
    left: list[SnapshotItem] = field(default_factory=list)


def fold_snapshots(snapshots: Iterable[SnapshotItem]) -> FoldedSnapshots:
    """Split the snapshots of one kind, given in log order."""
    folded = FoldedSnapshots()
    seen: set[Key] = set()
    for snapshot in snapshots:
        if snapshot.key in seen:
            folded.followers.append(snapshot)
        else:
            seen.add(snapshot.key)
            folded.firsts.append(snapshot)
    return folded


def settle(followers: Sequence[SnapshotItem], hashes: Mapping[Key, int]) -> Settled:
    """Compare followers with the hashes that the tables have of their keys.

    A key without a hash was not written: its first snapshot is a dead letter, and
    the next one takes its turn, as it would in a poll of its own.
    """
    settled = Settled()
    for snapshot in followers:
        held = hashes.get(snapshot.key)
        if held is None:
            settled.left.append(snapshot)
        elif held == snapshot.data["content_hash"]:
            settled.duplicates.append(snapshot)
        else:
            settled.conflicts.append(snapshot)
    return settled


def fold_confirmations(confirmations: Iterable[ConfirmationItem]) -> list[ConfirmationItem]:
    """The latest confirmation of each key of one kind; of equal ones the first."""
    latest: dict[Key, ConfirmationItem] = {}
    for confirmation in confirmations:
        held = latest.get(confirmation.key)
        if held is None or held.confirmed_at < confirmation.confirmed_at:
            latest[confirmation.key] = confirmation
    return list(latest.values())


def fold_ids(ids: Iterable[IdItem]) -> list[IdItem]:
    """The latest confirmation of each plain id of one kind."""
    latest: dict[int, IdItem] = {}
    for item in ids:
        held = latest.get(item.id)
        if held is None or held.confirmed_at < item.confirmed_at:
            latest[item.id] = item
    return list(latest.values())
