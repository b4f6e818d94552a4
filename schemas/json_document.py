"""JSON documents: what may be in them, and their text on the wire.

Allowed are str keys, lists, dicts, str, bool, int, finite float and None, to a
depth of `MAX_DEPTH`. NUL characters and lone surrogates, which `jsonb` cannot
hold, become U+FFFD and are counted.
"""

from typing import Any, NamedTuple

from .errors import InvalidRecordError
from .json_text import are_plain, is_plain, plain_bytes, text_of

__all__ = ["MAX_DEPTH", "Document", "encode_document"]

# Far above real odds (depth 6) and far below what ends Python's JSON encoder
# (its recursion limit, about 1,000) and PostgreSQL's parser (54001).
MAX_DEPTH = 200
_MAX_PATH = 200  # characters of a path in an error
_REPLACEMENT = "\ufffd"

_SCALARS = frozenset({str, int, float, bool, type(None)})


class Document(NamedTuple):
    """An encoded JSON document.

    `size_bytes` is that of its text in UTF-8; `replaced` counts the characters
    that became U+FFFD; `said` is the document as the text says it (the same object
    where nothing was replaced); `plain` as `json_text.is_plain` means it.
    """

    text: str
    size_bytes: int
    replaced: int
    said: Any
    plain: bool


def encode_document(field: str, document: Any) -> Document:
    """Encode one JSON document.

    Raises:
        InvalidRecordError: something in it is not JSON; names the path.
    """
    # Checked first: orjson must never see what it would write differently.
    root = type(document) in (dict, list)
    if root and (are_plain([document], MAX_DEPTH) or is_plain(document, MAX_DEPTH)):
        raw = plain_bytes(document)
        if raw is not None and b"\\u0000" not in raw:
            return Document(raw.decode(), len(raw), 0, document, True)
    text, replaced, said = _encode_any(field, document)
    return Document(text, len(text.encode()), replaced, said, False)


def _encode_any(field: str, document: Any) -> tuple[str, int, Any]:
    """The text, the characters replaced, and the document as the text says it."""
    if not isinstance(document, (dict, list)):
        raise InvalidRecordError(field, f"must be a list or a dict, not {type(document).__name__}")
    _check(document, field, 1)
    try:
        text = text_of(document)
    except ValueError as error:  # not finite, or an int of thousands of digits
        path, problem = _find_unwritable(document, field) or (field, str(error))
        raise _refusal(path, f"cannot be JSON: {problem}") from error
    # The escape of NUL may also be a backslash before "u0000"; cleaning decides.
    if "\\u0000" not in text and (text.isascii() or _is_unicode(text)):
        return text, 0, document
    cleaned, replaced = _clean(document)
    return (text_of(cleaned), replaced, cleaned) if replaced else (text, 0, document)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check(value: dict[Any, Any] | list[Any], path: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise _refusal(path, f"is nested deeper than {MAX_DEPTH}")
    if isinstance(value, dict):
        for key, member in value.items():
            if type(key) is not str and not isinstance(key, str):
                raise _refusal(path, f"has a key that is {type(key).__name__}; keys must be str")
            if type(member) not in _SCALARS:
                _check_member(member, f"{path}.{key}", depth)
    else:
        for index, member in enumerate(value):
            if type(member) not in _SCALARS:
                _check_member(member, f"{path}[{index}]", depth)


def _check_member(member: object, path: str, depth: int) -> None:
    if isinstance(member, (dict, list)):
        _check(member, path, depth + 1)
    elif not isinstance(member, (str, int, float)):
        raise _refusal(path, f"cannot be JSON: it is {type(member).__name__}")


def _refusal(path: str, problem: str) -> InvalidRecordError:
    """The error for a path; foreign keys must break neither a log line nor a column."""
    return InvalidRecordError(_clean_text(path[:_MAX_PATH])[0], problem)


def _find_unwritable(value: object, path: str) -> tuple[str, str] | None:
    """Where the number is that the encoder refused, and what is wrong with it."""
    if isinstance(value, (dict, list)):
        members = (
            ((f"{path}.{key}", member) for key, member in value.items())
            if isinstance(value, dict)
            else ((f"{path}[{index}]", member) for index, member in enumerate(value))
        )
        found = (_find_unwritable(member, inner) for inner, member in members)
        return next((one for one in found if one is not None), None)
    if isinstance(value, (str, int, float)):
        try:
            text_of(value)
        except ValueError as error:
            return path, f"{value} is not finite" if isinstance(value, float) else str(error)
    return None


def _clean(value: Any) -> tuple[Any, int]:
    """Rebuild the document with U+FFFD for what PostgreSQL cannot hold."""
    if isinstance(value, str):
        return _clean_text(value)
    if isinstance(value, list):
        members = [_clean(member) for member in value]
        return [member for member, _ in members], sum(count for _, count in members)
    if not isinstance(value, dict):
        return value, 0
    cleaned: dict[str, Any] = {}
    replaced = 0
    for key, member in value.items():
        new_key, in_key = _clean_text(key)
        # Two keys that differ only in what is replaced stay two: none is lost.
        while in_key and (new_key in cleaned or new_key in value):
            new_key += _REPLACEMENT
        new_member, in_member = _clean(member)
        cleaned[new_key] = new_member
        replaced += in_key + in_member
    return cleaned, replaced


def _clean_text(text: str) -> tuple[str, int]:
    bad = sum(1 for character in text if character == "\0" or "\ud800" <= character <= "\udfff")
    if not bad:
        return text, 0
    return (
        "".join(
            _REPLACEMENT if character == "\0" or "\ud800" <= character <= "\udfff" else character
            for character in text
        ),
        bad,
    )
