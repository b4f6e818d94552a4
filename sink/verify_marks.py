"""Marks on row ids: a byte an id, in pages, so that memory stays small. Pure.

Ids are given out in sequence, so nearly every page is full: about 1.5 bytes a
row, 4 MB for the 2.4 million snapshots of 30 days. A lone id far from all others
costs a page of 0.4 KB.
"""

from ..schemas.wire import Kind

__all__ = ["CONFIRMED", "LOW", "SEEN", "SOURCED", "Marks"]

SEEN = 1  # a record of the log holds it
SOURCED = 2  # the record that it names is one of those
CONFIRMED = 4  # its last_confirmed_at is what a record says
LOW = 8  # reported as confirmed too early

_PAGE_BITS = 8
_PAGE = 1 << _PAGE_BITS


class Marks:
    """What is known of each row so far, by kind and id."""

    def __init__(self) -> None:
        self._pages: dict[Kind, dict[int, bytearray]] = {kind: {} for kind in Kind}

    def add(self, kind: Kind, row_id: int, marks: int) -> None:
        """Set marks of a row."""
        pages = self._pages[kind]
        number = row_id >> _PAGE_BITS
        page = pages.get(number)
        if page is None:
            page = pages[number] = bytearray(_PAGE)
        page[row_id & (_PAGE - 1)] |= marks

    def of(self, kind: Kind, row_id: int) -> int:
        """The marks of a row."""
        page = self._pages[kind].get(row_id >> _PAGE_BITS)
        return 0 if page is None else page[row_id & (_PAGE - 1)]

    def has(self, kind: Kind, row_id: int, mark: int) -> bool:
        """Whether a row has a mark."""
        return bool(self.of(kind, row_id) & mark)
