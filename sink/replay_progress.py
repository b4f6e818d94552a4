"""How far a replay is, and what it has come to. Pure.

The state travels as JSON in the database, in the transaction of the rows that it
counts: whoever goes on after a crash goes on exactly behind them.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from typing import Any

from ..schemas.wire import Kind
from .items import PartitionPart
from .positions import LastApplied, LogRange
from .replay_filters import ReplayFilter

__all__ = ["KindCounts", "ReplayCounts", "ReplayState", "Span"]


@dataclass(slots=True)
class KindCounts:
    """What came of the writes of one kind.

    `already_there` are duplicates, whoever wrote them; `conflicts` became dead
    letters. Markets are those of the inserted and the duplicate snapshots.
    """

    inserted: int = 0
    already_there: int = 0
    conflicts: int = 0
    markets_inserted: int = 0
    markets_already_there: int = 0


@dataclass(slots=True)
class ReplayCounts:
    """What came of the records. Each write counts by itself, however polls fell.

    `confirmations` are all by natural key, `confirmed_ids` those by plain id that
    found a row and `missing_ids` that did not; `unstable_ids` could not be trusted;
    `filtered` are writes (and undecodable records) that nobody asked for.
    `known_letters` of the dead letters were there before; `settled_letters` are letters of
    before whose writes are in the tables now. `waiting_keys` are the
    keys whose confirmation waits for a snapshot.
    """

    records: int = 0
    kinds: dict[Kind, KindCounts] = field(default_factory=lambda: {k: KindCounts() for k in Kind})
    confirmations: int = 0
    confirmed_ids: int = 0
    missing_ids: int = 0
    unstable_ids: int = 0
    filtered: int = 0
    dead_letters: Counter[str] = field(default_factory=Counter)
    known_letters: int = 0
    settled_letters: int = 0
    waiting_keys: int = 0

    def add(self, other: "ReplayCounts") -> None:
        """Count what another part came to."""
        for name in _NUMBERS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.dead_letters.update(other.dead_letters)
        for kind, counts in other.kinds.items():
            own = self.kinds[kind]
            for name in KindCounts.__dataclass_fields__:
                setattr(own, name, getattr(own, name) + getattr(counts, name))

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        numbers = {name: getattr(self, name) for name in _NUMBERS}
        kinds = {kind.value: asdict(counts) for kind, counts in self.kinds.items()}
        return {**numbers, "kinds": kinds, "dead_letters": dict(self.dead_letters)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "ReplayCounts":
        """What `to_json` made."""
        # A replay that an older version began has not counted everything.
        numbers = {name: value.get(name, 0) for name in _NUMBERS}
        kinds = {Kind(name): KindCounts(**counts) for name, counts in value["kinds"].items()}
        return cls(**numbers, kinds=kinds, dead_letters=Counter(value["dead_letters"]))


_NUMBERS = (
    "records",
    "confirmations",
    "confirmed_ids",
    "missing_ids",
    "unstable_ids",
    "filtered",
    "known_letters",
    "settled_letters",
    "waiting_keys",
)


@dataclass(slots=True)
class Span:
    """A partition's offsets, and how far they are written."""

    start: int
    end: int
    next_offset: int
    last: LastApplied | None = None
    totals: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class ReplayState:
    """A replay. `step` counts its transactions; `owner` is the process that does it.

    `finished` with the last of them, which may have more to do than the last rows.
    """

    replay_id: str
    owner: str
    cluster_id: str
    topic: str
    log_id: int
    where: ReplayFilter
    spans: dict[int, Span]
    adopt: bool = False
    step: int = 0
    finished: bool = False
    counts: ReplayCounts = field(default_factory=ReplayCounts)

    @property
    def done(self) -> bool:
        """Whether every span is written."""
        return all(span.next_offset >= span.end for span in self.spans.values())

    @property
    def offsets_total(self) -> int:
        """How many offsets the spans have."""
        return sum(span.end - span.start for span in self.spans.values())

    @property
    def offsets_done(self) -> int:
        """How many of them are written."""
        return sum(span.next_offset - span.start for span in self.spans.values())

    def remaining(self) -> dict[int, LogRange]:
        """What is still to be read."""
        return {
            partition: LogRange(span.next_offset, span.end)
            for partition, span in self.spans.items()
            if span.next_offset < span.end
        }

    def after(
        self,
        parts: Sequence[PartitionPart],
        counts: ReplayCounts,
        totals: Mapping[int, Mapping[str, int]],
    ) -> "ReplayState":
        """The state when these parts are written; this one stays as it is."""
        following = deepcopy(self)
        following.step += 1
        following.counts.add(counts)
        for part in parts:
            span = following.spans[part.partition]
            span.next_offset = part.end
            span.last = part.last or span.last
            span.totals.update(totals.get(part.partition, {}))
        following.finished = following.done
        return following

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "replay_id": self.replay_id,
            "owner": self.owner,
            "cluster_id": self.cluster_id,
            "topic": self.topic,
            "log_id": self.log_id,
            "where": self.where.to_json(),
            "spans": {str(p): _span_json(span) for p, span in self.spans.items()},
            "adopt": self.adopt,
            "step": self.step,
            "finished": self.finished,
            "counts": self.counts.to_json(),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "ReplayState":
        """What `to_json` made."""
        fields = dict(value)
        fields["where"] = ReplayFilter.from_json(value["where"])
        fields["spans"] = {int(p): _span(span) for p, span in value["spans"].items()}
        fields["counts"] = ReplayCounts.from_json(value["counts"])
        return cls(**fields)


def _span_json(span: Span) -> dict[str, Any]:
    last = None if span.last is None else [span.last.offset, span.last.crc32]
    return {
        "start": span.start,
        "end": span.end,
        "next_offset": span.next_offset,
        "last": last,
        "totals": dict(span.totals),
    }


def _span(value: Mapping[str, Any]) -> Span:
    last = None if value["last"] is None else LastApplied(*value["last"])
    return Span(value["start"], value["end"], value["next_offset"], last, Counter(value["totals"]))
