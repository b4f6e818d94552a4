"""JSON text as oddslog writes it: one line, no spaces, non-ASCII as it is.

Numbers as Python's `repr` writes them; NaN and infinities refused. That is how the
standard library writes it, and so the definition. orjson writes the same text of a
*plain* document at a tenth of the cost; nearly all are.
"""

import json
from collections.abc import Callable
from typing import Any

import orjson

__all__ = ["is_plain", "plain_bytes", "plain_sorted_bytes", "sorted_text", "text_of"]

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
