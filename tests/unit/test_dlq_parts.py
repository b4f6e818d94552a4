"""The parts of `oddslog dlq` that need no server: JSON, headers, edits, explanations."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import typer

from oddslog.deploy.commands.dlq_common import Reason, Status, parse_since
from oddslog.deploy.letter_causes import _STATES, Facts, explain
from oddslog.deploy.letter_view import open_value
from oddslog.deploy.redrive_plan import read_edit
from oddslog.schemas import ConfigurationError
from oddslog.schemas.codec import crc32_text, decode, decoded_hash, encode
from oddslog.schemas.errors import InvalidRecordError
from oddslog.schemas.fragment_json import fragment_from_json, fragment_to_json
from oddslog.schemas.redrive import Redrive, is_redriven, read_redrive, redrive_headers
from oddslog.schemas.wire import HEADER_CRC32, Kind
from oddslog.sink.classify import ErrorClass, classify_sqlstate
from tests.support.batches import NOON, competitor
from tests.support.fragments import confirming, good, holding, ids, record, with_market

NOTE = Redrive(
    "Z7x-_cluster", "odds.writes", 3, 2**40, -1, NOON, "conflict", 2, "żak@host", NOON, 'a "b"\n'
)


@pytest.mark.parametrize(
    "value",
    [
        good(5),
        good(6, kind=Kind.COMPETITOR),
        confirming(NOON, NOON + timedelta(hours=1)),
        confirming(NOON, kind=Kind.COMPETITOR),
        ids(4, 5),
        holding(record(raw_response=None), record(scrape_run_id=4)),
    ],
)
def test_a_fragment_comes_back_from_its_json(value: bytes) -> None:
    """Through text, with the same content and the same hash."""
    fragment = decode(value)
    text = json.dumps(fragment_to_json(fragment), allow_nan=False)
    again = fragment_from_json(json.loads(text))
    assert decode(encode(again)) == decode(encode(fragment))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"outcomes": "[1"}, "outcomes_text"),
        ({"outcomes": "[NaN]"}, "outcomes_text"),
        ({"outcomes": "[1e999]"}, "outcomes_text"),
        ({"market_groups": "{"}, "market_groups_text"),
        ({"line": float("nan")}, "line"),
        ({"handicap_home": float("inf")}, "handicap_home"),
        ({"betpawa_market_name": "a\0b"}, "betpawa_market_name"),
    ],
)
def test_what_is_no_json_is_shown_and_has_to_be_mended(changes: Any, field: str) -> None:
    """The dump is JSON for everyone; sent back as it is, the field is named."""
    fragment = decode(holding(with_market(record(), 1, **changes)))
    document = json.loads(json.dumps(fragment_to_json(fragment), allow_nan=False))
    assert field in document["snapshots"][0]["markets"][1]
    with pytest.raises(InvalidRecordError, match=rf"snapshots\[0\].markets\[1\].{field}"):
        fragment_from_json(document)


def test_a_mended_snapshot_has_a_new_hash() -> None:
    """Made of what it says now, as ingest would."""
    document = fragment_to_json(decode(good(5)))
    document["snapshots"][0]["markets"][0]["line"] = 3
    (made,) = fragment_from_json(document).snapshots
    assert made["content_hash"] != document["snapshots"][0]["content_hash"]
    assert made["content_hash"] == decoded_hash(Kind.BETPAWA, 5, made)
    assert made["markets"][0]["line"] == 3.0


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"kind": "other"}, "kind: must be betpawa or competitor"),
        ({"event_id": "5"}, "event_id: must be a whole number"),
        ({"event_id": None}, "event_id: is missing"),
        ({"evnet_id": 5}, "fragment.evnet_id: is not known here"),
        ({"snapshots": {}, "confirmations": 5}, "confirmations: must be a list"),
        ({"snapshots": [5]}, r"snapshots\[0\]: must be an object"),
        ({"batch_id": "x"}, "batch_id: is no UUID"),
        ({"confirmed_at": "noon"}, "confirmed_at: must be a time such as"),
        ({"confirmed_at": "2026-03-01T12:00"}, r"has no time zone; UTC would be .*\+00:00"),
        ({"confirmations": [{"captured_at": None}]}, r"confirmations\[0\].captured_at: is missing"),
    ],
)
def test_a_wrong_document_is_named(changes: Any, says: str) -> None:
    """By field, with what is wrong."""
    with pytest.raises(InvalidRecordError, match=says):
        fragment_from_json({**fragment_to_json(decode(good(5))), **changes})


def test_a_competitor_has_no_bookmaker() -> None:
    """In neither a snapshot nor a confirmation."""
    document = fragment_to_json(decode(good(5, kind=Kind.COMPETITOR)))
    document["snapshots"][0]["bookmaker_id"] = 3
    with pytest.raises(InvalidRecordError, match=r"snapshots\[0\].bookmaker_id"):
        fragment_from_json(document)


def test_the_headers_say_it_all() -> None:
    """ASCII, and read back as they were written."""
    headers = redrive_headers(NOTE)
    assert all(value.isascii() for _, value in headers)
    assert is_redriven(headers)
    assert read_redrive([("other", b"\xff"), *headers]) == NOTE
    assert read_redrive([headers[0]]) == Redrive("Z7x-_cluster", "odds.writes", 3, 2**40, -1)
    assert read_redrive([headers[1]]) is None
    assert not is_redriven([headers[1]])


def test_an_edit_is_read_whole_or_as_its_fragment(tmp_path: Path) -> None:
    """As `show` prints it."""
    document = fragment_to_json(decode(good(5)))
    for number, written in enumerate((document, {"id": 4, "fragment": document})):
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps(written), "utf-8")
        assert read_edit(path) == fragment_from_json(document)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ('{"fragment": null}', "fragment: must be an object"),
        ('{"kind": "betpawa", "event_id": 1, "unchanged_ids": [4]}', "no confirmed_at"),
    ],
)
def test_an_edit_that_cannot_be_sent(tmp_path: Path, text: str, says: str) -> None:
    """One line with the file's name."""
    path = tmp_path / "edit.json"
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigurationError, match=says) as raised:
        read_edit(path)
    assert str(path) in str(raised.value)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_edit(tmp_path / "none.json")


def test_where_a_value_breaks() -> None:
    """The first byte that could not be read, and what kind of trouble it is."""
    whole = good(5)
    assert open_value(whole[:60], [], whole_record=True).at_byte == 60
    assert open_value(whole + b"xyz", [], whole_record=True).at_byte == len(whole)
    assert open_value(b"junk", [], whole_record=True).at_byte == 0
    assert open_value(None, [], whole_record=True).fragment is None
    unknown = open_value(b"\xc3\x01" + b"\0" * 20, [], whole_record=True)
    assert (unknown.at_byte, unknown.unknown_schema) == (2, True)
    assert open_value(whole, [(HEADER_CRC32, crc32_text(whole))], whole_record=True).problem is None
    other = [(HEADER_CRC32, b"00000000")]
    assert open_value(whole, other, whole_record=True).damaged
    assert not open_value(whole, other, whole_record=False).damaged
    changed = open_value(holding(with_market(record(), line=9.0)), [], whole_record=False)
    assert "content hash" in (changed.problem or "")
    assert open_value(holding(record(competitor(2)), kind=Kind.COMPETITOR), [], whole_record=False)


def test_since() -> None:
    """Durations and aware times."""
    now = datetime.now(UTC)
    moment = parse_since("2h")
    assert moment is not None
    assert timedelta(hours=1.9) < now - moment < timedelta(hours=2.1)
    assert parse_since("2026-03-01T12:00+01:00") == datetime(2026, 3, 1, 11, tzinfo=UTC)
    assert parse_since(None) is None
    with pytest.raises(typer.BadParameter, match="is no time; it looks like 90m, 2h, 3d or 2026"):
        parse_since("yesterday")
    with pytest.raises(typer.BadParameter, match=r"for UTC write 2026-03-01T00:00Z"):
        parse_since("2026-03-01")


FACTS = Facts(17, "dead", "poison", None, None, "markets[1].betpawa_market_name", "is too long")


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("reason", Reason)
def test_every_cause_is_explained(reason: Reason, status: Status) -> None:
    """What happened, why, and at least one thing to do, with nothing left open in it."""
    facts = replace(FACTS, reason=reason, status=status)
    variants = [
        replace(facts, under_way=True, handled="by ann"),
        replace(facts, has_log=False, whole_record=True, field=None, redrives=2),
        replace(facts, damaged=True),
        replace(facts, unknown_schema=True),
        *(replace(facts, sqlstate=state) for state in (None, "22P02", "23514", "99999")),
    ]
    for variant in variants:
        explained = explain(variant)
        assert explained.happened.endswith(".")
        assert explained.why.endswith(".")
        assert explained.steps
        said = " ".join((explained.happened, explained.why, *explained.steps))
        assert "{" not in said
        assert "None" not in said


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        (replace(FACTS), "dlq redrive 17 --edit letter.json"),
        (replace(FACTS, sqlstate="23514", constraint="positive"), "The constraint is positive"),
        (replace(FACTS, reason="conflict"), "The first stays"),
        (replace(FACTS, reason="missing_parent"), "dlq redrive --reason missing_parent"),
        (replace(FACTS, reason="missing_parent", status="waiting"), "by itself within seconds"),
        (replace(FACTS, reason="undecodable", damaged=True), "CRC-32"),
        (replace(FACTS, reason="undecodable", unknown_schema=True), "update the sink"),
        (replace(FACTS, reason="undecodable"), "Another program writes into the topic"),
        (replace(FACTS, reason="unknown_snapshot"), "dlq list"),
        (replace(FACTS, status="discarded", handled="by ann: test"), "(by ann: test)"),
        (replace(FACTS, redrives=2), "it was sent again 2 times and failed"),
    ],
)
def test_what_an_explanation_says(facts: Facts, says: str) -> None:
    """The thing that matters of each."""
    explained = explain(facts)
    assert says in "\n".join((explained.happened, explained.why, *explained.steps))


def test_the_explained_states_are_poison() -> None:
    """A SQLSTATE that never makes a letter needs no explanation."""
    for state in _STATES:
        assert classify_sqlstate(state) is ErrorClass.POISON or state == "22003"
