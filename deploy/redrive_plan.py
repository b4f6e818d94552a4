"""What a redrive may send, and as which record. Decisions without any server."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ..ingest.fragments import Fragment
from ..schemas.codec import EventWrites, crc32_text, decode, encode
from ..schemas.errors import ConfigurationError, DecodeError, InvalidRecordError
from ..schemas.fragment_json import fragment_from_json
from ..schemas.redrive import Redrive, redrive_headers
from ..schemas.version import VERSION
from ..schemas.wire import (
    HEADER_BATCH,
    HEADER_CRC32,
    HEADER_FRAGMENT,
    HEADER_PRODUCER,
    HEADER_REDRIVE_NOTE,
    HEADER_REDRIVE_OF,
    HEADER_RUN,
    HEADER_SCHEMA,
    Kind,
    record_key,
)
from .letter_view import Opened, open_value
from .letters import Letter

__all__ = [
    "MOST_REDRIVES",
    "Wanted",
    "changed_identity",
    "check_edit",
    "fragment_to_send",
    "read_edit",
    "refusal",
]

# What failed so often after a look at it will not get better by itself.
MOST_REDRIVES = 3
_OURS = frozenset(
    {
        HEADER_BATCH,
        HEADER_CRC32,
        HEADER_FRAGMENT,
        HEADER_PRODUCER,
        HEADER_REDRIVE_NOTE,
        HEADER_REDRIVE_OF,
        HEADER_RUN,
        HEADER_SCHEMA,
    }
)
_REDRIVABLE = ("dead", "waiting")


@dataclass(frozen=True)
class Wanted:
    """How to redrive: who, when, why; `edit` is the mended value of the one letter."""

    by: str
    at: datetime
    why: str | None = None
    edit: bytes | None = None
    force: bool = False
    dry_run: bool = False
    topic: str | None = None

    @property
    def statuses(self) -> Collection[str]:
        """Of letters that may be sent."""
        return (*_REDRIVABLE, "discarded", "redriven", "written") if self.force else _REDRIVABLE


def refusal(letter: Letter, wanted: Wanted) -> str | None:
    """Why a letter is not even tried; None where it is. `--force` overrides all of it."""
    if wanted.force:
        return None
    if letter.status not in _REDRIVABLE:
        return f"is {letter.status} already"
    if letter.under_way:
        return "was sent already, and the sink has not come to it yet (oddslog status)"
    if letter.redrives >= MOST_REDRIVES:
        return f"was sent again {letter.redrives} times already and failed each time"
    if wanted.edit is None and _opened(letter).damaged:
        return f"cannot be trusted: {_opened(letter).problem}"
    return None


def _opened(letter: Letter) -> Opened:
    return open_value(letter.value, letter.headers, whole_record=letter.item < 0)


def read_edit(path: Path) -> EventWrites:
    """The mended fragment of a file: what `dlq show --json` prints, or its `fragment`.

    Raises:
        ConfigurationError: no such file, no JSON, or a field that is wrong.
    """
    try:
        document = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path} is no JSON: {error}") from error
    if isinstance(document, dict) and "fragment" in document:
        document = document["fragment"]
    try:
        fragment = fragment_from_json(document)
        decode(encode(fragment))
    except InvalidRecordError as error:
        raise ConfigurationError(f"{path}: {error}") from error
    except DecodeError as error:
        raise ConfigurationError(f"{path}: the fragment {error}") from error
    return fragment


def check_edit(letter: Letter, edit: EventWrites) -> None:
    """Refuse an edit that is not for this letter.

    Raises:
        ConfigurationError: it has other than the one write that the letter is.
    """
    keyed = len(edit.snapshots) + len(edit.confirmations)
    if letter.item < 0:
        if not keyed and not edit.unchanged_ids:
            raise ConfigurationError("the mended fragment has nothing to write")
    elif keyed != 1 or edit.unchanged_ids:
        raise ConfigurationError(
            f"letter {letter.id} is one snapshot or confirmation, and the mended fragment has"
            f" {keyed + len(edit.unchanged_ids)} writes: leave exactly one"
        )


def changed_identity(letter: Letter, edit: EventWrites) -> str | None:
    """What an edit does to the natural keys, in words; None where they stay."""
    before = _opened(letter).fragment
    if before is None:
        return None
    old, new = _keys(before), _keys(edit)
    if old == new:
        return None
    gone = ", ".join(sorted(old - new)) or "nothing"
    come = ", ".join(sorted(new - old)) or "nothing"
    return f"the edit changes the identity: {come} instead of {gone}"


def _keys(fragment: EventWrites) -> set[str]:
    return {
        f"{fragment.kind.value} event {fragment.event_id}"
        + (f", bookmaker {one['bookmaker_id']}" if one["bookmaker_id"] is not None else "")
        + f", captured at {one['captured_at'].isoformat()}"
        for one in (*fragment.snapshots, *fragment.confirmations)
    }


def fragment_to_send(letter: Letter, value: bytes, redrive: Redrive) -> Fragment:
    """The record that a letter is sent again as: its headers, as far as they are not ours."""
    kept = [(name, said) for name, said in letter.headers if name not in _OURS]
    try:
        writes = decode(value)
    except DecodeError:  # sent as it is: `--force`
        made = [(HEADER_CRC32, crc32_text(value)), *redrive_headers(redrive)]
        # The kind is for log lines only.
        return Fragment(Kind.BETPAWA, None, letter.record_key or b"", value, [*kept, *made])
    made = [
        (HEADER_BATCH, str(writes.batch_id).encode()),
        (HEADER_FRAGMENT, b"%d/%d" % (writes.fragment_index + 1, writes.fragment_count)),
        (HEADER_SCHEMA, value[2:10].hex().encode()),
        (HEADER_PRODUCER, f"oddslog/{VERSION}".encode()),
        (HEADER_CRC32, crc32_text(value)),
        *redrive_headers(redrive),
    ]
    if writes.scrape_run_id is not None:
        made.append((HEADER_RUN, b"%d" % writes.scrape_run_id))
    key = record_key(writes.kind, writes.event_id)
    return Fragment(writes.kind, writes.event_id, key, value, [*kept, *made])
