"""JSON text as oddslog writes it: one line, no spaces, non-ASCII as it is.

Numbers as Python's `repr` writes them; NaN and infinities refused. That is how the
standard library writes it, and so the definition. orjson writes the same text of a
*plain* document at a tenth of the cost; nearly all are.
"""

import json
from collections.abc import Callable, Sequence
from gc import get_referents
from typing import Any

import orjson

__all__ = [
    "are_plain",
    "is_plain",
    "plain_bytes",
    "plain_lines",
    "plain_sorted_bytes",
    "sorted_text",
    "text_of",
]

_EXACT = frozenset({str, int, bool, type(None)})


def _encoder(*, sort_keys: bool) -> Callable[[Any], str]:
    encoder = json.JSONEncoder(
        ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=sort_keys
    )
    # Neither name is in the typed interface of the module.
    make: Any = getattr(json.encoder, "c_make_encoder", None)
    quote: Any = getattr(json.encoder, "c_encode_basestring", None)
    if make is None or quote is None:  # an interpreter without the C accelerator
        return encoder.encode
    # JSONEncoder.encode makes this C encoder anew at each call, which is half the
    # time of a small document (8 of 16 microseconds for the outcomes of a market).
    # It keeps no state; without markers a circular document ends in RecursionError.
    encode = make(
        None,
        encoder.default,
        quote,
        None,
        ":",
        ",",
        sort_keys,
        False,
        False,
    )
    return lambda value: "".join(encode(value, 0))


text_of = _encoder(sort_keys=False)
"""The text of a document; ValueError where a number cannot be written."""

sorted_text = _encoder(sort_keys=True)
"""The same with the keys of each object sorted."""


def is_plain(node: Any, depth: int) -> bool:
    """Whether orjson writes the text of `text_of` for it, or refuses to write.

    Plain are lists and dicts with str keys, to `depth` levels, of exactly JSON's
    types, with floats that `repr` writes without an exponent: orjson spells the
    others differently, NaN as null, and takes more types than JSON has.
    """
    if type(node) is dict:
        for key in node:
            if type(key) is not str:
                return False
        members: Any = node.values()
    elif type(node) is list:
        members = node
    else:
        return False
    if depth < 1:
        return False
    for member in members:
        kind = type(member)
        if kind is float:
            if not (1e-4 <= member < 1e16 or member == 0.0 or -1e16 < member <= -1e-4):
                return False
        elif kind not in _EXACT and not is_plain(member, depth - 1):
            return False
    return True


# Far more than a document has: one that contains itself would double at each level.
_MOST_NODES = 100_000
_PLAIN = _EXACT | {dict, list, float}


def are_plain(nodes: Sequence[Any], depth: int) -> bool:
    """Whether each of the nodes is plain, to `depth` levels, or what may be in such a one.

    Says what `is_plain` says, level by level for all of them, which takes half the time;
    or False of 100,000 nodes. Keys are not looked at: orjson refuses those that are not str.
    """
    level = nodes
    for _ in range(depth + 1):
        kinds = set(map(type, level))
        if not kinds <= _PLAIN or len(level) > _MOST_NODES:
            return False
        if float in kinds and not _are_plain_floats([n for n in level if type(n) is float]):
            return False
        if dict not in kinds and list not in kinds:
            return True
        # What lists and dicts have in them, of others nothing: the collector's own walk,
        # at half the price of an iterator for each.
        level = get_referents(*level)
    return False


def _are_plain_floats(numbers: list[float]) -> bool:
    total = sum(numbers)
    if total == total and min(numbers) >= 1e-4 and max(numbers) < 1e16:
        return True
    return is_plain(numbers, 1)


_LINE = orjson.Fragment(b"\n")


def plain_lines(documents: Sequence[Any]) -> list[bytes] | None:
    """The texts of plain documents in UTF-8, written by one call.

    JSON escapes line breaks, so a bare one only stands between two documents. None
    where one has a NUL character, or `plain_bytes` would give None.
    """
    members = [_LINE] * (2 * len(documents))
    members[::2] = documents
    raw = plain_bytes(members)
    if raw is None or b"\\u0000" in raw:
        return None
    # "[1,\n,2,\n]"
    return raw[1:-3].split(b",\n,") if documents else []


def plain_bytes(document: Any) -> bytes | None:
    """The text of a plain document in UTF-8.

    None where it has a lone surrogate, or an int of more than 64 bits.
    """
    try:
        return orjson.dumps(document)
    except orjson.JSONEncodeError:
        return None


def plain_sorted_bytes(document: Any) -> bytes | None:
    """The same with the keys of each object sorted: by code point, like `sorted_text`."""
    try:
        return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:
        return None
