"""Fragments as no producer makes them: claims too large, mutated bytes; all by seed."""

import random
import uuid
from collections.abc import Iterator, Sequence

from oddslog.schemas.framing import frame
from oddslog.schemas.wire import Kind
from tests.support.batches import NOON, competitor, snapshot
from tests.support.fragments import confirming, holding, ids, record

__all__ = ["CLAIM", "claims", "corpus", "mutants", "zigzag"]

# What an array, a text or a block of bytes claims to have.
CLAIM = 2**40


def zigzag(number: int) -> bytes:
    """An Avro long."""
    left = ((number << 1) ^ (number >> 63)) & (2**64 - 1)
    out = bytearray()
    while left > 127:
        out.append(left & 127 | 128)
        left >>= 7
    out.append(left)
    return bytes(out)


def _head(event_id: int = 1) -> bytes:
    """Frame and fields up to the array of snapshots."""
    name = str(uuid.UUID(int=1)).encode()
    numbers = (0, 0, 0, 1, 0, 0, 1)  # index, no count, fragment 0 of 1, no run, kind, an event
    return frame() + zigzag(len(name)) + name + b"".join(map(zigzag, numbers)) + zigzag(event_id)


def claims() -> dict[str, bytes]:
    """Values that claim far more than they have, by what claims it."""
    head, empty = _head(), zigzag(0)
    # A snapshot up to its markets, and one up to its raw response.
    open_snapshot = zigzag(1) + zigzag(1) + zigzag(1) + zigzag(0) + zigzag(0) + zigzag(5)
    to_confirmations = head + empty + zigzag(1) + zigzag(0)
    to_ids = to_confirmations + empty
    return {
        "snapshots": head + zigzag(CLAIM),
        "snapshots, a block with its size": head + zigzag(-CLAIM) + zigzag(10),
        "snapshots, the smallest number": head + zigzag(-(2**63)),
        "markets": head + open_snapshot + zigzag(0) + zigzag(CLAIM),
        "raw response": head + open_snapshot + zigzag(1) + zigzag(CLAIM) + b"{}",
        "raw response of a negative size": head + open_snapshot + zigzag(1) + zigzag(-5) + b"{}",
        "market id": head + open_snapshot + zigzag(0) + zigzag(1) + zigzag(CLAIM) + b"x",
        "confirmations": to_confirmations + zigzag(CLAIM),
        "ids": to_ids + zigzag(CLAIM) + b"\2" * 100,
        "ids in blocks that never end": to_ids + (zigzag(-1) + zigzag(0) + zigzag(1)) * 1000,
        "a number that never ends": head + b"\xff" * 10_000,
        "batch id": frame() + zigzag(CLAIM) + b"x",
    }


def corpus(first_event: int) -> list[bytes]:
    """Good values of every kind, of events from the given one on."""
    event = first_event
    return [
        holding(record(snapshot(event)), record(snapshot(event, bookmaker_id=2)), event_id=event),
        holding(record(competitor(event + 1)), event_id=event + 1, kind=Kind.COMPETITOR),
        holding(record(snapshot(event + 2), raw_response="[]"), event_id=event + 2),
        confirming(NOON, event_id=event + 3),
        confirming(NOON, event_id=event + 4, kind=Kind.COMPETITOR),
        ids(*range(10**6, 10**6 + 20)),
    ]


def mutants(seed: int, count: int, good: Sequence[bytes]) -> Iterator[bytes]:
    """Mutations of good values, none of which is one of them."""
    chance = random.Random(seed)  # noqa: S311 - seeded on purpose
    made = 0
    while made < count:
        value = bytearray(chance.choice(good))
        for _ in range(chance.choice((1, 1, 1, 2, 5))):
            value = _mutated(chance, value, good)
        if bytes(value) not in good:
            made += 1
            yield bytes(value)


def _mutated(chance: random.Random, value: bytearray, good: Sequence[bytes]) -> bytearray:
    if not value:
        return bytearray(chance.randbytes(8))
    at = chance.randrange(len(value))
    # Half of all behind the frame and the batch id, where there is more to be found.
    if len(value) > 60 and chance.random() < 0.5:
        at = chance.randrange(47, len(value))
    how = chance.randrange(6)
    if how == 0:
        value[at] ^= 1 << chance.randrange(8)
    elif how == 1:
        value[at] = chance.choice((0, 1, 2, 127, 128, 255))
    elif how == 2:
        del value[at:]
    elif how == 3:
        other = chance.choice(good)
        value[at:] = other[chance.randrange(len(other)) :]
    elif how == 4:
        value[at : at + chance.randrange(1, 9)] = chance.randbytes(chance.randrange(9))
    else:
        value[at:at] = zigzag(chance.choice((CLAIM, -CLAIM, 2**31, -1, 2**63 - 1, -(2**63))))
    return value
