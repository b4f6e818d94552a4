"""Dead letters for the commands: reading them, and what an operator did with them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from ..schemas.redrive import Redrive
from ..sink.dead_letters import clean_text, decode_headers
from ..sink.poison import cause_of

__all__ = ["Letter", "Selection", "discard", "next_page", "note_sent", "read_letters"]

_COLUMNS = """
    SELECT d.*, g.cluster_id, g.topic FROM oddslog_dead_letters AS d
    LEFT JOIN oddslog_logs AS g ON g.log_id = d.log_id
"""
_BY_ID = text(f"{_COLUMNS} WHERE d.id = ANY(CAST(:ids AS bigint[])) ORDER BY d.id")
# The cause as `poison.cause_of` names it. A page is bounded in bytes too; at least one.
_PAGE = text(
    f"""
    SELECT * FROM (
        SELECT page.*, sum(coalesce(octet_length(page.value), 0)) OVER (ORDER BY page.id)
               - coalesce(octet_length(page.value), 0) AS bytes_before
        FROM (
            {_COLUMNS}
            WHERE d.status = 'dead' AND d.id > :after
              AND (CAST(:reason AS text) IS NULL OR d.reason = :reason)
              AND (CAST(:since AS timestamptz) IS NULL OR d.last_seen_at >= :since)
              AND (CAST(:cause AS text) IS NULL OR concat_ws(
                  '/', d.reason, nullif(d.sqlstate, ''), nullif(d.constraint_name, ''),
                  nullif(regexp_replace(d.field, '\\[[^.]*', '', 'g'), '')) = :cause)
            ORDER BY d.id LIMIT :letters
        ) AS page
    ) AS bounded WHERE bytes_before < :bytes ORDER BY id
    """  # noqa: S608
)
_DISCARD = text(
    "UPDATE oddslog_dead_letters SET status = 'discarded', handled_by = :by,"
    " handled_at = clock_timestamp(), handled_why = :why"
    " WHERE id = ANY(CAST(:ids AS bigint[])) AND status IN ('dead', 'waiting') RETURNING id"
)
# The sink may have come to it already: it then says the same.
_NOTE_SENT = text(
    "UPDATE oddslog_dead_letters SET redrives_sent = GREATEST(redrives_sent, :count),"
    " handled_by = :by, handled_at = :at, handled_why = :why WHERE id = :id"
)
_PAGE_LETTERS = 100
_PAGE_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class Letter:
    """One dead letter; `topic` and the places are None where it came from no log."""

    id: int
    status: str
    reason: str
    sqlstate: str | None
    constraint_name: str | None
    field: str | None
    parent_id: int | None
    message: str
    kind: str | None
    event_id: int | None
    record_key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    log_id: int | None
    cluster_id: str | None
    topic: str | None
    log_partition: int | None
    log_offset: int | None
    item: int
    attempts: int
    appended_at: datetime | None
    first_seen_at: datetime
    last_seen_at: datetime
    oddslog_version: str
    original_value: bytes | None
    redrives_sent: int
    redrives_seen: int
    redrive_log_id: int | None
    redrive_partition: int | None
    redrive_offset: int | None
    handled_by: str | None
    handled_at: datetime | None
    handled_why: str | None
    published_at: datetime | None = None

    @property
    def cause(self) -> str:
        """Its cause as the sink and `dlq list` name it."""
        return cause_of(self.reason, self.sqlstate, self.constraint_name, self.field)

    @property
    def redrives(self) -> int:
        """How often it was sent again, as far as anyone knows."""
        return max(self.redrives_sent, self.redrives_seen)

    @property
    def under_way(self) -> bool:
        """Sent again, and the sink has not come to it yet."""
        return self.redrives_sent > self.redrives_seen

    def redrive(self, *, by: str, at: datetime, why: str | None) -> Redrive | None:
        """What the next record for it says; None where it came from no log."""
        if (
            self.cluster_id is None
            or self.topic is None
            or self.log_partition is None
            or self.log_offset is None
        ):
            return None
        return Redrive(
            self.cluster_id,
            self.topic,
            self.log_partition,
            self.log_offset,
            self.item,
            self.appended_at,
            self.reason,
            self.redrives + 1,
            by,
            at,
            why,
        )


@dataclass(frozen=True)
class Selection:
    """Dead letters by reason, cause or time; by nothing: all of them."""

    reason: str | None = None
    cause: str | None = None
    since: datetime | None = None


async def read_letters(connection: AsyncConnection, ids: Collection[int]) -> list[Letter]:
    """Those of the ids that there are, by id."""
    return [_letter(row) for row in await connection.execute(_BY_ID, {"ids": sorted(ids)})]


async def next_page(
    connection: AsyncConnection, selection: Selection, after_id: int
) -> list[Letter]:
    """The next dead ones of a selection, by id; empty at the end."""
    found = await connection.execute(
        _PAGE,
        {
            "after": after_id,
            "reason": selection.reason,
            "cause": selection.cause,
            "since": selection.since,
            "letters": _PAGE_LETTERS,
            "bytes": _PAGE_BYTES,
        },
    )
    return [_letter(row) for row in found]


async def discard(
    connection: AsyncConnection, ids: Collection[int], *, by: str, why: str
) -> set[int]:
    """Discard those that are dead or waiting; returns which."""
    done = await connection.execute(
        _DISCARD, {"ids": sorted(ids), "by": clean_text(by), "why": clean_text(why)}
    )
    return {row.id for row in done}


async def note_sent(
    connection: AsyncConnection,
    letters: Collection[Letter],
    *,
    by: str,
    at: datetime,
    why: str | None,
) -> None:
    """Note that they are in the topic again."""
    for letter in sorted(letters, key=lambda one: one.id):
        await connection.execute(
            _NOTE_SENT,
            {
                "id": letter.id,
                "count": letter.redrives + 1,
                "by": clean_text(by),
                "at": at,
                "why": clean_text(why),
            },
        )


def _letter(row: object) -> Letter:
    values = {name: getattr(row, name) for name in Letter.__dataclass_fields__}
    return Letter(**values | {"headers": decode_headers(values["headers"])})
