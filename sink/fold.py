"""Fold: what a poll comes to when each natural key is written once. Pure.

Every write is idempotent and commutes, so a poll may be folded in log order:
the first snapshot of a key wins, the same content again is a duplicate, another
content is a conflict; confirmations of one key become their maximum.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from ..schemas.wire import Kind
from .items import ConfirmationItem, IdItem, Items, Key, SnapshotItem

__all__ = ["Folded", "fold"]


@dataclass(slots=True)
class Folded:
    """What is left to write, a kind at a time, and what the poll already had twice."""

    snapshots: dict[Kind, list[SnapshotItem]] = field(default_factory=dict)
    confirmations: dict[Kind, list[ConfirmationItem]] = field(default_factory=dict)
    ids: dict[Kind, list[IdItem]] = field(default_factory=dict)
    duplicates: list[SnapshotItem] = field(default_factory=list)
    conflicts: list[SnapshotItem] = field(default_factory=list)


def fold(items: Items) -> Folded:
    """Fold the writes of one poll, given in log order."""
    folded = Folded()
    for kind in Kind:
        _fold_snapshots(folded, kind, (i for i in items.snapshots if i.kind is kind))
        folded.confirmations[kind] = _maxima(i for i in items.confirmations if i.kind is kind)
        folded.ids[kind] = _id_maxima(i for i in items.ids if i.kind is kind)
    return folded


def _fold_snapshots(folded: Folded, kind: Kind, snapshots: Iterable[SnapshotItem]) -> None:
    first: dict[Key, SnapshotItem] = {}
    for snapshot in snapshots:
        winner = first.setdefault(snapshot.key, snapshot)
        if winner is snapshot:
            continue
        same = winner.data["content_hash"] == snapshot.data["content_hash"]
        (folded.duplicates if same else folded.conflicts).append(snapshot)
    folded.snapshots[kind] = list(first.values())


def _maxima(confirmations: Iterable[ConfirmationItem]) -> list[ConfirmationItem]:
    latest: dict[Key, ConfirmationItem] = {}
    for confirmation in confirmations:
        held = latest.get(confirmation.key)
        if held is None or held.confirmed_at < confirmation.confirmed_at:
            latest[confirmation.key] = confirmation
    return list(latest.values())


def _id_maxima(ids: Iterable[IdItem]) -> list[IdItem]:
    latest: dict[int, IdItem] = {}
    for item in ids:
        held = latest.get(item.id)
        if held is None or held.confirmed_at < item.confirmed_at:
            latest[item.id] = item
    return list(latest.values())
