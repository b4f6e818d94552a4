"""Encoding a stamped batch into the records that go to Kafka, slice by slice."""

import uuid
from dataclasses import dataclass, replace

from ..schemas.codec import EventWrites, SnapshotPart, crc32_text, decode, encode, snapshot_steps
from ..schemas.errors import InvalidRecordError
from ..schemas.framing import CURRENT_SCHEMA, schema_fingerprint
from ..schemas.records import CompetitorSnapshotWriteData, SnapshotWriteData, WriteBatch
from ..schemas.wire import (
    HEADER_BATCH,
    HEADER_CRC32,
    HEADER_FRAGMENT,
    HEADER_MORE,
    HEADER_PRODUCER,
    HEADER_RUN,
    HEADER_SCHEMA,
    Kind,
    record_key,
)
from .destination import RejectedPart
from .pacing import Pacer
from .split import FRAGMENT_FRAME_BYTES, presence, split
from .tracing import Headers

__all__ = ["EncodedBatch", "Fragment", "encode_batch", "encode_snapshots", "halves", "say_more"]

AnySnapshot = SnapshotWriteData | CompetitorSnapshotWriteData


@dataclass(slots=True)
class Fragment:
    """One Kafka record, ready to be sent.

    `acknowledged` is written when the broker's answer arrives, whichever attempt
    sent it, and read when an attempt begins.
    """

    kind: Kind
    event_id: int | None
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]
    acknowledged: bool = False


@dataclass(slots=True)
class EncodedBatch:
    """The fragments of a batch, what can never be sent, characters replaced."""

    fragments: list[Fragment]
    rejected: list[RejectedPart]
    replaced: int


async def encode_batch(
    batch: WriteBatch,
    *,
    limit_bytes: int,
    raw_response: bool,
    producer_name: str,
    trace: Headers = (),
) -> EncodedBatch:
    """Encode a stamped batch; yields to the loop every few milliseconds.

    A snapshot that cannot be encoded, or that alone exceeds the limit, is
    rejected; the others go on. Never raises over the content of a batch.

    Args:
        batch: stamped.
        limit_bytes: of one record's value.
        raw_response: whether raw responses are sent or left out.
        producer_name: for the header.
        trace: headers that every fragment gets.
    """
    pacer = Pacer()
    parts, rejected = await encode_snapshots(batch, pacer, raw_response=raw_response)
    batch_id = uuid.uuid4()
    parts = _without_oversize(batch, batch_id, parts, limit_bytes, rejected)
    fragments: list[Fragment] = []
    planned = split(batch, parts, batch_id=batch_id, limit_bytes=limit_bytes)
    if not planned and not rejected:
        planned = presence(batch, batch_id=batch_id)
    for writes in planned:
        try:
            fragments.append(_fragment(writes, producer_name, trace))
        except InvalidRecordError as error:
            rejected.append(RejectedPart(writes.kind, writes.event_id, None, str(error)))
        await pacer.pause()
    return EncodedBatch(fragments, rejected, sum(part.replaced for part in parts))


async def encode_snapshots(
    batch: WriteBatch, pacer: Pacer, *, raw_response: bool
) -> tuple[list[SnapshotPart], list[RejectedPart]]:
    """The changed snapshots of a batch as parts, and those that cannot be one."""
    parts: list[SnapshotPart] = []
    rejected: list[RejectedPart] = []
    changed: tuple[AnySnapshot, ...] = (*batch.changed_betpawa, *batch.changed_competitor)
    for snapshot in changed:
        try:
            parts.append(await _part(snapshot, pacer, raw_response=raw_response))
        except MemoryError:
            raise
        except Exception as error:
            rejected.append(_rejected(snapshot, error))
        await pacer.pause()
    return parts, rejected


async def _part(snapshot: AnySnapshot, pacer: Pacer, *, raw_response: bool) -> SnapshotPart:
    steps = snapshot_steps(snapshot, raw_response=raw_response)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            part: SnapshotPart = end.value
            return part
        await pacer.pause()


def _without_oversize(
    batch: WriteBatch,
    batch_id: uuid.UUID,
    parts: list[SnapshotPart],
    limit_bytes: int,
    rejected: list[RejectedPart],
) -> list[SnapshotPart]:
    """Reject what exceeds the limit alone, before fragments are numbered."""
    kept: list[SnapshotPart] = []
    for part in parts:
        if part.size_bytes + FRAGMENT_FRAME_BYTES > limit_bytes:
            # `size_bytes` is an upper bound; only the encoded size decides.
            size = _size_alone(batch, batch_id, part)
            if size > limit_bytes:
                reason = f"takes {size:,} bytes encoded, and the topic's limit is {limit_bytes:,}"
                moment = part.record["captured_at"]
                rejected.append(RejectedPart(part.kind, part.event_id, moment, reason))
                continue
        kept.append(part)
    return kept


def _size_alone(batch: WriteBatch, batch_id: uuid.UUID, part: SnapshotPart) -> int:
    alone = WriteBatch((), (), (), (), batch.scrape_run_id, batch.batch_index)
    (writes,) = split(alone, [part], batch_id=batch_id, limit_bytes=0)
    return len(encode(writes))


def _fragment(writes: EventWrites, producer_name: str, trace: Headers) -> Fragment:
    value = encode(writes)
    headers = [
        (HEADER_BATCH, str(writes.batch_id).encode()),
        (HEADER_FRAGMENT, b"%d/%d" % (writes.fragment_index + 1, writes.fragment_count)),
        (HEADER_SCHEMA, schema_fingerprint(CURRENT_SCHEMA).hex().encode()),
        (HEADER_PRODUCER, producer_name.encode()),
        (HEADER_CRC32, crc32_text(value)),
    ]
    if writes.scrape_run_id is not None:
        headers.append((HEADER_RUN, b"%d" % writes.scrape_run_id))
    headers += trace
    return Fragment(
        kind=writes.kind,
        event_id=writes.event_id,
        key=record_key(writes.kind, writes.event_id),
        value=value,
        headers=headers,
    )


def halves(fragment: Fragment) -> list[Fragment]:
    """A fragment as two that write the same, in its order; CPU only, milliseconds.

    Both have its batch and its number in it; the first says that there is more of it.
    Just itself where a single snapshot, confirmation or id is inside.

    Raises:
        DecodeError: it is no whole fragment.
    """
    writes = decode(fragment.value)
    snapshots, confirmations, ids = writes.snapshots, writes.confirmations, writes.unchanged_ids
    half = (len(snapshots) + len(confirmations) + len(ids)) // 2
    if not half:
        return [fragment]
    # Snapshots first, as `split` puts them.
    later = max(0, half - len(snapshots))
    last = max(0, later - len(confirmations))
    first = replace(
        writes,
        snapshots=snapshots[:half],
        confirmations=confirmations[:later],
        unchanged_ids=ids[:last],
    )
    second = replace(
        writes,
        snapshots=snapshots[half:],
        confirmations=confirmations[later:],
        unchanged_ids=ids[last:],
    )
    begun, ended = (_with_writes(fragment, part) for part in (first, second))
    say_more(begun)
    return [begun, ended]


def say_more(part: Fragment) -> None:
    """Let a part say that there is more of its fragment: it has not arrived with this one."""
    if HEADER_MORE not in dict(part.headers):  # a half of a first half says so already
        part.headers.append((HEADER_MORE, b"1"))


def _with_writes(fragment: Fragment, writes: EventWrites) -> Fragment:
    if not (writes.confirmations or writes.unchanged_ids):
        writes = replace(writes, confirmed_at=None)
    value = encode(writes)
    made = {
        HEADER_SCHEMA: schema_fingerprint(CURRENT_SCHEMA).hex().encode(),
        HEADER_CRC32: crc32_text(value),
    }
    headers = [(name, made.get(name, said)) for name, said in fragment.headers]
    return replace(fragment, value=value, headers=headers)


def _rejected(snapshot: AnySnapshot, error: Exception) -> RejectedPart:
    reason = (
        str(error)
        if isinstance(error, InvalidRecordError)
        else f"cannot be encoded: {type(error).__name__}: {error}"
    )
    if isinstance(snapshot, SnapshotWriteData):
        return RejectedPart(Kind.BETPAWA, snapshot.event_id, snapshot.captured_at, reason)
    return RejectedPart(Kind.COMPETITOR, snapshot.competitor_event_id, snapshot.captured_at, reason)
