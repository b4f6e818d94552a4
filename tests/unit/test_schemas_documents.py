"""JSON documents: what is written, what is replaced, what is refused and how that is said."""

import json
from collections import OrderedDict, UserDict, namedtuple
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oddslog.schemas.content_hash import content_hash
from oddslog.schemas.errors import InvalidRecordError
from oddslog.schemas.json_document import MAX_DEPTH, encode_document
from oddslog.schemas.json_text import is_plain, sorted_text, text_of

from .test_schemas_strategies import CHECKED, DOCUMENTS

ANY_TEXT = st.text(
    st.characters() | st.characters(categories=["Cs"]) | st.sampled_from("\0\\u0d8"), max_size=8
)
ANY_DOCUMENTS: st.SearchStrategy[Any] = st.recursive(
    ANY_TEXT | st.integers(), lambda members: st.lists(members) | st.dictionaries(ANY_TEXT, members)
).map(lambda document: [document])


def refusal(document: Any) -> InvalidRecordError:
    """The error of a document called `doc`."""
    with pytest.raises(InvalidRecordError) as caught:
        encode_document("doc", document)
    return caught.value


def nested(depth: int, *, by_keys: bool) -> Any:
    """A document of that depth."""
    document: Any = {} if by_keys else []
    for _ in range(depth - 1):
        document = {"a": document} if by_keys else [document]
    return document


def storable(text: str) -> bool:
    """Whether PostgreSQL's jsonb can hold the characters."""
    return "\0" not in text and not any("\ud800" <= one <= "\udfff" for one in text)


def count_bad(document: Any) -> int:
    """NUL characters and surrogates in a document, keys included."""
    if isinstance(document, str):
        return sum(not storable(one) for one in document)
    if isinstance(document, dict):
        return sum(count_bad(key) + count_bad(member) for key, member in document.items())
    if isinstance(document, list):
        return sum(map(count_bad, document))
    return 0


def count_leaves(document: Any) -> int:
    """How many scalars there are."""
    members = document.values() if isinstance(document, dict) else document
    return sum(map(count_leaves, members)) if isinstance(document, (dict, list)) else 1


@CHECKED
@given(DOCUMENTS)
def test_a_clean_document_is_written_as_it_is(document: Any) -> None:
    """And handed back as the same object: nothing is copied on the hot path."""
    text, _, replaced, said, _ = encode_document("doc", document)
    assert repr(json.loads(text)) == repr(document)
    assert replaced == 0
    assert said is document


# Floats at the ends of what `repr` writes without an exponent, and every control character.
ODD_DOCUMENTS: st.SearchStrategy[Any] = st.recursive(
    st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([1e16, 9999999999999998.0, 1e-4, 9.9e-5, -1e-5, -1e16, 5e-324, 0.0, -0.0])
    | st.integers(-(2**65), 2**65)
    | st.text(st.characters(max_codepoint=0x9F, exclude_characters="\0"), max_size=4)
    | st.booleans()
    | st.none(),
    lambda members: st.lists(members) | st.dictionaries(st.text(max_size=3), members),
).map(lambda document: {"of": document})


@CHECKED
@given(DOCUMENTS | ODD_DOCUMENTS)
def test_the_fast_encoder_writes_what_the_definition_says(document: Any) -> None:
    """Hashes are compared for ever: neither text may depend on which encoder wrote it."""
    made = encode_document("doc", document)
    if made.replaced == 0:
        assert made.text == text_of(document)
    assert made.size_bytes == len(made.text.encode())
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    known = content_hash("competitor", (1,), moment, [[made.said]])
    assert content_hash("competitor", (1,), moment, [[made.said]], plain=made.plain) == known


@pytest.mark.parametrize("number", [1e16, -1e16, 9.9e-5, 1e-5, float("inf"), float("nan")])
def test_numbers_that_the_fast_encoder_spells_differently_do_not_get_there(number: float) -> None:
    """It writes 1e16 for 1e+16, and null for what is no number."""
    assert not is_plain([{"odds": number}], MAX_DEPTH)
    assert is_plain([{"odds": 1.85, "suspended": False, "line": None}], MAX_DEPTH)


def test_keys_are_sorted_by_code_point_by_either_encoder() -> None:
    """Also beyond the first plane, where UTF-16 would sort otherwise."""
    document = {"\U0001f600": 1, "\uffee": 2, "é": 3, "z": 4, "Z": 5}
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    assert is_plain(document, MAX_DEPTH)
    assert [*json.loads(sorted_text(document))] == ["Z", "z", "é", "\uffee", "\U0001f600"]
    assert content_hash("betpawa", (1, 1), moment, [[document]], plain=True) == content_hash(
        "betpawa", (1, 1), moment, [[document]]
    )


@CHECKED
@given(ANY_DOCUMENTS)
def test_whatever_text_is_in_it_postgresql_can_hold_it_afterwards(document: Any) -> None:
    """Replaced characters are counted, and no member is lost, also not to an equal key."""
    text, _, replaced, said, _ = encode_document("doc", document)
    assert replaced == count_bad(document)
    assert count_bad(said) == 0
    assert count_leaves(said) == count_leaves(document)
    assert json.loads(text.encode()) == said


@pytest.mark.parametrize(
    ("document", "said", "replaced"),
    [
        (["a\0b"], ["a\ufffdb"], 1),
        (["\ud800", "\udfff"], ["\ufffd", "\ufffd"], 2),
        (["\ud83d\ude00"], ["\ufffd\ufffd"], 2),
        ({"a\0": {"b": ["\0\0"]}}, {"a\ufffd": {"b": ["\ufffd\ufffd"]}}, 3),
        (["\\u0000"], ["\\u0000"], 0),
        (["\\u0000\0"], ["\\u0000\ufffd"], 1),
        (["\\\\u0000", "\\ud800"], ["\\\\u0000", "\\ud800"], 0),
        (["\ufffd😀\x01\x7f"], ["\ufffd😀\x01\x7f"], 0),
    ],
)
def test_nul_and_lone_surrogates_become_u_fffd(document: Any, said: Any, replaced: int) -> None:
    """And text that only spells their escapes stays."""
    text, _, count, meant, _ = encode_document("doc", document)
    assert json.loads(text) == said == meant
    assert count == replaced


def test_keys_that_become_equal_stay_apart() -> None:
    """A value must not vanish because its key was odd."""
    document = dict(zip(["\0", "\ud800", "\ufffd", "\ufffd\ufffd"], [1, 2, 3, 4], strict=True))
    text, _, replaced, said, _ = encode_document("doc", document)
    assert replaced == 2
    assert sorted(json.loads(text).values()) == [1, 2, 3, 4]
    assert said["\ufffd"] == 3
    assert said["\ufffd\ufffd"] == 4


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    "value",
    [
        (1, 2),
        {1, 2},
        frozenset(),
        Point(1, 2),
        UserDict(a=1),
        b"bytes",
        Decimal("1.5"),
        datetime(2026, 3, 1, tzinfo=UTC),
        date(2026, 3, 1),
        UUID(int=1),
        1j,
        object(),
        iter([]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_not_json_is_refused_with_its_path(value: object) -> None:
    """Tuples and sets too: they would come back as lists."""
    for document, path in (
        ({"a": [0, {"b": value}]}, "doc.a[1].b"),
        ([[value]], "doc[0][0]"),
        ({"a b": value}, "doc.a b"),
    ):
        error = refusal(document)
        assert error.field == path
        assert type(value).__name__ in error.problem


@pytest.mark.parametrize("value", [None, "text", 1, 1.5, True, (1,), {1}])
def test_a_document_is_a_list_or_a_dict(value: object) -> None:
    """A bare scalar is no document."""
    assert refusal(value).field == "doc"


@pytest.mark.parametrize("key", [1, None, 1.5, True, (1, 2), b"a"])
def test_keys_that_are_no_text_are_refused(key: object) -> None:
    """The encoder would write some of them as text."""
    error = refusal({"a": [{key: 1}]})
    assert error.field == "doc.a[0]"
    assert type(key).__name__ in error.problem


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_floats_that_are_not_finite_are_refused_with_their_path(number: float) -> None:
    """JSON has no word for them."""
    error = refusal({"ok": [1.5, "x", None], "a": [0, {"b": number}]})
    assert error.field == "doc.a[1].b"
    assert error.problem == f"cannot be JSON: {number} is not finite"


def test_an_int_of_thousands_of_digits_is_refused_with_its_path() -> None:
    """Python writes no more than 4,300 digits; fewer are taken."""
    assert refusal([{"big": 10**5000}]).field == "doc[0].big"
    text, *_ = encode_document("doc", [10**4000])
    assert json.loads(text) == [10**4000]


@pytest.mark.parametrize("by_keys", [True, False])
def test_nesting_is_taken_to_its_limit_and_refused_beyond(by_keys: bool) -> None:
    """Also where text must be replaced at the bottom, which takes another walk."""
    deepest = nested(MAX_DEPTH, by_keys=by_keys)
    text, *_ = encode_document("doc", deepest)
    assert json.loads(text) == deepest
    assert encode_document("doc", ["\0", nested(MAX_DEPTH - 1, by_keys=by_keys)]).replaced == 1
    error = refusal(nested(MAX_DEPTH + 1, by_keys=by_keys))
    assert error.problem == f"is nested deeper than {MAX_DEPTH}"
    assert error.field.startswith("doc.a.a" if by_keys else "doc[0][0]")


def test_a_document_that_holds_itself_is_refused() -> None:
    """It is deeper than any limit."""
    document: dict[str, Any] = {}
    document["self"] = document
    assert refusal(document).problem == f"is nested deeper than {MAX_DEPTH}"


def test_the_path_can_be_logged_and_stored_whatever_the_keys() -> None:
    """A log call on a lone surrogate once crashed the scraper's success path."""
    for document in (
        {"\ud800\0": {1}},
        {"\ud800\0": float("nan")},
        {"\ud800\0": {1: 2}},
        {"\ud800\0" * 1000: object()},
        {"\ud800": nested(MAX_DEPTH + 1, by_keys=False)},
    ):
        error = refusal(document)
        assert storable(str(error))
        assert str(error).encode()
        assert len(error.field) <= 200


def test_subclasses_are_written_as_what_they_are() -> None:
    """Enumerations, ordered dicts, lists of one's own."""

    class Side(StrEnum):
        OVER = "over"

    class Code(IntEnum):
        WON = 2

    class Rows(list[Any]):
        pass

    class Odds(float):
        def __repr__(self) -> str:
            return "odds!"

    document = OrderedDict(z=Side.OVER, a=Rows([Code.WON, Odds(1.5)]))
    text, *_ = encode_document("doc", document)
    assert text == '{"z":"over","a":[2,1.5]}'
