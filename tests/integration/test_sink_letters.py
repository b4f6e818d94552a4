"""What cannot be written becomes one dead letter, and its neighbours are written."""

import math
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from oddslog.schemas.codec import EventWrites, decode
from oddslog.schemas.framing import frame
from oddslog.schemas.wire import HEADER_CRC32, Kind
from oddslog.sink.classify import ErrorClass, classify, sqlstate_of
from tests.support.batches import NOON, competitor, snapshot
from tests.support.fragments import confirming, good, holding, record, with_market
from tests.support.polls import PollWriter, letters, one

COMPETITOR = record(competitor(2))
INT4 = 2**31


def broken(kind: Kind = Kind.BETPAWA, **market_changes: object) -> bytes:
    """A record whose only snapshot has a bad market, behind a good one."""
    made = snapshot(2) if kind is Kind.BETPAWA else competitor(2)
    return holding(with_market(record(made), 1, **market_changes), event_id=2, kind=kind)


# Each: the bad record's value; reason, SQLSTATE, field.
POISON: dict[str, tuple[bytes, str | None, str | None]] = {
    "long market id": (broken(betpawa_market_id="x" * 51), None, "markets[1].betpawa_market_id"),
    "long market name": (
        broken(betpawa_market_name="ł" * 256),
        None,
        "markets[1].betpawa_market_name",
    ),
    "long handicap type": (
        broken(Kind.COMPETITOR, handicap_type="x" * 51),
        None,
        "markets[1].handicap_type",
    ),
    "event id": (holding(record(), event_id=INT4), None, "event_id"),
    "negative event id": (holding(record(), event_id=-INT4 - 1), None, "event_id"),
    "bookmaker id": (holding(record(bookmaker_id=INT4)), None, "bookmaker_id"),
    "scrape run id": (holding(record(scrape_run_id=INT4)), None, "scrape_run_id"),
    "competitor event id": (
        holding(COMPETITOR, event_id=INT4, kind=Kind.COMPETITOR),
        None,
        "competitor_event_id",
    ),
    "confirmed event id": (confirming(NOON, event_id=INT4), None, "event_id"),
    "confirmed bookmaker id": (confirming(NOON, bookmaker_id=INT4), None, "bookmaker_id"),
    "outcomes": (broken(outcomes="[1"), "22P02", "markets[1].outcomes"),
    "outcomes empty": (broken(Kind.COMPETITOR, outcomes=""), "22P02", "markets[1].outcomes"),
    "outcomes NaN": (broken(outcomes="[NaN]"), "22P02", "markets[1].outcomes"),
    "market groups": (broken(market_groups="{"), "22P02", "markets[1].market_groups"),
    "raw response": (holding(record(raw_response="{]")), "22P02", "raw_response"),
    "raw response of a competitor": (
        holding(record(competitor(2), raw_response="{]"), event_id=2, kind=Kind.COMPETITOR),
        "22P02",
        "raw_response",
    ),
    "raw response with an escaped NUL": (
        holding(record(raw_response='{"a":"\\u0000"}')),
        "22P05",
        "raw_response",
    ),
    "raw response with a surrogate": (
        holding(record(raw_response='{"a":"\\ud800"}')),
        "22P02",
        "raw_response",
    ),
    "raw response with a huge number": (
        holding(record(raw_response='{"a":1e999999}')),
        "22003",
        "raw_response",
    ),
    "NUL in a text": (
        broken(betpawa_market_name="a\0b"),
        "22021",
        "markets[1].betpawa_market_name",
    ),
    "NUL in outcomes": (broken(outcomes='["\0"]'), "22021", "markets[1].outcomes"),
    "NUL in raw response": (holding(record(raw_response='"\0"')), "22021", "raw_response"),
    "NaN": (broken(line=math.nan), None, "markets[1].line"),
    "infinity": (
        broken(Kind.COMPETITOR, handicap_away=-math.inf),
        None,
        "markets[1].handicap_away",
    ),
}


async def test_poison_is_one_letter_that_explains_itself(
    engine: AsyncEngine, subtests: pytest.Subtests
) -> None:
    """Reason, SQLSTATE, field and source; a valid fragment; the neighbours are written.

    All at once, in one poll with good ones between them.
    """
    writer = await PollWriter.open(engine)
    values = [value for value, _, _ in POISON.values()]
    between = [good(n + 10, kind=list(Kind)[n % 2]) for n in range(len(values))]
    poll = [value for pair in zip(values, between, strict=True) for value in pair]
    result = await writer.write(*poll)
    assert (result.snapshots, result.dead_letters) == (len(between), len(values))
    assert await one(engine, "SELECT count(*) FROM market_odds") == len(between)
    found = {letter.log_offset // 2: letter for letter in await letters(engine)}
    for number, (case, (value, sqlstate, field)) in enumerate(POISON.items()):
        with subtests.test(case):
            letter = found[number]
            assert (letter.status, letter.reason) == ("dead", "poison")
            assert (letter.sqlstate, letter.field) == (sqlstate, field)
            assert (letter.log_id, letter.log_partition) == (writer.log_id, 0)
            original, kept = decode(value), decode(letter.value)
            assert (letter.kind, letter.event_id) == (original.kind.value, original.event_id)
            assert repr(kept.snapshots) == repr(original.snapshots)  # NaN is not equal to NaN
            assert kept.confirmations == original.confirmations
    # Read again, as after a refill: an attempt is counted, and nothing else.
    await run_statements(engine, "UPDATE oddslog_ledger SET next_offset = 0")
    writer.next_offsets.clear()
    again = await writer.write(*poll)
    assert (again.snapshots, again.duplicates) == (0, len(between))
    for letter in await letters(engine):
        before = found[letter.log_offset // 2]
        assert (letter.id, letter.attempts, letter.message) == (before.id, 2, before.message)


UNDECODABLE: dict[str, tuple[bytes | None, str]] = {
    "garbage": (b"not avro", "no Avro frame"),
    "nothing": (b"", "begins with nothing"),
    "tombstone": (None, "has no value"),
    "truncated": (good(2)[:-3], "cannot be decoded"),
    "left over": (good(2) + b"\0", "1 bytes are left over"),
    "unknown fingerprint": (frame()[:2] + b"\1" * 8 + good(2)[10:], "is not known"),
    "registry": (b"\0\0\0\0\7abc", "schema registry"),
    "a competitor's bookmaker": (
        holding(record(competitor(2), bookmaker_id=5), event_id=2, kind=Kind.COMPETITOR),
        "with a bookmaker_id",
    ),
    "not text": (good(2).replace("całość".encode(), b"\xff" * 8), "cannot be decoded"),
}


async def test_undecodable_records_are_kept_as_they_are(
    engine: AsyncEngine, subtests: pytest.Subtests
) -> None:
    """The original bytes, whatever they are, with the reason."""
    writer = await PollWriter.open(engine)
    result = await writer.write(good(8), *(value for value, _ in UNDECODABLE.values()), good(9))
    assert (result.snapshots, result.dead_letters) == (2, len(UNDECODABLE))
    found = await letters(engine)
    for number, (case, (value, message)) in enumerate(UNDECODABLE.items()):
        with subtests.test(case):
            letter = found[number]
            assert (letter.status, letter.reason, letter.item) == ("dead", "undecodable", -1)
            assert (letter.value, letter.record_key) == (value, b"key")
            assert (letter.log_offset, letter.kind, letter.event_id) == (number + 1, None, None)
            assert message in letter.message


async def test_bytes_that_are_not_those_that_were_sent(engine: AsyncEngine) -> None:
    """The producer's checksum tells; a value of a header that is missing cannot fail."""
    writer = await PollWriter.open(engine)
    headers = [(HEADER_CRC32, b"00000000"), ("ł\udc80", None), ("", b"\0\xff")]
    await writer.write_parts([writer.part(good(1), headers=headers, key=None)])
    (letter,) = await letters(engine)
    assert letter.reason == "undecodable"
    assert "CRC-32" in letter.message
    assert letter.value == good(1)
    assert await one(engine, "SELECT count(*) FROM odds_snapshots") == 0


async def test_a_letter_cannot_fail_on_its_content(engine: AsyncEngine) -> None:
    """Ids out of any range, huge and impossible texts: kept, cleaned, cut."""
    writer = await PollWriter.open(engine)
    worst = with_market(record(scrape_run_id=2**63 - 1), betpawa_market_id="\0" * 3_000_000)
    result = await writer.write(
        holding(worst, event_id=2**63 - 1),
        holding(worst, event_id=-(2**63)),
        b"\0\xff" * 500_000,
        holding(with_market(record(), outcomes="\0" + "ł" * 100_000)),
        good(9),
    )
    assert (result.snapshots, result.dead_letters) == (1, 4)
    for letter in await letters(engine):
        assert len(letter.message.encode()) <= 2048
        assert "\0" not in letter.message


async def test_conflicts_within_one_poll_and_across_polls(engine: AsyncEngine) -> None:
    """Same key, other content: the first written stays, each other one is a letter."""
    writer = await PollWriter.open(engine)
    first, second = record(), with_market(record(content_hash=1), line=9.5)
    result = await writer.write(holding(first), holding(second), holding(first))
    assert (result.snapshots, result.duplicates, result.conflicts) == (1, 1, 1)
    result = await writer.write(holding(second), holding(first))
    assert (result.snapshots, result.duplicates, result.conflicts) == (0, 1, 1)
    # Both in one poll, when the table already has the first: a conflict each.
    result = await writer.write(holding(second), holding(second), holding(first))
    assert (result.snapshots, result.duplicates, result.conflicts) == (0, 1, 2)
    found = await letters(engine)
    assert [(x.reason, x.log_offset) for x in found] == [("conflict", n) for n in (1, 3, 5, 6)]
    assert all(decode(letter.value).snapshots == [second] for letter in found)
    assert await one(engine, "SELECT content_hash FROM odds_snapshots") == first["content_hash"]


async def test_what_follows_a_poisoned_snapshot_takes_its_turn(engine: AsyncEngine) -> None:
    """A snapshot that became a letter has not taken its key: the next one is written.

    Raw response and run are not in the hash, so the next one may even seem equal.
    """
    writer = await PollWriter.open(engine)
    good_one, poison = record(), record(raw_response="{]")
    other = with_market(record(content_hash=1), outcomes="[")
    result = await writer.write(
        holding(other), holding(poison), holding(good_one), holding(good_one), holding(other)
    )
    assert (result.snapshots, result.duplicates, result.conflicts) == (1, 1, 1)
    found = await letters(engine)
    assert [(x.reason, x.log_offset) for x in found] == [
        ("poison", 0),
        ("poison", 1),
        ("conflict", 4),
    ]
    assert await one(engine, "SELECT log_offset FROM odds_snapshots") == 2


async def test_several_bad_ones_in_one_record(engine: AsyncEngine) -> None:
    """Isolation goes down to the snapshot: its good neighbours in the record are written."""
    writer = await PollWriter.open(engine)
    times = [NOON + timedelta(seconds=n) for n in range(5)]
    made = [record(snapshot(1, at)) for at in times]
    for bad in (1, 3):
        made[bad] = with_market(made[bad], outcomes="[")
    result = await writer.write(holding(*made))
    assert (result.snapshots, result.dead_letters) == (3, 2)
    found = await letters(engine)
    assert [letter.item for letter in found] == [1, 3]
    assert [decode(x.value).snapshots[0]["captured_at"] for x in found] == [times[1], times[3]]


async def test_trials_grow_with_the_logarithm(engine: AsyncEngine) -> None:
    """One bad among 256 takes two trials a level, not one a snapshot."""
    writer = await PollWriter.open(engine)
    values = [good(event) for event in range(1, 257)]
    values[77] = holding(with_market(record(snapshot(78)), outcomes="["), event_id=78)
    result = await writer.write(*values)
    assert (result.snapshots, result.dead_letters) == (255, 1)
    assert result.trials == 1 + 2 * 8


# Each: what is done to the database; the class that the write then has.
SYSTEMIC: dict[str, tuple[str, ErrorClass, str]] = {
    "dropped column": ("ALTER TABLE market_odds DROP COLUMN line", ErrorClass.FATAL, "42703"),
    "dropped table": ("DROP TABLE market_odds", ErrorClass.FATAL, "42P01"),
    "dropped pending": ("DROP TABLE oddslog_pending_confirmations", ErrorClass.FATAL, "42P01"),
    "dropped natural key": ("DROP INDEX uq_odds_snapshots_key", ErrorClass.FATAL, "42P10"),
    "sequence behind": (
        "SELECT setval('market_odds_id_seq', 1, false)",
        ErrorClass.FATAL,
        "23505",
    ),
    "sequence at its end": (
        "ALTER SEQUENCE odds_snapshots_id_seq MAXVALUE 2;"
        " SELECT setval('odds_snapshots_id_seq', 2)",
        ErrorClass.FATAL,
        "2200H",
    ),
    "disk full": (
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN RAISE 'no room' USING ERRCODE = '53100'\\; END$$;"
        " CREATE TRIGGER t BEFORE INSERT ON market_odds EXECUTE FUNCTION f()",
        ErrorClass.TRANSIENT,
        "53100",
    ),
    "out of range, unexplained": (
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN RAISE 'overflow' USING ERRCODE = '22003'\\; END$$;"
        " CREATE TRIGGER t BEFORE INSERT ON market_odds EXECUTE FUNCTION f()",
        ErrorClass.FATAL,
        "22003",
    ),
}


@pytest.mark.parametrize("case", SYSTEMIC)
async def test_a_systemic_failure_makes_no_letters(engine: AsyncEngine, case: str) -> None:
    """The cause is not the records: nothing is written, and the class says what is next."""
    statements, error_class, sqlstate = SYSTEMIC[case]
    writer = await PollWriter.open(engine)
    await writer.write(good(1))  # with the statements prepared as in a running sink
    await run_statements(engine, statements)
    values = good(2), confirming(NOON, event_id=5)
    with pytest.raises(Exception) as raised:  # noqa: PT011 - whatever PostgreSQL raises
        await retry_stale_plan(lambda: writer.write(*values))
    assert (classify(raised.value), sqlstate_of(raised.value)) == (error_class, sqlstate)
    assert await letters(engine) == []
    assert await one(engine, "SELECT next_offset FROM oddslog_ledger WHERE partition = 0") == 1


async def retry_stale_plan(write: Callable[[], Awaitable[object]]) -> None:
    """Try again while a prepared statement is from before the change."""
    for _ in range(2):
        try:
            await write()
        except Exception as error:
            if classify(error) is not ErrorClass.TRANSIENT or sqlstate_of(error) != "0A000":
                raise


async def run_statements(engine: AsyncEngine, statements: str) -> None:
    """Run statements that are divided by `;` (an escaped one stays)."""
    async with engine.begin() as connection:
        for statement in statements.replace("\\;", "\0").split(";"):
            await connection.exec_driver_sql(statement.replace("\0", ";"))


async def test_a_letter_is_a_fragment_that_can_be_sent_again(engine: AsyncEngine) -> None:
    """Each isolated item keeps its batch and its event, and decodes as one item."""
    writer = await PollWriter.open(engine)
    value = confirming(NOON, NOON + timedelta(seconds=1), event_id=INT4)
    result = await writer.write(value)
    assert result.dead_letters == 2
    original = decode(value)
    for letter, named in zip(await letters(engine), original.confirmations, strict=True):
        kept: EventWrites = decode(letter.value)
        assert kept.confirmations == [named]
        assert (kept.batch_id, kept.confirmed_at) == (original.batch_id, original.confirmed_at)
        assert (kept.fragment_index, kept.fragment_count) == (0, 1)
