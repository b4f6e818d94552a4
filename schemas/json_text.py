"""JSON text as oddslog writes it: one line, no spaces, non-ASCII as it is.

Numbers as Python's `repr` writes them; NaN and infinities refused.
"""

import json
from collections.abc import Callable
from typing import Any

__all__ = ["sorted_text", "text_of"]


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
