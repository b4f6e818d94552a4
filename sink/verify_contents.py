"""Comparing rows with the records of the same key and hash.

A row is compared with the record that it names: that one wrote it, and what the hash
does not cover (run, raw response) is of that one. Where that record cannot be read
any more, the first one that holds the same stands for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from .items import SnapshotItem
from .verify_compare import FieldDifference, StoredRow, differing_field
from .verify_confirmations import ConfirmationCheck
from .verify_findings import Explained, Found
from .verify_logs import Where
from .verify_marks import SEEN, SOURCED
from .verify_part import KindPart

__all__ = ["Content", "ContentCheck"]

_TAKEN_AS_IT_IS = frozenset({Where.NOWHERE, Where.UNREADABLE, Where.NOT_IN_LOG})


@dataclass(frozen=True, slots=True)
class Content:
    """A snapshot whose row has its hash; `lettered`: a dead letter keeps it too."""

    item: SnapshotItem
    row: StoredRow
    lettered: bool


@dataclass(slots=True)
class _Pair:
    """A row with the item that it is compared with, and what differs."""

    item: SnapshotItem
    row: StoredRow
    own: bool
    lettered: bool
    other: FieldDifference | None = None
    mended: bool = False  # only what a record that was sent again may have mended


@dataclass
class ContentCheck:
    """The contents of one part."""

    part: KindPart
    confirmations: ConfirmationCheck
    _pairs: dict[int, list[_Pair]] = field(default_factory=dict)

    async def run(self, contents: Sequence[Content]) -> None:
        """Compare each row once."""
        for content in contents:
            self._place(content)
        pairs = [pair for pairs in self._pairs.values() for pair in pairs]
        if self.part.state.options.quick:
            await self._compare_counts(pairs)
        else:
            await self._compare_markets(pairs)
        await self._compare_the_rest([p for p in pairs if p.own and p.other is None])
        for pairs in self._pairs.values():
            self._judge(pairs)

    def _place(self, content: Content) -> None:
        """Whether to compare a row with this record, or with another."""
        state, kind, row = self.part.state, self.part.kind, content.row
        where = state.logs.where(row.source)
        marks = state.marks.of(kind, row.id)
        own = self.part.is_own(content.item, row)
        if own:
            if not marks & SOURCED:
                self._add(content, own=True)
            return
        if content.lettered:
            return
        if self.part.required:
            state.findings.explain(Explained.DUPLICATES)
        if where in _TAKEN_AS_IT_IS:
            if not marks & SEEN and row.id not in self._pairs:
                self._add(content, own=False)
        elif where in (Where.MUST, Where.MAY):
            state.marks.add(kind, row.id, SEEN)
            if not marks & SOURCED:
                state.note_unsourced(kind, row.id, self.part.source(content.item))
        elif not marks & SOURCED:
            self._add_wrong_source(content, where)

    def _add(self, content: Content, *, own: bool) -> None:
        pair = _Pair(content.item, content.row, own, content.lettered)
        self._pairs.setdefault(content.row.id, []).append(pair)

    def _add_wrong_source(self, content: Content, where: Where) -> None:
        """No log has the record that the row names; this record holds the same."""
        item, row = content.item, content.row
        log_id, partition, offset = row.source
        if where is not Where.UNKNOWN_LOG:
            place = f"log {log_id} partition {partition} offset {offset}"
            self.part.add_different(item, row, "log_offset", f"it names {place}: there is none")
        else:
            what = f"the row is of log {log_id}, which was never registered"
            state = self.part.state
            state.settle(self.part.kind, row.id, SEEN | SOURCED)
            state.findings.add(self.part.difference(Found.OTHER_LOG, item, what, row, "log_id"))
            state.mends.different.append(item)
        self.confirmations.start(item, row)

    async def _compare_counts(self, pairs: Sequence[_Pair]) -> None:
        counts = await self.part.tables.market_counts(
            self.part.kind, {pair.row.id for pair in pairs}
        )
        for pair in pairs:
            wanted, there = len(pair.item.data["markets"]), counts.get(pair.row.id, 0)
            if wanted != there:
                what = f"markets: {wanted} in the log, {there} in the table"
                pair.other = FieldDifference("markets", what)

    async def _compare_markets(self, pairs: Sequence[_Pair]) -> None:
        markets = await self.part.tables.markets(self.part.kind, {pair.row.id for pair in pairs})
        for pair in pairs:
            pair.other = differing_field(
                pair.item.data["markets"], markets[pair.row.id], pair.row.key.captured_at
            )

    async def _compare_the_rest(self, pairs: Sequence[_Pair]) -> None:
        """Run and raw response."""
        options = self.part.state.options
        equal = [True] * len(pairs)
        if options.raw_response and not options.quick:
            equal = await self.part.tables.equal_raws(
                self.part.kind, [(pair.row, pair.item.data["raw_response"]) for pair in pairs]
            )
        for pair, same_raw in zip(pairs, equal, strict=True):
            wanted, there = pair.item.data["scrape_run_id"], pair.row.scrape_run_id
            if wanted != there:
                what = f"scrape_run_id is {wanted} in the log, {there} in the table"
                pair.other = FieldDifference("scrape_run_id", what)
            elif not same_raw:
                what = "raw_response is not what the log holds"
                pair.other = FieldDifference("raw_response", what)
            pair.mended = pair.other is not None and self._is_resent(pair)

    def _is_resent(self, pair: _Pair) -> bool:
        return pair.lettered and self.part.letters.is_resent(pair.item.record, pair.item.item)

    def _judge(self, pairs: Sequence[_Pair]) -> None:
        """A record may hold a snapshot twice: the row is one of them."""
        state, kind = self.part.state, self.part.kind
        pair = pairs[0]
        state.marks.add(kind, pair.row.id, SEEN)
        if any(p.other is None for p in pairs):
            state.settle(kind, pair.row.id, SEEN | SOURCED)
        elif all(p.mended for p in pairs):
            state.note_unsourced(kind, pair.row.id, self.part.source(pair.item))
        else:
            other = next(p for p in pairs if not p.mended).other
            if other is not None:
                self.part.add_different(pair.item, pair.row, other.field, other.what)
        self.confirmations.start(pair.item, pair.row)
