"""Which writes of a record a replay takes. Pure.

A write passes where everything that was asked for is known to hold of it: a
confirmation by plain id names no event and no time, an undecodable record only has
its key and its headers.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..schemas.errors import ConfigurationError
from ..schemas.wire import Kind, record_key
from .arrivals import run_of
from .items import ConfirmationItem, IdItem, Items, Key, LogRecord, SnapshotItem

__all__ = ["ReplayFilter", "count", "parse_event"]


@dataclass(frozen=True, slots=True)
class ReplayFilter:
    """What is taken: all that was asked for has to hold; what is empty or None was not.

    `captured_from` is inclusive, `captured_to` is not.
    """

    captured_from: datetime | None = None
    captured_to: datetime | None = None
    events: frozenset[tuple[Kind, int]] = frozenset()
    runs: frozenset[int] = frozenset()

    @property
    def takes_all(self) -> bool:
        """Whether nothing was asked for."""
        return self == ReplayFilter()

    def select(self, items: Items) -> Items:
        """The writes that pass, in their order."""
        if self.takes_all:
            return items
        return Items(
            [s for s in items.snapshots if self._snapshot(s)],
            [c for c in items.confirmations if self._confirmation(c)],
            [i for i in items.ids if self._plain_id(i)],
        )

    def takes_record(self, record: LogRecord) -> bool:
        """Whether a record that has no writes to look at passes by its key and its run."""
        if self._bounded:
            return False
        keys = {record_key(kind, event_id) for kind, event_id in self.events}
        return (not keys or record.key in keys) and self._in_runs(run_of(record))

    def whole(self, records: Sequence[LogRecord], found: Items, kept: Items) -> list[LogRecord]:
        """The records of which everything passes: those have arrived, of their run.

        Args:
            records: all.
            found: their writes.
            kept: those that pass.
        """
        if self.takes_all:
            return [*records]
        left = Counter(id(item.record) for item in _all(found))
        left.subtract(id(item.record) for item in _all(kept))
        return [
            record
            for record in records
            if not left[id(record)] and (id(record) in left or self.takes_record(record))
        ]

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "captured_from": self.captured_from and self.captured_from.isoformat(),
            "captured_to": self.captured_to and self.captured_to.isoformat(),
            "events": sorted(f"{kind.value}:{event_id}" for kind, event_id in self.events),
            "runs": sorted(self.runs),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "ReplayFilter":
        """What `to_json` made."""
        return cls(
            _time(value["captured_from"]),
            _time(value["captured_to"]),
            frozenset(map(parse_event, value["events"])),
            frozenset(value["runs"]),
        )

    @property
    def _bounded(self) -> bool:
        return self.captured_from is not None or self.captured_to is not None

    def _snapshot(self, item: SnapshotItem) -> bool:
        # The row has the snapshot's own run; one without it belongs to its batch's.
        run = item.data["scrape_run_id"]
        if run is None:
            run = run_of(item.record)
        return self._key(item.kind, item.key) and self._in_runs(run)

    def _confirmation(self, item: ConfirmationItem) -> bool:
        return self._key(item.kind, item.key) and self._in_runs(run_of(item.record))

    def _plain_id(self, item: IdItem) -> bool:
        return not self._bounded and not self.events and self._in_runs(run_of(item.record))

    def _key(self, kind: Kind, key: Key) -> bool:
        if self.events and (kind, key.event_id) not in self.events:
            return False
        if self.captured_from is not None and key.captured_at < self.captured_from:
            return False
        return self.captured_to is None or key.captured_at < self.captured_to

    def _in_runs(self, run: int | None) -> bool:
        return not self.runs or run in self.runs


def parse_event(text: str) -> tuple[Kind, int]:
    """The event that a record's key names.

    Raises:
        ConfigurationError: it is none.
    """
    kind, colon, number = text.partition(":")
    kinds = [k.value for k in Kind]
    if kind not in kinds or not colon or not (number.isascii() and number.isdigit()):
        raise ConfigurationError(
            f"--event: {text!r} is none; it looks like"
            f" {' or '.join(f'{name}:123' for name in kinds)}"
        )
    return Kind(kind), int(number)


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def count(items: Items) -> int:
    """How many writes there are."""
    return len(_all(items))


def _all(items: Items) -> list[SnapshotItem | ConfirmationItem | IdItem]:
    return [*items.snapshots, *items.confirmations, *items.ids]
