"""A dead letter as a record of the dead-letter topic."""

from datetime import UTC, datetime
from typing import Any

from oddslog.schemas.codec import crc32_text
from oddslog.schemas.wire import HEADER_CRC32
from oddslog.sink.letter_records import LetterFacts, LetterRecord, as_record, fitted


def facts(**changes: Any) -> LetterFacts:
    """Of an isolated snapshot."""
    values: dict[str, Any] = {
        "id": 7,
        "reason": "poison",
        "sqlstate": None,
        "constraint": None,
        "field": "markets[0].betpawa_market_name",
        "message": "zażółć\nhas 300 characters",
        "cluster": "c",
        "topic": "t",
        "partition": 3,
        "offset": 11,
        "item": 0,
        "timestamp": datetime(2026, 3, 1, 12, tzinfo=UTC),
    }
    return LetterFacts(**{**values, **changes})


def test_headers_are_ascii_and_name_only_what_there_is() -> None:
    """A record without a log has no place in one."""
    made = as_record(
        facts(cluster=None, topic=None, partition=None, offset=None, timestamp=None),
        None,
        None,
        [],
    )
    assert (made.key, made.value) == (b"", b"")
    said = dict(made.headers)
    assert set(said) == {f"oddslog-dlq-{n}" for n in ("id", "reason", "field", "message", "item")}
    assert said["oddslog-dlq-message"].isascii()
    assert said["oddslog-dlq-message"].startswith(rb"za\u017c\xf3")


def test_the_checksum_is_of_the_value_that_goes() -> None:
    """A part has one of its own; a whole record keeps the one that it came with."""
    came = [(HEADER_CRC32, b"00000000"), ("app", b"1"), ("oddslog-dlq-id", b"of another database")]
    part = as_record(facts(), b"k", b"value", came)
    assert [said for name, said in part.headers if name == HEADER_CRC32] == [crc32_text(b"value")]
    whole = as_record(facts(item=-1), b"k", b"value", came)
    assert [said for name, said in whole.headers if name == HEADER_CRC32] == [b"00000000"]
    assert [said for name, said in whole.headers if name == "oddslog-dlq-id"] == [b"7"]
    assert ("app", b"1") in whole.headers


def test_what_the_topic_does_not_take_is_left_out_and_said() -> None:
    """First the value, then all that is not ours; the letter itself always goes."""
    made = as_record(facts(), b"k", b"v" * 5000, [("app", b"h" * 3000)])
    assert fitted(made, 20_000) is made
    without = fitted(made, 6000)
    assert (without.value, without.key) == (b"", b"k")
    assert without.headers[-1] == ("oddslog-dlq-left-out", b"value of 5000 bytes")
    assert ("app", b"h" * 3000) in without.headers
    least: LetterRecord = fitted(made, 1000)
    assert (least.value, least.key, least.id) == (b"", b"", 7)
    assert least.size_bytes <= 1000
    said = dict(least.headers)
    assert said["oddslog-dlq-left-out"] == b"value of 5000 bytes, key and headers"
    assert said["oddslog-dlq-offset"] == b"11"
    assert "app" not in said
